"""`make bench BENCH=api`: the speed and the memory of one master, over gRPC with mutual TLS, on loopback.

Calls come from a generator on Node (`load/`), whose share of a core stands beside each figure: where it is the slower
of the two, the figure is only a bound of Barque's own. Figures are medians of rounds that alternate with the peers of
the same run (`peers`). Pods name a scheduler of their own, so that the API is measured and not who would bind them.
Parts may be named to run those alone: `python -m tests.bench.api calls memory`.
"""

from __future__ import annotations

import asyncio
import datetime
import functools
import operator
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from barque.api.types.core_v1 import Namespace
from barque.api.types.meta_v1 import ObjectMeta
from barque.client.pki import node_subject
from barque.proto import resources_pb2
from tests.bench import cargo, peers, report
from tests.bench.generator import CONNECTIONS, COUNT, NODE, Generator, Measured, ensure_node, tls
from tests.bench.master import Master, Stalls
from tests.bench.report import median, publish, spread

ROUNDS = 3
ROUND_S = 2.0
STARTS = 3
PUBLICATIONS = 100
NODES = 1000
BINDS_PER_S = 500
BINDS = 3000
LISTS = 15
PODS = 5000
# The cluster whose memory and start are measured: as large as the one that Kubernetes was measured with.
CONFIGMAPS = 53_500
CHURNED = 50_000
CHURN_WAVE = 5_000
# What garbage there is has been collected, and freed memory given back, by then.
SETTLE_S = 3.0

GOALS = {
    "create_configmap_c64_per_s": ">= 1600",
    "create_pod_c64_per_s": ">= 1300",
    "create_pod_c1_p50_ms": "<= 2.5",
    "get_pod_c64_per_s": ">= 3000",
    "list_5000_pods_p50_ms": "<= 60",
    "watch_1_p50_ms": "<= 3",
    "watch_100_p50_ms": "ratio <= 1.3",
    "watch_1000_nodes_p99_ms": "<= 50",
    "rss_idle_mib": "<= 110",
    "rss_loaded_mib": "<= 320",
    "rss_churned_mib": "<= 350",
    "start_empty_ms": "<= 1000",
    "start_loaded_ms": "<= 2500",
    "delete_5000_pods_s": "<= 3",
    "cli_get_pods_ms": "<= 350",
    "loop_stall_p999_ms": "<= 20",
    "loop_stall_max_ms": "<= 100",
}

_RESOURCES = "/barque.v1.Resources"


class Bench(report.Bench):
    """The figures so far, and how the master's event loop did."""

    def __init__(self) -> None:
        super().__init__(GOALS)
        self.stalls: dict[str, list[Stalls]] = {}

    def stop(self, part: str, master: Master) -> None:
        """Stop the master and note how its event loop did."""
        master.stop()
        self.stalls.setdefault(part, []).append(master.stalls())


def measure_empty(bench: Bench) -> None:
    """Starts with nothing there, and the memory of a master that has nothing to do."""
    starts = []
    for _ in range(STARTS):
        with Master() as master:
            starts.append(master.start_ms)
            if len(starts) == STARTS:
                time.sleep(SETTLE_S)
                bench.add("start_empty_ms", median(starts), "ms", f"runs {spread(starts)}")
                bench.add("rss_idle_mib", master.rss_mib(), "MiB", f"nats-server beside it {master.bus_rss_mib():.0f}")
            bench.stop("empty", master)


