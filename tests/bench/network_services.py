"""Services' part of `make bench BENCH=network`: how soon a change is a rule, what a whole program takes, what it costs.

Runs in a network namespace of its own: a real master, and the service proxy in a process of its own that follows the
master over gRPC as a worker's does. Every service has three endpoints, a quarter of which are on the proxy's node. An
endpoint's time runs from the write that says a pod is ready, through the EndpointSlice controller, to the rule in the
kernel, which is asked every millisecond. A whole program's time runs from the moment the proxy has its lists; by hand
the same chains are written by `iptables-restore` alone, in turn with the proxy, in the best of several sizes of chunk.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import uvloop

from barque.api import codec
from barque.api.errors import ApiError
from barque.api.types import core_v1, discovery_v1, meta_v1
from barque.client import profile
from barque.client.client import Client, target_of_object
from barque.client.clock import SystemClock, timestamp
from barque.client.informer import Informer
from barque.client.remote import connect
from barque.client.supervise import run_all
from barque.client.verbs import Create
from barque.network.iptables.chains import PROXY_JUMPS, Chains
from barque.network.iptables.driver import Iptables, Mode
from barque.network.iptables.nft import NftSocket
from barque.network.iptables.restore import plan_restores
from barque.network.proxy.program import Program
from barque.network.proxy.proxy import ServiceProxy
from barque.network.proxy.render import SERVICES, service_chain
from barque.network.proxy.state import Backend, ServicePort, service_ports
from tests.bench.fleet import Fleet, node_name
from tests.bench.master import Master
from tests.bench.report import Figure, median, publish, spread
from tests.support.host import dying_with_parent
from tests.support.namespaces import Namespace, missing

ROOT = Path(__file__).resolve().parents[2]
FEW, MANY = 1_000, 10_000
ENDPOINTS = 3
NODE = node_name(0)
PODS = "10.244.0.0/16"
MEASURED = "measured"
CHANGES = 30
PROGRAMS = 5
# By hand: the nft variant takes minutes for all in one, the legacy variant is quickest so.
CHUNK_LINES: dict[Mode, tuple[int, ...]] = {"nft": (2_000, 4_000, 8_000), "legacy": (32_000, 200_000)}
REST_S = 20.0
CONNECTS, CONNECT_ROUNDS = 400, 9
BATCH = 250
POLL_S = 0.001
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")

Samples = dict[str, list[float]]


def measure() -> list[Figure]:
    """All figures of services. Needs root."""
    why = missing()
    if why:
        raise SystemExit(f"bench network services: {why}")
    argv = [
        *dying_with_parent("KILL"),
        "unshare",
        "--net",
        sys.executable,
        "-m",
        "tests.bench.network_services",
        "inside",
    ]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, timeout=900, check=True, cwd=ROOT)
    taken: Samples = json.loads(done.stdout.splitlines()[-1])
    return [
        *(_endpoint_figure(taken, count, goal) for count, goal in ((FEW, "<= 80"), (MANY, "<= 400"))),
        *(_program_figure(taken, "nft", "program_10000_services_s", goal) for goal in ("<= 5", "ratio <= 1.3")),
        _program_figure(taken, "legacy", "program_10000_services_legacy_s", "<= 3"),
        _packet_figure(taken),
        Figure("worker_cpu_1000_services_pct", taken["rest_pct"][0], "%", goal="<= 1", remark=f"proxy, {REST_S:.0f} s"),
    ]


def _endpoint_figure(taken: Samples, count: int, goal: str) -> Figure:
    ready, slices = taken[f"ready_{count}_ms"], taken[f"slice_{count}_ms"]
    remark = (
        f"{len(ready)} times, p99 {_p99(ready):.0f}, proxy's CPU {taken[f'change_cpu_{count}_ms'][0]:.1f} ms each; "
        f"from the write of the slice {median(slices):.0f}"
    )
    return Figure(f"endpoint_to_kernel_{count}_p50_ms", median(ready), "ms", goal=goal, remark=remark)


def _program_figure(taken: Samples, mode: Mode, name: str, goal: str) -> Figure:
    proxy, hands = taken[f"program_{mode}_s"], {n: taken[f"hand_{mode}_{n}_s"] for n in CHUNK_LINES[mode]}
    best = min(hands, key=lambda lines: median(hands[lines]))
    ratio = statistics.median(a / b for a, b in zip(proxy, hands[best], strict=True))
    remark = f"runs {spread(proxy)}; by hand, {best} lines at a time, {spread(hands[best])}"
    named = f"{name[:-2]}_ratio" if goal.startswith("ratio") else name
    return Figure(named, median(proxy), "s", f"iptables-{mode}-restore by hand", ratio, goal, remark)


def _packet_figure(taken: Samples) -> Figure:
    many, few, plain = (taken[f"connect_{name}_us"] for name in ("many", "few", "pod"))
    remark = (
        f"{CONNECT_ROUNDS} times {CONNECTS} connects, {taken['walked'][0]:.0f} rules; straight {median(plain):.1f} us"
    )
    ratio = statistics.median(a / b for a, b in zip(many, few, strict=True))
    return Figure("first_packet_10000_us", median(many), "us", "10 services", ratio, "ratio <= 1.5", remark)


def _p99(samples: Sequence[float]) -> float:
    return sorted(samples)[int(len(samples) * 0.99)]


# The load: services that stand for themselves, and one whose pods become ready.


def a_service(number: int) -> core_v1.Service:
    spec = core_v1.ServiceSpec(
        clusterIP=f"10.{100 + number // 62_500}.{number // 250 % 250}.{number % 250 + 1}",
        ports=[core_v1.ServicePort(name="http", port=80, protocol="TCP")],
    )
    return core_v1.Service(metadata=meta_v1.ObjectMeta(name=f"s{number}", namespace="default"), spec=spec)


def a_slice(number: int) -> discovery_v1.EndpointSlice:
    name = f"s{number}"
    meta = meta_v1.ObjectMeta(name=name, namespace="default", labels={"kubernetes.io/service-name": name})
    found = [
        discovery_v1.Endpoint(
            addresses=[f"10.244.{(number + k) % 200}.{(number * 7 + k * 31) % 250 + 1}"],
            conditions=discovery_v1.EndpointConditions(ready=True),
            nodeName=node_name((number + k) % 4),
        )
        for k in range(ENDPOINTS)
    ]
    ports = [discovery_v1.EndpointPort(name="http", port=8080, protocol="TCP")]
    return discovery_v1.EndpointSlice(metadata=meta, addressType="IPv4", endpoints=found, ports=ports)


async def _create(client: Client, numbers: range) -> None:
    for start in range(numbers.start, numbers.stop, BATCH):
        some = range(start, min(start + BATCH, numbers.stop))
        objects = [made(number) for number in some for made in (a_service, a_slice)]
        answers = await client.batch([Create(target_of_object(o, named=False), codec.encode(o)) for o in objects])
        for answer in answers:
            if isinstance(answer, ApiError):
                raise answer


async def _create_measured(client: Client) -> core_v1.Service:
    """A service with a selector, and its pods, none of them ready."""
    for number in range(ENDPOINTS):
        meta = meta_v1.ObjectMeta(name=f"{MEASURED}-{number}", namespace="default", labels={"app": MEASURED})
        container = core_v1.Container(name="app", image="app")
        await client.create(core_v1.Pod(metadata=meta, spec=core_v1.PodSpec(nodeName=NODE, containers=[container])))
    spec = core_v1.ServiceSpec(
        selector={"app": MEASURED}, ports=[core_v1.ServicePort(name="http", port=80, protocol="TCP")]
    )
    meta = meta_v1.ObjectMeta(name=MEASURED, namespace="default")
    return await client.create(core_v1.Service(metadata=meta, spec=spec))


async def _say_ready(client: Client, number: int, ready: bool) -> None:
    pod = await client.get(core_v1.Pod, f"{MEASURED}-{number}", "default")
    now = timestamp(SystemClock().wall())
    pod.status.phase, pod.status.podIP = "Running", f"10.244.250.{number + 1}"
    pod.status.podIPs = [core_v1.PodIP(ip=pod.status.podIP)]
    status = "True" if ready else "False"
    pod.status.conditions = [
        core_v1.PodCondition(type=kind, status=status, lastTransitionTime=now) for kind in ("Ready", "ContainersReady")
    ]
    await client.update_status(pod)


# A change: until the kernel has the rule.


class Kernel:
    """How many rules the measured service's chain holds, asked over netlink."""

    def __init__(self, service: core_v1.Service) -> None:
        (port,) = service_ports(service, ())
        self._chain = service_chain(port).name
        self._socket = NftSocket()

    async def until(self, endpoints: int) -> float:
        """The moment (monotonic, s) at which there are so many endpoints."""
        # One more rule marks what comes from outside the pods' network.
        wanted = endpoints + 1 if endpoints else 0
        async with asyncio.timeout(60):
            while self._socket.count_rules("nat", self._chain) != wanted:
                await asyncio.sleep(POLL_S)
        return time.monotonic()


