"""`ServiceProxy`: keeps this node's rules what the cluster's Services and EndpointSlices say.

In: two informers, which their owner runs. Out: chains in the kernel. Guarantees: nothing is written before both
informers are synced; a change alone is in the kernel after one `iptables-restore` of its own chains, and changes that
come while one runs are taken together by the next; what a former run left is replaced without a gap in service; what
others break is noticed within seconds, at the latest with the count of all chains every minute, and put right.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from functools import partial

from barque.api.types.core_v1 import Service
from barque.api.types.discovery_v1 import EndpointSlice
from barque.client.clock import Clock
from barque.client.informer import Informer
from barque.network.conntrack import ConntrackTable
from barque.network.iptables.chains import POD_CHAINS, PROXY_JUMPS, ChainId
from barque.network.iptables.driver import Iptables, IptablesError
from barque.network.iptables.fingerprint import ChangeWatch
from barque.network.iptables.restore import count_rules, plan_restores
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

log = logging.getLogger(__name__)

# Others' changes are asked for this often, which costs microseconds; all chains are counted when there were some, and
# at the latest after RESYNC_S where the kernel cannot prove that there were none.
LOOK_S = 5.0
RESYNC_S = 60.0
# After a failed restore: soon, for another program may just have changed the table; then ever more seldom.
FIRST_RETRY_S, LONGEST_RETRY_S = 0.5, 30.0
# Under an endless stream of changes the proxy rests as long as it works, but never longer than this.
LONGEST_REST_S = 1.0
# Services rendered before other tasks get the loop: at some 150 µs each with ten endpoints, well below 20 ms.
SLICE = 64
# A service of three endpoints, to cut a whole program into restores of about the size the driver likes.
LINES_PER_SERVICE = 15
# So much of a saved table is counted at a time: some 5 ms.
PIECE_BYTES = 1 << 19


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
        conntrack: ConntrackTable | None = None,
        on_synced: Callable[[int], None] | None = None,
    ) -> None:
        """`node` is this node's name, which the traffic policy Local asks for; `cluster_cidr` is where pods live: what
        comes from elsewhere is masqueraded. `on_synced` hears, after each write, how many service ports the kernel now
        serves.
        """
        self._clock = clock
        self._iptables = iptables
        self._conntrack = conntrack or ConntrackTable()
        self._on_synced = on_synced
        self._node = node
        self._program = Program(cluster_cidr)
        self._health = HealthPorts()
        self._checks: dict[str, HealthCheck] = {}
        self._services = services
        self._slices = slices
        self._slices.add_index("service", slice_keys)
        self._services.add_handler(self._on_service)
        self._slices.add_handler(self._on_slice)
        # Keys of services to look at again; bounded by the number of services.
        self._dirty: set[str] = set()
        self._changed = asyncio.Event()
        self._whole = True
        # From the first change taken up until it is in the kernel, retries included.
        self._writing = False
        self._writes = 0
        self._watch: ChangeWatch | None = None

    async def run(self) -> None:
        """Follow the cluster until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep_synced(), name="service rules")
                tasks.create_task(self._keep_whole(), name="service rules resync")
        finally:
            await self._health.close()

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
        present = await self._present(iptables)
        if self._writing or self._changed.is_set() or self._writes != writes:
            # What was just read is no longer meant to be there; the next look will tell.
            return True
        wanted = {chain: len(rules) for chain, rules in self._program.chains().items()}
        if wanted == present:
            if await iptables.ensure_jumps(PROXY_JUMPS):
                log.warning("another program has moved or deleted our jumps: put back")
                before = await iptables.fingerprint()
            if self._watch is not None:
                self._watch.counted(before)
            return True
        wrong = sum(present.get(chain) != count for chain, count in wanted.items())
        log.warning("another program has changed %d of %d chains of ours: writing all again", wrong, len(wanted))
        self._whole = True
        self._changed.set()
        return False

    async def _sync(self) -> None:
        """Bring the kernel to the informers' present state."""
        iptables = self._iptables
        await self._take_dirty()
        if self._whole:
            present = await self._present(iptables)
            udp = True
            for changes in self._program.full(present, slice_services=iptables.max_lines // LINES_PER_SERVICE):
                await self._write(iptables, changes)
            await iptables.ensure_jumps(PROXY_JUMPS)
            log.info("service rules are in place: %d service ports", self._program.size)
        else:
            changes = self._program.take_changes()
            udp = changes.udp
            await self._write(iptables, changes)
        self._whole = False
        self._watch = self._watch or ChangeWatch(self._clock, RESYNC_S, exact=iptables.exact)
        self._watch.wrote(await iptables.fingerprint())
        if udp:
            await self._forget_flows([port for port in self._program.ports() if port.protocol == "udp"])
        await self._health.serve(self._checks.values())
        if self._on_synced is not None:
            self._on_synced(self._program.size)

    async def _take_dirty(self) -> None:
        dirty, self._dirty = self._dirty, set()
        for count, key in enumerate(sorted(dirty), 1):
            namespace, _, name = key.partition("/")
            service, slices = self._services.get(name, namespace), self._slices.by_index("service", key)
            self._program.set_service(key, service_ports(service, slices, self._node))
            check = health_check(service, slices, self._node)
            if check is not None:
                self._checks[key] = check
            else:
                self._checks.pop(key, None)
            if count % SLICE == 0:
                await asyncio.sleep(0)

    async def _write(self, iptables: Iptables, changes: Changes) -> None:
        texts = plan_restores(changes.put, changes.remove, max_lines=iptables.max_lines, tables=changes.tables)
        await iptables.restore_all(texts)

    async def _forget_flows(self, ports: list[ServicePort]) -> None:
        if not ports:
            return
        try:
            count = await asyncio.to_thread(self._conntrack.delete_stale, partial(udp_ways, ports))
        except OSError as error:
            # Flows that stay end with their own timeout; services work meanwhile.
            log.warning("cannot delete stale UDP flows: %s", error)
            return
        if count:
            log.info("deleted %d stale UDP flows", count)

    async def _present(self, iptables: Iptables) -> dict[ChainId, int]:
        """How many rules each of the proxy's chains holds in the kernel."""
        found: dict[ChainId, int] = {}
        for table in ("filter", "nat"):
            counts: dict[str, int] = {}
            for piece in _pieces(await iptables.save(table)):
                count_rules(piece, counts)
                await asyncio.sleep(0)
            found |= {ChainId(table, name): count for name, count in counts.items()}
        return {chain: count for chain, count in found.items() if chain not in POD_CHAINS}


def _pieces(saved: bytes) -> Iterator[bytes]:
    """The text in pieces of whole lines."""
    start = 0
    while start < len(saved):
        end = saved.find(b"\n", start + PIECE_BYTES)
        end = len(saved) if end < 0 else end + 1
        yield saved[start:end]
        start = end
