"""What the change feed says, as bytes: messages, their subjects and headers, and chains of them. Pure.

A message is spliced together from the stored bytes; nothing is parsed but Secrets, of which only the metadata travels,
without annotations: those may hold what was last applied.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import msgspec
from nats.js import api

from barque.master.bus.link import Outgoing
from barque.master.bus.subjects import change_subject, resync_subject
from barque.master.store.epoch import is_internal
from barque.master.store.port import Change, Key, Stored

# Messages under way at once; each names its predecessor, so they share one answer.
IN_FLIGHT = 256
IN_FLIGHT_BYTES = 1024 * 1024
SECRETS = "secrets"
_MESSAGE_ID = api.Header.MSG_ID.value
_EXPECTED = api.Header.EXPECTED_LAST_SEQUENCE.value


class FeedMessage(msgspec.Struct):
    """One message, as a consumer reads it. `generation` rises with each RESYNC and with each new stream: within one
    generation no change is missing.
    """

    revision: int
    verb: Literal["ADDED", "MODIFIED", "DELETED", "RESYNC"]
    cluster: str
    generation: int
    object: msgspec.Raw


class Position(NamedTuple):
    """Where the feed stands: at which sequence of the stream, and after which change. `known` is False where the stream
    does not tell which that was.
    """

    sequence: int
    revision: int = 0
    generation: int = 0
    cluster: str = ""
    known: bool = True


class Step(NamedTuple):
    """A message to be sent, and where the feed stands once it is taken."""

    message: Outgoing
    position: Position


def steps(
    cluster: str, cluster_id: str, position: Position, changes: Sequence[Change], most_bytes: int
) -> Iterator[Step]:
    """The messages of these changes after `position`, none of them larger than `most_bytes`."""
    for change in changes:
        if not is_internal(change.key):
            payload = message_of(change, cluster_id, position.generation, most_bytes)
            position = Position(position.sequence + 1, change.revision, position.generation, cluster_id)
            yield Step(_outgoing(change_subject(cluster, change.key), payload, position), position)


def resync(cluster: str, cluster_id: str, position: Position, revision: int) -> Step:
    """The message that says that changes up to `revision` are missing; a generation of its own begins with it."""
    sequence = position.sequence + 1
    after = Position(sequence, revision, sequence, cluster_id)
    payload = msgspec.json.encode(FeedMessage(revision, "RESYNC", cluster_id, sequence, msgspec.Raw(b"null")))
    return Step(_outgoing(resync_subject(cluster), payload, after), after)


def message_of(change: Change, cluster_id: str, generation: int, most_bytes: int) -> bytes:
    """What the feed says of a change. An object too large for the bus is told of by its metadata alone."""
    stored = change.after or change.before
    assert stored is not None
    json = stored.json if change.after is not None else _as_deleted(stored, change.revision)
    verb = b"DELETED" if change.after is None else b"MODIFIED" if change.before is not None else b"ADDED"
    head = b'{"revision":%d,"verb":"%b","cluster":%b,"generation":%d,"object":' % (
        change.revision, verb, msgspec.json.encode(cluster_id), generation,
    )  # fmt: skip
    shown = published(stored.key, json)
    if len(head) + len(shown) >= most_bytes:
        shown = _identity_of(json)
    return b"%b%b}" % (head, shown)


def published(key: Key, json: bytes) -> bytes:
    """The object as outsiders may see it: of a Secret its type and its metadata without annotations."""
    if key.resource != SECRETS:
        return json
    secret = msgspec.json.decode(json, type=_Secret)
    hidden = ("annotations", "managedFields")
    secret.metadata = {name: value for name, value in secret.metadata.items() if name not in hidden}
    return msgspec.json.encode(secret)


def read_position(sequence: int, data: bytes) -> Position:
    """The position after the stream's last message, which stands at `sequence`."""
    try:
        last = msgspec.json.decode(data, type=FeedMessage)
    except msgspec.DecodeError:
        return Position(sequence, known=False)
    return Position(sequence, last.revision, last.generation, last.cluster)


def chains(sent: Iterable[Step]) -> Iterator[list[Step]]:
    """Steps in order, as many together as may be under way at once."""
    chain: list[Step] = []
    size = 0
    for step in sent:
        chain.append(step)
        size += len(step.message.payload)
        if len(chain) >= IN_FLIGHT or size >= IN_FLIGHT_BYTES:
            yield chain
            chain, size = [], 0
    if chain:
        yield chain


def _outgoing(subject: str, payload: bytes, position: Position) -> Outgoing:
    """The message that leads to `position`, taken once, and only as the successor of the one before it."""
    message_id = f"{position.cluster}.{position.generation}.{position.revision}"
    return Outgoing(subject, payload, {_MESSAGE_ID: message_id, _EXPECTED: str(position.sequence - 1)})


def _as_deleted(stored: Stored, revision: int) -> bytes:
    """A deletion shows the last state at the deletion's own revision, as a watch does."""
    json, slot = stored.json, stored.slot
    return b"%b%d%b" % (json[:slot], revision, json[slot + len(str(stored.revision)) :])


def _identity_of(json: bytes) -> bytes:
    """Which object it is, and nothing else of it."""
    return msgspec.json.encode(msgspec.json.decode(json, type=_Named))


class _Secret(msgspec.Struct):
    """All of a Secret that leaves the cluster."""

    apiVersion: str
    kind: str
    metadata: dict[str, object]
    type: str = ""


class _Identity(msgspec.Struct, omit_defaults=True):
    name: str
    namespace: str = ""
    uid: str = ""
    resourceVersion: str = ""


class _Named(msgspec.Struct):
    """All of an object that is too large."""

    apiVersion: str
    kind: str
    metadata: _Identity