async def _time_changes(client: Client, kernel: Kernel, proxy: ProxyProcess, count: int) -> Samples:
    """A third endpoint comes and goes: by a pod that is ready or not, and by a slice written by hand."""
    for number in range(ENDPOINTS):
        await _say_ready(client, number, True)
    await kernel.until(ENDPOINTS)
    ready: list[float] = []
    cpu = proxy.cpu_s()
    for _ in range(CHANGES):
        await _say_ready(client, 0, False)
        await kernel.until(ENDPOINTS - 1)
        await asyncio.sleep(0.05)
        began = time.monotonic()
        await _say_ready(client, 0, True)
        ready.append((await kernel.until(ENDPOINTS) - began) * 1000)
        await asyncio.sleep(0.05)
    cpu_ms = (proxy.cpu_s() - cpu) * 1000 / (2 * CHANGES)
    return {f"ready_{count}_ms": ready, f"change_cpu_{count}_ms": [cpu_ms], **await _time_slices(client, kernel, count)}


async def _time_slices(client: Client, kernel: Kernel, count: int) -> Samples:
    taken: list[float] = []
    extra = a_slice(0)
    extra.metadata.name, extra.metadata.labels = "by-hand", {"kubernetes.io/service-name": MEASURED}
    del extra.endpoints[1:]
    for _ in range(CHANGES):
        began = time.monotonic()
        made = await client.create(extra)
        taken.append((await kernel.until(ENDPOINTS + 1) - began) * 1000)
        await client.delete(discovery_v1.EndpointSlice, made.metadata.name, "default")
        await kernel.until(ENDPOINTS)
        await asyncio.sleep(0.05)
    return {f"slice_{count}_ms": taken}


