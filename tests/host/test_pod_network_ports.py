"""Ports of the host that lead to pods, in a real kernel."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from barque.network.cleanup import cleanup
from barque.network.iptables.driver import Iptables, IptablesError, Mode
from barque.network.pods.host_ports import PortMapping, PortTakenError
from barque.network.pods.network import PodNetwork
from tests.support.expecting import expect_soon
from tests.support.namespaces import (
    HOST_ADDRESS,
    OUTSIDE_ADDRESS,
    Namespace,
    a_host_with_an_outside,
    like_docker,
    links,
    missing,
    saved,
)
from tests.support.sctp import deliver_sctp

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(missing()), reason=missing())]

NODE_CIDR = "10.244.3.0/24"
A, B = (f"{letter * 8}-1111-4222-8333-444455556666" for letter in "ab")
SECOND_ADDRESS = "192.168.77.11"
WEB = (PortMapping(8000, 8080), PortMapping(8000, 8080, "UDP"))


class Ship:
    """A host with two pods that serve port 8080, not attached yet."""

    def __init__(self, host: Namespace, outside: Namespace, mode: Mode, state_dir: Path) -> None:
        self.host, self.outside, self.mode, self.state_dir = host, outside, mode, state_dir
        self.a, self.b = Namespace("a"), Namespace("b")
        self.a.serve(8080)
        self.b.serve(8080)

    def sail(self, story: Callable[[PodNetwork], Awaitable[None]]) -> None:
        """Run the story with a pod network that has just started."""

        async def voyage() -> None:
            async with self.network() as network:
                await story(network)

        self.host.call(lambda: asyncio.run(voyage()))

    @contextlib.asynccontextmanager
    async def network(self) -> AsyncIterator[PodNetwork]:
        network = PodNetwork(self.state_dir, iptables=Iptables(self.mode))
        await network.start(NODE_CIDR, 1450)
        yield network


@pytest.fixture(params=["nft", "legacy"])
def ship(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ship]:
    with a_host_with_an_outside() as (host, outside):
        host.run("ip", "address", "add", f"{SECOND_ADDRESS}/24", "dev", "uplink")
        like_docker(host, request.param)
        made = Ship(host, outside, request.param, tmp_path / "network")
        try:
            yield made
        finally:
            made.a.close()
            made.b.close()


async def ask(caller: Namespace, address: str, port: int = 8000) -> tuple[str, str]:
    return await asyncio.to_thread(caller.ask, address, port)


async def ask_udp(caller: Namespace, address: str, port: int = 8000, source_port: int = 0) -> tuple[str, str]:
    return await asyncio.to_thread(caller.ask_udp, address, port, source_port=source_port)


def test_a_host_port_leads_to_its_pod_from_everywhere(ship: Ship) -> None:
    async def story(network: PodNetwork) -> None:
        ip_a = await network.attach(A, ship.a.path, WEB)
        ip_b = await network.attach(B, ship.b.path)
        for address in (HOST_ADDRESS, SECOND_ADDRESS):
            # Who calls is seen as who they are.
            assert await ask(ship.outside, address) == ("a", OUTSIDE_ADDRESS)
            assert await ask_udp(ship.outside, address) == ("a", OUTSIDE_ADDRESS)
            assert await ask(ship.b, address) == ("a", ip_b)
            assert (await ask(ship.host, address))[0] == "a"
            # The pod itself, and the loopback, could not be answered otherwise than through the host.
            assert await ask(ship.a, address) == ("a", HOST_ADDRESS)
            assert await ask_udp(ship.a, address) == ("a", HOST_ADDRESS)
        assert await ask(ship.host, "127.0.0.1") == ("a", HOST_ADDRESS)
        assert await ask_udp(ship.host, "127.0.0.1") == ("a", HOST_ADDRESS)
        assert ip_a == "10.244.3.2"

    ship.sail(story)


def test_a_port_of_one_address_is_that_addresss_alone(ship: Ship) -> None:
    async def story(network: PodNetwork) -> None:
        await network.attach(A, ship.a.path, [PortMapping(8000, 8080, host_ip=HOST_ADDRESS)])
        await network.attach(B, ship.b.path, [PortMapping(8000, 8080, host_ip=SECOND_ADDRESS)])
        assert (await ask(ship.outside, HOST_ADDRESS))[0] == "a"
        assert (await ask(ship.outside, SECOND_ADDRESS))[0] == "b"
        with pytest.raises(ConnectionRefusedError):
            await ask(ship.host, "127.0.0.1")

    ship.sail(story)


def test_sctp_is_carried_too(ship: Ship) -> None:
    async def story(network: PodNetwork) -> None:
        await network.attach(A, ship.a.path, [PortMapping(8000, 8080, "SCTP")])
        arrived = await asyncio.to_thread(deliver_sctp, ship.outside, HOST_ADDRESS, 8000, ship.a)
        assert arrived == (OUTSIDE_ADDRESS, 8080)

    ship.sail(story)


def test_no_pod_reaches_the_hosts_loopback(ship: Ship) -> None:
    """A program that trusts its loopback must not hear a pod whose link may carry answers to it."""

    def listen() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind(("127.0.0.1", 9000))
        made.settimeout(0.5)
        return made

    def shout() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"hello", ("127.0.0.1", 9000))

    async def story(network: PodNetwork) -> None:
        await network.attach(A, ship.a.path, WEB)
        # As root of its own namespace a pod can send such packets.
        ship.a.run("ip", "address", "del", "127.0.0.1/8", "dev", "lo")
        await asyncio.to_thread(ship.a.call, shout)
        with pytest.raises(TimeoutError):
            await asyncio.to_thread(server.recv, 100)

    def counted() -> bool:
        shown = ship.host.iptables(ship.mode, "-nvL", "BARQUE-LOOPBACK")
        return any(line.split()[0] != "0" for line in shown.splitlines()[2:])

    server = ship.host.call(listen)
    try:
        ship.sail(story)
        expect_soon(counted, 30, "the pod's packet comes that far")
    finally:
        server.close()


def test_a_taken_port_is_refused_and_the_pod_that_has_it_untouched(ship: Ship) -> None:
    async def story(network: PodNetwork) -> None:
        await network.attach(A, ship.a.path, WEB)
        with pytest.raises(
            PortTakenError, match=r"host port 192\.168\.77\.10:8000/TCP is already used by pod aaaaaaaa-"
        ):
            await network.attach(B, ship.b.path, [PortMapping(8000, 8080, host_ip=HOST_ADDRESS)])
        assert set(network.addresses()) == {A}
        assert (await ask(ship.outside, HOST_ADDRESS))[0] == "a"
        await network.detach(A)
        with pytest.raises(ConnectionRefusedError):
            await ask(ship.outside, HOST_ADDRESS)
        await network.attach(B, ship.b.path, WEB)
        assert (await ask(ship.outside, HOST_ADDRESS))[0] == "b"

    ship.sail(story)


def test_ports_outlive_the_worker_and_go_with_their_pod(ship: Ship) -> None:
    async def story(network: PodNetwork) -> None:
        await network.attach(A, ship.a.path, WEB)
        before = await asyncio.to_thread(saved, ship.host, ship.mode)
        ship.host.iptables(ship.mode, "-t", "nat", "-F", "BARQUE-HOSTPORTS")
        async with ship.network() as again:
            assert await asyncio.to_thread(saved, ship.host, ship.mode) == before
            assert (await ask(ship.outside, HOST_ADDRESS))[0] == "a"
            await again.attach(A, ship.a.path, WEB)
            # The pod has gone while nobody looked.
            await again.retain(set())
        with pytest.raises(ConnectionRefusedError):
            await ask(ship.outside, HOST_ADDRESS)
        assert "8000" not in await asyncio.to_thread(saved, ship.host, ship.mode)

    ship.sail(story)


def test_what_could_not_be_written_is_written_by_the_next_call(ship: Ship) -> None:
    async def story(network: PodNetwork) -> None:
        real, network._iptables.restore = network._iptables.restore, _refuse  # type: ignore[method-assign]
        with pytest.raises(IptablesError):
            await network.attach(A, ship.a.path, WEB)
        network._iptables.restore = real  # type: ignore[method-assign]
        await network.attach(A, ship.a.path, WEB)
        assert (await ask(ship.outside, HOST_ADDRESS))[0] == "a"

    ship.sail(story)


async def _refuse(text: str) -> None:
    raise IptablesError("the lock is held")


def test_a_udp_flow_moves_with_its_port(ship: Ship) -> None:
    async def story(network: PodNetwork) -> None:
        await network.attach(A, ship.a.path, WEB)
        # Always the same source port: for the kernel it is one and the same flow.
        assert (await ask_udp(ship.outside, HOST_ADDRESS, source_port=40000))[0] == "a"
        await network.detach(A)
        await network.attach(B, ship.b.path, WEB)
        assert (await ask_udp(ship.outside, HOST_ADDRESS, source_port=40000))[0] == "b"

    ship.sail(story)


@pytest.mark.parametrize("blow", [["-t", "nat", "-F"], ["-t", "nat", "-D", "PREROUTING", "1"], ["-F"]], ids=" ".join)
def test_what_others_flush_is_healed(ship: Ship, blow: list[str]) -> None:
    async def story(network: PodNetwork) -> None:
        await network.attach(A, ship.a.path, WEB)
        await network.heal()
        whole = ours(ship)
        ship.host.iptables(ship.mode, *blow)
        assert ours(ship) != whole
        await network.heal()
        assert ours(ship) == whole
        assert (await ask(ship.outside, HOST_ADDRESS))[0] == "a"

    ship.sail(story)


def ours(ship: Ship) -> list[str]:
    return [line for line in saved(ship.host, ship.mode).splitlines() if "BARQUE" in line]


def test_cleanup_leaves_the_host_as_it_was(ship: Ship) -> None:
    rules, devices = saved(ship.host, ship.mode), links(ship.host)

    async def story(network: PodNetwork) -> None:
        await network.attach(A, ship.a.path, WEB)

    ship.sail(story)
    ship.host.call(lambda: asyncio.run(cleanup(ship.state_dir)))
    assert saved(ship.host, ship.mode) == rules
    assert links(ship.host) == devices
