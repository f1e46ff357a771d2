"""What the overlay costs: iperf3 through it, against a VXLAN device made by hand between the same namespaces.

Two hosts as namespaces on one bridge (`tests.support.overlay_hosts`). The hand-made device has a network and a port of
its own, and otherwise what `ip link add type vxlan` gives it, one forwarding entry and one neighbour. Runs alternate,
since everything shares the machine's cores, and a ratio is the median of the rounds' own; each run is one TCP stream of
`RUN_S` seconds after one of warming up. The first figure is from host to host, as by hand; the second from pod to pod,
with the pods' links and all rules in between.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.bench.report import Figure, median, spread
from tests.support.expecting import expect_soon
from tests.support.host import dying_with_parent
from tests.support.namespaces import Namespace, missing
from tests.support.overlay_hosts import Fleet, OverlayHost, a_fleet

ROUNDS = 9
RUN_S = 2
PORT = 5201
HAND_MADE = {1: "172.20.0.1", 2: "172.20.0.2"}


class Run(NamedTuple):
    gbps: float
    # Of one core, by the sending iperf3.
    client_cpu_pct: float


def measure() -> list[Figure]:
    """The overlay's throughput. Raises `SystemExit` where it cannot be measured here."""
    if why := missing():
        raise SystemExit(f"bench network: {why}")
    with a_fleet(2) as fleet, tempfile.TemporaryDirectory() as state:
        fleet.start()
        one, two = fleet.hosts
        for host in fleet.hosts:
            host.start_pod(Path(state) / host.name, 1450)
        _lay_by_hand(fleet)
        ways: dict[str, Callable[[], Run]] = {
            "overlay": lambda: _run(one.namespace, "10.244.2.0"),
            "by hand": lambda: _run(one.namespace, HAND_MADE[2]),
            "pods": lambda: _run(one.pod, two.pod_ip),
        }
        with _served(two.namespace), _served(two.pod):
            taken: dict[str, list[Run]] = {name: [] for name in ways}
            for number in range(ROUNDS):
                # Whoever comes first in a round is not always the same.
                for name in sorted(ways, reverse=bool(number % 2)):
                    taken[name].append(ways[name]())
    return [_figure("overlay_gbps", taken["overlay"], taken["by hand"], "ratio >= 0.95"),
            _figure("overlay_pod_to_pod_gbps", taken["pods"], taken["by hand"], "")]  # fmt: skip


def _figure(name: str, runs: list[Run], by_hand: list[Run], goal: str) -> Figure:
    value = median([run.gbps for run in runs])
    ratio = median([run.gbps / floor.gbps for run, floor in zip(runs, by_hand, strict=True)])
    cpu = median([run.client_cpu_pct for run in runs])
    remark = (
        f"{ROUNDS} alternating runs of {RUN_S} s, one TCP stream, MTU 1450; runs {spread([r.gbps for r in runs])}; "
        f"by hand {spread([r.gbps for r in by_hand])}; client CPU {cpu:.0f} %"
    )
    return Figure(name, value, "Gbit/s", "a VXLAN made by hand", ratio, goal, remark)


def _lay_by_hand(fleet: Fleet) -> None:
    one, two = fleet.hosts
    for host, other in ((one, two), (two, one)):
        _add_device(host, other)


def _add_device(host: OverlayHost, other: OverlayHost) -> None:
    ip = host.namespace.run
    ip("ip", "link", "add", "byhand", "address", f"02:cc:00:00:00:0{host.number}", "type", "vxlan", "id", "99",
       "dev", "uplink", "local", host.address, "dstport", "4789", "nolearning")  # fmt: skip
    ip("ip", "address", "add", f"{HAND_MADE[host.number]}/24", "dev", "byhand")
    ip("ip", "link", "set", "byhand", "up")
    mac = f"02:cc:00:00:00:0{other.number}"
    ip("bridge", "fdb", "append", mac, "dev", "byhand", "dst", other.address)
    ip("ip", "neigh", "add", HAND_MADE[other.number], "lladdr", mac, "dev", "byhand", "nud", "permanent")


@contextmanager
def _served(namespace: Namespace) -> Iterator[None]:
    command = ["nsenter", f"--net={namespace.path}", "iperf3", "--server", "--port", str(PORT)]
    server = subprocess.Popen([*dying_with_parent("KILL"), *command], stdout=subprocess.DEVNULL)
    try:
        expect_soon(lambda: f":{PORT} " in namespace.run("ss", "-Hltn"), 10, "iperf3 listens")
        yield
    finally:
        server.kill()
        server.wait(10)


def _run(namespace: Namespace, address: str) -> Run:
    command = ["iperf3", "--client", address, "--port", str(PORT), "--time", str(RUN_S), "--omit", "1", "--json"]
    end = json.loads(namespace.run(*command))["end"]
    return Run(end["sum_received"]["bits_per_second"] / 1e9, end["cpu_utilization_percent"]["host_total"])


if __name__ == "__main__":
    from tests.bench.report import publish

    publish("network-overlay", measure())
