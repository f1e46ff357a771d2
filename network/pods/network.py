"""`PodNetwork`: gives each pod of this host an address and a way to everything else.

In: the node's pod CIDR, then a uid, a network namespace and ports of the host per pod. Out: the pod's address.
Guarantees: an address is written to the book before any pod carries it and is never given twice; ports of the host
stand until their pod is detached, over restarts; every method may be called again after a crash at any instruction and
completes what is missing; what was changed on the host is put back by `network.cleanup`.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from barque.client.clock import Clock, SystemClock
from barque.network.conntrack import ConntrackTable
from barque.network.iptables.chains import FORWARD, POD_JUMPS, REFUSED_SERVICES, ChainId, Rules
from barque.network.iptables.driver import Iptables, IptablesError
from barque.network.iptables.fingerprint import ChangeWatch
from barque.network.iptables.restore import plan_restores
from barque.network.pods import book as address_book
from barque.network.pods.book import AddressBook
from barque.network.pods.driver import PodDriver
from barque.network.pods.host_ports import PortMapping, udp_ways
from barque.network.pods.plan import Attachment, link_name
from barque.network.pods.rules import render_exposing_chains, render_pod_chains
from barque.network.sysctls import SysctlError, SysctlRecord

log = logging.getLogger(__name__)

CLUSTER_CIDR = "10.244.0.0/16"
SERVICE_CIDR = "10.96.0.0/12"
STATE_DIR = Path("/var/lib/barque/worker/network")
BOOK_FILE, SYSCTL_FILE = "addresses.json", "sysctls.json"
IP_FORWARD = "net/ipv4/ip_forward"
# Docker, when it starts, puts its own jumps first; ours move back within this time.
HEAL_S = 5.0
# Our chains are read at least this often where the kernel cannot prove that nothing has changed.
RECOUNT_S = 60.0
LOCKS = 64


class PodNetwork:
    """The pod network of this host. `start` first; `run` keeps the host's part as it must be."""

    def __init__(
        self,
        state_dir: Path | str,
        iptables: Iptables,
        *,
        cluster_cidr: str = CLUSTER_CIDR,
        service_cidr: str = SERVICE_CIDR,
        clock: Clock | None = None,
    ) -> None:
        self._state_dir = Path(state_dir)
        self._cluster_cidr = cluster_cidr
        self._service_cidr = service_cidr
        self._iptables = iptables
        self._clock: Clock = clock or SystemClock()
        self._sysctls = SysctlRecord(self._state_dir / SYSCTL_FILE)
        self._driver = PodDriver()
        self._book: AddressBook | None = None
        # Whether the book on disk is behind, as after a write that a full disk refused.
        self._unsaved = False
        # Calls for one pod come one after the other; pods that share a lock merely wait for each other.
        self._locks = tuple(asyncio.Lock() for _ in range(LOCKS))
        # Our chains are rendered and written by one call at a time, so that the last write is of the newest state.
        self._writing = asyncio.Lock()
        self._conntrack = ConntrackTable()
        # Whether host ports in the book are not in the kernel yet, and those whose pod has given them up since.
        self._ports_due = False
        self._closed: set[PortMapping] = set()
        self._watch: ChangeWatch | None = None
        self._pod_cidr = ""
        self._mtu = 1500

    async def start(self, pod_cidr: str, mtu: int = 1500) -> None:
        """Make the host ready and take over what a former run left.

        `pod_cidr` is this node's share of the cluster's; `mtu` is that of the pods' devices, in bytes. Raises
        `IptablesError`, `SysctlError` or `OSError` in words a user understands.
        """
        self._pod_cidr, self._mtu = pod_cidr, mtu
        book = address_book.load(self._state_dir / BOOK_FILE, pod_cidr)
        present = await self._driver.present()
        book.adopt({link: ip for link, ip in present.items() if ip}, {uid: link_name(uid) for uid in book.addresses()})
        self._book = book
        self._save_if_possible()
        await self.heal(rewrite=True)

    def use_mtu(self, mtu: int) -> None:
        """Give pods that are attached from now on this MTU, in bytes; the others keep theirs."""
        self._mtu = mtu

    async def attach(self, pod_uid: str, netns_path: str, ports: Sequence[PortMapping] = ()) -> str:
        """Connect the pod's network namespace and open these ports of the host to it, and no others; its address.

        The same address on every call until `detach`. Raises `AddressesExhaustedError`, `PortTakenError`,
        `OccupiedError`, `IptablesError`, `SysctlError` or `OSError`; a pod whose ports are taken gets no network.
        """
        async with self._lock(pod_uid):
            book = self._started()
            link, mappings = link_name(pod_uid), tuple(ports)
            known = book.get(pod_uid)
            book.check_ports(pod_uid, mappings)
            ip = book.acquire(pod_uid, link)
            if self._set_ports(book, pod_uid, mappings) or known is None or self._unsaved:
                self._save()
            on_loopback = any(mapping.on_loopback for mapping in mappings)
            await self._driver.attach(Attachment(link, ip, self._mtu, on_loopback), netns_path)
            if self._ports_due:
                await self._write_ports()
            return ip

    async def detach(self, pod_uid: str) -> None:
        """Close the pod's ports, remove its link and give up its address; nothing if it has none of them."""
        async with self._lock(pod_uid):
            book = self._started()
            self._set_ports(book, pod_uid, ())
            if self._ports_due:
                await self._write_ports()
            await self._driver.detach([link_name(pod_uid)])
            if book.get(pod_uid) is not None:
                book.release(pod_uid)
                self._save_if_possible()

    def addresses(self) -> dict[str, str]:
        """Address by pod uid."""
        return self._started().addresses()

    async def retain(self, uids: set[str]) -> None:
        """Drop the links and addresses that belong to none of these pods."""
        book = self._started()
        for uid in set(book.addresses()) - uids:
            await self.detach(uid)
        kept = {link_name(uid) for uid in uids}
        strays = {link for link in await self._driver.present() if link not in kept} | (set(book.strays()) - kept)
        held = {link_name(uid) for uid in book.addresses()}
        strays -= held
        if strays:
            await self._driver.detach(sorted(strays))
            for link in strays:
                book.release_stray(link)
            self._save_if_possible()

    async def heal(self, *, rewrite: bool = False) -> None:
        """Forwarding on, our chains whole, our jumps first: puts right what differs and says so.

        With `rewrite` the chains are written even if they look right, as after a change of CIDR.
        """
        if await asyncio.to_thread(self._sysctls.ensure, IP_FORWARD, "1"):
            log.info("turned on net.ipv4.ip_forward")
        async with self._writing:
            await self._heal_chains(rewrite)

    async def _heal_chains(self, rewrite: bool) -> None:
        iptables = self._iptables
        watch = self._watch = self._watch or ChangeWatch(self._clock, RECOUNT_S, exact=iptables.exact)
        before = await iptables.fingerprint()
        if not rewrite and not watch.due(before):
            return
        exposed = self._book.exposed() if self._book is not None else []
        chains = render_pod_chains(self._pod_cidr, self._cluster_cidr, self._service_cidr, exposed)
        broken = dict(chains) if rewrite else await _differing(iptables, chains)
        if FORWARD in broken and not await _exists(iptables, REFUSED_SERVICES):
            broken[REFUSED_SERVICES] = ()
        if broken:
            log.info("writing %s", ", ".join(sorted(c.name for c in broken)))
            await iptables.restore_all(plan_restores(broken, (), max_lines=iptables.max_lines))
        moved = await iptables.ensure_jumps(POD_JUMPS)
        if moved:
            log.info("put our jumps first in the kernel's chains")
        watch.counted(await iptables.fingerprint() if broken or moved else before)

    def _set_ports(self, book: AddressBook, pod_uid: str, ports: tuple[PortMapping, ...]) -> bool:
        """Note a pod's host ports; True where they are others than before, and due to be written."""
        former = book.ports(pod_uid)
        if former == ports:
            return False
        book.set_ports(pod_uid, ports)
        self._closed |= set(former)
        self._ports_due = True
        return True

    async def _write_ports(self) -> None:
        """Bring the host's ports into the kernel as the book now has them."""
        iptables = self._iptables
        async with self._writing:
            exposed, closed = self._started().exposed(), set(self._closed)
            chains = render_exposing_chains(self._pod_cidr, self._cluster_cidr, self._service_cidr, exposed)
            await iptables.restore_all(plan_restores(chains, (), max_lines=iptables.max_lines))
            await asyncio.to_thread(self._conntrack.delete_stale, partial(udp_ways, exposed, closed))
            self._closed -= closed
            self._ports_due = bool(self._closed) or self._started().exposed() != exposed

    async def run(self) -> None:
        """Heal every few seconds until cancelled. A failure is told once and tried again."""
        failing = False
        while True:
            await self._clock.sleep(HEAL_S)
            try:
                await self.heal()
            except (IptablesError, SysctlError, OSError) as error:
                if not failing:
                    log.error("cannot keep the pod network's rules: %s", error)
                failing = True
            else:
                failing = False

    def _started(self) -> AddressBook:
        if self._book is None:
            raise RuntimeError("the pod network is not started")
        return self._book

    def _lock(self, pod_uid: str) -> asyncio.Lock:
        return self._locks[zlib.crc32(pod_uid.encode()) % LOCKS]

    def _save(self) -> None:
        self._unsaved = True
        address_book.save(self._state_dir / BOOK_FILE, self._started())
        self._unsaved = False

    def _save_if_possible(self) -> None:
        """Where nothing new is in the book: one that is behind only names addresses that the next start gives up."""
        try:
            self._save()
        except OSError as error:
            log.error("the addresses of pods cannot be written, which the next one tries again: %s", error)


async def _differing(iptables: Iptables, chains: dict[ChainId, Rules]) -> dict[ChainId, Rules]:
    """Those of the chains that do not hold as many rules as they should."""
    return {chain: rules for chain, rules in chains.items() if await _count(iptables, chain) != len(rules)}


async def _exists(iptables: Iptables, chain: ChainId) -> bool:
    return await _count(iptables, chain) is not None


async def _count(iptables: Iptables, chain: ChainId) -> int | None:
    """How many rules a chain holds; None where there is no such chain."""
    try:
        listing = await iptables.list_chain(chain.table, chain.name)
    except IptablesError:
        return None
    return sum(line.startswith("-A ") for line in listing)
