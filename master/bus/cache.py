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
    message: a record that was carried over from an earlier stream does not begin its hour anew. Such a one also says
    from which stream, `origin`, and up to which sequence of it whoever carried it over had `seen`.
    """

    verb: Literal["put", "delete"]
    namespace: str
    name: str
    slot: int = 0
    labels: dict[str, str] = {}
    fields: dict[str, str] = {}
    born: float = 0.0
    object: msgspec.Raw = msgspec.Raw(b"null")
    origin: str = ""
    seen: int = 0

    @property
    def key(self) -> Key:
        return Key(RESOURCE, self.namespace, self.name)


class Source(NamedTuple):
    """A picture of an earlier stream: which stream that was, and up to which sequence the picture had come."""

    origin: str
    seen: int

    def is_older_than(self, other: Source) -> bool:
        """Whether the other is a picture of the same stream that had come further."""
        return self.origin == other.origin and self.seen < other.seen


class Living(NamedTuple):
    """An object, when it was last written, in seconds since the epoch, and the picture that it is of."""

    stored: Stored
    born: float
    source: Source = Source("", 0)

    def record(self) -> bytes:
        """The message that carries it into another stream."""
        stored = self.stored
        key, json, slot = stored.key, *unslotted(stored)
        return msgspec.json.encode(
            Record(
                "put", key.namespace, key.name, slot, stored.labels, stored.fields,
                self.born, msgspec.Raw(json), *self.source,
            )
        )  # fmt: skip


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
        # Where objects are from that were carried over and not written since; of each stream the newest picture.
        self._sources: dict[Key, Source] = {}
        self._newest: dict[str, Source] = {}
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
            self._note_source(after.key, Source(record.origin, record.seen))
        elif before is not None:
            self._objects.remove(before)
            del self._born[before.key]
            self._sources.pop(before.key, None)
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

    def lacks(self, one: Living) -> bool:
        """Whether an object of an earlier stream belongs here: not where it has been written since, nor where a newer
        picture of that stream has been carried over, which knows better, also what was deleted.
        """
        newest = self._newest.get(one.source.origin)
        if newest is not None and one.source.is_older_than(newest):
            return False
        key = one.stored.key
        present, source = self._objects.get(key), self._sources.get(key)
        if present is None:
            return True
        return source is not None and source.is_older_than(one.source) and unslotted(present) != unslotted(one.stored)

    def outlived(self, earlier: EventCache) -> list[Stored]:
        """What others have carried over from the earlier stream and had been deleted there, which they had missed."""
        source = Source(earlier.created, earlier.revision)
        keys = [key for key, of in self._sources.items() if of.is_older_than(source) and earlier.get(key) is None]
        return [stored for key in keys if (stored := self._objects.get(key)) is not None]

    def living(self) -> list[Living]:
        """All objects, the oldest first."""
        source = Source(self.created, self.revision)
        found = [Living(stored, self._born[stored.key], source) for stored in self.select()]
        return sorted(found, key=lambda one: one.born)

    def _stored(self, record: Record, before: Stored | None, revision: int) -> Stored:
        raw, slot = bytes(record.object), record.slot
        key, labels, fields = self._objects.compact(record.key, record.labels, record.fields, before)
        return Stored(key, b"%b%d%b" % (raw[:slot], revision, raw[slot:]), revision, labels, fields, slot)

    def _note_source(self, key: Key, source: Source) -> None:
        if not source.origin:
            self._sources.pop(key, None)
            return
        self._sources[key] = source
        newest = self._newest.setdefault(source.origin, source)
        if newest.is_older_than(source):
            self._newest[source.origin] = source

    def _note_birth(self, key: Key, born: float) -> None:
        self._born[key] = born
        heapq.heappush(self._ageing, (born, key))
        if len(self._ageing) > 2 * len(self._born) + 1024:
            # Objects that are written often leave a stale row each time.
            self._ageing = [(born, key) for key, born in self._born.items()]
            heapq.heapify(self._ageing)
