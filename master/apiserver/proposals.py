"""How writes reach a backend: planned on fresh state, proposed together, planned again where the state has moved on.

A `Writer` is one request. Its `plan()` reads, decides and yields the op that carries the decision out, with compares
that hold exactly as long as the decision is right. `propose` gives the ops of many writers to the backend in one
commit. A refused op asks its writer: it raises what the user is told, or returns to be planned again. So a decision
is never carried out on state it was not made for, and no lock is held.

A first plan is made on what this master has at hand: where that is behind, the compares refuse it. What no compare
guards, a refusal or an answer that needs no write, is only given on the current state, unless its plan says that it
`stands` on any.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from barque.api import codec, conversion, fields
from barque.api.errors import ApiError, outcome_unknown, too_large_entity
from barque.api.resources import Resource
from barque.master.admission.claims import NO_CLAIMS, Claims
from barque.master.apiserver.backend import Backend
from barque.master.apiserver.cohorts import in_step
from barque.master.store.port import Committed, Compare, Key, Op, Refused, Result, Unknown

# An unconditional write gives up when others have been quicker this often in a row.
MAX_ATTEMPTS = 24
# Writes of a batch handled before other tasks get the loop: at some 0.3 ms each, so that one turn of the loop stays
# below 20 ms with several batches under way.
SLICE = 8
# Refusals of what was sent, whatever is stored: 400, 413, 415; and of how often, 429.
_SAID_OF_THE_REQUEST = (400, 413, 415, 429)


class Plan(NamedTuple):
    """What to write, and the answer once it stands at a revision. Without an op it stands at `revision` already; and
    where it `stands` whatever has been written elsewhere, the current state is not asked for.
    """

    answer: Callable[[int], bytes]
    op: Op | None = None
    revision: int = 0
    claims: Claims = NO_CLAIMS
    stands: bool = False


class Writer(Protocol):
    """One write request, authorised already. `plan` reads what the backend has at hand."""

    @property
    def backend(self) -> Backend: ...

    @property
    def subject(self) -> tuple[Key, ...]:
        """Keys whose earlier writes in the same batch must be done before this one is planned."""
        ...

    async def plan(self) -> Plan: ...

    def handle_refusal(self, plan: Plan, refusal: Refused) -> None:
        """Raise what the user is told, or return to be planned again."""
        ...

    def give_up(self) -> ApiError:
        """The error after `MAX_ATTEMPTS`."""
        ...


class _Pending(NamedTuple):
    place: int
    writer: Writer
    attempts: int = 0


async def propose(writers: Sequence[Writer | ApiError]) -> list[bytes | ApiError]:
    """Carry out all writers; the answers stand in their order. An `ApiError` among them is its own answer.

    Writers of different objects share one commit; those of the same object follow one another in order.
    """
    answers: list[bytes | ApiError] = [w if isinstance(w, ApiError) else b"" for w in writers]
    waiting = [_Pending(i, w) for i, w in enumerate(writers) if not isinstance(w, ApiError)]
    while waiting:
        ready, waiting = _split(waiting)
        planned: list[tuple[_Pending, Plan, Op]] = []
        for number, pending in enumerate(ready, 1):
            if number % SLICE == 0:
                await asyncio.sleep(0)
            try:
                plan = await _plan(pending.writer)
            except ApiError as refused:
                answers[pending.place] = refused
                continue
            if plan.op is None:
                answers[pending.place] = plan.answer(plan.revision)
            else:
                planned.append((pending, plan, plan.op))
        again = await _commit(planned, answers)
        waiting = sorted([*again, *waiting])
    return answers


async def propose_one(writer: Writer) -> bytes:
    """Carry out one writer, as `propose` would. Raises its `ApiError`."""
    pending = _Pending(0, writer)
    while True:
        await in_step()
        plan = await _plan(writer)
        if plan.op is None:
            return plan.answer(plan.revision)
        await in_step()
        (result,) = await writer.backend.commit([plan.op])
        answer = _settle(pending, plan, result)
        if isinstance(answer, bytes):
            return answer
        if answer is not None:
            try:
                raise answer
            finally:
                del answer  # Its traceback holds this frame: a cycle that only the collector would free.
        pending = pending._replace(attempts=pending.attempts + 1)


async def _plan(writer: Writer) -> Plan:
    """The writer's plan; a refusal, or an answer without a write that does not stand, only on the current state."""
    try:
        plan = await writer.plan()
    except ApiError as refused:
        if refused.code in _SAID_OF_THE_REQUEST:
            raise
    else:
        if plan.op is not None or plan.stands:
            return plan
    await writer.backend.current()
    return await writer.plan()


