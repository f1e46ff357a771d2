"""`make bench BENCH=rest`: the speed and the memory of a master's REST door, over HTTPS with a client certificate.

The caller is no administrator of the cluster but a user with the role `cluster-admin`, so that RBAC decides about every
request; the audit log is on, at level Metadata, to a file. Calls come from a generator on Node (`load/`), whose share
of a core stands beside each figure; 64 of them on 64 connections that are kept. Peers of the same run are an HTTPS
server in Python with nothing behind it (`https_peer`), and `kubectl` itself on one pod. Kubernetes' own figures on such
a machine: ConfigMaps 1,060-1,160/s, pods 650-740/s, GET 1,940-2,600/s, list of 5,000 pods 196-212 ms, watch 4.6 ms (one
watcher) and 10 ms (a hundred), `kubectl get pods` of 5,000 1.0-1.4 s.
Parts may be named to run those alone: `python -m tests.bench.rest calls watches`.
"""

from __future__ import annotations

import asyncio
import datetime
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec

from barque.api.types.core_v1 import Namespace
from barque.api.types.meta_v1 import ObjectMeta
from barque.client.kubeconfig import Access, render
from barque.client.pki import Identity, Subject
from tests.bench import cargo, report
from tests.bench.generator import COUNT, Generator, Measured, ensure_node
from tests.bench.https_peer import HttpsPeer
from tests.bench.master import Master
from tests.bench.report import median, publish, spread
from tests.support import kubectl

ROUNDS = 3
ROUND_S = 2.0
CONNECTIONS = 64
PUBLICATIONS = 100
LISTS = 15
PODS = 5000
IDLE_WATCHES = 10_000
STORM = 4_000
# Of them so many are on their way at any moment: what the door's listening queue holds.
STORM_OPENING = 1_000
# Reads meanwhile, on so many connections that none ever waits for an answer to the one before.
PACE_PER_S = 25
PACE_CONNECTIONS = 100
STORM_S = 15.0
# Watches that are opened at once: a server answers handshakes one by one anyway.
OPENING = 32
# What garbage there is has been collected, and freed memory given back, by then.
SETTLE_S = 5.0
USER = "bench"

GOALS = {
    "create_configmap_c64_per_s": ">= 3000",
    "create_pod_c64_per_s": ">= 2000",
    "get_pod_c64_per_s": ">= 6000",
    "list_5000_pods_p50_ms": "<= 80",
    "watch_1_p50_ms": "<= 3",
    "watch_100_p50_ms": "<= 8",
    "kubectl_get_5000_pods_s": "<= 1.3",
    "idle_10000_watches_rss_mib": "<= 400",
    "storm_4000_get_p99_ms": "<= 250",
    "storm_4000_kept_mib": "<= 24",
}

_PODS = "/api/v1/namespaces/default/pods"
_CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
_BINDING = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRoleBinding",
    "metadata": {"name": USER},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
    "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": USER}],
}


class Ground(NamedTuple):
    """A master with RBAC and audit on, its user, and a generator that calls as that user."""

    master: Master
    identity: Identity
    generator: Generator

    @property
    def port(self) -> int:
        return self.master.https_port


@contextmanager
def a_ground() -> Iterator[Ground]:
    """A fresh master, and its user bound to `cluster-admin`."""
    with Master() as master:
        # Its directory is known by now only: the log is to be there.
        master.stop()
        master.options = ["--audit-log-path", str(master.directory / "audit.log")]
        master.start()
        with Generator(master.admin, "https") as admin:
            at = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
            admin.run("answers", master.https_port, path="", body=admin.body(request("POST", at, _BINDING)), times=1)
        identity = master.authority.identity(Subject(USER, ()), datetime.datetime.now(datetime.UTC))
        with Generator(identity, "https") as generator:
            yield Ground(master, identity, generator)
        lines = (master.directory / "audit.log").read_bytes().count(b"\n")
        if not lines:
            raise RuntimeError("the audit log is empty")


def request(method: str, path: str, document: object = None, content_type: str = "application/json") -> bytes:
    """A whole request, as the generator sends it."""
    body = msgspec.json.encode(document) if isinstance(document, dict) else document or b""
    assert isinstance(body, bytes)
    head = [f"{method} {path} HTTP/1.1", "Host: localhost", "Accept: application/json", "User-Agent: barque-bench"]
    if body:
        head += [f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*head, "", ""]).encode() + body


