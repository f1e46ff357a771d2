"""The master's composition root: the only file that wires its parts together.

Order matters: the store opens before anything reads it, the doors open before controllers write (their writes go in
process, but the workers that answer them come through the doors), and on the way out the doors close first, so that no
call is answered by a store that is going away.

Every master serves; what only one may do is `_lead`, made anew for each term of leadership.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import resource
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from barque.api.errors import ApiError
from barque.client.address import own_address
from barque.client.client import Client
from barque.client.clock import Clock, SystemClock
from barque.client.cycles import freeze_survivors
from barque.client.informers import Informers
from barque.client.pki import MASTERS_GROUP
from barque.client.recorder import CLUSTER, EventRecorder
from barque.client.renewal import RenewingIdentity
from barque.client.supervise import run_all
from barque.master.allocator import give_back_freed
from barque.master.apiserver import grpc_server
from barque.master.apiserver.bootstrap import ensure_namespaces
from barque.master.apiserver.cluster_service import ClusterService, ClusterState
from barque.master.apiserver.component_view import ComponentView
from barque.master.apiserver.heartbeat_relay import HeartbeatRelay
from barque.master.apiserver.heartbeat_relay import dialer as relay_dialer
from barque.master.apiserver.node_channels import NodeChannels, dialer
from barque.master.apiserver.registry import Registry
from barque.master.apiserver.reservation_repair import ReservationRepair
from barque.master.apiserver.rest.health import StoreCheck
from barque.master.apiserver.rest.joining import joining_paths
from barque.master.apiserver.rest.limits import limits_within
from barque.master.apiserver.sessions import Sessions
from barque.master.apiserver.settings import ApiSettings
from barque.master.audit.audit import Audit, AuditSettings, open_audit
from barque.master.auth.ca import MasterPki
from barque.master.auth.identity import User
from barque.master.auth.joining import Joining
from barque.master.auth.member_joining import MemberJoining
from barque.master.auth.rbac.bootstrap import ensure_policy
from barque.master.auth.tokens import JoinTokens
from barque.master.bus.access import UserNats
from barque.master.bus.bus import Bus
from barque.master.bus.config import BusSettings
from barque.master.bus.topology import topology_in
from barque.master.controllers.kubernetesservice import Doors, certificate_names
from barque.master.controllers.manager import ControllerManager
from barque.master.controllers.settings import ControllerSettings
from barque.master.enrolment import shared_settings
from barque.master.front import Front
from barque.master.leadership import Leadership
from barque.master.masters import Masters
from barque.master.metrics.page import Source
from barque.master.metrics.process import loop_families
from barque.master.metrics.queues import QueueMetrics
from barque.master.metrics.storage import group_families, storage_families
from barque.master.raft.messages import MemberInfo
from barque.master.scheduler.scheduler import Scheduler
from barque.master.stalls import StallMonitor
from barque.master.storage import Engine, Site, open_storage
from barque.master.store.engine_etcd import EtcdSettings
from barque.master.store.engine_raft import EngineRaft
from barque.master.store.epoch import Epoch
from barque.master.underlay import check_ranges, read_routes
from barque.master.usage.usage import Usage
from barque.proto.cluster_pb2 import Component, Member

log = logging.getLogger(__name__)

# Calls under way get this long to end when the master stops.
_STOP_GRACE_S = 1.0
# A waiting thread gets the GIL within this time, so that fsync's completion is noticed soon; a shorter one has threads
# take it from one another all the time.
_SWITCH_INTERVAL_S = 0.002
_PAUSE_S = 0.5


@dataclass(frozen=True)
class MasterSettings:
    """What an operator sets; paths and ports as in the command's help. Port 0 picks a free one."""

    data_dir: Path
    name: str
    address: str = ""
    listen: str = "0.0.0.0"
    grpc_port: int = 7443
    peer_port: int = 7444
    https_port: int = 6443
    bus_port: int = 4222
    route_port: int = 6222
    etcd: EtcdSettings | None = None
    nats: UserNats | None = None
    change_feed: bool = True
    tls_san: tuple[str, ...] = ()
    audit: AuditSettings = field(default_factory=AuditSettings)
    api: ApiSettings = field(default_factory=ApiSettings)


