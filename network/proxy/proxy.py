"""`ServiceProxy`: keeps this node's rules what the cluster's Services and EndpointSlices say.

In: two informers, which their owner runs. Out: chains in the kernel. Guarantees: nothing is written before both
informers are synced; a change alone is in the kernel after one `iptables-restore` of its own chains, and changes that
come while one runs are taken together by the next; what a former run left is replaced without a gap in service; what
others break is noticed within seconds, at the latest with the count of all chains every minute, and put right.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from functools import partial

from barque.api.types.core_v1 import Node, Service
from barque.api.types.discovery_v1 import EndpointSlice
from barque.client.clock import Clock
from barque.client.informer import Informer
from barque.network.conntrack import ConntrackTable
from barque.network.iptables.chains import POD_CHAINS, PROXY_JUMPS, ChainId, Chains
from barque.network.iptables.driver import Iptables, IptablesError
from barque.network.iptables.fingerprint import ChangeWatch
from barque.network.iptables.restore import measure_chains, plan_restores
from barque.network.pods.network import CLUSTER_CIDR
from barque.network.proxy.health import HealthPorts
from barque.network.proxy.program import Changes, Program
from barque.network.proxy.state import (
    HealthCheck,
    ServicePort,
    health_check,
    service_key,
    service_ports,
    slice_keys,
    udp_ways,
)
from barque.network.sysctls import SysctlError, SysctlRecord

log = logging.getLogger(__name__)

# Others' changes are asked for this often, which costs microseconds; all chains are measured when there were some, and
# at the latest after RESYNC_S where the kernel cannot prove that there were none.
LOOK_S = 5.0
RESYNC_S = 60.0
# After a failed restore: soon, for another program may just have changed the table; then ever more seldom.
FIRST_RETRY_S, LONGEST_RETRY_S = 0.5, 30.0
# Under an endless stream of changes the proxy rests as long as it works, but never longer than this.
LONGEST_REST_S = 1.0
# Services rendered before other tasks get the loop: at some 150 µs each with ten endpoints, well below 20 ms.
SLICE = 64
# A service of three endpoints, most of them elsewhere, to cut a whole program into restores of a size the driver likes.
LINES_PER_SERVICE = 10
# By table, the chains that the kernel's own jump to.
ENTRANCES = {
    table: frozenset(jump.target for jump in PROXY_JUMPS if jump.table == table) for table in ("filter", "nat")
}
# Closed UDP ports whose flows could not be deleted yet: a flow that nobody uses ends after three minutes by itself.
MOST_CLOSED = 4096
ZONE_LABEL = "topology.kubernetes.io/zone"
PROXY_SYSCTL_FILE = "proxy-sysctls.json"
# Without it the kernel lets no packet from the loopback leave, not even to an endpoint of a node port.
ROUTE_LOCALNET = "net/ipv4/conf/all/route_localnet"


class ServiceProxy:
    """The service proxy of one node; `run` it once."""

    def __init__(
        self,
        services: Informer[Service],
        slices: Informer[EndpointSlice],
        iptables: Iptables,
        clock: Clock,
        *,
        node: str = "",
        cluster_cidr: str = CLUSTER_CIDR,
        sysctls: SysctlRecord | None = None,
        conntrack: ConntrackTable | None = None,
        on_synced: Callable[[int], None] | None = None,
    ) -> None:
        """`node` is this node's name, which the traffic policy Local asks for; `cluster_cidr` is where pods live: what
        comes from elsewhere is masqueraded. Without `sysctls` node ports do not answer on the loopback. `on_synced`
        hears, after each write, how many service ports the kernel now serves.
        """
        self._clock = clock
        self._iptables = iptables
        self._conntrack = conntrack or ConntrackTable()
        self._sysctls = sysctls
        self._on_synced = on_synced
        self._node, self._zone = node, ""
        self._program = Program(cluster_cidr)
        self._health = HealthPorts()
        self._checks: dict[str, HealthCheck] = {}
        self._services = services
        self._slices = slices
        self._slices.add_index("service", slice_keys)
        # Keys of services to look at again; bounded by the number of services.
        self._dirty: set[str] = set()
        self._changed = asyncio.Event()
        self._whole = True
        # From the first change taken up until it is in the kernel, retries included.
        self._writing = False
        self._writes = 0
        self._watch: ChangeWatch | None = None
        # UDP ports that are no more, whose flows are not forgotten yet.
        self._closed: list[ServicePort] = []
        self._udp_due = False
        self._flows_stay = False
        # Last: what the informers know already is told at once.
        self._services.add_handler(self._on_service)
        self._slices.add_handler(self._on_slice)

    async def run(self) -> None:
        """Follow the cluster until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep_synced(), name="service rules")
                tasks.create_task(self._keep_whole(), name="service rules resync")
        finally:
            await self._health.close()

    def handle_node(self, _: Node | None, node: Node | None) -> None:
        """Hear of nodes; this one's zone tells which endpoints are near."""
        if node is None or node.metadata.name != self._node:
            return
        zone = node.metadata.labels.get(ZONE_LABEL, "")
        if zone != self._zone:
            self._zone = zone
            for service in self._services.list() if self._services.synced else ():
                self._mark(service_key(service.metadata.namespace, service.metadata.name))

    def _on_service(self, old: Service | None, new: Service | None) -> None:
        meta = (new or old).metadata  # type: ignore[union-attr]  # a handler is told at least one
        self._mark(service_key(meta.namespace, meta.name))

    def _on_slice(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        for endpoints in (old, new):
            if endpoints is not None:
                for key in slice_keys(endpoints):
                    self._mark(key)

    def _mark(self, key: str) -> None:
        self._dirty.add(key)
        self._changed.set()

    async def _keep_synced(self) -> None:
        await self._services.wait_synced()
        await self._slices.wait_synced()
        self._changed.set()
        retry_s = FIRST_RETRY_S
        while True:
            await self._changed.wait()
            self._changed.clear()
            began = self._clock.monotonic()
            try:
                self._writing = True
                self._writes += 1
                await self._sync()
            except (IptablesError, OSError) as error:
                log.error("cannot write service rules, trying again in %.1f s: %s", retry_s, error)
                self._whole = True
                self._health.healthy = False
                self._changed.set()
                await self._clock.sleep(retry_s)
                retry_s = min(retry_s * 2, LONGEST_RETRY_S)
            else:
                self._writing = False
                self._health.healthy = True
                retry_s = FIRST_RETRY_S
                if self._changed.is_set():
                    await self._clock.sleep(min(self._clock.monotonic() - began, LONGEST_REST_S))

    async def _keep_whole(self) -> None:
        failing = False
        while True:
            await self._clock.sleep(LOOK_S)
            if self._watch is None or self._whole or self._writing:
                continue
            if self._flows_stay:
                await self._forget_flows()
            try:
                if self._watch.due(await self._iptables.fingerprint()):
                    await self.check()
            except (IptablesError, OSError) as error:
                if not failing:
                    log.error("cannot check service rules, trying again every %.0f s: %s", LOOK_S, error)
                failing = True
            else:
                failing = False

    async def check(self) -> bool:
        """Compare the kernel with what it should hold; True where it is whole, else everything is written again."""
        iptables = self._iptables
        writes, before = self._writes, await iptables.fingerprint()
        present = await self._measure()
        if self._writing or self._changed.is_set() or self._writes != writes:
            # What was just read is no longer meant to be there; the next look will tell.
            return True
        wanted = await asyncio.to_thread(_measures, self._program.chains())
        if wanted == present:
            if await iptables.ensure_jumps(PROXY_JUMPS):
                log.warning("another program has moved or deleted our jumps: put back")
                before = await iptables.fingerprint()
            if self._watch is not None:
                self._watch.counted(before)
            return True
        if await iptables.fingerprint() != before:
            # Another program was at work meanwhile, and may have been seen halfway.
            return True
        wrong = sum(present.get(chain) != count for chain, count in wanted.items())
        log.warning("another program has changed %d of %d chains of ours: writing all again", wrong, len(wanted))
        self._whole = True
        self._changed.set()
        return False

    async def _sync(self) -> None:
        """Bring the kernel to the informers' present state."""
        iptables = self._iptables
        if self._whole:
            await self._write_all()
        else:
            await self._take(self._dirty)
            # In threads, like all whose work grows with the cluster: 20 ms among 10,000 services.
            changes = await asyncio.to_thread(self._program.take_changes)
            await iptables.restore_all(await asyncio.to_thread(self._texts, changes))
            self._note_udp(changes.closed, due=changes.udp)
        self._whole = False
        self._watch = self._watch or ChangeWatch(self._clock, RESYNC_S, exact=iptables.exact)
        self._watch.wrote(await iptables.fingerprint())
        await self._forget_flows()
        await self._health.serve(self._checks.values())
        if self._on_synced is not None:
            self._on_synced(self._program.size)

    async def _write_all(self) -> None:
        """Make everything right, whatever the kernel holds."""
        iptables = self._iptables
        present = await self._measure()
        await iptables.restore_all(self._texts(self._program.base(present)))
        # Now, as the legacy variant reads a whole table to tell where its jumps stand.
        await iptables.ensure_jumps(PROXY_JUMPS)
        self._allow_loopback()
        await iptables.restore_stream(self._all_texts(present))
        log.info("service rules are in place: %d service ports", self._program.size)

    async def _all_texts(self, present: Collection[ChainId]) -> AsyncIterator[str]:
        keys = sorted(self._dirty | self._program.keys())
        size = self._iptables.max_lines // LINES_PER_SERVICE
        for start in range(0, len(keys), size):
            some = keys[start : start + size]
            await self._take(some)
            for text in await asyncio.to_thread(self._texts, self._program.of_services(some)):
                yield text
        rest = await asyncio.to_thread(self._program.rest, present)
        self._note_udp(rest.closed, due=rest.udp)
        for text in await asyncio.to_thread(self._texts, rest):
            yield text

    def _texts(self, changes: Changes) -> list[str]:
        max_lines = self._iptables.max_lines
        return plan_restores(changes.put, changes.remove, max_lines=max_lines, tables=changes.tables)

    async def _take(self, keys: Collection[str]) -> None:
        """Look at these services again."""
        for count, key in enumerate(sorted(keys), 1):
            self._dirty.discard(key)
            namespace, _, name = key.partition("/")
            service, slices = self._services.get(name, namespace), self._slices.by_index("service", key)
            self._program.set_service(key, service_ports(service, slices, self._node, self._zone))
            check = health_check(service, slices, self._node)
            if check is not None:
                self._checks[key] = check
            else:
                self._checks.pop(key, None)
            if count % SLICE == 0:
                await asyncio.sleep(0)

    def _allow_loopback(self) -> None:
        if self._sysctls is None:
            return
        try:
            if self._sysctls.ensure(ROUTE_LOCALNET, "1"):
                log.info("turned on net.ipv4.conf.all.route_localnet, for node ports on the loopback")
        except (SysctlError, OSError) as error:
            log.warning("node ports do not answer on the loopback: %s", error)

    def _note_udp(self, closed: Iterable[ServicePort], *, due: bool) -> None:
        self._closed = list(dict.fromkeys([*self._closed, *closed]))[-MOST_CLOSED:]
        self._udp_due |= due

    async def _forget_flows(self) -> None:
        """Delete the flows that UDP clients began before the last changes; what fails is tried again at the next look,
        with the ports as they are then.
        """
        ports = [port for port in self._program.ports() if port.protocol == "udp"] if self._udp_due else []
        closed, self._closed, self._udp_due = self._closed, [], False
        if not ports and not closed:
            return
        try:
            count = await asyncio.to_thread(self._conntrack.delete_stale, partial(udp_ways, [*closed, *ports]))
        except OSError as error:
            # Services work meanwhile, save for the clients that go on sending where nobody is.
            if not self._flows_stay:
                log.warning("cannot delete stale UDP flows, trying again every %.0f s: %s", LOOK_S, error)
            self._flows_stay = True
            self._note_udp(closed, due=True)
            return
        self._flows_stay = False
        if count:
            log.info("deleted %d stale UDP flows", count)

    async def _measure(self) -> dict[ChainId, int]:
        """What each of the proxy's chains measures in the kernel."""
        found: dict[ChainId, int] = {}
        for table, entrances in ENTRANCES.items():
            sizes = await self._iptables.measure(table, entrances)
            found |= {ChainId(table, name): size for name, size in sizes.items()}
        return {chain: size for chain, size in found.items() if chain not in POD_CHAINS}


def _measures(chains: Chains) -> dict[ChainId, int]:
    """What they should measure."""
    return {
        ChainId(table, name): size
        for table, entrances in ENTRANCES.items()
        for name, size in measure_chains(chains, table, entrances).items()
    }