def _split(waiting: list[_Pending]) -> tuple[list[_Pending], list[_Pending]]:
    """Those that may be planned now, and those that an earlier one of them stands in the way of."""
    busy: set[Key] = set()
    ready: list[_Pending] = []
    later: list[_Pending] = []
    for pending in waiting:
        (later if busy.intersection(pending.writer.subject) else ready).append(pending)
        busy.update(pending.writer.subject[:1])
    return ready, later


async def _commit(planned: list[tuple[_Pending, Plan, Op]], answers: list[bytes | ApiError]) -> list[_Pending]:
    """Commit the ops, one call per backend; fill in the answers and return who must be planned again."""
    again: list[_Pending] = []
    backends = {id(pending.writer.backend): pending.writer.backend for pending, _, _ in planned}
    for identity, backend in backends.items():
        group = [entry for entry in planned if id(entry[0].writer.backend) == identity]
        try:
            results = await backend.commit([op for _, _, op in group])
        except ApiError as failed:
            for pending, _, _ in group:
                answers[pending.place] = failed
            continue
        for (pending, plan, _), result in zip(group, results, strict=True):
            answer = _settle(pending, plan, result)
            if answer is None:
                again.append(pending._replace(attempts=pending.attempts + 1))
            else:
                answers[pending.place] = answer
    return again


def _settle(pending: _Pending, plan: Plan, result: Result | ApiError) -> bytes | ApiError | None:
    """The answer to one op, None where its writer plans again."""
    match result:
        case ApiError():
            return result
        case Committed(revision=revision):
            return plan.answer(revision)
        case Unknown(why=why):
            return outcome_unknown(why)
        case Refused():
            try:
                pending.writer.handle_refusal(plan, result)
            except ApiError as refused:
                return refused
            return pending.writer.give_up() if pending.attempts + 1 >= MAX_ATTEMPTS else None


def put(
    resource: Resource, key: Key, obj: Any, compares: tuple[Compare, ...], claims: Claims, max_bytes: int
) -> tuple[Op, codec.Slotted]:
    """The op that writes `obj`, and the bytes of `obj`; what is kept in another version is encoded once more.

    Raises 413 where it is too large to be stored.
    """
    slotted = encode(obj)
    kept = conversion.converted(obj, resource.stored)
    record = slotted if kept is obj else encode(kept)
    check_size(len(record.json), max_bytes)
    op = Op(
        "put",
        key,
        record.json,
        record.slot,
        labels=dict(obj.metadata.labels),
        fields=fields.selectable(kept, resource.stored),
        compares=compares,
        reserve=claims.reserve,
        release=claims.release,
    )
    return op, slotted


def encode(obj: Any) -> codec.Slotted:
    """The object's bytes. Raises 400 where it holds a number that has no JSON form."""
    try:
        return codec.encode_slotted(obj)
    except OverflowError as overflow:
        raise ApiError(400, "BadRequest", f"a number in the object is out of range: {overflow}") from None


def check_size(size_bytes: int, max_bytes: int) -> None:
    """Raises 413 in Kubernetes' words."""
    if size_bytes > max_bytes:
        raise too_large_entity(max_bytes)
