"""Turns of those who write Events: of each user so many at once, the others wait in the order they came in.

What a write costs before and after it is refused (its call at the door, decoding it, the answer) the limits of
`admission.events` cannot save: somebody who sends Events from two hundred connections as fast as they are refused would
keep the event loop busy, and have two hundred calls take each step before anybody else's takes its next. So there are
turns, and a refused write keeps its own for `HOLD_S`: a flood is answered at the rate of the turns, and waits
meanwhile. Whoever waits costs nothing; how many may, the doors bound, and for how long, `WAIT_S`: where the bus hangs
every turn takes seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from barque.api.errors import ApiError, too_many_requests

# Of one user. A recorder has one batch under way; the components of a master that leads are about as many as this.
AT_ONCE = 8
WAIT_S = 5.0
HOLD_S = 0.05
_TOO_MANY_REQUESTS = 429


class _Line:
    """One user's; `present` counts who has a turn or waits for one."""

    __slots__ = ("present", "turns")

    def __init__(self) -> None:
        self.turns = asyncio.Semaphore(AT_ONCE)
        self.present = 0


class EventTurns:
    """Shared by all requests of a master."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}

    def __len__(self) -> int:
        """How many users have writes of Events under way."""
        return len(self._lines)

    @asynccontextmanager
    async def turn(self, user: str) -> AsyncIterator[None]:
        """Hold a turn of this user's. Raises 429 where none comes within `WAIT_S`."""
        line = self._lines.setdefault(user, _Line())
        line.present += 1
        try:
            await _acquire(line.turns, user)
            try:
                yield
            except ApiError as refused:
                await hold([refused])
                raise
            finally:
                line.turns.release()
        finally:
            line.present -= 1
            if not line.present:
                del self._lines[user]


async def hold(answers: Iterable[object]) -> None:
    """Keep the turn a little longer where one of these was refused for being too many."""
    if any(isinstance(answer, ApiError) and answer.code == _TOO_MANY_REQUESTS for answer in answers):
        await asyncio.sleep(HOLD_S)


async def _acquire(turns: asyncio.Semaphore, user: str) -> None:
    if not turns.locked():
        await turns.acquire()
        return
    try:
        async with asyncio.timeout(WAIT_S):
            await turns.acquire()
    except TimeoutError:
        raise too_many_requests(f"{user} has too many writes of events under way") from None
