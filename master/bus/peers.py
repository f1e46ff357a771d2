"""What the leading master does for JetStream's own group of servers: takes those out that are no masters any more.

JetStream waits for a server that is away as for one that comes back; that it never will, only the masters know.
"""

from __future__ import annotations

import logging

from barque.client.clock import Clock
from barque.master.bus.config import Patience
from barque.master.bus.link import BusAwayError
from barque.master.bus.server import NatsServer
from barque.master.bus.topology import Topology
from barque.master.bus.vitals import Vitals

log = logging.getLogger(__name__)


def strangers(topology: Topology, vitals: Vitals | None) -> list[str]:
    """Servers that JetStream counts as its own and that are none of the masters'."""
    if vitals is None or not topology.clustered:
        return []
    return sorted(set(vitals.peers) - {place.name for place in topology.servers})


class Peers:
    """Works through this master's own server: while that is away, what is to be removed waits."""

    def __init__(self, server: NatsServer, clock: Clock, patience: Patience) -> None:
        self._server = server
        self._clock = clock
        self._patience = patience

    async def run(self) -> None:
        """While this master leads, until cancelled."""
        before: set[str] = set()
        while True:
            found = strangers(self._server.topology(), self._server.vitals)
            # A server that has just joined may be known here a moment before its master is.
            for name in sorted(before.intersection(found)):
                try:
                    await self._server.probe.remove_peer(name)
                    log.info("removed %s from the servers of JetStream: it is no master's any more", name)
                except BusAwayError as error:
                    log.info("%s cannot be removed from the servers of JetStream yet: %s", name, error)
            before = set(found)
            await self._clock.sleep(self._patience.ask_s)
