"""`make bench BENCH=network_dns`: how many questions one core answers, and how soon at half that rate.

The resolver runs alone in a process of its own (uvloop, as in the worker), on loopback, on one processor of its own,
with 1,000 services of three endpoints, every tenth headless. The client is `dnsperf` (C) on the other processors; it
asks for the addresses of all services in turn. Its processor time is printed: a figure it bounds does not count.
"""

from __future__ import annotations

import asyncio
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from barque.client.clock import SystemClock
from barque.network.dns.answers import Answers
from barque.network.dns.exchange import exchange
from barque.network.dns.forwarder import Forwarder
from barque.network.dns.records import Records
from barque.network.dns.resolver import Resolver
from barque.network.dns.server import DnsServer, Sources, bind
from barque.network.dns.upstreams import Upstreams
from barque.network.dns.zone import Zone
from tests.bench.report import Figure, median, publish, spread
from tests.support.builders import a_service, an_endpoint_slice

SERVICES, HEADLESS_EVERY = 1000, 10
ROUNDS, SECONDS = 3, 5
# What one client of many keeps under way; enough to keep the server busy, too few to fill its buffer.
UNDER_WAY = 100
ROOT = Path(__file__).resolve().parents[2]


class Run(NamedTuple):
    per_s: float
    lost: int
    p99_ms: float
    client_cpu_pct: float
    server_cpu_pct: float


def measure() -> list[Figure]:
    """Runs the server and the client; needs `dnsperf`."""
    if shutil.which("dnsperf") is None:
        raise SystemExit("bench network_dns: needs dnsperf")
    with tempfile.TemporaryDirectory(prefix="barque-bench-dns-") as folder, _a_server() as (port, pid):
        questions = Path(folder) / "questions"
        questions.write_text("".join(f"s{n}.default.svc.cluster.local A\n" for n in range(SERVICES)))
        _ask(port, pid, questions, seconds=1)
        full = [_ask(port, pid, questions) for _ in range(ROUNDS)]
        rate = median([run.per_s for run in full])
        half = [_ask(port, pid, questions, rate=int(rate / 2)) for _ in range(ROUNDS)]
    return [
        Figure("dns_per_s", rate, "queries/s", goal=">= 10000", remark=_remark(full, [run.per_s for run in full])),
        Figure(
            "dns_p99_ms", median([run.p99_ms for run in half]), "ms", goal="<= 5",
            remark=_remark(half, [run.p99_ms for run in half]),
        ),
    ]  # fmt: skip


def _remark(runs: Sequence[Run], values: Sequence[float]) -> str:
    client, server = median([run.client_cpu_pct for run in runs]), median([run.server_cpu_pct for run in runs])
    lost = sum(run.lost for run in runs)
    return f"runs {spread(values)}; dnsperf, its CPU {client:.0f} %, the server's {server:.0f} %, {lost} lost"


def _ask(port: int, pid: int, questions: Path, seconds: int = SECONDS, rate: int = 0) -> Run:
    command = ["dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", str(questions), "-l", str(seconds)]
    command += ["-q", str(UNDER_WAY), "-c", "4"]
    before, server_before, began = resource.getrusage(resource.RUSAGE_CHILDREN), _cpu_s(pid), time.monotonic()
    done = subprocess.run(
        [*command, *(["-v", "-Q", str(rate)] if rate else [])], capture_output=True, text=True, timeout=120, check=True
    )
    took, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    lost = re.search(r"Queries lost:\s+(\d+)", done.stdout)
    per_s = re.search(r"Queries per second:\s+([\d.]+)", done.stdout)
    assert lost, done.stdout
    assert per_s, done.stdout
    server = _cpu_s(pid) - server_before
    return Run(float(per_s[1]), int(lost[1]), _p99_ms(done.stdout), 100 * used / took, 100 * server / took)


def _p99_ms(printed: str) -> float:
    """Of the answers that dnsperf printed one by one, `> NOERROR name A seconds`; 0 where it was not to."""
    found = sorted(float(seconds) for seconds in re.findall(r"^> \w+ .* ([\d.]+)$", printed, re.MULTILINE))
    return found[len(found) * 99 // 100] * 1000 if found else 0.0


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _a_server() -> Iterator[tuple[int, int]]:
    """A server process; its port and pid."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.network_dns", "serve"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline()), process.pid
    finally:
        process.kill()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


async def _serve() -> None:
    sys.setswitchinterval(0.0005)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    clock, records, upstreams = SystemClock(), Records(), Upstreams()
    for number in range(SERVICES):
        name, headless = f"s{number}", number % HEADLESS_EVERY == 0
        service = a_service(name).cluster_ip(f"10.96.{number // 250}.{number % 250 + 1}").port(80, name="http")
        records.handle_service(None, (service.headless() if headless else service).build())
        endpoints = an_endpoint_slice(f"{name}-1", name).port(8080, "http")
        for ordinal in range(3):
            endpoints.endpoint(f"10.244.{number // 250}.{number % 250 + ordinal + 1}")
        records.handle_slice(None, endpoints.build())
    zone = Zone(records, "cluster.local", "10.96.0.10", ("10.96.0.0/12", "10.244.0.0/16"), 5)
    forwarder = Forwarder(upstreams, exchange, clock, lambda: 0)
    resolver = Resolver(zone, records, forwarder, lambda: True)
    datagrams, streams = bind("127.0.0.1", 0)
    print(datagrams.getsockname()[1], flush=True)
    await DnsServer(resolver, Answers(records), Sources(["127.0.0.0/8"]), clock).run(datagrams, streams)


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        asyncio.run(_serve())
    else:
        publish("network_dns", measure())