def measure_calls(bench: report.Bench) -> None:
    """Creates and reads, in rounds with an echo of the same bytes."""
    with a_ground() as ground, HttpsPeer(ground.master.pki) as peer:
        master, generator = ground.master, ground.generator
        configmap, pod = cargo.configmap("cm-", generate=True), cargo.small_pod("pod-", generate=True)
        asyncio.run(_create_one_pod(master))
        plans = {
            "echo": request("POST", "/echo", configmap),
            "page": request("GET", "/page"),
            "create_configmap_c64_per_s": request("POST", _CONFIGMAPS, configmap),
            "create_pod_c64_per_s": request("POST", _PODS, pod),
            "get_pod_c64_per_s": request("GET", f"{_PODS}/one"),
        }
        rounds: dict[str, list[Measured]] = {name: [] for name in plans}
        for _ in range(ROUNDS):
            for name, asked in plans.items():
                of_peer = name in ("echo", "page")
                where: dict[str, Any] = {"port": peer.port} if of_peer else {"port": ground.port, "master": master}
                rounds[name].append(
                    generator.run(
                        "calls", **where, path="", body=generator.body(asked), seconds=ROUND_S,
                        concurrency=CONNECTIONS, connections=CONNECTIONS,
                    )
                )  # fmt: skip
        floors = {name: median([m["per_s"] for m in rounds[name]]) for name in ("echo", "page")}
        for name, floor in floors.items():
            bench.add(f"{name}_c64_per_s", floor, "/s", _remark(rounds[name], "per_s"))
        for name in GOALS.keys() & plans.keys():
            value, against = median([m["per_s"] for m in rounds[name]]), "page" if name.startswith("get") else "echo"
            bench.add(name, value, "/s", _remark(rounds[name], "per_s"), against=against, floor=floors[against])


def measure_watches(bench: report.Bench) -> None:
    """From a create sent to the change seen, by one and by a hundred watchers, beside a bare fan-out."""
    with a_ground() as ground, HttpsPeer(ground.master.pki) as peer:
        generator = ground.generator
        asyncio.run(_create_namespace(ground.master, "watched"))
        configmap = cargo.configmap(f"seen-{COUNT}", "watched")
        at = "/api/v1/namespaces/watched/configmaps"
        watch = f"{at}?watch=true&allowWatchBookmarks=true"
        ours, bare = (
            {
                "watch": {"path": "", "body": generator.body(request("GET", watching))},
                "publish": {"path": "", "body": generator.body(request("POST", publishing, configmap))},
            }
            for watching, publishing in ((watch, at), ("/watch", "/publish"))
        )
        first = 0

        def rounds(job: dict[str, Any], port: int, watchers: int, of: Master | None) -> Measured:
            nonlocal first
            first += PUBLICATIONS
            return generator.run(
                "watches", port, master=of, **job, watchers=watchers, connections=watchers,
                mark="seen-", first=first, times=PUBLICATIONS, pause_ms=2,
            )  # fmt: skip

        one, hundred, fan_out = [], [], []
        for _ in range(ROUNDS):
            one.append(rounds(ours, ground.port, 1, ground.master))
            fan_out.append(rounds(bare, peer.port, 100, None))
            hundred.append(rounds(ours, ground.port, 100, ground.master))
        bench.add("watch_1_p50_ms", median([m["p50"] for m in one]), "ms", _remark(one, "p50"))
        floor = median([m["p50"] for m in fan_out])
        bench.add("fan_out_100_p50_ms", floor, "ms", _remark(fan_out, "p50"))
        value = median([m["p50"] for m in hundred])
        bench.add("watch_100_p50_ms", value, "ms", _remark(hundred, "p50"), against="bare fan-out", floor=floor)


def measure_lists(bench: report.Bench) -> None:
    """5,000 pods, each of the size that a worker's status gives it: one list of all, and kubectl's table of them."""
    with a_ground() as ground:
        asyncio.run(_fill(ground.master, [f"web-{n:05}" for n in range(PODS)]))
        time.sleep(SETTLE_S)
        body = ground.generator.body(request("GET", "/api/v1/namespaces/apps/pods"))
        measured = [
            ground.generator.run("answers", ground.port, master=ground.master, path="", body=body, times=LISTS)
            for _ in range(ROUNDS)
        ]
        said = f"request to last byte of {measured[0]['bytes'] / 1e6:.1f} MB, first byte after "
        said += f"{median([m['first_p50'] for m in measured]):.1f} ms, "
        bench.add("list_5000_pods_p50_ms", median([m["p50"] for m in measured]), "ms", said + _remark(measured, "p50"))
        _time_kubectl(bench, ground)


def _time_kubectl(bench: report.Bench, ground: Ground) -> None:
    """kubectl as a user calls it, its discovery cached; of one pod, and of 5,000."""
    client = kubectl.modern()
    path = ground.master.directory / "kubeconfig"
    path.write_text(kubeconfig_of(ground.port, ground.identity))
    asyncio.run(_create_one_pod(ground.master))

    def run(namespace: str) -> float:
        began = time.monotonic()
        argv: Sequence[str] = [str(client.path), "--kubeconfig", str(path), "get", "pods", "-n", namespace]
        environment = {**os.environ, "HOME": str(ground.master.directory)}
        subprocess.run(argv, check=True, env=environment, stdout=subprocess.DEVNULL)
        return time.monotonic() - began

    run("default")
    one = [run("default") for _ in range(5)]
    bench.add("kubectl_get_one_pod_s", median(one), "s", f"kubectl {client.version}, runs {spread(one)}")
    many = [run("apps") for _ in range(5)]
    remark = f"kubectl {client.version}, runs {spread(many)}"
    bench.add("kubectl_get_5000_pods_s", median(many), "s", remark, against="kubectl of one pod", floor=median(one))


