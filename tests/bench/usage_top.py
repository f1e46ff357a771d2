"""`top pods -A` of 1,000 nodes with 30 pods each: from asking a master over gRPC to the table, process start excluded.

The master is the real registry behind the real door, in a process of its own, on a store in memory with 30,000 real
pods; each node's sample has been taken as if its worker had sent it. The client is the command's own code.

Run by itself it prints the figures; `python -m tests.bench.usage_top serve DIRECTORY` is the master's process.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import gc
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from barque.api import codec, resources
from barque.api.types.core_v1 import Node, Pod
from barque.api.types.meta_v1 import ObjectMeta
from barque.cli import usage as shown
from barque.client.clock import SystemClock
from barque.client.profile import Profile
from barque.client.remote import Connection, connect
from barque.client.usage import ContainerUsage, NodeUsage, PodUsage, encode
from barque.client.verbs import Target
from barque.master.apiserver.cluster_service import ClusterService, ClusterState
from barque.master.apiserver.grpc_server import serve
from barque.master.apiserver.node_channels import dialer
from barque.master.apiserver.registry import Registry
from barque.master.apiserver.sessions import Sessions
from barque.master.apiserver.settings import ApiSettings
from barque.master.auth.ca import MasterPki
from barque.master.auth.tokens import JoinTokens
from barque.master.stalls import StallMonitor
from barque.master.store.port import Key, Op
from barque.master.usage.table import UsageTable
from barque.master.usage.view import UsageView
from tests.support.full_pod import full_document
from tests.support.memory_store import MemoryEvents, MemoryStore

NODES, PODS = 1000, 30
ROUNDS = 5
START_TIMEOUT_S = 120.0
MI = 1024 * 1024


async def measure() -> dict[str, float]:
    """`ms` is the whole, the median of `ROUNDS`; `list_ms` and `table_ms` what of it went by until the list was there
    and from then on; `held_ms` how long the master's loop was held at most; `take_ms` what a sample of 30 pods cost it.
    """
    with tempfile.TemporaryDirectory() as directory:
        async with _a_master(Path(directory)) as (connection, told):
            await _one_round(connection)
            rounds = [await _one_round(connection) for _ in range(ROUNDS)]
            figures = json.loads(await told())
    listed, whole, rows = (statistics.median(column) for column in zip(*rounds, strict=True))
    assert rows == NODES * PODS + 1
    return {
        "ms": whole,
        "list_ms": listed,
        "table_ms": whole - listed,
        "held_ms": figures["held_ms"],
        "take_ms": figures["take_ms"],
    }


async def _one_round(connection: Connection) -> tuple[float, float, int]:
    """When the list was there, when the table was (ms after asking), and its lines."""
    gc.collect()
    target = Target(resources.by_plural("metrics.k8s.io", "pods"))
    began = time.perf_counter()
    listed = await connection.verbs.list(target)
    there = time.perf_counter()
    table = shown.pod_table(shown.in_order(shown.read_pods(listed.items), ""), namespaces=True)
    done = time.perf_counter()
    return (there - began) * 1000, (done - began) * 1000, table.count("\n")


@contextlib.asynccontextmanager
async def _a_master(directory: Path) -> AsyncIterator[tuple[Connection, Any]]:
    """A connection to a master in a process of its own, and what it says of itself when it is told to end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.usage_top", "serve", str(directory),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None

    async def told() -> bytes:
        process.stdin.close()  # type: ignore[union-attr]
        return await process.stdout.readline()  # type: ignore[union-attr]

    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            port = int(await process.stdout.readline())
        pki = MasterPki.open(directory / "pki", "m1", ["127.0.0.1"], datetime.datetime.now(datetime.UTC))
        async with connect(Profile.of([f"127.0.0.1:{port}"], pki.admin)) as connection:
            yield connection, told
    finally:
        process.stdin.close()
        await process.wait()


async def _serve(directory: Path) -> None:
    """The master: says its port, serves until its input ends, then says how it went."""
    clock = SystemClock()
    pki = MasterPki.open(directory / "pki", "m1", ["127.0.0.1"], clock.wall())
    store = MemoryStore(clock)
    await _furnish(store)
    table = UsageTable(store, clock)
    take_ms = _feed(table)
    events = MemoryEvents(MemoryStore(clock), "bus")
    views = {"usage": UsageView(store, table)}
    registry = Registry(store, events, ApiSettings(), clock, random.Random(1), views=views)
    stalls = StallMonitor(clock)
    state = ClusterState("bench", list, list, lambda: 0, stalls.figures)
    door = await serve(
        registry,
        address="127.0.0.1:0",
        credentials=pki.master.server_credentials(),
        sessions=Sessions(clock),
        cluster=ClusterService(state, store, JoinTokens(None, clock), pki, clock),  # type: ignore[arg-type]
        dial=dialer(lambda: pki.master),
    )
    gc.freeze()
    watching = asyncio.create_task(stalls.run())
    print(door.port, flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    watching.cancel()
    print(json.dumps({"held_ms": stalls.figures().max_ms, "take_ms": take_ms}), flush=True)
    await door.stop(0)


async def _furnish(store: MemoryStore) -> None:
    """The nodes and the pods bound to them, as the masters keep such."""
    for node in _names():
        json, slot = codec.encode_slotted(Node(metadata=ObjectMeta(name=node, uid=f"uid-{node}")))
        await store.commit([Op("put", Key("nodes", "", node), json, slot)])
        await store.commit([_pod(node, number) for number in range(PODS)])


def _pod(node: str, number: int) -> Op:
    document = full_document()
    document["metadata"] = {
        "name": _pod_name(node, number),
        "namespace": f"team-{number % 5}",
        "uid": _uid(node, number),
        "labels": {"app": "web", "pod-template-hash": "5d9c7b64d"},
    }
    document["spec"]["nodeName"] = node
    pod = codec.from_document(Pod, document)
    json, slot = codec.encode_slotted(pod)
    key = Key("pods", pod.metadata.namespace, pod.metadata.name)
    return Op("put", key, json, slot, pod.metadata.labels, {"spec.nodeName": node, "status.phase": "Running"})


def _feed(table: UsageTable) -> float:
    """Every node's sample; how long one took (ms)."""
    chance = random.Random(1)
    samples = {node: encode(_sample(node, chance)) for node in _names()}
    began = time.perf_counter()
    for node, sample in samples.items():
        assert table.take(node, sample)
    return (time.perf_counter() - began) * 1000 / NODES


def _sample(node: str, chance: random.Random) -> NodeUsage:
    pods = [
        PodUsage(f"team-{number % 5}", _pod_name(node, number), _uid(node, number), [_container(chance)])
        for number in range(PODS)
    ]
    return NodeUsage(10.003, chance.randrange(8 * 10**9), chance.randrange(32 * 1024) * MI, 0, pods)


def _container(chance: random.Random) -> ContainerUsage:
    return ContainerUsage("main", chance.randrange(2 * 10**9), chance.randrange(1 << 20) * 4096)


def _names() -> list[str]:
    return [f"node-{number:04}" for number in range(NODES)]


def _pod_name(node: str, number: int) -> str:
    return f"web-{node}-5d9c7b64d-{number:05}"


def _uid(node: str, number: int) -> str:
    return f"0d3f6a1c-2b7e-4c55-9f00-{node[-4:]}{number:08}"


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(_serve(Path(sys.argv[2])))
    else:
        for figure, value in asyncio.run(measure()).items():
            print(f"{figure:10} {value:8.2f}")