def measure_calls(bench: Bench) -> None:
    """Creates and reads, in rounds with an echo of the same bytes."""
    with Master() as master, peers.Peer(master.pki) as peer, Generator(master.admin) as generator:
        configmap = generator.body(cargo.create_message("configmaps", cargo.configmap("cm-", generate=True)))
        pod = generator.body(cargo.create_message("pods", cargo.small_pod("pod-", generate=True)))
        asyncio.run(_create_one_pod(master))
        get = resources_pb2.GetRequest(target=cargo.wire_target("pods", "default", "one"))
        plans: dict[str, tuple[str, Any, int]] = {
            "echo": (peers.ECHO, configmap, 64),
            "create_configmap_c64_per_s": (f"{_RESOURCES}/Create", configmap, 64),
            "create_pod_c64_per_s": (f"{_RESOURCES}/Create", pod, 64),
            "get_pod_c64_per_s": (f"{_RESOURCES}/Get", generator.body(get.SerializeToString()), 64),
            "create_pod_c1_p50_ms": (f"{_RESOURCES}/Create", pod, 1),
        }
        rounds: dict[str, list[Measured]] = {name: [] for name in plans}
        for _ in range(ROUNDS):
            for name, (path, body, concurrency) in plans.items():
                where = {"port": peer.port} if name == "echo" else {"port": master.grpc_port, "master": master}
                rounds[name].append(
                    generator.run(
                        "calls", **where, path=path, body=body, seconds=ROUND_S,
                        concurrency=concurrency, connections=min(concurrency, CONNECTIONS),
                    )
                )  # fmt: skip
        echo = median([m["per_s"] for m in rounds["echo"]])
        bench.add("echo_c64_per_s", echo, "/s", _remark(rounds["echo"], "per_s"))
        for name in GOALS.keys() & plans.keys():
            of = "p50" if name.endswith("_ms") else "per_s"
            value = median([m[of] for m in rounds[name]])
            remark = _remark(rounds[name], of)
            if of == "p50":
                bench.add(name, value, "ms", remark)
            else:
                bench.add(name, value, "/s", remark, against="echo", floor=echo)
        bench.stop("calls", master)


def measure_watches(bench: Bench) -> None:
    """From a create sent to the change seen, by one and by a hundred watchers, beside a bare fan-out."""
    with Master() as master, peers.Peer(master.pki) as peer, Generator(master.admin) as generator:
        asyncio.run(_create_namespace(master, "watched"))
        request = resources_pb2.WatchRequest(target=cargo.wire_target("configmaps", "watched"), bookmarks=True)
        create = cargo.create_message("configmaps", cargo.configmap(f"seen-{COUNT}", "watched"))
        event = asyncio.run(_event_of(master, "watched"))
        ours: dict[str, Any] = {
            "watch": {"path": f"{_RESOURCES}/Watch", "body": generator.body(request.SerializeToString())},
            "publish": {"path": f"{_RESOURCES}/Create", "body": generator.body(create)},
        }
        bare: dict[str, Any] = {
            "watch": {"path": peers.WATCH, "body": generator.body(b"")},
            "publish": {"path": peers.PUBLISH, "body": generator.body(event)},
        }
        first = _numbers(PUBLICATIONS)

        def rounds(port: int, job: dict[str, Any], watchers: int, of: Master | None) -> Measured:
            return generator.run(
                "watches", port, master=of, **job, watchers=watchers, connections=min(watchers, CONNECTIONS),
                mark="seen-", first=next(first), times=PUBLICATIONS, pause_ms=2,
            )  # fmt: skip

        one, hundred, fan_out = [], [], []
        for _ in range(ROUNDS):
            one.append(rounds(master.grpc_port, ours, 1, master))
            fan_out.append(rounds(peer.port, bare, 100, None))
            hundred.append(rounds(master.grpc_port, ours, 100, master))
        bench.add("watch_1_p50_ms", median([m["p50"] for m in one]), "ms", _remark(one, "p50"))
        floor = median([m["p50"] for m in fan_out])
        bench.add("fan_out_100_p50_ms", floor, "ms", _remark(fan_out, "p50"))
        value = median([m["p50"] for m in hundred])
        bench.add("watch_100_p50_ms", value, "ms", _remark(hundred, "p50"), against="bare fan-out", floor=floor)
        bench.stop("watches", master)


