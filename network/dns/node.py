"""`NodeDns`: the node's resolver as a whole: address, sockets, records, upstreams.

In: the informers of Services and EndpointSlices, which their owner runs, and settings. Out: answers at the cluster's
DNS address. Guarantees: whatever is missing (the address, a port that another program holds, the host's resolv.conf) is
said once, tried again, and taken up when it is there; the informers' objects are held once, by reference.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from pathlib import Path

from barque.api.types.core_v1 import Service
from barque.api.types.discovery_v1 import EndpointSlice
from barque.client.clock import Clock
from barque.client.informer import Informer
from barque.network.dns.address import ensure_address
from barque.network.dns.answers import Answers
from barque.network.dns.exchange import exchange
from barque.network.dns.forwarder import Forwarder
from barque.network.dns.records import Records
from barque.network.dns.resolver import Resolver
from barque.network.dns.server import DnsServer, Sources, bind
from barque.network.dns.settings import DnsSettings
from barque.network.dns.upstreams import Upstreams, servers_in
from barque.network.dns.zone import Zone

log = logging.getLogger(__name__)

# How often the host's address and resolv.conf are looked at.
LOOK_S = 5.0
FIRST_RETRY_S, LONGEST_RETRY_S = 0.5, 30.0
LOOPBACK_CIDR = "127.0.0.0/8"


class NodeDns:
    """The resolver of one node; `run` it once."""

    def __init__(
        self,
        services: Informer[Service],
        slices: Informer[EndpointSlice],
        settings: DnsSettings,
        state_dir: Path,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._state_dir = state_dir
        self._clock = clock
        records = Records()
        services.add_handler(records.handle_service)
        slices.add_handler(records.handle_slice)
        ranges = (settings.service_cidr, settings.cluster_cidr)
        zone = Zone(records, settings.domain, settings.address, ranges, settings.ttl_s)
        self._upstreams = Upstreams(settings.stub_domains)
        self._forwarder = Forwarder(self._upstreams, exchange, clock, lambda: secrets.randbelow(1 << 16))
        resolver = Resolver(zone, records, self._forwarder, lambda: services.synced and slices.synced)
        own = (settings.address, settings.node_address or settings.address)
        sources = Sources((settings.cluster_cidr, LOOPBACK_CIDR, *own))
        self._server = DnsServer(resolver, Answers(records), sources, clock)
        # Set once the host's address has been seen to.
        self._looked = asyncio.Event()
        # What was said last, by what it is about.
        self._said: dict[str, str] = {}

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep_host(), name="DNS address and upstreams")
                tasks.create_task(self._serve(), name="DNS server")
        finally:
            await self._forwarder.close()

    async def _keep_host(self) -> None:
        """Keep the address where it is wanted, and know whom the host asks."""
        while True:
            try:
                if await asyncio.to_thread(ensure_address, self._settings.address, self._state_dir):
                    log.info("this host now has the cluster's DNS address %s", self._settings.address)
                self._said.pop("address", None)
            except OSError as error:
                self._say("address", f"cannot give this host the cluster's DNS address: {error}")
            self._take_upstreams(await asyncio.to_thread(self._read_upstreams))
            self._looked.set()
            await self._clock.sleep(LOOK_S)

    def _read_upstreams(self) -> tuple[str, str]:
        return _text(self._settings.resolv_conf), _text(self._settings.resolved_conf)

    def _take_upstreams(self, texts: tuple[str, str]) -> None:
        found = servers_in(*texts, own={self._settings.address})
        if not found:
            path = self._settings.resolv_conf
            self._say("upstreams", f"{path} names no server to ask: names outside the cluster are not resolved")
        elif found != self._upstreams.default:
            self._said.pop("upstreams", None)
            log.info("names outside the cluster are asked of %s", ", ".join(map(str, found)))
        self._upstreams.default = found

    async def _serve(self) -> None:
        address, port = self._settings.address, self._settings.port
        retry_s = FIRST_RETRY_S
        await self._looked.wait()
        while True:
            try:
                sockets = bind(address, port)
            except OSError as error:
                self._say("port", f"cannot serve DNS at {address}:{port}, trying again: {error.strerror or error}")
                await self._clock.sleep(retry_s)
                retry_s = min(retry_s * 2, LONGEST_RETRY_S)
                continue
            self._said.pop("port", None)
            log.info("serving DNS at %s:%d", address, port)
            await self._server.run(*sockets)

    def _say(self, about: str, message: str) -> None:
        """Once, until it is another."""
        if self._said.get(about) != message:
            self._said[about] = message
            log.error("%s", message)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