class Master:
    """One master. `run` lasts until it is cancelled or a part of it ends, which `UnexpectedEndError` names."""

    def __init__(self, settings: MasterSettings, clock: Clock | None = None) -> None:
        self.settings = settings
        self.clock = clock or SystemClock()

    async def run(self) -> None:
        settings = self.settings
        address = settings.address or await own_address()
        check_ranges(settings.api, address, read_routes())
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        hosts = [address, *settings.tls_san, *certificate_names(settings.api.service_network)]
        pki = MasterPki.open(settings.data_dir / "pki", settings.name, hosts, self.clock.wall())
        identity = pki.renewing(self.clock, random.Random())
        own = MemberInfo(
            "", settings.name, address, settings.peer_port, settings.grpc_port, settings.https_port,
            settings.bus_port, settings.route_port,
        )  # fmt: skip
        site = Site(settings.data_dir, own, settings.listen, settings.etcd)
        async with self._storage(site, pki, identity) as store, self._audited() as audit:
            own = msgspec.structs.replace(own, id=store.member_id)
            await self._serve(own, pki, identity, store, audit)

    def _storage(
        self, site: Site, pki: MasterPki, identity: RenewingIdentity
    ) -> contextlib.AbstractAsyncContextManager[Engine]:
        return open_storage(site, pki, identity, self.clock)

    async def _serve(
        self, own: MemberInfo, pki: MasterPki, identity: RenewingIdentity, store: Engine, audit: Audit | None
    ) -> None:
        settings, clock = self.settings, self.clock
        bus = self._bus(own, pki, identity, store)
        masters = Masters(own, store, store)
        usage = Usage(store, bus.link, bus.cluster, secrets.token_hex(8), clock, lambda: len(masters.all()) > 1)
        parts_shown = ComponentView(lambda: [*state.components(), *_parts_of_leader(masters)])
        views = {"usage": usage.view, "components": parts_shown}
        registry_of = partial(Registry, store, bus.events, settings.api, clock, None, pki.account_key, views=views)
        registry = registry_of()
        sessions = Sessions(clock, leads=lambda: store.leads, on_usage=usage.hear, audit=audit)
        tokens = JoinTokens(_acting_as(registry, "master"), clock)
        joining = Joining(pki, tokens, sessions.connected, clock, masters=masters.doors)
        stalls = StallMonitor(clock, store.note_stall if isinstance(store, EngineRaft) else None)
        # Without the bus all but Events and the feed goes on, so readiness is the store's alone.
        joining_masters = self._joining_masters(pki, tokens, store)
        queues = QueueMetrics()
        front = Front(
            registry, NodeChannels(dialer(lambda: identity.current), clock), clock, version("barque"),
            lambda: f"{own.host}:{own.https_port}", StoreCheck(store, clock),
            joining_paths(pki.ca_pem, joining.join, joining_masters.join), _figures(store, stalls, queues),
        )  # fmt: skip
        state = ClusterState(
            version=version("barque"),
            members=lambda: _members(masters),
            components=lambda: [_store_health(store), bus.health(), usage.health()],
            https_port=lambda: rest.port,
            stalls=stalls.figures,
        )
        relay = HeartbeatRelay(
            sessions, lambda: store.leads, masters.door_of_leader, relay_dialer(lambda: identity.current), clock
        )

        async def lead(epoch: Epoch) -> None:
            as_leader = registry_of(epoch=epoch)
            # What was heard in an earlier term is not the newest: every node gets its whole time again.
            sessions.forget_all()
            own_doors = Doors(masters.addresses, lambda: rest.port, settings.grpc_port, settings.api.service_network)
            controlling = ControllerSettings(root_ca=pki.ca_pem.decode(), authority=pki.authority)
            await run_all({"bus": bus.lead(), "term": self._lead(as_leader, sessions, controlling, own_doors, queues)})

        leadership = Leadership(store, settings.name, lead, lambda: secrets.token_hex(8), clock)
        async with contextlib.AsyncExitStack() as doors_open:
            rest = front.open(audit, limits_within(raised_file_limit()))
            if store.leads:
                # So that whoever comes through the doors of a new cluster finds them there.
                await _ensure_namespaces(_acting_as(registry, "master"), clock)
            cluster = ClusterService(
                state, store, tokens, pki, clock, group=store, votes=not settings.etcd, audit=audit,
                authorize=registry.environment.authorizer.authorize_path,
            )  # fmt: skip
            server = await grpc_server.serve(
                registry, address=f"{settings.listen}:{settings.grpc_port}", credentials=identity.server_credentials(),
                sessions=sessions, cluster=cluster, dial=dialer(lambda: identity.current), feed=bus.relay, audit=audit,
            )  # fmt: skip
            doors_open.push_async_callback(server.stop, _STOP_GRACE_S)
            await rest.start(f"{settings.listen}:{settings.https_port}", identity.server_context())
            doors_open.push_async_callback(rest.stop)
            log.info("cluster %s: serving on %s", store.cluster_id, masters.own.grpc_address)
            parts: dict[str, Coroutine[Any, Any, object]] = {
                "store": store.run(),
                "certificate": identity.run(),
                "bus": bus.run(),
                "usage": usage.run(),
                "heartbeats": relay.run(),
                "rest door": rest.run(),
                "leadership": leadership.run(),
            }
            await self._run(parts, stalls, store)

    async def _run(self, parts: dict[str, Coroutine[Any, Any, object]], stalls: StallMonitor, store: Engine) -> None:
        """These parts, and what keeps the process itself well."""
        upkeep: dict[str, Coroutine[Any, Any, object]] = {
            "stalls": stalls.run(),
            "memory": give_back_freed(self.clock, lambda: store.revision),
            "cycles": freeze_survivors(self.clock),
        }
        try:
            await run_all({**parts, **upkeep})
        finally:
            held = "event loop: held for p99.9 %.1f ms, longest %.1f ms; delays (ms:count) %s"
            log.info(held, *stalls.figures(), stalls.classes())

    def _joining_masters(self, pki: MasterPki, tokens: JoinTokens, store: Engine) -> MemberJoining:
        settings = self.settings
        return MemberJoining(
            pki, tokens, store, store.cluster_id, self.clock,
            names=certificate_names(settings.api.service_network),
            settings=shared_settings(settings.api, settings.etcd, settings.nats), entropy=os.urandom,
        )  # fmt: skip

    @contextlib.asynccontextmanager
    async def _audited(self) -> AsyncIterator[Audit | None]:
        """The audit log, for as long as there are doors; None where none is wanted."""
        opened = open_audit(self.settings.audit, self.clock)
        if opened is None:
            yield None
            return
        audit, writer = opened
        writer.start()
        try:
            yield audit
        finally:
            # It takes the last events along, which may take a while.
            await asyncio.to_thread(writer.close)

    def _bus(self, own: MemberInfo, pki: MasterPki, identity: RenewingIdentity, store: Engine) -> Bus:
        settings = self.settings
        clients, routes = (f"{settings.listen}:{port}" for port in (settings.bus_port, settings.route_port))
        at = BusSettings(
            settings.data_dir / "bus", clients, pki.authority.cluster, routes, change_feed=settings.change_feed
        )
        bus = Bus(
            at, lambda: identity.current, store, self.clock,
            topology=lambda: topology_in(own, store.configuration), users=settings.nats, account_key=pki.account_key,
        )  # fmt: skip
        identity.on_change(bus.renewed)
        return bus

    async def _lead(
        self,
        registry: Registry,
        sessions: Sessions,
        controlling: ControllerSettings,
        doors: Doors,
        queues: QueueMetrics,
    ) -> None:
        """One term: whatever only one master may do, on caches of its own. `registry` writes for this term alone."""
        clock, name = self.clock, self.settings.name
        own = _acting_as(registry, "master")
        await _ensure_namespaces(own, clock)
        client = _acting_as(registry, "controller-manager")
        informers = Informers(client, clock)
        manager = ControllerManager(
            client, informers, sessions.last_seen, clock, controlling, doors, host=name, observe=queues.observer
        )
        scheduler = Scheduler(_acting_as(registry, "scheduler"), informers, clock, host=name)
        repairs = EventRecorder(own, "reservation-repair-controller", name, clock)
        terms = EventRecorder(own, "barque-master", name, clock)
        terms.event(CLUSTER, "Normal", "LeaderElection", f"{name} became leader")
        await run_all(
            {
                "controllers": manager.run(),
                "scheduler": scheduler.run(),
                "reservations": ReservationRepair(registry.environment, repairs).run(),
                "events of reservations": repairs.run(),
                "events of terms": terms.run(),
                "informers": informers.run(),
            }
        )


