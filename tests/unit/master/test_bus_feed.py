"""What the change feed says, in which order it may stand, and what it keeps to itself."""

import msgspec

from barque.master.bus import changes
from barque.master.bus.changes import FeedMessage, Position, chains, message_of, published, read_position, resync, steps
from barque.master.bus.feed import GATHER_S, _pause_after
from barque.master.store.epoch import LEADER
from barque.master.store.port import Change, Key, Stored

KEY = Key("pods", "default", "a")
LARGE = 1 << 20


def stored(revision: int, key: Key = KEY) -> Stored:
    json = b'{"metadata":{"resourceVersion":"%d","name":"a"},"note":"\\"resourceVersion\\":\\"3\\""}' % revision
    return Stored(key, json, revision, {}, {}, json.index(b"%d" % revision))


def said(change: Change) -> tuple[str, int, dict[str, object]]:
    message = msgspec.json.decode(message_of(change, "c1", 0, LARGE), type=FeedMessage)
    return message.verb, message.revision, msgspec.json.decode(message.object)["metadata"]


def test_creates_updates_and_deletes() -> None:
    assert said(Change(3, None, stored(3))) == ("ADDED", 3, {"resourceVersion": "3", "name": "a"})
    assert said(Change(4, stored(3), stored(4))) == ("MODIFIED", 4, {"resourceVersion": "4", "name": "a"})
    assert said(Change(5, stored(4), None)) == ("DELETED", 5, {"resourceVersion": "5", "name": "a"})


def test_the_whole_message() -> None:
    assert message_of(Change(3, None, stored(3)), 'c"1', 7, LARGE) == (
        b'{"revision":3,"verb":"ADDED","cluster":"c\\"1","generation":7,"object":' + stored(3).json + b"}"
    )


def test_nothing_of_a_secret_but_its_metadata_leaves() -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "resourceVersion": "3",
            "name": "db",
            "labels": {"app": "web"},
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": '{"data":{"k":"czNjcjN0"}}'},
            "managedFields": [{"manager": "x"}],
        },
        "data": {"k": "czNjcjN0"},
        "stringData": {"k": "s3cr3t"},
        "type": "Opaque",
        "immutable": True,
    }
    out = published(Key("secrets", "default", "db"), msgspec.json.encode(secret))
    assert msgspec.json.decode(out) == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"resourceVersion": "3", "name": "db", "labels": {"app": "web"}},
        "type": "Opaque",
    }


def test_of_an_object_too_large_for_the_bus_its_identity_is_told() -> None:
    meta = {"name": "a", "namespace": "default", "uid": "u1", "resourceVersion": "3", "annotations": {"k": "v" * 500}}
    json = msgspec.json.encode({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {}})
    message = message_of(Change(3, None, Stored(KEY, json, 3, {}, {})), "c1", 0, 400)
    del meta["annotations"]
    assert msgspec.json.decode(message)["object"] == {"apiVersion": "v1", "kind": "Pod", "metadata": meta}


def test_each_message_names_its_predecessor_and_itself() -> None:
    """What is internal is left out, and leaves no hole in the sequences."""
    history = [Change(3, None, stored(3)), Change(4, None, stored(4, LEADER)), Change(5, stored(3), stored(5))]
    sent = list(steps("lab", "c1", Position(40, 2, 30, "c1"), history, LARGE))
    assert [step.message.subject for step in sent] == ["barque.lab.change.core.pods.default.a"] * 2
    assert [step.message.headers for step in sent] == [
        {"Nats-Msg-Id": "c1.30.3", "Nats-Expected-Last-Sequence": "40"},
        {"Nats-Msg-Id": "c1.30.5", "Nats-Expected-Last-Sequence": "41"},
    ]
    assert sent[-1].position == Position(42, 5, 30, "c1")


def test_a_resync_begins_a_generation() -> None:
    step = resync("lab", "c1", Position(42, 5, 30, "c0"), 90)
    assert step.message.subject == "barque.lab.change.RESYNC"
    assert step.message.headers == {"Nats-Msg-Id": "c1.43.90", "Nats-Expected-Last-Sequence": "42"}
    assert step.position == read_position(43, step.message.payload) == Position(43, 90, 43, "c1")


def test_the_position_is_read_from_the_last_message() -> None:
    message = message_of(Change(7, None, stored(7)), "c1", 2, LARGE)
    assert read_position(9, message) == Position(9, 7, 2, "c1")
    assert read_position(9, b"nonsense") == Position(9, known=False)


def test_chains_are_bounded_in_messages_and_bytes() -> None:
    history = [Change(n, None, stored(n)) for n in range(1, changes.IN_FLIGHT + 11)]
    sent = list(steps("lab", "c1", Position(0), history, LARGE))
    assert [len(chain) for chain in chains(sent)] == [changes.IN_FLIGHT, 10]
    big = [step._replace(message=step.message._replace(payload=b"x" * (LARGE // 2))) for step in sent[:5]]
    assert [len(chain) for chain in chains(big)] == [2, 2, 1]


def test_only_under_a_stream_of_changes_do_they_gather() -> None:
    assert _pause_after(1) == 0.0
    assert _pause_after(3) <= 0.002
    assert _pause_after(500) == GATHER_S
