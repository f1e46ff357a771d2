"""A commit whose ops do not share their fate: each writer hears its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from barque.api.errors import ApiError, unavailable
from barque.master.apiserver.proposals import Plan, propose
from barque.master.store.port import Committed, Key, Op, Refused, Result, Unknown


class Backend:
    """Answers in order."""

    def __init__(self, *results: Result | ApiError) -> None:
        self._results = results

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


async def test_one_op_that_was_not_written_says_so_and_the_others_stand() -> None:
    full = unavailable("the bus does not take Events: maximum bytes exceeded")
    backend = Backend(Committed(7), full, Unknown("the bus went away"))
    written, refused, doubtful = await propose([Writer(backend, name) for name in ("a", "b", "c")])
    assert (written, refused) == (b"7", full)
    assert isinstance(doubtful, ApiError)
    assert (doubtful.code, doubtful.message) == (504, "outcome unknown: the bus went away")
