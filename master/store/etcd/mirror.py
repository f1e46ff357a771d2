"""`Mirror`: the state in etcd as this master holds it in memory; `Draft`: what ops would make of it.

The rules of a write are the state machine's own (`fsm`), whichever the engine: a `Draft` is that machine laid over a
mirror which it leaves as it is. What the draft has changed goes to etcd as one `Batch`, and once etcd has it, every
mirror absorbs the same batch, at its place in the order of all. Pure: no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from barque.master.store.fsm import StateMachine
from barque.master.store.objects import Objects
from barque.master.store.port import Change, Committed, Key, Op, Refused, Result, Stored
from barque.master.store.results import Results

K = TypeVar("K")
V = TypeVar("V")

Kept = Committed | Refused
# Results by boot id, each with the op's sequence.
OfBoots = list[tuple[str, list[tuple[int, Kept]]]]


class Step(NamedTuple):
    """One change of a batch: the object's state after it, None where it was deleted."""

    revision: int
    key: Key
    after: Stored | None


class Batch(NamedTuple):
    """What one transaction changes. `steps` in order; `held` are the reservations of each object it has touched, after
    it; `revision` is the store's after it.
    """

    revision: int
    steps: Sequence[Step]
    held: dict[Key, tuple[str, ...]]
    results: OfBoots


class Mirror(StateMachine):
    def absorb(self, batch: Batch) -> list[Change]:
        """Apply what etcd has taken; the changes in revision order."""
        changes: list[Change] = []
        for revision, key, after in batch.steps:
            before = self._objects.get(key)
            if after is not None:
                at, labels, fields = self._objects.compact(key, after.labels, after.other_fields, before)
                after = Stored(at, after.json, revision, labels, fields, after.slot)
                self._objects.put(after, before)
                changes.append(Change(revision, before, after))
            elif before is not None:
                self._objects.remove(before)
                changes.append(Change(revision, before, None))
        self._hold(batch.held)
        self.keep_results(batch.results)
        self.revision = batch.revision
        return changes

    def keep_results(self, results: OfBoots) -> None:
        for boot_id, of_boot in results:
            for sequence, result in of_boot:
                self._results.keep(boot_id, sequence, result)

    def forget_results_before(self, oldest: dict[str, int]) -> None:
        """What each boot id has done before the sequence given is not known: such an op is not applied again."""
        for boot_id, sequence in oldest.items():
            self._results.load(boot_id, sequence - 1, ())

    def first_result(self, op: Op) -> Result | None:
        """What came of the op where it has been applied before."""
        return self._results.find(op.boot_id, op.sequence)

    def held(self, key: Key) -> tuple[str, ...]:
        """The reservations of the object."""
        return self._held.get(key, ())

    def _hold(self, held: dict[Key, tuple[str, ...]]) -> None:
        for key in held:
            for reservation in self._held.pop(key, ()):
                del self._reserved[reservation]
        for key, reservations in held.items():
            if reservations:
                self._held[key] = reservations
            for reservation in reservations:
                self._reserved[reservation] = key


class Draft(StateMachine):
    """Ops applied to what a mirror holds, and to nothing else."""

    def __init__(self, mirror: Mirror) -> None:
        super().__init__(mirror.revision)
        self._objects = _DraftObjects(mirror._objects)
        self._reserved = _Layer(mirror._reserved)
        self._held = _Layer(mirror._held)
        self._results = self._new_results = _DraftResults(mirror._results)

    def batch(self, changes: Sequence[Change]) -> Batch:
        """All that was applied here; `changes` are of it."""
        return Batch(
            self.revision,
            [Step(change.revision, change.key, change.after) for change in changes],
            {change.key: self._held.get(change.key, ()) for change in changes},
            self._new_results.all_new(),
        )


class _Layer(dict[K, V]):
    """A dictionary over another one that stays as it is: the few operations that the state machine needs."""

    def __init__(self, below: dict[K, V]) -> None:
        super().__init__()
        self._below = below
        self._gone: set[K] = set()

    def get(self, key: K, default: Any = None) -> Any:
        if key in self:
            return super().get(key)
        return default if key in self._gone else self._below.get(key, default)

    def pop(self, key: K, default: Any) -> Any:  # type: ignore[override]
        found = self.get(key, default)
        super().pop(key, None)
        self._gone.add(key)
        return found

    def __delitem__(self, key: K) -> None:
        self.pop(key, None)


class _DraftObjects(Objects):
    def __init__(self, below: Objects) -> None:
        super().__init__()
        self._below = below
        self._changed: dict[Key, Stored | None] = {}

    def get(self, key: Key) -> Stored | None:
        return self._changed[key] if key in self._changed else self._below.get(key)

    def put(self, stored: Stored, before: Stored | None) -> None:
        self._changed[stored.key] = stored

    def remove(self, before: Stored) -> None:
        self._changed[before.key] = None

    def compact(
        self, key: Key, labels: dict[str, str], fields: dict[str, str], before: Stored | None
    ) -> tuple[Key, dict[str, str], dict[str, str]]:
        return self._below.compact(key, labels, fields, before)


class _DraftResults(Results):
    def __init__(self, below: Results) -> None:
        super().__init__()
        self._below = below
        self._new: dict[str, dict[int, Kept]] = {}

    def find(self, boot_id: str, sequence: int) -> Result | None:
        return self._new.get(boot_id, {}).get(sequence) or self._below.find(boot_id, sequence)

    def keep(self, boot_id: str, sequence: int, result: Committed | Refused) -> None:
        self._new.setdefault(boot_id, {})[sequence] = result

    def all_new(self) -> OfBoots:
        return [(boot_id, list(of_boot.items())) for boot_id, of_boot in self._new.items()]


def oldest_of(results: Iterable[OfBoots]) -> dict[str, int]:
    """The lowest sequence of each boot id."""
    oldest: dict[str, int] = {}
    for of_boots in results:
        for boot_id, of_boot in of_boots:
            first = min((sequence for sequence, _ in of_boot), default=0)
            oldest[boot_id] = min(first, oldest.get(boot_id, first))
    return oldest
