"""What the change feed says, and what it keeps to itself."""

import msgspec

from barque.master.bus.feed import Position, message_of, published, read_position
from barque.master.store.port import Change, Key, Stored

KEY = Key("pods", "default", "a")


def stored(revision: int, key: Key = KEY) -> Stored:
    json = b'{"metadata":{"resourceVersion":"%d","name":"a"},"note":"\\"resourceVersion\\":\\"3\\""}' % revision
    return Stored(key, json, revision, {}, {}, json.index(b"%d" % revision))


def said(change: Change) -> tuple[str, int, dict[str, object]]:
    message = message_of(change, "c1", 0)
    return message.verb, message.revision, msgspec.json.decode(message.object)["metadata"]


def test_creates_updates_and_deletes() -> None:
    assert said(Change(3, None, stored(3))) == ("ADDED", 3, {"resourceVersion": "3", "name": "a"})
    assert said(Change(4, stored(3), stored(4))) == ("MODIFIED", 4, {"resourceVersion": "4", "name": "a"})
    assert said(Change(5, stored(4), None)) == ("DELETED", 5, {"resourceVersion": "5", "name": "a"})


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


def test_the_position_is_read_from_the_last_message() -> None:
    message = message_of(Change(7, None, stored(7)), "c1", 2)
    assert read_position(msgspec.json.encode(message), "c1.2.7") == Position(7, 2, "c1", "c1.2.7")
    assert read_position(b"nonsense", "x") == Position(last_id="x")
