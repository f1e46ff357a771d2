"""What a master knows of the Event records: the objects at a revision, their changes, and when each has had its time.

Fed with one stream's messages in order; a message's sequence is the revision of the write. A cache is filled aside
from the stream's first message on and served once it has come to the end: till then its history is kept here, after
that in the hub of whoever serves it. Pure: no I/O, no clock.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

from barque.master.store.history import History
from barque.master.store.hub import HubSettings
from barque.master.store.objects import Objects
from barque.master.store.port import Change, Filter, Key, Op, Stored

RESOURCE = "events"
# Beyond this the oldest Events go before their time, and beyond the second nothing is written until they have gone.
MAX_OBJECT_BYTES = 48 * 1024 * 1024
FULL_BYTES = 64 * 1024 * 1024
# What watches may resume from, and what may wait for each of them. Handed to the hub in one go when a cache is first
# served: at some 0.6 µs a change, within 10 ms.
HISTORY = HubSettings(history_changes=16_384, history_bytes=16 * 1024 * 1024)


class Record(msgspec.Struct, omit_defaults=True):
    """One message of the stream. `object` is the JSON with an empty revision, `slot` where the revision goes.

    `born` is when the object was last written, in seconds since the epoch, where that is not when the stream took the
    message: a record that was carried over from an earlier stream does not begin its hour anew.
    """

    verb: Literal["put", "delete"]
    namespace: str
    name: str
    slot: int = 0
    labels: dict[str, str] = {}
    fields: dict[str, str] = {}
    born: float = 0.0
    object: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def key(self) -> Key:
        return Key(RESOURCE, self.namespace, self.name)


class Living(NamedTuple):
    """An object and when it was last written, in seconds since the epoch."""

    stored: Stored
    born: float

    def record(self) -> bytes:
        """The message that carries it into another stream."""
        stored = self.stored
        key, json, slot = stored.key, *unslotted(stored)
        return msgspec.json.encode(
            Record("put", key.namespace, key.name, slot, stored.labels, stored.fields, self.born, msgspec.Raw(json))
        )


def record_of(op: Op) -> bytes:
    """The message of a write."""
    if op.verb == "delete":
        return msgspec.json.encode(Record("delete", op.key.namespace, op.key.name))
    return msgspec.json.encode(
        Record("put", op.key.namespace, op.key.name, op.slot, op.labels, op.fields, object=msgspec.Raw(op.json))
    )


def unslotted(stored: Stored) -> tuple[bytes, int]:
    """The object's JSON with an empty revision, and where the revision goes."""
    slot = stored.slot
    return stored.json[:slot] + stored.json[slot + len(str(stored.revision)) :], slot


class EventCache:
    """The objects of one stream, of which `created` is the identity; `revision` is the last sequence taken in."""

    def __init__(self, created: str, revision: int) -> None:
        self.created = created
        self.revision = revision
        self.bytes = 0
        self.history = History(max_changes=HISTORY.history_changes, max_bytes=HISTORY.history_bytes)
        self.history.reset(revision)
        self._objects = Objects()
        self._born: dict[Key, float] = {}
        # The oldest first; a row whose time is not the object's own any more is stale, and dropped when it is met.
        self._ageing: list[tuple[float, Key]] = []

    def __len__(self) -> int:
        return len(self._objects)

    def take(self, sequence: int, at: float, data: bytes) -> Change | None:
        """Take in one message, written `at` seconds since the epoch. None where it changes nothing. The revision
        advances in any case, also where this raises `msgspec.DecodeError`: the message cannot be read.
        """
        self.revision = sequence
        record = msgspec.json.decode(data, type=Record)
        before = self._objects.get(record.key)
        after = None
        if record.verb == "put":
            after = self._stored(record, before, sequence)
            self._objects.put(after, before)
            self._note_birth(after.key, record.born or at)
        elif before is not None:
            self._objects.remove(before)
            del self._born[before.key]
        self.bytes += (len(after.json) if after else 0) - (len(before.json) if before else 0)
        return Change(sequence, before, after) if before is not None or after is not None else None

    def get(self, key: Key) -> Stored | None:
        return self._objects.get(key)

    def select(self, selected: Filter = Filter()) -> Sequence[Stored]:
        """Ordered by namespace and name; a picture that later writes leave alone."""
        return self._objects.select(RESOURCE, selected)

    def select_at(self, revision: int, selected: Filter, superseded: list[Stored]) -> Sequence[Stored]:
        """As `select` at an older revision; `superseded` stood then and does no longer."""
        return self._objects.select_at(RESOURCE, selected, revision, superseded)

    def overdue(self, born_before: float, at_most: int) -> list[Stored]:
        """The oldest objects: those that have had their time, and what stands above the bound of memory."""
        found: list[Stored] = []
        rows: list[tuple[float, Key]] = []
        excess = self.bytes - MAX_OBJECT_BYTES
        while self._ageing and len(found) < at_most:
            born, key = self._ageing[0]
            stored = self._objects.get(key)
            if stored is not None and self._born[key] == born:
                if born >= born_before and excess <= 0:
                    break
                found.append(stored)
                rows.append((born, key))
                excess -= len(stored.json)
            heapq.heappop(self._ageing)
        # Only looked at: it is their deletion that ends them.
        for row in rows:
            heapq.heappush(self._ageing, row)
        return found

    def living(self) -> list[Living]:
        """All objects, the oldest first."""
        found = [Living(stored, self._born[stored.key]) for stored in self.select()]
        return sorted(found, key=lambda one: one.born)

    def _stored(self, record: Record, before: Stored | None, revision: int) -> Stored:
        raw, slot = bytes(record.object), record.slot
        key, labels, fields = self._objects.compact(record.key, record.labels, record.fields, before)
        return Stored(key, b"%b%d%b" % (raw[:slot], revision, raw[slot:]), revision, labels, fields, slot)

    def _note_birth(self, key: Key, born: float) -> None:
        self._born[key] = born
        heapq.heappush(self._ageing, (born, key))
        if len(self._ageing) > 2 * len(self._born) + 1024:
            # Objects that are written often leave a stale row each time.
            self._ageing = [(born, key) for key, born in self._born.items()]
            heapq.heapify(self._ageing)
