"""The bus of one master: the nats-server it supervises, the connection to it, the Event records and the change feed.

Whatever befalls NATS stays here: the parts wait, try again and say in `health()` what is wrong, and never end.
"""

from __future__ import annotations

from collections.abc import Callable

from barque.client.clock import Clock
from barque.client.pki import Identity
from barque.client.supervise import run_all
from barque.master.bus.events import EventBackend
from barque.master.bus.feed import ChangeFeed
from barque.master.bus.link import Link
from barque.master.bus.server import BusSettings, NatsServer
from barque.master.store.port import Store
from barque.proto.cluster_pb2 import Component

# More than this behind is worth a word; a burst of changes is worked off faster than anyone looks.
LAG_WORTH_SAYING = 10_000


class Bus:
    """`events` is the registry's backend of kind Event; `run()` goes on for ever.

    `identity` is the master's as it is now (`lambda: renewing.current`); after a renewal await `renewed`.
    """

    def __init__(self, settings: BusSettings, identity: Callable[[], Identity], store: Store, clock: Clock) -> None:
        self._server = NatsServer(settings, identity, clock)
        self._link = Link(settings.local_address, identity, clock)
        self._feed = ChangeFeed(self._link, store, settings.cluster, clock)
        self.events = EventBackend(self._link, settings.cluster, clock)

    async def run(self) -> None:
        """Run all parts until cancelled, then stop the nats-server."""
        await run_all(
            {
                "nats-server": self._server.run(),
                "link": self._link.run(),
                "events": self.events.run(),
                "feed": self._feed.run(),
            }
        )

    async def renewed(self, _identity: Identity) -> None:
        """Use the renewed certificate for new connections: a handler for `RenewingIdentity.on_change`."""
        self._server.reload()

    @property
    def pid(self) -> int | None:
        """The nats-server's process, while it runs."""
        return self._server.pid

    def health(self) -> Component:
        """The bus in the cluster's status."""
        fault = self._server.fault or self._link.fault or self.events.fault
        lag = self._feed.lag()
        remark = f"the change feed is {lag} revisions behind" if lag > LAG_WORTH_SAYING else ""
        return Component(name="bus", healthy=not fault, message=fault or remark)
