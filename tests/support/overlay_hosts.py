"""Hosts on one bridge, each a network namespace with an overlay of its own; the Nodes are the only thing made up.

Every host hears of every node, and of every new address of one, as through the masters. With `pods` each host also has
a pod network behind Docker's own rules, and one pod.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import uvloop

from barque.api.types import core_v1, meta_v1
from barque.api.views import NodeView
from barque.client.clock import SystemClock
from barque.client.informer import Informer
from barque.network.iptables.driver import Iptables
from barque.network.overlay.overlay import Overlay, State
from barque.network.overlay.peers import Ranges
from barque.network.overlay.settings import OverlaySettings
from barque.network.overlay.underlay import Underlay
from barque.network.pods.network import PodNetwork
from tests.support.expecting import expect_soon
from tests.support.fake_verbs import FakeVerbs
from tests.support.namespaces import Namespace, like_docker

OUTSIDE = "192.168.77.1"
RANGES = Ranges("10.244.0.0/16", "10.96.0.0/12")
UID = "00000001-1111-4222-8333-444455556666"


class OverlayHost:
    """Host number N is 192.168.77.1N, its pods are in 10.244.N.0/24, its one pod is `pod` at `pod_ip`."""

    def __init__(self, number: int, fleet: Fleet) -> None:
        self.number, self.name, self.fleet = number, f"n{number}", fleet
        self.address, self.cidr = f"192.168.77.1{number}", f"10.244.{number}.0/24"
        self.namespace, self.pod, self.pod_ip = Namespace(self.name), Namespace(f"pod-{number}"), ""
        self.states: list[State] = []
        self.overlay: Overlay | None = None
        self._verbs = FakeVerbs(SystemClock())
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def state(self) -> State | None:
        return self.states[-1] if self.states else None

    def plug(self) -> None:
        """Connect it to the bridge."""
        bridge, cable = self.fleet.bridge, f"cable{self.number}"
        bridge.run("ip", "link", "add", cable, "type", "veth", "peer", "name", "uplink", "netns", self.namespace.path)
        bridge.run("ip", "link", "set", cable, "master", "bridge", "up")
        self.namespace.run("ip", "address", "add", f"{self.address}/24", "dev", "uplink")
        self.namespace.run("ip", "link", "set", "uplink", "up")
        self.namespace.run("ip", "route", "add", "default", "via", OUTSIDE)

    def start_pod(self, state_dir: Path, mtu: int) -> None:
        """Give it Docker's rules, a pod network and a pod."""
        like_docker(self.namespace, "nft")

        async def work() -> str:
            network = PodNetwork(state_dir, Iptables("nft"))
            await network.start(self.cidr, mtu)
            return await network.attach(UID, self.pod.path)

        self.pod_ip = self.namespace.call(lambda: asyncio.run(work()))

    def start(self, settings: OverlaySettings = OverlaySettings()) -> None:
        """Run its overlay in a thread of its own, on the daemons' event loop."""
        ready = threading.Event()
        self._thread = threading.Thread(target=uvloop.run, args=(self._run(settings, ready),), daemon=True)
        self.namespace.call(self._thread.start)
        assert ready.wait(60), f"the overlay of {self.name} has not started"

    def stop(self) -> None:
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(60)
            assert not self._thread.is_alive()
        self._loop = self._thread = None

    def close(self) -> None:
        self.stop()
        self.pod.close()
        self.namespace.close()

    def hear(self, node: core_v1.Node) -> None:
        """What the masters say of a node."""
        if self._loop is None:
            self._verbs.put(node)
        else:
            self._loop.call_soon_threadsafe(self._verbs.put, node)

    def silence(self, silent: bool = True) -> None:
        """No master answers it."""
        self._verbs.down = silent

    def node(self) -> core_v1.Node:
        """Itself, as the masters show it."""
        return a_node_at(self.name, self.cidr, self.address)

    async def _run(self, settings: OverlaySettings, ready: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        clock = SystemClock()
        self.overlay = Overlay(settings, RANGES, [OUTSIDE], clock, on_underlay=self._note, on_state=self.states.append)
        await self.overlay.locate()
        nodes = Informer(self._verbs.client, NodeView, clock=clock)
        tasks: list[Coroutine[Any, Any, None]] = [nodes.run(), self.overlay.run(nodes, self.name, self.cidr)]
        ready.set()
        running = [asyncio.create_task(task) for task in tasks]
        await asyncio.wait([asyncio.create_task(self._stop.wait()), *running], return_when=asyncio.FIRST_COMPLETED)
        for task in running:
            task.cancel()
        for outcome in await asyncio.gather(*running, return_exceptions=True):
            assert isinstance(outcome, asyncio.CancelledError), outcome

    def _note(self, underlay: Underlay) -> None:
        """As the worker: others are told its address."""
        self.address = underlay.address
        self.fleet.tell(self.node())


class Fleet:
    """Some hosts and the world outside, on one bridge."""

    def __init__(self, count: int) -> None:
        self.bridge = Namespace("outside")
        self.bridge.run("ip", "link", "add", "bridge", "type", "bridge")
        self.bridge.run("ip", "address", "add", f"{OUTSIDE}/24", "dev", "bridge")
        self.bridge.run("ip", "link", "set", "bridge", "up")
        self.hosts = [OverlayHost(number, self) for number in range(1, count + 1)]
        for host in self.hosts:
            host.plug()

    def tell(self, node: core_v1.Node) -> None:
        for host in self.hosts:
            host.hear(node)

    def start(self, settings: OverlaySettings = OverlaySettings()) -> None:
        """Run every overlay, and wait until every pod network has a route on every other host."""
        for host in self.hosts:
            self.tell(host.node())
        for host in self.hosts:
            host.start(settings)
        expect_soon(self.settled, 60, "every host has routes to all others")

    def settled(self) -> bool:
        return all(host.state is not None and routes(host) == self.expected(host) for host in self.hosts)

    def expected(self, host: OverlayHost) -> list[str]:
        return sorted(other.cidr for other in self.hosts if other is not host)

    def close(self) -> None:
        for host in self.hosts:
            host.close()
        self.bridge.close()


@contextlib.contextmanager
def a_fleet(count: int) -> Iterator[Fleet]:
    fleet = Fleet(count)
    try:
        yield fleet
    finally:
        fleet.close()


def a_node_at(name: str, cidr: str, address: str, *, ready: bool = True) -> core_v1.Node:
    """A node as the masters show it; older ones have lower names."""
    conditions = [core_v1.NodeCondition(type="Ready", status="True" if ready else "Unknown")]
    return core_v1.Node(
        metadata=meta_v1.ObjectMeta(name=name, uid=name, creationTimestamp="2026-01-01T00:00:00Z"),
        spec=core_v1.NodeSpec(podCIDR=cidr, podCIDRs=[cidr] if cidr else []),
        status=core_v1.NodeStatus(
            addresses=[core_v1.NodeAddress(type="InternalIP", address=address)], conditions=conditions
        ),
    )


def routes(host: OverlayHost) -> list[str]:
    """The ranges of other hosts' pods that this host has routes of ours to."""
    lines = host.namespace.run("ip", "route", "show", "proto", "66").splitlines()
    return sorted(line.split()[0] for line in lines if not line.startswith("unreachable"))


def send(sender: Namespace, receiver: Namespace, address: str, size: int) -> str:
    """One UDP packet of `size` bytes, headers included, that may not be cut, again until it comes; from which address
    it came.
    """
    with receiver.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as inbox:
        inbox.bind(("0.0.0.0", 0))
        inbox.settimeout(1)
        with sender.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as outbox:
            # IP_MTU_DISCOVER, IP_PMTUDISC_DO.
            outbox.setsockopt(socket.IPPROTO_IP, 10, 2)
            for _ in range(30):
                outbox.sendto(b"x" * (size - 28), (address, inbox.getsockname()[1]))
                with contextlib.suppress(TimeoutError):
                    data, caller = inbox.recvfrom(1 << 16)
                    assert len(data) == size - 28
                    return str(caller[0])
    raise TimeoutError(f"no packet of {size} bytes came to {address}")


def stream(sender: Namespace, receiver: Namespace, address: str, amount: int) -> int:
    """Send so many bytes by TCP; how many arrived."""
    with receiver.call(lambda: socket.create_server(("0.0.0.0", 0))) as server:
        server.settimeout(30)

        def push() -> None:
            with socket.create_connection((address, server.getsockname()[1]), timeout=30) as out:
                out.sendall(bytes(amount))

        thread = threading.Thread(target=lambda: sender.call(push), daemon=True)
        thread.start()
        connection, _ = server.accept()
        arrived = 0
        with connection:
            connection.settimeout(30)
            while part := connection.recv(1 << 16):
                arrived += len(part)
        thread.join(30)
        return arrived


def until_settled(fleet: Fleet, hosts: Sequence[OverlayHost]) -> None:
    expect_soon(lambda: all(routes(host) == fleet.expected(host) for host in hosts), 60, "the routes are back")
