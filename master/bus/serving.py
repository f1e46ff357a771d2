"""Answering requests that come over the bus: each is answered by one of the masters, whichever is there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any, cast

from nats.aio.msg import Msg

from barque.client.clock import Clock
from barque.master.bus.link import BusAwayError, Link, Session

log = logging.getLogger(__name__)

QUEUE = "masters"
_PAUSE_S = 0.3


async def serve(link: Link, subject: str, answer: Callable[[Session, Msg], Awaitable[None]], clock: Clock) -> None:
    """Have `answer` see every request on `subject`, one after the other, until cancelled, whatever happens to the bus.

    `answer` bounds its own waiting; a `BusAwayError` of its ends that request alone. Requests wait within the bounds of
    `Session.listen`.
    """
    while True:
        session = await link.up()
        try:
            async with aclosing(cast(Any, session.listen(subject, queue=QUEUE))) as requests:
                async for request in requests:
                    await _answer_one(answer, session, request)
                    # What lies waiting must not hold the event loop while it is worked off.
                    await asyncio.sleep(0)
        except BusAwayError as error:
            log.debug("bus: %s: %s", subject, error)
        await clock.sleep(_PAUSE_S)


async def _answer_one(answer: Callable[[Session, Msg], Awaitable[None]], session: Session, request: Msg) -> None:
    try:
        await answer(session, request)
    except BusAwayError as error:
        if not session.connected:
            raise
        log.debug("bus: a request on %s is not answered: %s", request.subject, error)
