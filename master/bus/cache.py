"""What a master knows of the Event records: the objects as of a revision, and the recent changes. Pure.

Fed with the stream's messages in order; a message's sequence is the revision of the write. `horizon` is the oldest
revision from which the changes kept are whole: a watch from before it must list again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

import msgspec

from barque.master.store.port import Filter, Key, Stored, Watched

RESOURCE = "events"
# Bounds of memory: what of the changes is kept for watches that resume, and how many bytes of objects there may be.
MAX_CHANGES = 20_000
MAX_OBJECT_BYTES = 48 * 1024 * 1024


class Record(msgspec.Struct, omit_defaults=True):
    """One message of the stream. `object` is the JSON with an empty revision, `slot` where the revision goes."""

    verb: Literal["put", "delete"]
    namespace: str
    name: str
    slot: int = 0
    labels: dict[str, str] = {}
    fields: dict[str, str] = {}
    object: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def key(self) -> Key:
        return Key(RESOURCE, self.namespace, self.name)


class Entry(NamedTuple):
    """One object as written at `revision`; `at` is when, in seconds since the epoch."""

    key: Key
    json: bytes
    slot: int
    labels: dict[str, str]
    fields: dict[str, str]
    revision: int
    at: float

    def bytes_at(self, revision: int) -> bytes:
        return self.json[: self.slot] + str(revision).encode() + self.json[self.slot :]

    def stored(self) -> Stored:
        return Stored(self.key, self.bytes_at(self.revision), self.revision, self.labels, self.fields, self.slot)


class Change(NamedTuple):
    """`before` is None for a new object, `after` for one that went; never both."""

    revision: int
    before: Entry | None
    after: Entry | None

    @property
    def key(self) -> Key:
        entry = self.after or self.before
        assert entry is not None
        return entry.key


class EventCache:
    """Objects and changes; `revision` is the last sequence taken in."""

    def __init__(self) -> None:
        self.revision = 0
        self.horizon = 0
        self.bytes = 0
        # Ordered by last write: the first is the first to expire.
        self._entries: dict[Key, Entry] = {}
        self._changes: list[Change] = []

    def reset(self, revision: int) -> None:
        """Begin anew: a stream whose first message will come after `revision`."""
        self.revision = self.horizon = revision
        self.bytes = 0
        self._entries.clear()
        self._changes.clear()

    def take(self, sequence: int, at: float, data: bytes) -> bool:
        """Take in one message. False where it cannot be read; the revision advances all the same."""
        self.revision = sequence
        try:
            record = msgspec.json.decode(data, type=Record)
        except msgspec.DecodeError:
            return False
        before = self._entries.pop(record.key, None)
        after = None
        if record.verb == "put":
            json = bytes(record.object)
            after = Entry(record.key, json, record.slot, record.labels, record.fields, sequence, at)
            self._entries[record.key] = after
        self.bytes += (len(after.json) if after else 0) - (len(before.json) if before else 0)
        if before is not None or after is not None:
            self._keep(Change(sequence, before, after))
        return True

    def get(self, key: Key) -> Entry | None:
        return self._entries.get(key)

    def select(self, selected: Filter) -> list[Stored]:
        return _ordered(self._entries.values(), selected)

    def select_at(self, revision: int, selected: Filter) -> list[Stored]:
        """As `select`, of the state at `revision`, which lies between the horizon and now."""
        then: dict[Key, Entry | None] = dict(self._entries)
        for change in reversed(self.changes_after(revision, len(self._changes))):
            then[change.key] = change.before
        return _ordered((entry for entry in then.values() if entry is not None), selected)

    def overdue(self, expired_before: float, at_most: int) -> list[Entry]:
        """The oldest objects that have had their time, or that stand above the bound of memory."""
        found: list[Entry] = []
        excess = self.bytes - MAX_OBJECT_BYTES
        for entry in self._entries.values():
            if len(found) >= at_most or (entry.at >= expired_before and excess <= 0):
                break
            found.append(entry)
            excess -= len(entry.json)
        return found

    def changes_after(self, revision: int, at_most: int) -> list[Change]:
        """Changes after `revision`, which must not lie before the horizon."""
        start = bisect_right(self._changes, revision, key=lambda change: change.revision)
        return self._changes[start : start + at_most]

    def _keep(self, change: Change) -> None:
        self._changes.append(change)
        if len(self._changes) >= 2 * MAX_CHANGES:
            # Cut in one go, so that each change is moved once.
            self.horizon = self._changes[-MAX_CHANGES - 1].revision
            del self._changes[:-MAX_CHANGES]


def _ordered(entries: Iterable[Entry], selected: Filter) -> list[Stored]:
    found = [entry for entry in entries if selects(selected, entry)]
    return [entry.stored() for entry in sorted(found, key=lambda entry: entry.key)]


def selects(selected: Filter, entry: Entry) -> bool:
    """Whether the object is in the selection."""
    if selected.namespace and entry.key.namespace != selected.namespace:
        return False
    if selected.name and entry.key.name != selected.name:
        return False
    if selected.node is not None and entry.fields.get("spec.nodeName", "") != selected.node:
        return False
    return selected.matches is None or selected.matches(entry.labels, entry.fields)


def watched(changes: list[Change], selected: Filter) -> Iterator[Watched]:
    """The changes as a watch with this selection sees them: entering it is ADDED, leaving it DELETED."""
    for change in changes:
        was = change.before is not None and selects(selected, change.before)
        now = change.after is not None and selects(selected, change.after)
        if now and change.after is not None:
            yield Watched("MODIFIED" if was else "ADDED", change.after.bytes_at(change.revision), change.revision)
        elif was and change.before is not None:
            yield Watched("DELETED", change.before.bytes_at(change.revision), change.revision)
