"""`barque port-forward` on loopback: many connections, each with its own fate; and what cannot be forwarded."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
import time
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

import pytest

from barque.api.errors import bad_request
from barque.api.types import core_v1 as v1
from barque.proto import pods_pb2 as pb
from tests.support.builders import PodBuilder
from tests.support.ports import free_port
from tests.support.registry_cluster import RegistryCluster, run

TIMEOUT_S = 90


class EchoingPods:
    """Answers in capitals once the caller has ended; port 81 is closed."""

    def __init__(self) -> None:
        self.starts: list[tuple[str, int]] = []

    async def PortForward(self, inputs: AsyncIterator[Any]) -> AsyncIterator[Any]:
        start = (await anext(inputs)).start
        self.starts.append((start.pod, start.port))
        if start.port == 81:
            raise bad_request("error forwarding port 81 to pod web: connection refused")
        yield pb.PortForwardOutput(connected=True)
        heard = b""
        async for message in inputs:
            if message.WhichOneof("input") == "end":
                break
            heard += message.data
        for at in range(0, len(heard), 10_000):
            yield pb.PortForwardOutput(data=heard[at : at + 10_000].upper())
        yield pb.PortForwardOutput(end=True)


def a_cluster() -> tuple[RegistryCluster, EchoingPods]:
    pod = PodBuilder("web", "default").labelled(app="web").on("n1").running().build()
    pod.spec.containers[0].ports = [
        v1.ContainerPort(name="http", containerPort=80),
        v1.ContainerPort(name="dns", containerPort=53, protocol="UDP"),
    ]
    service = v1.Service(
        spec=v1.ServiceSpec(
            selector={"app": "web"},
            ports=[
                v1.ServicePort(name="page", port=8000, targetPort="http"),
                v1.ServicePort(name="names", port=53, targetPort=53, protocol="UDP"),
            ],
        )
    )
    service.metadata.name, service.metadata.namespace = "web", "default"
    cluster = RegistryCluster(pod, service)
    pods = EchoingPods()
    cluster.pods = pods
    return cluster, pods


def ask(port: int, words: bytes) -> bytes:
    end = time.monotonic() + TIMEOUT_S
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as connection:
                connection.sendall(words)
                connection.shutdown(socket.SHUT_WR)
                return b"".join(iter(lambda: connection.recv(65536), b""))
        except (ConnectionResetError, BrokenPipeError):
            # It was closed before all was said.
            return b""
        except ConnectionRefusedError:
            assert time.monotonic() < end
            time.sleep(0.02)
        except OSError as error:
            if error.errno == errno.ENOTCONN:
                # It was closed between the saying and the end of it.
                return b""
            raise


def forwarding(cluster: RegistryCluster, callers: list[threading.Thread], *arguments: str) -> Any:
    """Forward until the callers are done, then Ctrl-C."""

    async def done() -> None:
        while any(caller.is_alive() for caller in callers):
            await asyncio.sleep(0.01)

    cluster.on_idle.append(done)
    for caller in callers:
        caller.start()
    return run(cluster, "port-forward", *arguments)


def test_many_connections_through_two_ports() -> None:
    cluster, pods = a_cluster()
    ports = [free_port(), free_port()]
    answers: dict[int, bytes] = {}

    def call(number: int) -> None:
        answers[number] = ask(ports[number % 2], b"ship %d " % number * 5000)

    callers = [threading.Thread(target=call, args=(number,)) for number in range(30)]
    result = forwarding(cluster, callers, "web", f"{ports[0]}:http", f"{ports[1]}:8443", "--address=127.0.0.1")
    assert result.exit_code == 130
    assert answers == {number: b"SHIP %d " % number * 5000 for number in range(30)}
    assert sorted(pods.starts) == [("web", 80)] * 15 + [("web", 8443)] * 15
    first, second, *handled = result.stdout.splitlines()
    assert first == f"Forwarding from 127.0.0.1:{ports[0]} -> 80"
    assert second == f"Forwarding from 127.0.0.1:{ports[1]} -> 8443"
    assert sorted(handled) == sorted(f"Handling connection for {port}" for port in ports * 15)


def test_a_closed_port_concerns_its_own_connection_alone() -> None:
    cluster, _ = a_cluster()
    good, bad = free_port(), free_port()
    answers: list[bytes] = []
    words = ((bad, b"x"), (good, b"still"), (bad, b"y"))
    callers = [threading.Thread(target=lambda: answers.extend([ask(*each) for each in words]))]
    result = forwarding(cluster, callers, "pod/web", f"{good}:80", f"{bad}:81", "--address=127.0.0.1")
    assert answers == [b"", b"STILL", b""]
    refused = (
        f"error: an error occurred forwarding {bad} -> 81: error forwarding port 81 to pod web: connection refused"
    )
    assert result.stderr.splitlines() == [refused] * 2


def test_a_service_leads_to_its_pods_port_and_a_port_may_be_any() -> None:
    cluster, _ = a_cluster()
    result = forwarding(cluster, [], "service/web", ":page", "--address=127.0.0.1")
    assert result.stdout.startswith("Forwarding from 127.0.0.1:")
    assert result.stdout.endswith(" -> 80\n")


def test_the_end_of_the_pod_is_the_end() -> None:
    cluster, _ = a_cluster()
    cluster.on_idle.append(lambda: cluster.remove("pods", "web"))
    result = run(cluster, "port-forward", "web", ":80", "--address=127.0.0.1")
    assert (result.stderr, result.exit_code) == ("error: lost connection to pod\n", 1)


def test_ports_that_are_taken() -> None:
    cluster, _ = a_cluster()
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        result = run(cluster, "port-forward", "web", f"{port}:80", "--address=127.0.0.1")
        assert result.exit_code == 1
        assert (
            f"Unable to listen on port {port}: Listeners failed to create with the following errors: " in result.stderr
        )
        assert result.stderr.endswith(f"error: unable to listen on any of the requested ports: [{{{port} 80}}]\n")
        kept = forwarding(cluster, [], "web", f"{port}:80", ":81", "--address=127.0.0.1")
        assert kept.exit_code == 130
        assert kept.stdout.endswith(" -> 81\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["web"], "TYPE/NAME and list of ports are required for port-forward"),
        (["web", "x:80"], "Error parsing local port 'x': it is not a port"),
        (["web", "70000"], "Error parsing remote port '70000': it is not a port"),
        (["web", "80:"], "Invalid port format '80:'"),
        (["web", "nope"], "Pod 'web' does not have a named port 'nope'"),
        (["web", "53"], "UDP protocol is not supported for 53"),
        (["service/web", "81"], "Service web does not have a service port 81"),
        (["service/web", "names"], "UDP protocol is not supported for 53"),
    ],
)
def test_what_cannot_be_forwarded_is_said(arguments: list[str], words: str) -> None:
    cluster, _ = a_cluster()
    result = run(cluster, "port-forward", *arguments)
    assert (result.stderr, result.exit_code) == (f"error: {words}\n", 1)