# The proxy's process.


class ProxyProcess:
    """The service proxy alone: `programmed_s` is what its first whole program took from its lists on."""

    def __init__(self, mode: Mode, master: Path) -> None:
        argv = [
            *dying_with_parent("KILL"),
            sys.executable,
            "-m",
            "tests.bench.network_services",
            "proxy",
            mode,
            str(master),
        ]
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self._process.stdout is not None
        self.programmed_s = float(self._process.stdout.readline())

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

    def rest_pct(self) -> float:
        began, cpu = time.monotonic(), self.cpu_s()
        time.sleep(REST_S)
        return (self.cpu_s() - cpu) / (time.monotonic() - began) * 100

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def _a_proxy(mode: Mode, master: Path) -> Iterator[ProxyProcess]:
    process = ProxyProcess(mode, master)
    try:
        yield process
    finally:
        process.stop()


async def _follow(mode: Mode, master: Path) -> None:
    # As every daemon does.
    sys.setswitchinterval(0.0005)
    clock = SystemClock()
    synced = asyncio.Event()
    async with connect(profile.load(master)) as connection:
        services = Informer(connection.client, core_v1.Service, clock=clock)
        slices = Informer(connection.client, discovery_v1.EndpointSlice, clock=clock)
        proxy = ServiceProxy(
            services, slices, Iptables(mode), clock, node=NODE, cluster_cidr=PODS, on_synced=lambda _: synced.set()
        )

        async def tell() -> None:
            await services.wait_synced()
            await slices.wait_synced()
            began = time.monotonic()
            await synced.wait()
            print(time.monotonic() - began, flush=True)
            await asyncio.Event().wait()

        await run_all({"services": services.run(), "slices": slices.run(), "proxy": proxy.run(), "tell": tell()})


# A whole program, by the proxy and by hand.


def _programs(mode: Mode, master: Path) -> Samples:
    taken: Samples = {f"program_{mode}_s": []} | {f"hand_{mode}_{n}_s": [] for n in CHUNK_LINES[mode]}
    chains = _chains_of(MANY)
    for _ in range(PROGRAMS):
        _flush(mode)
        with _a_proxy(mode, master) as proxy:
            taken[f"program_{mode}_s"].append(proxy.programmed_s)
        for lines in CHUNK_LINES[mode]:
            _flush(mode)
            texts = plan_restores(chains, (), max_lines=lines)
            began = time.monotonic()
            for text in texts:
                _restore(mode, text, "--noflush")
            taken[f"hand_{mode}_{lines}_s"].append(time.monotonic() - began)
    _flush(mode)
    return taken


def _chains_of(count: int) -> Chains:
    program = Program(PODS)
    for number in range(count):
        program.set_service(f"default/s{number}", service_ports(a_service(number), [a_slice(number)], NODE))
    program.take_changes()
    return program.chains()


def _restore(mode: Mode, text: str, *options: str) -> None:
    subprocess.run([f"iptables-{mode}-restore", *options], input=text.encode(), check=True, timeout=300)


