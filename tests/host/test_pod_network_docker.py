"""The pod network beside a dockerd that lives as usual: with its bridge, its rules and its FORWARD DROP."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from barque.network.cleanup import cleanup
from barque.network.iptables.driver import open_iptables
from barque.network.pods.host_ports import PortMapping
from barque.network.pods.network import PodNetwork
from tests.support.expecting import expect_soon
from tests.support.host import Host, a_host
from tests.support.host import missing as no_host
from tests.support.namespaces import Namespace, lasting, missing

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(bool(missing() or no_host()), reason=missing() or no_host()),
    pytest.mark.timeout(300),
]

T = TypeVar("T")
NODE_CIDR = "10.244.3.0/24"
A, B = (f"{letter * 8}-1111-4222-8333-444455556666" for letter in "ab")


class Inside(Namespace):
    """The network namespace of a host that is there already."""

    def __init__(self, host: Host) -> None:
        self.name = "host"
        self.descriptor = os.open(f"/proc/{host.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.path = f"/proc/{host.pid}/ns/net"
        self._servers = []


class Harbour:
    """A host where a dockerd comes and goes, and two pods."""

    def __init__(self, host: Host, state_dir: Path) -> None:
        self.host, self.state_dir, self.inside = host, state_dir, Inside(host)
        self.a, self.b = Namespace("a"), Namespace("b")
        self.a.serve(8080)
        self.b.serve(8080)
        self.ip_b = ""
        self.docker: subprocess.Popen[bytes] | None = None

    def start_docker(self) -> None:
        self.docker = self.host.start("dockerd", "--log-level=error")
        expect_soon(lambda: self.host.run("docker", "info", check=False).returncode == 0, 60, "dockerd answers")

    def stop_docker(self) -> None:
        assert self.docker is not None
        pid = int(self.host.run("cat", "/run/docker.pid").stdout)
        self.host.run("kill", str(pid))
        expect_soon(lambda: self.host.run("docker", "info", check=False).returncode != 0, 60, "dockerd ends")
        self.docker.wait(90)

    def call(self, story: Callable[[PodNetwork], Coroutine[Any, Any, T]]) -> T:
        """Run a story with the pod network, on the host, as the worker runs it."""

        async def voyage() -> T:
            iptables = await open_iptables(self.state_dir)
            try:
                network = PodNetwork(self.state_dir, iptables)
                await network.start(NODE_CIDR, 1450)
                return await story(network)
            finally:
                iptables.close()

        return self.inside.call(lambda: asyncio.run(voyage()))

    def attach(self) -> None:
        async def story(network: PodNetwork) -> None:
            await network.attach(A, self.a.path, [PortMapping(8000, 8080)])
            self.ip_b = await network.attach(B, self.b.path)

        self.call(story)

    def heal(self) -> None:
        self.call(lambda network: network.heal())

    def works(self) -> None:
        """Pods reach each other, and the host's port its pod, past Docker's FORWARD DROP."""
        assert self.a.ask(self.ip_b, 8080)[0] == "b"
        assert self.b.ask("192.168.77.1", 8000)[0] == "a"

    def rules(self) -> str:
        lines = self.host.run("iptables-save").stdout.splitlines()
        return "\n".join(line.split(" [")[0] for line in lines if not line.startswith("#"))

    def links(self) -> str:
        return lasting(self.host.run("ip", "-o", "link").stdout)

    def close(self) -> None:
        self.a.close()
        self.b.close()
        self.inside.close()


@contextmanager
def a_harbour(folder: Path) -> Iterator[Harbour]:
    with a_host() as host:
        made = Harbour(host, folder / "network")
        try:
            yield made
        finally:
            made.close()


@pytest.fixture
def harbour(tmp_path: Path) -> Iterator[Harbour]:
    with a_harbour(tmp_path) as made:
        yield made


def test_docker_first_then_its_restart_and_its_flush(harbour: Harbour) -> None:
    harbour.start_docker()
    rules, links = harbour.rules(), harbour.links()
    assert ":FORWARD DROP" in rules
    harbour.attach()
    harbour.works()
    # It puts its own jumps first and leaves ours behind its drop.
    harbour.stop_docker()
    harbour.start_docker()
    harbour.heal()
    assert forward(harbour)[0].endswith("-j BARQUE-FORWARD")
    harbour.works()
    harbour.host.run("iptables", "-F")
    harbour.host.run("iptables", "-t", "nat", "-F")
    harbour.heal()
    harbour.works()
    # A restart puts back what was flushed of Docker's own, and a cleanup leaves exactly that.
    harbour.stop_docker()
    harbour.start_docker()
    harbour.inside.call(lambda: asyncio.run(cleanup(harbour.state_dir)))
    assert harbour.rules() == rules
    assert harbour.links() == links


def test_docker_that_comes_later(harbour: Harbour) -> None:
    harbour.attach()
    harbour.works()
    harbour.start_docker()
    harbour.heal()
    assert forward(harbour)[0].endswith("-j BARQUE-FORWARD")
    harbour.works()
    harbour.inside.call(lambda: asyncio.run(cleanup(harbour.state_dir)))
    assert "BARQUE" not in harbour.rules()
    assert "DOCKER" in harbour.rules(), "Docker's own rules stay"
    # It was off when we came, but Docker has found it on and would be cut off without.
    assert harbour.host.run("sysctl", "-n", "net.ipv4.ip_forward").stdout.strip() == "1"


def test_a_running_network_heals_by_itself(harbour: Harbour) -> None:
    harbour.start_docker()
    harbour.attach()

    async def story(network: PodNetwork) -> None:
        running = asyncio.create_task(network.run())
        await asyncio.to_thread(harbour.host.run, "iptables", "-F")
        await asyncio.to_thread(harbour.host.run, "iptables", "-P", "FORWARD", "DROP")
        try:
            await asyncio.to_thread(
                expect_soon, lambda: harbour.a.ask(harbour.ip_b, 8080, 1)[0] == "b", 30, "traffic flows again"
            )
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    harbour.call(story)
    assert forward(harbour)[0].endswith("-j BARQUE-FORWARD")


def forward(harbour: Harbour) -> list[str]:
    return [line for line in harbour.rules().splitlines() if line.startswith("-A FORWARD")]
