"""Three real masters on loopback, and what creates through the API of their leader cost beside one master alone."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from barque.proto import cluster_pb2
from tests.bench import cargo
from tests.bench.generator import CONNECTIONS, Generator, ensure_node
from tests.bench.master import Master

_TIMEOUT_S = 60.0
_POLL_S = 0.05


@contextlib.contextmanager
def three_masters() -> Iterator[list[Master]]:
    """Masters that vote; the first founded the cluster, and leads."""
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(Master())
        masters = [first]
        for number in (2, 3):
            master = Master(name=f"bench-{number}")
            stack.callback(master.remove)
            _join(master, first)
            stack.enter_context(master)
            masters.append(master)
        _await_voters(first, len(masters))
        yield masters


def creates(rounds: int, seconds: float) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Creates a second by 64 at once of ConfigMaps and of pods: with one master, and with three. The two take turns."""
    ensure_node()
    with Master() as alone, three_masters() as masters:
        of: list[dict[str, list[float]]] = []
        generators = [Generator(alone.admin), Generator(masters[0].admin)]
        for master, generator in zip((alone, masters[0]), generators, strict=True):
            of.append({kind: [] for kind in _bodies(generator)})
            _warm_up(master, generator)
        for _ in range(rounds):
            for master, generator, measured in zip((alone, masters[0]), generators, of, strict=True):
                for kind, body in _bodies(generator).items():
                    measured[kind].append(_create(master, generator, body, seconds))
        return of[0], of[1]


def _bodies(generator: Generator) -> dict[str, Any]:
    configmap = cargo.create_message("configmaps", cargo.configmap("cm-", generate=True))
    pod = cargo.create_message("pods", cargo.small_pod("pod-", generate=True))
    return {"configmap": generator.body(configmap), "pod": generator.body(pod)}


def _create(master: Master, generator: Generator, body: Any, seconds: float) -> float:
    run = generator.run(
        "calls", master.grpc_port, master=master, path="/barque.v1.Resources/Create", body=body, seconds=seconds,
        concurrency=64, connections=CONNECTIONS,
    )  # fmt: skip
    return run["per_s"]


def _warm_up(master: Master, generator: Generator) -> None:
    for body in _bodies(generator).values():
        _create(master, generator, body, 0.5)


def _join(master: Master, first: Master) -> None:
    """Lay the directory of one more master with a token of the first one's."""

    async def token() -> cluster_pb2.CreateJoinTokenReply:
        async with first.connection() as connection:
            return await connection.cluster.CreateJoinToken(cluster_pb2.CreateJoinTokenRequest(for_master=True))

    made = asyncio.run(token())
    argv = [
        *(sys.executable, "-m", "barque.cli", "master", "join", f"127.0.0.1:{first.https_port}"),
        *("--token", made.token, "--ca-pin", made.ca_pin, *master.site, "--profile", str(master.directory / "profile")),
    ]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, timeout=_TIMEOUT_S)


def _await_voters(first: Master, count: int) -> None:
    async def voters() -> int:
        async with first.connection() as connection:
            said = await connection.cluster.Status(cluster_pb2.StatusRequest())
        return sum(member.voter for member in said.members)

    deadline = time.monotonic() + _TIMEOUT_S
    while asyncio.run(voters()) < count:
        if time.monotonic() > deadline:
            raise RuntimeError("the masters that joined do not become voters")
        time.sleep(_POLL_S)
