"""The cache of Event records: one message after the other, and what a watch sees of them."""

import msgspec

from barque.master.bus import cache as rules
from barque.master.bus.cache import EventCache, Record, watched
from barque.master.store.port import Filter, Key

JSON = b'{"metadata":{"resourceVersion":"","name":"e"},"n":%d}'
SLOT = JSON.index(b'""') + 1


class Story:
    """A cache and the messages it is fed."""

    def __init__(self, start: int = 100) -> None:
        self.cache = EventCache()
        self.cache.reset(start)
        self.at = 0.0

    def put(self, name: str, n: int = 0, namespace: str = "default", **fields: str) -> int:
        return self._take(Record("put", namespace, name, SLOT, {}, fields, msgspec.Raw(JSON % n)))

    def delete(self, name: str) -> int:
        return self._take(Record("delete", "default", name))

    def _take(self, record: Record) -> int:
        self.at += 1
        assert self.cache.take(self.cache.revision + 1, self.at, msgspec.json.encode(record))
        return self.cache.revision

    def seen(self, since: int, selected: Filter = Filter()) -> list[tuple[str, int]]:
        return [(e.type, e.revision) for e in watched(self.cache.changes_after(since, 1000), selected)]


def of_reason(reason: str) -> Filter:
    return Filter(matches=lambda labels, fields: fields.get("reason") == reason)


def test_the_revision_stands_in_the_bytes() -> None:
    story = Story()
    revision = story.put("a", 7)
    entry = story.cache.get(Key("events", "default", "a"))
    assert entry is not None
    assert entry.stored().json == b'{"metadata":{"resourceVersion":"101","name":"e"},"n":7}'
    assert (entry.revision, revision) == (101, 101)


def test_a_watch_sees_create_update_and_delete_at_their_revisions() -> None:
    story = Story()
    story.put("a", 1)
    story.put("a", 2)
    story.delete("a")
    assert story.seen(100) == [("ADDED", 101), ("MODIFIED", 102), ("DELETED", 103)]
    assert story.seen(102) == [("DELETED", 103)]
    (deleted,) = watched(story.cache.changes_after(102, 10), Filter())
    assert deleted.json == b'{"metadata":{"resourceVersion":"103","name":"e"},"n":2}'


def test_entering_and_leaving_a_selection() -> None:
    story = Story()
    story.put("a", reason="Pulled")
    story.put("a", reason="Failed")
    story.put("a", 2, reason="Failed")
    story.put("a", reason="Pulled")
    assert story.seen(100, of_reason("Failed")) == [("ADDED", 102), ("MODIFIED", 103), ("DELETED", 104)]
    assert story.seen(100, Filter(namespace="other")) == []
    assert story.seen(100, Filter(name="b")) == []
    assert story.seen(100, Filter(node="n1")) == []


def test_deleting_what_is_not_there_is_no_change_but_time_goes_on() -> None:
    story = Story()
    assert story.delete("a") == 101
    assert story.seen(100) == []


def test_a_message_that_cannot_be_read_is_stepped_over() -> None:
    story = Story()
    assert not story.cache.take(101, 1, b"\xff nonsense")
    story.put("a")
    assert story.seen(100) == [("ADDED", 102)]


def test_a_list_is_ordered_and_selected() -> None:
    story = Story()
    for name, namespace in (("b", "default"), ("a", "default"), ("c", "app")):
        story.put(name, namespace=namespace)
    assert [s.key.name for s in story.cache.select(Filter())] == ["c", "a", "b"]
    assert [s.key.name for s in story.cache.select(Filter(namespace="default"))] == ["a", "b"]


def test_events_live_from_their_last_write() -> None:
    story = Story()
    story.put("a")
    story.put("b")
    story.put("a", 2)
    assert [e.key.name for e in story.cache.overdue(expired_before=2.5, at_most=10)] == ["b"]
    assert [e.key.name for e in story.cache.overdue(expired_before=9, at_most=1)] == ["b"]


def test_above_the_bound_of_memory_the_oldest_go(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    story = Story()
    for name in ("a", "b", "c"):
        story.put(name)
    monkeypatch.setattr(rules, "MAX_OBJECT_BYTES", story.cache.bytes - 1)
    assert [e.key.name for e in story.cache.overdue(expired_before=0, at_most=10)] == ["a"]
    story.delete("a")
    assert story.cache.overdue(expired_before=0, at_most=10) == []


def test_changes_are_bounded_and_the_horizon_says_so(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(rules, "MAX_CHANGES", 10)
    story = Story()
    for n in range(25):
        story.put("a", n)
    kept = story.cache.changes_after(story.cache.horizon, 100)
    assert [c.revision for c in kept] == list(range(story.cache.horizon + 1, 126))
    assert 10 <= len(kept) < 20


def test_a_new_stream_forgets_everything() -> None:
    story = Story()
    story.put("a")
    story.cache.reset(5000)
    assert (story.cache.select(Filter()), story.cache.revision, story.cache.horizon) == ([], 5000, 5000)
    assert story.cache.bytes == 0
