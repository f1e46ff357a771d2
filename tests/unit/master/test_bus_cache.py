"""The cache of Event records: one message after the other, when each has had its time, and what is carried over."""

from __future__ import annotations

import msgspec
import pytest

from barque.master.bus import cache as rules
from barque.master.bus.cache import EventCache, Record, Source, record_of, unslotted
from barque.master.store.port import Change, Filter, Key, Op

JSON = b'{"metadata":{"resourceVersion":"","name":"e"},"n":%d}'
SLOT = JSON.index(b'""') + 1


class Story:
    """A cache and the messages it is fed."""

    def __init__(self, start: int = 100) -> None:
        self.cache = EventCache("s", start)
        self.at = 0.0

    def put(self, name: str, n: int = 0, namespace: str = "default", born: float = 0.0, **fields: str) -> Change | None:
        return self._take(Record("put", namespace, name, SLOT, {}, fields, born, msgspec.Raw(JSON % n)))

    def delete(self, name: str) -> Change | None:
        return self._take(Record("delete", "default", name))

    def _take(self, record: Record) -> Change | None:
        self.at += 1
        return self.cache.take(self.cache.revision + 1, self.at, msgspec.json.encode(record))

    def overdue(self, born_before: float, at_most: int = 10) -> list[str]:
        return [stored.key.name for stored in self.cache.overdue(born_before, at_most)]


def key_of(name: str) -> Key:
    return Key("events", "default", name)


def test_the_revision_stands_in_the_bytes() -> None:
    story = Story()
    story.put("a", 7)
    stored = story.cache.get(key_of("a"))
    assert stored is not None
    assert (stored.json, stored.revision) == (b'{"metadata":{"resourceVersion":"101","name":"e"},"n":7}', 101)


def test_each_message_is_a_change_at_its_sequence() -> None:
    story = Story()
    created, updated, deleted = story.put("a", 1), story.put("a", 2), story.delete("a")
    assert created is not None
    assert updated is not None
    assert deleted is not None
    assert (created.revision, created.before, created.after) == (101, None, updated.before)
    assert (updated.revision, updated.after) == (102, deleted.before)
    assert (deleted.revision, deleted.after) == (103, None)
    assert (len(story.cache), story.cache.bytes) == (0, 0)


def test_deleting_what_is_not_there_is_no_change_but_time_goes_on() -> None:
    story = Story()
    assert story.delete("a") is None
    assert story.cache.revision == 101


def test_a_message_that_cannot_be_read_is_stepped_over() -> None:
    story = Story()
    with pytest.raises(msgspec.DecodeError):
        story.cache.take(101, 1, b"\xff nonsense")
    created = story.put("a")
    assert created is not None
    assert created.revision == 102


def test_a_list_is_ordered_selected_and_left_alone_by_later_writes() -> None:
    story = Story()
    for name, namespace in (("b", "default"), ("a", "default"), ("c", "app")):
        story.put(name, namespace=namespace)
    listed = story.cache.select()
    story.delete("a")
    assert [stored.key.name for stored in listed] == ["c", "a", "b"]
    assert [stored.key.name for stored in story.cache.select(Filter(namespace="default"))] == ["b"]


def test_events_live_from_their_last_write() -> None:
    story = Story()
    story.put("a")
    story.put("b")
    story.put("a", 2)
    assert story.overdue(born_before=2.5) == ["b"]
    assert story.overdue(born_before=9, at_most=1) == ["b"]
    # Only looked at: it is the deletion that ends them.
    assert story.overdue(born_before=9) == ["b", "a"]
    story.delete("b")
    assert story.overdue(born_before=9) == ["a"]


def test_what_is_carried_over_keeps_its_age() -> None:
    """It comes late in the new stream, and goes before what was written there first."""
    story = Story()
    story.put("fresh")
    story.put("old", born=-3000.0)
    assert story.overdue(born_before=0.5) == ["old"]
    assert [one.stored.key.name for one in story.cache.living()] == ["old", "fresh"]


def test_a_record_carried_over_is_the_one_it_was() -> None:
    story = Story()
    story.put("a", 7, reason="Failed")
    (living,) = story.cache.living()
    other = EventCache("t", 5000)
    other.take(5001, 99.0, living.record())
    (carried,) = other.living()
    assert unslotted(carried.stored) == unslotted(living.stored)
    assert (carried.born, carried.stored.fields) == (living.born, living.stored.fields)


def test_a_record_of_a_write_is_what_was_written() -> None:
    op = Op("put", key_of("a"), JSON % 1, SLOT, {"l": "1"}, {"reason": "Failed"})
    cache = EventCache("s", 0)
    change = cache.take(1, 5.0, record_of(op))
    assert change is not None
    assert change.after is not None
    assert (unslotted(change.after), change.after.labels) == ((op.json, SLOT), op.labels)
    assert cache.take(2, 6.0, record_of(Op("delete", key_of("a")))) == Change(2, change.after, None)


def test_above_the_bound_of_memory_the_oldest_go(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story()
    for name in ("a", "b", "c"):
        story.put(name)
    monkeypatch.setattr(rules, "MAX_OBJECT_BYTES", story.cache.bytes - 1)
    assert story.overdue(born_before=0) == ["a"]
    story.delete("a")
    assert story.overdue(born_before=0) == []


def test_an_object_written_over_and_over_leaves_nothing_behind() -> None:
    story = Story()
    for n in range(5000):
        story.put("a", n)
    assert len(story.cache._ageing) <= 1024 + 2
    assert story.overdue(born_before=story.at + 1) == ["a"]
    assert story.overdue(born_before=story.at) == []


def test_the_picture_that_had_come_furthest_is_carried_over() -> None:
    """A master that was away has missed a change and a deletion of the earlier stream, and is the first to seed."""
    earlier = Story(0)
    for name in ("changed", "deleted", "same"):
        earlier.put(name)
    lagging = earlier.cache.living()
    earlier.put("changed", 2)
    earlier.delete("deleted")
    whole = earlier.cache.living()
    assert [one.source for one in lagging + whole] == [Source("s", 3)] * 3 + [Source("s", 5)] * 2

    anew = EventCache("anew", 10)
    for sequence, one in enumerate(lagging, 11):
        assert anew.lacks(one)
        anew.take(sequence, 0.0, one.record())
    (newer,) = [one for one in whole if anew.lacks(one)]
    assert newer.stored.key == key_of("changed")
    assert [stored.key for stored in anew.outlived(earlier.cache)] == [key_of("deleted")]

    anew.take(14, 0.0, newer.record())
    assert not any(map(anew.lacks, whole))
    # Whoever lags goes on seeding no more, whatever it is that the stream lacks.
    anew.take(15, 0.0, record_of(Op("delete", key_of("deleted"))))
    assert not any(map(anew.lacks, lagging))
    assert anew.outlived(earlier.cache) == []


def test_what_was_written_since_is_not_overwritten_by_what_is_carried_over() -> None:
    earlier = Story(0)
    earlier.put("a")
    (stale,) = earlier.cache.living()
    earlier.put("a", 2)
    anew = Story(10)
    anew.cache.take(11, 0.0, stale.record())
    anew.put("a", 3)
    assert not any(map(anew.cache.lacks, earlier.cache.living()))
    assert anew.cache.outlived(EventCache("s", 9)) == []