def _figures(store: Engine, stalls: StallMonitor, queues: QueueMetrics) -> list[Source]:
    """What `/metrics` shows beside the door's own."""
    sources: list[Source] = [partial(storage_families, store), partial(loop_families, stalls), queues.families]
    if isinstance(store, EngineRaft):
        sources.append(partial(group_families, store))
    return sources


def _acting_as(registry: Registry, part: str) -> Client:
    """The cluster as a part of this master sees it: through its own registry, never another master's."""
    return Client(registry.as_user(User(f"barque:{part}", (MASTERS_GROUP,))))


async def _ensure_namespaces(client: Client, clock: Clock) -> None:
    """Until it has worked: a leader may lose the quorum at any moment."""
    while True:
        try:
            await ensure_namespaces(client)
            await ensure_policy(client)
            return
        except ApiError as error:
            log.info("the first namespaces and roles are not there yet: %s", error.message)
        await clock.sleep(_PAUSE_S)


def _store_health(store: Engine) -> Component:
    return Component(name="store", healthy=not store.fault, message=store.fault or f"revision {store.revision}")


def _parts_of_leader(masters: Masters) -> list[Component]:
    """What runs on the leader alone, as far as another master knows: there, if there is one."""
    leader = masters.leader()
    said = f"on {leader.name}" if leader is not None else "no master leads"
    names = ("controller-manager", "scheduler")
    return [Component(name=name, healthy=leader is not None, message=said) for name in names]


def _members(masters: Masters) -> list[Member]:
    leader = masters.leader()
    return [
        Member(name=info.name, address=info.grpc_address, leader=leader is not None and info.id == leader.id)
        for info in masters.all()
    ]


def raised_file_limit() -> int:
    """How many files this process may open, from now on as many as it is allowed to allow itself: a login's 1,024 are
    no measure of a server's connections.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def run_until_stopped(master: Master) -> None:
    """Run on uvloop until SIGTERM or SIGINT. Raises what stops a master: `UnexpectedEndError`, `StoreStartError`, …"""
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    uvloop.run(_until_signal(master))


async def _until_signal(master: Master) -> None:
    running = asyncio.create_task(master.run(), name="master")
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        log.info("stopped")