def measure_nodes(bench: Bench) -> None:
    """A thousand workers, each with its own certificate and connection, watching its own pods while pods are bound."""
    with Master() as master, Generator(master.admin) as generator:
        now, authority = datetime.datetime.now(datetime.UTC), master.authority
        identities = [authority.identity(node_subject(f"node-{n:04}"), now) for n in range(NODES)]
        nodes = [{key: value for key, value in tls(i).items() if key != "ca"} for i in identities]
        watch = resources_pb2.WatchRequest(
            target=cargo.wire_target("pods", ""), field_selector=f"spec.nodeName=node-{NODE}", bookmarks=True
        )
        name = f"pod-{COUNT}"
        binding = {"target": {"apiVersion": "v1", "kind": "Node", "name": f"node-{NODE}"}, "metadata": {"name": name}}
        bind = resources_pb2.CreateRequest(
            target=cargo.wire_target("pods", "default", name, "binding"),
            json=cargo.encode({"apiVersion": "v1", "kind": "Binding", **binding}),
        )
        job: dict[str, Any] = {
            "watch": {"path": f"{_RESOURCES}/Watch", "body": generator.body(watch.SerializeToString())},
            "bind": {"path": f"{_RESOURCES}/Create", "body": generator.body(bind.SerializeToString())},
        }
        names = [f"pod-{n:08}" for n in range(BINDS)]
        asyncio.run(_fill_small_pods(master, names))
        measured = generator.run(
            "binds", master.grpc_port, master=master, **job, nodes=nodes, mark="pod-",
            first=0, times=BINDS, per_s=BINDS_PER_S,
        )  # fmt: skip
        remark = f"p50 {measured['p50']:.1f}, max {measured['max']:.1f}, {measured['per_s']:.0f} binds/s, "
        remark += f"{measured['unseen']:.0f} unseen, {measured.remark}"
        bench.add("watch_1000_nodes_p99_ms", measured["p99"], "ms", remark)
        bench.stop("nodes", master)


def measure_loaded(bench: Bench) -> None:
    """A large cluster: its memory, lists, the CLI, churn, starts, and the end of all its pods."""
    with Master() as master, Generator(master.admin) as generator:
        pods = [f"web-{n:05}" for n in range(PODS)]
        asyncio.run(_fill(master, pods))
        time.sleep(SETTLE_S)
        bench.add("rss_loaded_mib", master.rss_mib(), "MiB", f"{CONFIGMAPS} ConfigMaps, {PODS} pods")
        _list_pods(bench, master, generator)
        _time_cli(bench, master)
        asyncio.run(_churn(master))
        time.sleep(SETTLE_S)
        bench.add("rss_churned_mib", master.rss_mib(), "MiB", f"after {CHURNED} creates and deletes")
        starts = []
        for _ in range(STARTS):
            bench.stop("loaded", master)
            master.start()
            starts.append(master.start_ms)
        bench.add("start_loaded_ms", median(starts), "ms", f"runs {spread(starts)}")
        time.sleep(SETTLE_S)
        bench.add("rss_restarted_mib", master.rss_mib(), "MiB", "the same cluster after a start")
        _delete_pods(bench, master, generator)
        bench.stop("loaded", master)


def _list_pods(bench: Bench, master: Master, generator: Generator) -> None:
    request = resources_pb2.ListRequest(target=cargo.wire_target("pods", "apps"))
    body = generator.body(request.SerializeToString())
    path = f"{_RESOURCES}/List"
    measured = [
        generator.run("answers", master.grpc_port, master=master, path=path, body=body, times=LISTS)
        for _ in range(ROUNDS)
    ]
    said = f"request to last byte of {measured[0]['bytes'] / 1e6:.1f} MB, first byte after "
    said += f"{median([m['first_p50'] for m in measured]):.1f} ms, "
    bench.add("list_5000_pods_p50_ms", median([m["p50"] for m in measured]), "ms", said + _remark(measured, "p50"))


def _time_cli(bench: Bench, master: Master) -> None:
    """The CLI as a user calls it: its start, one list, its table; of one pod, as `kubectl get pods` was measured."""
    path = master.directory / "profile"
    master.profile.save(path)
    asyncio.run(_create_one_pod(master))
    environment = {**os.environ, "BARQUE_CONFIG": str(path)}

    def run(namespace: str) -> float:
        began = time.monotonic()
        argv = [Path(sys.executable).with_name("barque"), "get", "pods", "-n", namespace]
        subprocess.run(argv, check=True, env=environment, stdout=subprocess.DEVNULL)
        return (time.monotonic() - began) * 1000

    run("default")
    samples = [run("default") for _ in range(7)]
    bench.add("cli_get_pods_ms", median(samples), "ms", f"runs {spread(samples)}")
    many = [run("apps") for _ in range(ROUNDS)]
    bench.add("cli_get_5000_pods_ms", median(many), "ms", f"runs {spread(many)}")


