"""The state machine: what every member does with an entry, and the same on each.

`apply` takes ops in log order and returns one result per op and the changes they made. It is pure and deterministic: no
I/O, no clock, no randomness, no unordered set, no JSON parsing. A refused compare is a result; any exception is a fault
of ours and must stop the member, because skipping it would make the members differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from barque.master.store.objects import Objects
from barque.master.store.port import (
    Absent,
    Change,
    Committed,
    Filter,
    Key,
    Listing,
    Op,
    Refused,
    Result,
    RevisionIs,
    Stored,
)
from barque.master.store.results import Kept, Results
from barque.master.store.rows import Rows


class Applied(NamedTuple):
    """What one entry did: a result per op, and the changes in revision order."""

    results: list[Result]
    changes: list[Change]


class View(NamedTuple):
    """The whole state at one revision, as references: cheap to take, unchanged by what is applied later."""

    revision: int
    objects: Rows
    reserved: list[tuple[str, Key]]
    results: list[tuple[str, int, dict[int, Kept]]]


class StateMachine:
    def __init__(self, revision: int = 0) -> None:
        self.revision = revision
        self._objects = Objects()
        self._reserved: dict[str, Key] = {}
        # The reservations of each object that has some, in the order they were made.
        self._held: dict[Key, tuple[str, ...]] = {}
        self._results = Results()

    def __len__(self) -> int:
        return len(self._objects)

    def get(self, key: Key) -> Stored | None:
        return self._objects.get(key)

    def reserved(self, prefix: str) -> dict[str, Key]:
        return {r: key for r, key in self._reserved.items() if r.startswith(prefix)}

    def apply(self, ops: Sequence[Op]) -> Applied:
        results: list[Result] = []
        changes: list[Change] = []
        for op in ops:
            first = self._results.find(op.boot_id, op.sequence) if op.boot_id else None
            if first is not None:
                results.append(first)
                continue
            result: Committed | Refused | None = self._refusal(op) if op.compares or op.reserve else None
            if result is None:
                result = self._delete(op, changes) if op.verb == "delete" else self._put(op, changes)
            if op.boot_id:
                self._results.keep(op.boot_id, op.sequence, result)
            results.append(result)
        return Applied(results, changes)

    def result_of(self, op: Op) -> Result | None:
        """What came of the op where it was applied already; None where it was not, as far as is remembered."""
        return self._results.find(op.boot_id, op.sequence) if op.boot_id else None

    def view(self) -> View:
        return View(self.revision, self._objects.all(), list(self._reserved.items()), self._results.all())

    def load_objects(self, objects: Iterable[Stored]) -> None:
        """Take over objects of a snapshot; only before the first `apply`."""
        for stored in objects:
            key, labels, fields = self._objects.compact(stored.key, stored.labels, stored.other_fields, None)
            self._objects.put(Stored(key, stored.json, stored.revision, labels, fields, stored.slot), None)

    def load_reserved(self, reserved: Iterable[tuple[str, Key]]) -> None:
        """Take over reservations, in the order of `view`."""
        for reservation, key in reserved:
            self._reserved[reservation] = key
            self._held[key] = (*self._held.get(key, ()), reservation)

    def load_results(self, boot_id: str, floor: int, kept: Iterable[tuple[int, Kept]]) -> None:
        self._results.load(boot_id, floor, kept)

    def take_results(self, other: StateMachine) -> None:
        """Remember the results that `other` remembers, and no others; `other` is not used again."""
        self._results = other._results

    def _refusal(self, op: Op) -> Refused | None:
        for number, compare in enumerate(op.compares):
            found = self._objects.get(compare.key)
            if isinstance(compare, Absent):
                holds = found is None
            elif found is None:
                holds = False
            elif isinstance(compare, RevisionIs):
                holds = found.revision == compare.revision
            else:
                holds = found.fields.get(compare.field, "") == compare.value
            if not holds:
                return Refused(number, found.revision if found else 0)
        for reservation in op.reserve:
            holder = self._reserved.get(reservation)
            if holder is not None and holder != op.key:
                return Refused(-1, reservation=reservation)
        return None

    def _put(self, op: Op, changes: list[Change]) -> Committed:
        before = self._objects.get(op.key)
        moved = self._reserve(op) if op.reserve or op.release else False
        slot = op.slot
        key, labels, fields = self._objects.compact(op.key, op.labels, op.fields, before)
        if before is not None and not moved and len(op.json) < len(before.json) and slot == before.slot:
            same = b"%b%d%b" % (op.json[:slot], before.revision, op.json[slot:])
            if same == before.json and labels is before.labels and fields is before.other_fields:
                return Committed(before.revision, changed=False)
        self.revision = revision = self.revision + 1
        json = b"%b%d%b" % (op.json[:slot], revision, op.json[slot:])
        after = Stored(key, json, revision, labels, fields, slot)
        self._objects.put(after, before)
        changes.append(Change(revision, before, after))
        return Committed(revision)

    def _delete(self, op: Op, changes: list[Change]) -> Committed:
        before = self._objects.get(op.key)
        if before is None:
            return Committed(self.revision, changed=False)
        self._objects.remove(before)
        for reservation in self._held.pop(before.key, ()):
            del self._reserved[reservation]
        self.revision += 1
        changes.append(Change(self.revision, before, None))
        return Committed(self.revision)

    def _reserve(self, op: Op) -> bool:
        """Free what the op releases, then hold what it reserves; True where that changed anything."""
        held = self._held.get(op.key, ())
        kept = [r for r in held if r not in op.release]
        for reservation in op.reserve:
            if reservation not in kept:
                kept.append(reservation)
        if len(kept) == len(held) and all(r in kept for r in held):
            return False
        now = tuple(kept)
        for reservation in held:
            if reservation not in now:
                del self._reserved[reservation]
        for reservation in now:
            self._reserved[reservation] = op.key
        if now:
            self._held[op.key] = now
        else:
            del self._held[op.key]
        return True

    def list(self, resource: str, selected: Filter = Filter()) -> Listing:
        return Listing(self._objects.select(resource, selected), self.revision)

    def list_at(self, resource: str, selected: Filter, revision: int, superseded: Iterable[Stored]) -> Listing:
        """As `list` at an older revision; `superseded` of the resource stood then and does no longer."""
        return Listing(self._objects.select_at(resource, selected, revision, superseded), revision)
