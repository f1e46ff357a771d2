"""A commit whose ops do not share their fate: each writer hears its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from barque.api.errors import ApiError, not_found, unavailable
from barque.master.apiserver.proposals import Plan, propose, propose_one
from barque.master.store.port import Committed, Key, Op, Refused, Result, Unknown


class Backend:
    """Answers in order; `asked` counts how often the current state was."""

    def __init__(self, *results: Result | ApiError) -> None:
        self._results = results
        self.asked = 0

    async def current(self) -> None:
        self.asked += 1

    async def commit(self, ops: Sequence[Op]) -> Sequence[Result | ApiError]:
        return self._results[: len(ops)]


class Writer:
    def __init__(self, backend: Any, name: str) -> None:
        self.backend = backend
        self.subject = (Key("events", "default", name),)

    async def plan(self) -> Plan:
        return Plan(lambda revision: b"%d" % revision, Op("put", self.subject[0]))

    def handle_refusal(self, plan: Plan, refusal: Refused) -> None:
        raise AssertionError("nothing was compared")

    def give_up(self) -> ApiError:
        raise AssertionError("nothing was tried again")


class Answering(Writer):
    """A writer of these plans, one after the other, without anything to write; an error is raised."""

    def __init__(self, backend: Any, *plans: Plan | ApiError) -> None:
        super().__init__(backend, "a")
        self.planned = 0
        self._plans = plans

    async def plan(self) -> Plan:
        self.planned += 1
        match self._plans[self.planned - 1]:
            case ApiError() as refused:
                raise refused
            case plan:
                return plan


def says(answer: bytes, *, stands: bool = False) -> Plan:
    return Plan(lambda _: answer, stands=stands)


async def test_an_answer_without_a_write_is_given_on_the_current_state_unless_it_stands() -> None:
    counted = []
    for plans in (
        (says(b"old"), says(b"new")),
        (says(b"old", stands=True),),
        (not_found("pods", "", "a"), says(b"new", stands=True)),
    ):
        backend = Backend()
        alone, together = Answering(backend, *plans), Answering(backend, *plans)
        answer = await propose_one(alone)
        assert await propose([together]) == [answer]
        assert alone.planned == together.planned
        counted.append((answer, alone.planned, backend.asked / 2))
    assert counted == [(b"new", 2, 1), (b"old", 1, 0), (b"new", 2, 1)]


async def test_one_op_that_was_not_written_says_so_and_the_others_stand() -> None:
    full = unavailable("the bus does not take Events: maximum bytes exceeded")
    backend = Backend(Committed(7), full, Unknown("the bus went away"))
    written, refused, doubtful = await propose([Writer(backend, name) for name in ("a", "b", "c")])
    assert (written, refused) == (b"7", full)
    assert isinstance(doubtful, ApiError)
    assert (doubtful.code, doubtful.message) == (504, "outcome unknown: the bus went away")
