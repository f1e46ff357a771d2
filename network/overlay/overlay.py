"""`Overlay`: keeps this host's way to the pods of all others as the Nodes say.

In: an informer of Nodes, this node's name and pod range, what the user chose (`OverlaySettings`). Out: the kernel's
device, routes and entries; the underlay in use, whenever it changes; what is wrong, as a condition's reason and
message. Guarantees: nothing is touched before the first complete list of Nodes, so that a restart breaks no connection;
afterwards each change of a Node is in the kernel at once, and what others change there is put right as soon as the
kernel announces it, at the latest with the next resync.
"""

from __future__ import annotations

import asyncio
import logging
import platform
from collections.abc import Callable, Sequence
from typing import NamedTuple

from barque.api.views import NodeView
from barque.client.clock import Clock
from barque.client.informer import Informer
from barque.network.overlay.driver import OverlayError, carry_out, observe
from barque.network.overlay.events import KernelEvents
from barque.network.overlay.offload import driver_of, known_fault
from barque.network.overlay.peers import Chart, Fault, Own, Ranges, draw_chart, overlay_mtu, what_counts
from barque.network.overlay.plan import Step, Wanted, plan, want_host_gw, want_vxlan
from barque.network.overlay.settings import OverlaySettings
from barque.network.overlay.underlay import Masters, Underlay, UnderlayError, find_underlay
from barque.network.sysctls import SysctlError

log = logging.getLogger(__name__)

# The kernel announces changes; announcements may be lost, and a route to the masters changes without one.
RESYNC_S = 10.0
# However many changes are announced, the kernel is looked at this often at most.
LOOK_PAUSE_S = 0.25
# After a step that the kernel refused: soon, then ever more seldom.
FIRST_RETRY_S, LONGEST_RETRY_S = 0.5, 10.0


class State(NamedTuple):
    """How the overlay is: `fault` where this node's pods are cut off, `remarks` about nodes that cannot be reached."""

    fault: Fault | None = None
    remarks: tuple[str, ...] = ()