def measure_idle(bench: report.Bench) -> None:
    """Ten thousand clients that watch and hear nothing, each on a connection of its own."""
    _raise_open_files(IDLE_WATCHES + 2000)
    with a_ground() as ground:
        time.sleep(SETTLE_S)
        before = ground.master.rss_mib()
        at = "/api/v1/namespaces/default/configmaps?watch=true&allowWatchBookmarks=true&timeoutSeconds=1800"
        body = ground.generator.body(request("GET", at))
        holding = ground.generator.holding(ground.port, path="", body=body, watchers=IDLE_WATCHES, opening=OPENING)
        with holding as opened:
            time.sleep(SETTLE_S)
            rss = ground.master.rss_mib()
            said = f"{before:.0f} MiB without, opened in {opened['seconds']:.1f} s, generator {opened['cpu']:.2f} cores"
            bench.add("idle_10000_watches_rss_mib", rss, "MiB", said)


def measure_storm(bench: report.Bench) -> None:
    """Four thousand clients that connect as quickly as they can, each for a watch, and what one that is there feels of
    it: its reads count from when they were due. And what is kept of such a storm once it is over: of the second, since
    the first leaves what a master keeps for as many as it has ever had.
    """
    _raise_open_files(STORM + 2000)
    with a_ground() as ground, Generator(ground.identity, "https") as reader, ThreadPoolExecutor(1) as beside:
        asyncio.run(_create_one_pod(ground.master))
        at = "/api/v1/namespaces/default/configmaps?watch=true&timeoutSeconds=1800"
        watch = ground.generator.body(request("GET", at))
        get = reader.body(request("GET", f"{_PODS}/one"))
        times = int(PACE_PER_S * STORM_S)
        settled: list[float] = []
        stormy: list[Measured] = []
        for _ in range(2):
            reads = beside.submit(
                reader.run, "paced", ground.port, master=ground.master, path="", body=get,
                connections=PACE_CONNECTIONS, first=0, per_s=PACE_PER_S, times=times,
            )  # fmt: skip
            storm = ground.generator.holding(ground.port, path="", body=watch, watchers=STORM, opening=STORM_OPENING)
            with storm as opened:
                stormy.append(reads.result())
            time.sleep(SETTLE_S)
            settled.append(ground.master.rss_mib())
        said = f"all open after {opened['seconds']:.1f} s, generator {opened['cpu']:.2f} cores, "
        said += f"longest {max(m['max'] for m in stormy):.0f} ms, "
        bench.add("storm_4000_get_p99_ms", median([m["p99"] for m in stormy]), "ms", said + _remark(stormy, "p99"))
        said = f"{settled[0]:.0f} MiB after the first"
        bench.add("storm_4000_kept_mib", settled[1] - settled[0], "MiB", said)


def kubeconfig_of(port: int, identity: Identity) -> str:
    """A kubeconfig with the certificate of this identity."""
    ca, cert, key = (pem.decode() for pem in (identity.ca_pem, identity.cert_pem, identity.key_pem))
    return render(Access("bench", f"https://127.0.0.1:{port}", ca, identity.name, cert, key))


def _raise_open_files(wanted: int) -> None:
    """For each process that this one starts. Raises `SystemExit` where the machine allows fewer."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < wanted:
        raise SystemExit(f"bench: {wanted} open files are needed, and at most {most} are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


async def _create_namespace(master: Master, name: str) -> None:
    async with master.client() as client:
        await client.create(Namespace(metadata=ObjectMeta(name=name)))


async def _create_one_pod(master: Master) -> None:
    async with master.client() as client:
        await cargo.create(client, "pods", cargo.small_pod("one"))


async def _fill(master: Master, pods: list[str]) -> None:
    async with master.client() as client:
        await client.create(Namespace(metadata=ObjectMeta(name="apps")))
        await cargo.fill_run_pods(client, pods, "apps")


def _remark(rounds: list[Measured], of: str) -> str:
    busiest = max(rounds, key=lambda measured: measured["cpu"])
    return f"runs {spread([m[of] for m in rounds])}, p99 {median([m['p99'] for m in rounds]):.1f} ms, {busiest.remark}"


PARTS: dict[str, Callable[[report.Bench], None]] = {
    "calls": measure_calls,
    "watches": measure_watches,
    "lists": measure_lists,
    "idle": measure_idle,
    "storm": measure_storm,
}


def main(parts: list[str]) -> None:
    ensure_node()
    bench = report.Bench(GOALS)
    for name in parts or PARTS:
        PARTS[name](bench)
    publish("rest", bench.figures)


if __name__ == "__main__":
    main(sys.argv[1:])
