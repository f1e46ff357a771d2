"""How many copies of the streams there are, and who leads: what the bus's line in the cluster's status tells."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from nats.js import api
from nats.js.errors import APIError, NotFoundError

from barque.client.clock import Clock
from barque.master.bus.link import BusAwayError, Link
from barque.master.bus.subjects import CHANGE_STREAM, EVENT_STREAM

log = logging.getLogger(__name__)

LOOK_S = 2.0
_NANO = 1_000_000_000
# A copy is called current only at the moments when nothing is on its way to it: under load it hardly ever is. One that
# was heard of lately, and has all but some messages, is complete.
HEARD_S = 5.0
LAG = 1000
STREAMS = {EVENT_STREAM: "Event records", CHANGE_STREAM: "change feed"}


class Copies(NamedTuple):
    """Of the stream that has the fewest: how many copies are complete, of how many."""

    present: int
    wanted: int


class Survey:
    """`copies` is None until the streams have told; `fault` is one sentence where one of them is in no good state."""

    def __init__(self, link: Link, replicas: Callable[[], int], clock: Clock) -> None:
        self._link = link
        self._replicas = replicas
        self._clock = clock
        self.copies: Copies | None = None
        self.fault = ""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            session = await self._link.up()
            try:
                infos = [await session.ask(session.jetstream.stream_info(name)) for name in STREAMS]
                wanted = self._replicas()
                self.copies = Copies(min(map(copies_of, infos)), wanted)
                self.fault = fault_of(self.copies)
            except NotFoundError:
                # The leader makes them; until then their users say what they miss.
                self.copies, self.fault = None, ""
            except (BusAwayError, APIError) as error:
                self.copies, self.fault = None, f"the streams do not say how they are: {error}"
                log.debug("bus: %s", self.fault)
            await self._clock.sleep(LOOK_S)


def copies_of(info: api.StreamInfo) -> int:
    """The complete copies of a stream, its leader's included."""
    if info.cluster is None:
        return 1
    return sum(map(_is_complete, info.cluster.replicas or [])) + bool(info.cluster.leader)


def _is_complete(replica: api.PeerInfo) -> bool:
    if replica.offline:
        return False
    # One that the leader has never heard of was never active.
    heard = 0 < (replica.active or 0) < HEARD_S * _NANO
    return bool(replica.current) or (heard and (replica.lag or 0) <= LAG)


def fault_of(copies: Copies) -> str:
    return "" if copies.present >= copies.wanted else f"streams on {copies.present} of {copies.wanted} servers"