class Overlay:
    """The overlay of one node: `locate` first, then `run` once."""

    def __init__(
        self,
        settings: OverlaySettings,
        ranges: Ranges,
        masters: Sequence[str],
        clock: Clock,
        *,
        on_underlay: Callable[[Underlay], None] = lambda _: None,
        on_state: Callable[[State], None] = lambda _: None,
    ) -> None:
        """`on_underlay` hears of each new underlay, `on_state` of each new state; both on the event loop."""
        self.on_underlay = on_underlay
        self.on_state = on_state
        self._settings = settings
        self._ranges = ranges
        self._masters = Masters(masters)
        self._clock = clock
        self._underlay: Underlay | None = None
        self._state: State | None = None
        self._nodes_changed = True
        # What the kernel was last brought to.
        self._settled: tuple[Own, Chart] | None = None
        self._woken = asyncio.Event()
        self._looked_s = float("-inf")
        # Links whose checksums the card is not trusted with; said once each.
        self._distrusted: dict[str, bool] = {}

    @property
    def address(self) -> str:
        """The address that other hosts are told. Call `locate` before."""
        return self._settings.node_ip or self._located().address

    @property
    def mtu(self) -> int:
        """The largest packet of a pod in bytes. Call `locate` before."""
        return overlay_mtu(self._settings.backend, self._located())

    async def locate(self) -> Underlay:
        """Find the link and address to use now. Raises `UnderlayError`."""
        masters = await self._masters.addresses()
        found = await find_underlay(self._settings.interface, self._settings.node_ip, masters)
        if found != self._underlay:
            self._underlay = found
            log.info("the overlay uses interface %s at %s (MTU %d)", found.name, found.address, found.mtu)
            self.on_underlay(found)
        return found

    async def run(self, nodes: Informer[NodeView], node: str, pod_cidr: str) -> None:
        """Keep the overlay of `node`, whose pods live in `pod_cidr`, until cancelled."""
        nodes.add_handler(self._hear)
        first_sync = asyncio.create_task(self._wake_synced(nodes))
        try:
            with KernelEvents(self._woken.set) as events:
                await self._keep(nodes, node, pod_cidr, events)
        finally:
            first_sync.cancel()

    async def _keep(self, nodes: Informer[NodeView], node: str, pod_cidr: str, events: KernelEvents) -> None:
        retry_s = FIRST_RETRY_S
        while True:
            self._woken.clear()
            self._looked_s = self._clock.monotonic()
            try:
                state = await self._settle(nodes, node, pod_cidr, events)
            except UnderlayError as error:
                self._say(State(Fault(error.reason, str(error))))
            except (OverlayError, SysctlError, OSError) as error:
                self._say(State(Fault("OverlayFailed", str(error))))
                # Not sooner, whatever is announced: the failed steps announce themselves.
                await self._clock.sleep(retry_s)
                retry_s = min(2 * retry_s, LONGEST_RETRY_S)
                continue
            else:
                retry_s = FIRST_RETRY_S
                if state is not None:
                    self._say(state)
            await self._pause()

    async def _settle(self, nodes: Informer[NodeView], node: str, pod_cidr: str, events: KernelEvents) -> State | None:
        """One look, and whatever it shows to be missing; None where there is nothing to say yet."""
        underlay = await self.locate()
        events.links = frozenset({underlay.number})
        if not nodes.synced:
            return None
        own = Own(node, pod_cidr, self.address, underlay)
        before, chart = self._settled, None
        if before is not None and before[0] == own and not self._nodes_changed:
            chart = before[1]
        self._nodes_changed = False
        if chart is None:
            chart = await asyncio.to_thread(draw_chart, nodes.list(), own, self._ranges, self._settings.backend)
        self._settled = None
        steps, links = await asyncio.to_thread(self._apply, own, chart)
        if steps and before == (own, chart):
            log.warning("another program has changed the overlay: put right in %d steps", len(steps))
        elif steps:
            log.info("the overlay is brought up to date in %d steps; other nodes: %d", len(steps), len(chart.peers))
        events.links = frozenset({underlay.number, *links})
        self._settled = own, chart
        return State(chart.fault, chart.remarks)

    def _apply(self, own: Own, chart: Chart) -> tuple[list[Step], set[int]]:
        """In a thread: bring the kernel to the chart; the steps it took, and the indexes of our devices."""
        wanted = self._wanted(own, chart)
        seen = observe()
        steps = plan(wanted, seen)
        carry_out(steps)
        if steps:
            seen = observe()
        return steps, {device.number for device in seen.devices}

    def _wanted(self, own: Own, chart: Chart) -> Wanted:
        settings = self._settings
        if settings.backend == "host-gw":
            return want_host_gw(own, chart.peers)
        mtu = overlay_mtu(settings.backend, own.underlay)
        offload = self._may_offload(own.underlay.name)
        return want_vxlan(own, chart.peers, vni=settings.vni, port=settings.port, mtu=mtu, offload=offload)

    def _may_offload(self, link: str) -> bool:
        """Whether checksums may be left to the card: as the user says, else unless a fault is known."""
        if self._settings.checksum_offload != "auto":
            return self._settings.checksum_offload == "on"
        if link not in self._distrusted:
            fault = known_fault(platform.release(), driver_of(link))
            if fault:
                log.warning("the overlay computes checksums itself: %s", fault)
            self._distrusted[link] = bool(fault)
        return not self._distrusted[link]

    def _located(self) -> Underlay:
        if self._underlay is None:
            raise RuntimeError("the overlay has not been located")
        return self._underlay

    def _hear(self, old: NodeView | None, new: NodeView | None) -> None:
        # Most writes of a Node are heartbeats and images.
        if old is None or new is None or what_counts(old) != what_counts(new):
            self._nodes_changed = True
            self._woken.set()

    async def _wake_synced(self, nodes: Informer[NodeView]) -> None:
        await nodes.wait_synced()
        self._woken.set()

    def _say(self, state: State) -> None:
        if state == self._state:
            return
        former, self._state = self._state or State(), state
        if state.fault is not None and state.fault != former.fault:
            log.error("pods of other nodes cannot be reached: %s", state.fault.message)
        for remark in sorted(set(state.remarks) - set(former.remarks)):
            log.warning("the overlay: %s", remark)
        if former.fault is not None and state.fault is None:
            log.info("pods of other nodes can be reached again")
        self.on_state(state)

    async def _pause(self) -> None:
        """Until something has changed or the next resync, but not sooner than `LOOK_PAUSE_S` after the last look."""
        alarm = asyncio.create_task(self._ring())
        try:
            await self._woken.wait()
        finally:
            alarm.cancel()
        await self._clock.sleep(self._looked_s + LOOK_PAUSE_S - self._clock.monotonic())

    async def _ring(self) -> None:
        await self._clock.sleep(RESYNC_S)
        self._woken.set()
