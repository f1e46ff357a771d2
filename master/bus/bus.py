"""The bus of one master: the nats-server it supervises, the connection to it, the Event records and the change feed.

Whatever befalls NATS stays here: the parts wait, try again and say in `health()` what is wrong, and never end. `run()`
is for every master, `lead()` for each term of the one that leads. Where the user runs NATS (`UserNats`), there is no
server to supervise, and all else is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from barque.client.clock import Clock
from barque.client.pki import Identity
from barque.client.supervise import run_all
from barque.master.auth.account_keys import AccountKey
from barque.master.auth.identity import User, authenticated
from barque.master.auth.rbac.rbac_authorizer import RbacAuthorizer
from barque.master.bus.access import MastersAccess, UserAccess, UserNats
from barque.master.bus.callout import Admission, issuer_of
from barque.master.bus.config import BusSettings
from barque.master.bus.consumers import Consumers
from barque.master.bus.events import EventBackend
from barque.master.bus.feed import ChangeFeed
from barque.master.bus.link import Link
from barque.master.bus.peers import Peers
from barque.master.bus.permissions import Watchable, watchable_by
from barque.master.bus.relay import FeedRelay
from barque.master.bus.server import NatsServer
from barque.master.bus.streams import Streams
from barque.master.bus.survey import Survey
from barque.master.bus.topology import Topology
from barque.master.store.port import Store
from barque.proto.cluster_pb2 import Component

# More than this behind is worth a word; a burst of changes is worked off faster than anyone looks.
LAG_WORTH_SAYING = 10_000


class Bus:
    """`events` is the registry's backend of kind Event; `relay` gives the change feed to callers of this master; `link`
    is for whoever else speaks over the bus.

    `identity` is the master's as it is now (`lambda: renewing.current`); after a renewal await `renewed`. Without a
    `topology` this master is the only one; without an `account_key` masters alone may connect.
    """

    def __init__(
        self,
        settings: BusSettings,
        identity: Callable[[], Identity],
        store: Store,
        clock: Clock,
        topology: Callable[[], Topology] | None = None,
        users: UserNats | None = None,
        account_key: AccountKey | None = None,
    ) -> None:
        self._users = users
        self.cluster = settings.cluster
        issuer = issuer_of(account_key) if account_key is not None else None
        self._server = NatsServer(settings, identity, clock, topology, issuer.name if issuer is not None else "")
        self.topology = self._server.topology
        access = MastersAccess(settings.local_address, self.topology, identity)
        self.link = Link(UserAccess(users) if users is not None else access, clock)
        # Who may come to the user's own NATS is the user's to say.
        self._doorkeepers: dict[str, Admission | Consumers] = {}
        if issuer is not None and users is None:
            admission = Admission(
                self.link, issuer, identity().ca_pem, settings.cluster, clock, masters=lambda: self.topology().masters,
                watchable=_watchable_by_roles(store),
            )  # fmt: skip
            self._doorkeepers = {"admission": admission, "consumers": Consumers(self.link, settings.cluster, clock)}
        self._survey = Survey(self.link, self.replicas, clock)
        self._peers = Peers(self._server, clock, settings.patience)
        self._publishes = settings.change_feed
        streams = Streams(self.replicas, store.cluster_id if users is not None else "")
        self._feed = ChangeFeed(self.link, store, settings.cluster, clock, streams)
        self.relay = FeedRelay(self.link, settings.cluster, clock, streams=streams, enabled=settings.change_feed)
        self.events = EventBackend(self.link, settings.cluster, clock, streams)

    def replicas(self) -> int:
        """How many copies of a stream there are to be."""
        return self.topology().replicas if self._users is None else self._users.replicas

    async def run(self) -> None:
        """Run all parts until cancelled, then stop the nats-server."""
        parts: dict[str, Coroutine[Any, Any, object]] = {
            "link": self.link.run(),
            "events": self.events.run(),
            "survey": self._survey.run(),
            "feed relay": self.relay.run(),
        }
        if self._users is None:
            parts["nats-server"] = self._server.run()
        parts |= {name: part.run() for name, part in self._doorkeepers.items()}
        await run_all(parts)

    async def lead(self) -> None:
        """What only the leader does; for one term, until cancelled."""
        parts: dict[str, Coroutine[Any, Any, object]] = {"events": self.events.lead()}
        if self._publishes:
            parts["feed"] = self._feed.run()
        if self._users is None:
            parts["peers"] = self._peers.run()
        await run_all(parts)

    async def renewed(self, _identity: Identity) -> None:
        """Use the renewed certificate for new connections: a handler for `RenewingIdentity.on_change`."""
        self._server.reload()

    @property
    def pid(self) -> int | None:
        """The nats-server's process, while it runs."""
        return self._server.pid

    def health(self) -> Component:
        """The bus in the cluster's status."""
        server = self._server_fault() if self._users is None else ""
        fault = server or self.link.fault or self._survey.fault or self.events.fault or self._feed.fault
        lag = self._feed.lag()
        remark = f"the change feed is {lag} revisions behind" if lag > LAG_WORTH_SAYING else ""
        return Component(name="bus", healthy=not fault, message=fault or remark or self._standing())

    def _server_fault(self) -> str:
        topology, vitals = self.topology(), self._server.vitals
        if self._server.fault or vitals is None:
            return self._server.fault
        return vitals.fault(topology)

    def _standing(self) -> str:
        """What there is to say of a bus that is well."""
        if self._users is not None:
            return f"at {self._users.hosts}"
        topology, vitals, copies = self.topology(), self._server.vitals, self._survey.copies
        said = [f"{len(topology.servers)} server{'s' * topology.clustered}"]
        masters = {place.name: place.master for place in topology.servers}
        if topology.clustered and vitals is not None and vitals.leader in masters:
            said.append(f"{masters[vitals.leader]} leads JetStream")
        if copies is not None:
            said.append(f"streams on {copies.present} of {copies.wanted}")
        return ", ".join(said)


def _watchable_by_roles(store: Store) -> Callable[[User], Watchable]:
    """What a user may watch by the roles and bindings of `store`."""
    rbac = RbacAuthorizer(store)

    def watchable(user: User) -> Watchable:
        known = user._replace(groups=authenticated(user.groups))
        return watchable_by(known, rbac.granted(known))

    return watchable
