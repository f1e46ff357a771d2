"""Whether what clients were told can have happened: a checker of linearisability.

After Wing and Gong ("Testing and verifying concurrent objects", 1993) with Lowe's memoised configurations ("Testing for
linearizability", 2017). A history is split by key, since a history is linearisable exactly where that of each object
is; each is searched for an order of its calls that respects real time and in which every answer is right.

A key is a register that holds the id of the write that stands there, 0 for nothing. Ids are unique, so a comparison
names what it expects. A call whose outcome was never learned may take effect at any moment after its invocation, once,
or never; one that was certainly refused by the store before it was proposed is not part of a history.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

ABSENT = 0
# What stands there is known to nobody.
_UNSEEN = -1


class Kind(enum.Enum):
    READ = "read"
    # Whatever stands there.
    WRITE = "write"
    DELETE = "delete"
    # Only where `expected` stands there (0: nothing).
    SWAP = "swap"
    REMOVE = "remove"


class Call(NamedTuple):
    """One call on one key. `value` is what it writes; `ok` None where the outcome is unknown.

    `saw` is what the answer tells of what stood there: for a read its value, for a refused comparison what stood there
    instead (None where that was not told); for a delete that took effect True or False: something stood there, or not.
    """

    client: str
    key: str
    kind: Kind
    invoked: float
    answered: float
    value: int = ABSENT
    expected: int = ABSENT
    ok: bool | None = True
    saw: int | bool | None = None

    def __str__(self) -> str:
        what = {
            Kind.READ: "read",
            Kind.WRITE: f"write {self.value}",
            Kind.DELETE: "delete",
            Kind.SWAP: f"swap {self.expected} -> {self.value}",
            Kind.REMOVE: f"remove {self.expected}",
        }[self.kind]
        told = {None: "unknown", True: "ok", False: "refused"}[self.ok]
        saw = "" if self.saw is None else f", saw {self.saw}"
        return f"{self.invoked:9.4f} .. {self.answered:9.4f} {self.client:>10} {self.key}: {what}: {told}{saw}"


class Verdict(NamedTuple):
    """`calls` are the history of the first key that has no order, up to the calls at which the search got stuck."""

    ok: bool
    key: str = ""
    calls: Sequence[Call] = ()

    def __str__(self) -> str:
        if self.ok:
            return "linearisable"
        return "\n".join(
            [f"{self.key} is not linearisable; the search cannot get past the last of", *map(str, self.calls)]
        )


class UndecidedError(Exception):
    """Too many configurations: neither an order was found nor that there is none."""


def check(history: Iterable[Call], budget: int = 200_000) -> Verdict:
    """Judge each key. `budget` bounds the configurations that are looked at. Raises `UndecidedError`."""
    keys: dict[str, list[Call]] = {}
    for call in history:
        # A read that was never answered says nothing.
        if call.kind is not Kind.READ or call.ok:
            keys.setdefault(call.key, []).append(call)
    for key, calls in keys.items():
        stuck = _search(calls, budget)
        if stuck is not None:
            return Verdict(False, key, stuck)
    return Verdict(True)


def _step(state: int, call: Call) -> int | None:
    """The register after the call, or None where its answer cannot come from `state`."""
    kind, ok, saw = call.kind, call.ok, call.saw
    if kind is Kind.READ:
        return state if saw == state else None
    if kind is Kind.WRITE:
        return call.value
    if kind is Kind.DELETE:
        return ABSENT if ok is None or saw is None or saw == (state != ABSENT) else None
    matches = state == call.expected
    if ok is None:
        return (call.value if kind is Kind.SWAP else ABSENT) if matches else state
    if ok != matches:
        return None
    if ok:
        return call.value if kind is Kind.SWAP else ABSENT
    return state if saw is None or saw == state else None


class _Point:
    """A configuration on the way: what is in the order (`done`), what stands there, which calls may come next."""

    __slots__ = ("choices", "done", "state")

    def __init__(self, done: int, state: int, choices: list[tuple[int, int]]) -> None:
        self.done = done
        self.state = state
        # (the call's bit, the state after it), the one to try next at the end.
        self.choices = choices


def _search(calls: Sequence[Call], budget: int) -> list[Call] | None:
    """None where there is an order; otherwise the calls that began before the point nobody gets past."""
    # Writes that nobody was told of and nobody has seen are alike: all that may be learned of one is that something
    # stood there.
    told = {call.saw for call in calls} | {call.expected for call in calls}
    calls = [call._replace(value=_UNSEEN) if call.ok is None and call.value not in told else call for call in calls]
    numbered = [(1 << number, call) for number, call in enumerate(sorted(calls, key=lambda call: call.invoked))]
    by_end = sorted((pair for pair in numbered if pair[1].ok is not None), key=lambda pair: pair[1].answered)
    # The calls that tell a value, and those that tell that there is one: without any that is left, a write that may as
    # well not have happened need not be looked at.
    told_by: dict[int, int] = {}
    something = 0
    for bit, call in numbered:
        told_by[call.expected] = told_by.get(call.expected, 0) | bit
        if type(call.saw) is int:
            told_by[call.saw] = told_by.get(call.saw, 0) | bit
        elif call.saw is True or call.ok is False:
            something |= bit
    needed = sum(bit for bit, call in numbered if call.ok is not None)
    furthest = -math.inf

    def choices(done: int, state: int) -> list[tuple[int, int]]:
        """The calls that may come next: begun before any other that must come has ended. Those whose outcome is known
        are tried first, in the order in which they ended; of equal ones with unknown outcome only one.
        """
        nonlocal furthest
        ends = next((call.answered for bit, call in by_end if not done & bit), math.inf)
        furthest = max(furthest, ends)
        known: list[tuple[float, int, int]] = []
        unknown: dict[tuple[int, int], int] = {}
        for bit, call in numbered:
            if call.invoked > ends:
                break
            if done & bit or (after := _step(state, call)) is None:
                continue
            if call.ok is not None:
                known.append((-call.answered, bit, after))
            elif after != state and (after == ABSENT or (told_by.get(after, 0) | something) & ~(done | bit)):
                blind = call.kind in (Kind.WRITE, Kind.DELETE)
                unknown.setdefault((after, -1 if blind else call.expected), bit)
        known.sort()
        return [(bit, after) for (after, _), bit in unknown.items()] + [(bit, after) for _, bit, after in known]

    seen = {(0, ABSENT)}
    path = [_Point(0, ABSENT, choices(0, ABSENT))]
    while path[-1].done & needed != needed:
        point = path[-1]
        if not point.choices:
            path.pop()
            if not path:
                return sorted((c for c in calls if c.invoked <= furthest), key=lambda c: c.answered)
            continue
        bit, after = point.choices.pop()
        configuration = (point.done | bit, after)
        if configuration not in seen:
            seen.add(configuration)
            if len(seen) > budget:
                raise UndecidedError(f"{calls[0].key}: {len(seen)} configurations of {len(calls)} calls")
            path.append(_Point(*configuration, choices(*configuration)))
    return None