def _flush(mode: Mode) -> None:
    for table in ("nat", "filter"):
        _restore(mode, f"*{table}\nCOMMIT\n")


# A first packet.


def _connects() -> Samples:
    """In turn: through the worst placed of many services, through one of ten, and straight to the endpoint."""
    worlds = {"many": Harbour(MANY), "few": Harbour(10)}
    taken: Samples = {
        "connect_many_us": [],
        "connect_few_us": [],
        "connect_pod_us": [],
        "walked": [worlds["many"].walked],
    }
    for _ in range(CONNECT_ROUNDS):
        for name, world in worlds.items():
            taken[f"connect_{name}_us"].append(world.time_connect(world.worst, 80))
        taken["connect_pod_us"].append(worlds["few"].time_connect(Harbour.ENDPOINT, 8080))
    for world in worlds.values():
        world.close()
    return taken


class Placed(NamedTuple):
    walked: int
    address: str


class Harbour:
    """A namespace with so many services, all of one endpoint that listens there."""

    ENDPOINT = "10.244.3.2"

    def __init__(self, services: int) -> None:
        self._namespace = Namespace("bench")
        self._namespace.run("ip", "address", "add", f"{self.ENDPOINT}/32", "dev", "lo")
        # Before its rules send it to the endpoint, a packet to a service must have some way.
        self._namespace.run("ip", "route", "add", "default", "dev", "lo")
        self._listener = self._namespace.call(lambda: socket.create_server((self.ENDPOINT, 8080), backlog=CONNECTS * 2))
        program = Program(PODS)
        for number in range(services):
            address = a_service(number).spec.clusterIP
            port = ServicePort(f"default/s{number}", "tcp", address, 80, 0, (Backend(self.ENDPOINT, 8080),))
            program.set_service(port.name, (port,))
        program.take_changes()
        chains = program.chains()
        self.walked, self.worst = max(_placed(chains))
        self._namespace.call(lambda: asyncio.run(self._write(chains)))

    async def _write(self, chains: Chains) -> None:
        iptables = Iptables("nft")
        await iptables.restore_all(plan_restores(chains, (), max_lines=iptables.max_lines))
        await iptables.ensure_jumps(PROXY_JUMPS)

    def time_connect(self, address: str, port: int) -> float:
        """The median of many connects, in microseconds."""
        return self._namespace.call(lambda: self._connect(address, port))

    def _connect(self, address: str, port: int) -> float:
        taken = []
        for _ in range(CONNECTS):
            with socket.socket() as sock:
                began = time.perf_counter_ns()
                sock.connect((address, port))
                taken.append((time.perf_counter_ns() - began) / 1000)
            self._listener.accept()[0].close()
        return median(taken)

    def close(self) -> None:
        self._listener.close()
        self._namespace.close()


def _placed(chains: Chains, chain: str = SERVICES.name, walked: int = 0) -> Iterator[Placed]:
    """Every service's address, with the rules that a packet to it passes in the dispatch."""
    for place, rule in enumerate(chains[SERVICES._replace(name=chain)], walked + 1):
        target = rule.rpartition("-j ")[2]
        if target.startswith("BARQUE-IP-"):
            yield from _placed(chains, target, place)
        elif rule.startswith("-d "):
            yield Placed(place, rule.split()[1].partition("/")[0])


# Inside the bench's namespace.


async def _with_master(master: Master, folder: Path) -> Samples:
    taken: Samples = {}
    path = folder / "profile"
    master.profile.save(path)
    async with master.client() as client:
        service = await _create_measured(client)
        kernel = Kernel(service)
        done = 0
        for count in (FEW, MANY):
            await _create(client, range(done, count))
            done = count
            with _a_proxy("nft", path) as proxy:
                taken |= await _time_changes(client, kernel, proxy, count)
                if count == FEW:
                    taken["rest_pct"] = [await asyncio.to_thread(proxy.rest_pct)]
            _flush("nft")
    return taken


def _inside() -> Samples:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    taken = _connects()
    with tempfile.TemporaryDirectory(prefix="barque-bench-") as folder, Master() as master, Fleet(master, 1, idle=True):
        taken |= asyncio.run(_with_master(master, Path(folder)))
        for mode in ("nft", "legacy"):
            taken |= _programs(mode, Path(folder) / "profile")
    return taken


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["inside"]:
            print(json.dumps(_inside()))
        case ["proxy", ("nft" | "legacy") as mode, path]:
            uvloop.run(_follow(mode, Path(path)))
        case _:
            publish("network_services", measure())
