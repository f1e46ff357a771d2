"""The master's composition root: the only file that wires its parts together.

Order matters: the store opens before anything reads it, the doors open before controllers write (their writes go in
process, but the workers that answer them come through the doors), and on the way out the doors close first, so that no
call is answered by a store that is going away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import signal
import sys
from collections.abc import Coroutine
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import uvloop

from barque.client.address import own_address
from barque.client.client import Client
from barque.client.clock import Clock, SystemClock
from barque.client.cycles import freeze_survivors
from barque.client.informers import Informers
from barque.client.pki import MASTERS_GROUP
from barque.client.recorder import EventRecorder
from barque.client.supervise import run_all
from barque.master.allocator import give_back_freed
from barque.master.apiserver import grpc_server
from barque.master.apiserver.bootstrap import ensure_namespaces
from barque.master.apiserver.cluster_service import ClusterService, ClusterState
from barque.master.apiserver.https import HttpsDoor
from barque.master.apiserver.node_channels import dialer
from barque.master.apiserver.registry import Registry
from barque.master.apiserver.reservation_repair import ReservationRepair
from barque.master.apiserver.sessions import Sessions
from barque.master.apiserver.settings import ApiSettings
from barque.master.auth.ca import MasterPki
from barque.master.auth.identity import User
from barque.master.auth.joining import Joining
from barque.master.auth.tokens import JoinTokens
from barque.master.bus.bus import Bus
from barque.master.bus.server import BusSettings
from barque.master.controllers.kubernetesservice import Doors, certificate_names
from barque.master.controllers.manager import ControllerManager
from barque.master.controllers.settings import ControllerSettings
from barque.master.scheduler.scheduler import Scheduler
from barque.master.stalls import StallMonitor
from barque.master.store.log_single import LogSingle, open_store
from barque.master.underlay import check_ranges, read_routes
from barque.proto.cluster_pb2 import Component, Member

log = logging.getLogger(__name__)

# Calls under way get this long to end when the master stops.
_STOP_GRACE_S = 1.0
# A waiting thread gets the GIL within this time, so that fsync's completion is noticed soon; a shorter one has threads
# take it from one another all the time.
_SWITCH_INTERVAL_S = 0.002


@dataclass(frozen=True)
class MasterSettings:
    """What an operator sets; paths and ports as in the command's help. Port 0 picks a free one."""

    data_dir: Path
    name: str
    address: str = ""
    listen: str = "0.0.0.0"
    grpc_port: int = 7443
    https_port: int = 6443
    bus_port: int = 4222
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
        hosts = [address, *certificate_names(settings.api.service_network)]
        pki = MasterPki.open(settings.data_dir / "pki", settings.name, hosts, self.clock.wall())
        store = await open_store(settings.data_dir / "store", self.clock)
        try:
            await self._serve(address, pki, store)
        finally:
            await store.close()

    async def _serve(self, address: str, pki: MasterPki, store: LogSingle) -> None:
        settings, clock = self.settings, self.clock
        identity = pki.renewing(clock, random.Random())
        bus_settings = BusSettings(
            settings.data_dir / "bus", f"{settings.listen}:{settings.bus_port}", name=settings.name
        )
        bus = Bus(bus_settings, lambda: identity.current, store, clock)
        identity.on_change(bus.renewed)
        registry = Registry(store, bus.events, settings.api, clock, account_key=pki.account_key)

        def acting_as(part: str) -> Client:
            return Client(registry.as_user(User(f"barque:{part}", (MASTERS_GROUP,))))

        own = acting_as("master")
        await ensure_namespaces(own)
        sessions = Sessions(clock)
        tokens = JoinTokens(own, clock)
        doors = [f"{address}:{settings.grpc_port}"]
        joining = Joining(pki, tokens, sessions.connected, clock, masters=doors)

        def store_health() -> Component:
            return Component(name="store", healthy=not store.fault, message=store.fault or f"revision {store.revision}")

        stalls = StallMonitor(clock)
        # Without the bus all but Events and the feed goes on, so readiness is the store's alone.
        https = HttpsDoor(pki.ca_pem, joining.join, lambda: [store_health()])
        state = ClusterState(
            version=version("barque"),
            members=lambda: [Member(name=settings.name, address=doors[0], leader=True)],
            components=lambda: [store_health(), bus.health()],
            https_port=lambda: https.port,
            stalls=stalls.figures,
        )
        async with contextlib.AsyncExitStack() as doors_open:
            server = await grpc_server.serve(
                registry,
                address=f"{settings.listen}:{settings.grpc_port}",
                credentials=identity.server_credentials(),
                sessions=sessions,
                cluster=ClusterService(state, store, tokens, pki, clock),
                dial=dialer(lambda: identity.current),
            )
            doors_open.push_async_callback(server.stop, _STOP_GRACE_S)
            await https.start(f"{settings.listen}:{settings.https_port}", identity.server_context())
            doors_open.push_async_callback(https.stop)
            log.info("cluster %s: serving on %s", store.cluster_id, doors[0])
            informers = Informers(acting_as("controller-manager"), clock)
            controlling = ControllerSettings(root_ca=pki.ca_pem.decode())
            own_doors = Doors(lambda: [address], lambda: https.port, settings.grpc_port, settings.api.service_network)
            manager = ControllerManager(
                acting_as("controller-manager"), informers, sessions.last_seen, clock, controlling, own_doors
            )
            parts: dict[str, Coroutine[Any, Any, object]] = {
                "store": store.run(),
                "stalls": stalls.run(),
                "memory": give_back_freed(clock, lambda: store.revision),
                "cycles": freeze_survivors(clock),
                "certificate": identity.run(),
                "bus": bus.run(),
                "controllers": manager.run(),
                **_reservation_repair(registry, own, settings.name, clock),
                "scheduler": Scheduler(acting_as("scheduler"), informers, clock).run(),
                "informers": informers.run(),
            }
            try:
                await run_all(parts)
            finally:
                held = "event loop: held for p99.9 %.1f ms, longest %.1f ms; delays (ms:count) %s"
                log.info(held, *stalls.figures(), stalls.classes())


def _reservation_repair(
    registry: Registry, client: Client, member: str, clock: Clock
) -> dict[str, Coroutine[Any, Any, object]]:
    recorder = EventRecorder(client, "reservation-repair-controller", member, clock)
    repair = ReservationRepair(registry.environment, recorder)
    return {"reservations": repair.run(), "events of reservations": recorder.run()}


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