def _delete_pods(bench: Bench, master: Master, generator: Generator) -> None:
    request = resources_pb2.DeleteCollectionRequest(target=cargo.wire_target("pods", "apps"))
    body = generator.body(request.SerializeToString())
    path = f"{_RESOURCES}/DeleteCollection"
    measured = generator.run("answers", master.grpc_port, master=master, path=path, body=body, times=1)
    left = asyncio.run(_count_pods(master))
    if left:
        raise RuntimeError(f"{left} pods are left after a deletecollection")
    bench.add("delete_5000_pods_s", measured["p50"] / 1000, "s", measured.remark)


async def _count_pods(master: Master) -> int:
    async with master.client() as client:
        return len((await client.verbs.list(cargo.target("pods", "apps"))).items)


async def _create_namespace(master: Master, name: str) -> None:
    async with master.client() as client:
        await client.create(Namespace(metadata=ObjectMeta(name=name)))


async def _create_one_pod(master: Master) -> None:
    async with master.client() as client:
        await cargo.create(client, "pods", cargo.small_pod("one"))


async def _fill_small_pods(master: Master, names: list[str]) -> None:
    async with master.client() as client:
        await cargo.fill_small_pods(client, names, "default")


async def _fill(master: Master, pods: list[str]) -> None:
    async with master.client() as client:
        await client.create(Namespace(metadata=ObjectMeta(name="apps")))
        await cargo.fill_run_pods(client, pods, "apps")
        await cargo.fill_configmaps(client, [f"settings-{n:06}" for n in range(CONFIGMAPS)], "apps")


async def _churn(master: Master) -> None:
    """Create and delete, wave after wave, so that the cluster is as large as before."""
    async with master.client() as client:
        for start in range(0, CHURNED, CHURN_WAVE):
            names = [f"churn-{n:06}" for n in range(start, start + CHURN_WAVE)]
            await cargo.fill_configmaps(client, names, "apps")
            await cargo.remove(client, "configmaps", names, "apps")


async def _event_of(master: Master, namespace: str) -> bytes:
    """What a watcher receives for a create, as bytes that the bare fan-out may send: the same, numbers aside."""
    async with master.client() as client:
        document = cargo.configmap(f"seen-{COUNT}".replace(COUNT, "9" * len(COUNT)), namespace)
        json = await cargo.create(client, "configmaps", document)
        added = resources_pb2.WatchEvent.ADDED
        batch = resources_pb2.WatchBatch(events=[resources_pb2.WatchEvent(type=added, json=json, revision=1)])
        return bytes(batch.SerializeToString()).replace(b"9" * len(COUNT), COUNT.encode())


def _numbers(step: int) -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += step


def _remark(rounds: list[Measured], of: str) -> str:
    busiest = max(rounds, key=lambda measured: measured["cpu"])
    return f"runs {spread([m[of] for m in rounds])}, p99 {median([m['p99'] for m in rounds]):.1f} ms, {busiest.remark}"


def add_stalls(bench: Bench) -> None:
    """Of all masters together, and of each part."""
    parts = {part: functools.reduce(operator.or_, runs) for part, runs in bench.stalls.items()}
    whole = functools.reduce(operator.or_, parts.values())
    for figure in ("p999_ms", "max_ms"):
        remark = ", ".join(f"{part} {getattr(of_part, figure):.1f}" for part, of_part in parts.items())
        bench.add(f"loop_stall_{figure}", getattr(whole, figure), "ms", remark)


PARTS: dict[str, Callable[[Bench], None]] = {
    "empty": measure_empty,
    "calls": measure_calls,
    "watches": measure_watches,
    "nodes": measure_nodes,
    "loaded": measure_loaded,
}


def main(parts: list[str]) -> None:
    ensure_node()
    bench = Bench()
    for name in parts or PARTS:
        PARTS[name](bench)
    add_stalls(bench)
    publish("api", bench.figures)


if __name__ == "__main__":
    main(sys.argv[1:])
