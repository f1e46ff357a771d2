"""Time and randomness as arguments, so that tests never wait.

`Clock` is what a component is handed; `SystemClock` is the real one. Tests hand in `tests.support.clock.FakeClock`.
"""

from __future__ import annotations

import asyncio
import datetime
import time
from random import Random
from typing import Protocol


class Clock(Protocol):
    """Where a component takes its time from."""

    def monotonic(self) -> float:
        """Seconds that never run backwards; only differences mean anything."""
        ...

    def wall(self) -> datetime.datetime:
        """The time of day in UTC, for timestamps in objects; may jump."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's own clock."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> datetime.datetime:
        return datetime.datetime.now(datetime.UTC)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def timestamp(moment: datetime.datetime) -> str:
    """`metav1.Time`: RFC 3339 in UTC to the second."""
    return moment.isoformat(timespec="seconds")[:19] + "Z"


def micro_timestamp(moment: datetime.datetime) -> str:
    """`metav1.MicroTime`: RFC 3339 in UTC to the microsecond."""
    return moment.isoformat(timespec="microseconds")[:26] + "Z"


def random_uuid(entropy: Random) -> str:
    """A random UUID (RFC 9562, version 4); `uuid.UUID` takes three times as long to write one."""
    digits = f"{entropy.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"
