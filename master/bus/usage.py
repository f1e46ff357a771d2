"""Usage samples between the masters: each tells the others what the workers that beat to it have measured.

Told on `barque.<cluster>.usage.<node>`, kept by nobody: who is away misses samples that are replaced within seconds.
So nothing is buffered while the bus is away; the newest sample of a node takes the place of one that is still waiting.
Each message names the master that tells it, so that none takes its own twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing

import msgspec

from barque.client.clock import Clock
from barque.client.supervise import run_all
from barque.master.bus.link import BusAwayError, Link
from barque.master.bus.subjects import usage_subject, usage_subjects

log = logging.getLogger(__name__)

_PAUSE_S = 0.5
# What may wait to be told: of the largest cluster a whole round of samples of 30 pods.
MAX_WAITING_BYTES = 64 * 1024 * 1024


class Told(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One message: `master` is who tells it, `sample` as the worker sent it."""

    master: str
    node: str
    sample: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Told).decode


class UsageExchange:
    """`share` what workers send here; what other masters tell is handed to `take(node, sample)`.

    `own` tells this master's run from all others. `others()` says whether there are other masters at all: alone, a
    master misses nothing while the bus is away.
    """

    def __init__(
        self,
        link: Link,
        cluster: str,
        own: str,
        take: Callable[[str, bytes], object],
        clock: Clock,
        others: Callable[[], bool] = lambda: True,
    ) -> None:
        self._link = link
        self._cluster = cluster
        self._own = own
        self._take = take
        self._clock = clock
        self._others = others
        self._waiting: dict[str, bytes] = {}
        self._waiting_bytes = 0
        self._signal = asyncio.Event()
        self.dropped = 0

    @property
    def fault(self) -> str:
        """What is missing now; "" while all samples are heard."""
        if self._link.session is not None or not self._others():
            return ""
        return f"the usage of nodes that beat to other masters is not heard: {self._link.fault}"

    def hear(self, node: str, sample: bytes) -> None:
        """A worker's sample that came to this master: taken here, and shared. Returns at once."""
        if self._take(node, sample):
            self.share(node, sample)

    def share(self, node: str, sample: bytes) -> None:
        """Have the others know of a sample; dropped where they cannot be told now."""
        if self._link.session is None or not self._others():
            return
        size = len(sample) - len(self._waiting.get(node, b""))
        if self._waiting_bytes + size > MAX_WAITING_BYTES:
            self.dropped += 1
            return
        self._waiting[node] = sample
        self._waiting_bytes += size
        self._signal.set()

    async def run(self) -> None:
        """Tell and listen until cancelled."""
        await run_all({"telling": self._tell(), "listening": self._listen()})

    async def _tell(self) -> None:
        while True:
            await self._signal.wait()
            self._signal.clear()
            try:
                while self._waiting:
                    await self._tell_one()
            except BusAwayError as away:
                log.debug("usage: %s", away)
                self._waiting.clear()
                self._waiting_bytes = 0

    async def _tell_one(self) -> None:
        node = next(iter(self._waiting))
        sample = self._waiting.pop(node)
        self._waiting_bytes -= len(sample)
        session = self._link.session
        if session is None:
            raise BusAwayError(self._link.fault)
        await session.tell(usage_subject(self._cluster, node), _encode(Told(self._own, node, sample)))

    async def _listen(self) -> None:
        while True:
            session = await self._link.up()
            try:
                async with aclosing(session.listen(usage_subjects(self._cluster))) as messages:  # type: ignore[type-var]  # an async generator
                    async for message in messages:
                        self._hear(message.data)
                        # Many may have come at once, and each costs up to some milliseconds.
                        await asyncio.sleep(0)
            except BusAwayError as away:
                log.debug("usage: %s", away)
            await self._clock.sleep(_PAUSE_S)

    def _hear(self, data: bytes) -> None:
        try:
            told = _decode(data)
        except (msgspec.DecodeError, RecursionError) as unreadable:
            log.debug("usage: a message that is none: %s", unreadable)
            return
        if told.master != self._own:
            self._take(told.node, told.sample)
