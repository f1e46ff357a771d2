"""Answering requests that come over the bus: each is answered by one of the masters, and by another where that hangs.

NATS gives a request to one member of the queue. A master that hangs stays one until its server has missed some pings,
and a server waits for the word about a newcomer for two seconds only. So all masters hear each request, and whoever has
answered tells the others by the subject of the answer. Where that does not come, one of them answers in its stead, at a
moment spread by chance, lest all do at once. An answer too many meets nobody: whoever has asked has gone.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any, NamedTuple, cast

from nats.aio.msg import Msg

from barque.client.clock import Clock
from barque.master.bus.link import BusAwayError, Link, Session

log = logging.getLogger(__name__)

QUEUE = "masters"
# How long the one who was asked may take, and over how much the others spread.
SECOND_AFTER_S, SPREAD_S = 0.5, 0.6
# Requests kept in mind until they are answered; of more, the oldest are left to those who were asked.
MOST_UNANSWERED = 1024
_PAUSE_S = 0.3

Answer = Callable[[Session, Msg], Awaitable[None]]


class _Waiting(NamedTuple):
    """A request that was given to whoever was asked first, and when to stand in."""

    at: float
    request: Msg


class Unanswered:
    """Requests that nobody is known to have answered. Pure: times are arguments, in seconds of one clock."""

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance
        self._waiting: dict[str, _Waiting] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, request: Msg, now: float) -> None:
        self._waiting[request.reply] = _Waiting(now + SECOND_AFTER_S + SPREAD_S * self._chance(), request)
        if len(self._waiting) > MOST_UNANSWERED:
            del self._waiting[next(iter(self._waiting))]

    def answered(self, reply: str) -> None:
        self._waiting.pop(reply, None)

    def overdue(self, now: float) -> list[Msg]:
        """Take out those for which it is time."""
        found = [one.request for one in self._waiting.values() if one.at <= now]
        for request in found:
            del self._waiting[request.reply]
        return found

    def next_at(self) -> float | None:
        """When the next one is overdue; None where nothing waits."""
        return min((one.at for one in self._waiting.values()), default=None)


async def serve(
    link: Link, subject: str, told: str, answer: Answer, clock: Clock, chance: Callable[[], float] = random.random
) -> None:
    """Have `answer` see every request on `subject` that is for this master, until cancelled, whatever happens to the
    bus. On `told` the masters tell each other what they have answered.

    Two requests may be with `answer` at once: one that this master was asked first, and one that it stands in for; the
    same one, where answering takes long. `answer` bounds its own waiting; a `BusAwayError` of its ends that request
    alone. Requests wait within the bounds of `Session.listen`.
    """
    while True:
        session = await link.up()
        desk = _Desk(session, told, answer, clock, Unanswered(chance))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(desk.hear(subject, desk.settle, queue=QUEUE), name="asked first")
                group.create_task(desk.hear(subject, desk.note_request), name="all requests")
                group.create_task(desk.hear(told, desk.note_answer), name="answers")
                group.create_task(desk.stand_in(), name="standing in")
        except* BusAwayError as away:
            log.debug("bus: %s: %s", subject, away.exceptions[0])
        await clock.sleep(_PAUSE_S)


class _Desk:
    """The serving of one subject over one connection."""

    def __init__(self, session: Session, told: str, answer: Answer, clock: Clock, unanswered: Unanswered) -> None:
        self._session = session
        self._told = told
        self._answer = answer
        self._clock = clock
        self._unanswered = unanswered
        self._news = asyncio.Event()

    async def hear(self, subject: str, take: Callable[[Msg], Awaitable[None]], queue: str = "") -> None:
        """Until the connection ends; raises `BusAwayError` then."""
        async with aclosing(cast(Any, self._session.listen(subject, queue=queue))) as messages:
            async for message in messages:
                await take(message)
                # What lies waiting must not hold the event loop while it is worked off.
                await asyncio.sleep(0)

    async def note_request(self, request: Msg) -> None:
        self._unanswered.add(request, self._clock.monotonic())
        self._news.set()

    async def note_answer(self, note: Msg) -> None:
        self._unanswered.answered(note.data.decode(errors="replace"))

    async def stand_in(self) -> None:
        """Answer what the one who was asked has not."""
        while True:
            next_at = self._unanswered.next_at()
            if next_at is None:
                self._news.clear()
                await self._news.wait()
                continue
            await self._clock.sleep(max(0.0, next_at - self._clock.monotonic()))
            for request in self._unanswered.overdue(self._clock.monotonic()):
                log.info("bus: a request on %s was not answered by the master that was asked", request.subject)
                await self.settle(request)

    async def settle(self, request: Msg) -> None:
        """Answer a request, and say so."""
        try:
            await self._answer(self._session, request)
            await self._session.tell(self._told, request.reply.encode())
        except BusAwayError as error:
            if not self._session.connected:
                raise
            log.debug("bus: a request on %s is not answered: %s", request.subject, error)
