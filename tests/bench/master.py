"""A master of a benchmark's own: the real `barque master run` on loopback, with its own directory and free ports.

Used as `with Master() as master:`; it is stopped, and its directory removed, at the end. Times are milliseconds, memory
is MiB.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from barque.api.types.core_v1 import Namespace
from barque.client.client import Client
from barque.client.pki import Authority, Identity, split_pem
from barque.client.profile import Profile
from barque.client.remote import Connection, connect
from tests.support.ports import free_ports

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 30.0
_POLL_S = 0.005
_STALLS = re.compile(r"event loop: held for p99\.9 [\d.]+ ms, longest ([\d.]+) ms; delays \(ms:count\) (.*)")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Stalls(NamedTuple):
    """How long a master's event loop kept others waiting: delays by upper bound (ms), and the longest (ms)."""

    delays: Counter[float]
    max_ms: float

    @property
    def p999_ms(self) -> float:
        """The upper bound below which 999 of 1,000 delays stayed."""
        beyond = sum(self.delays.values()) // 1000
        for bound_ms in sorted(self.delays, reverse=True):
            beyond -= self.delays[bound_ms]
            if beyond < 0:
                return min(bound_ms, self.max_ms)
        return self.max_ms

    def __or__(self, other: Stalls) -> Stalls:
        """Of two runs together."""
        return Stalls(self.delays + other.delays, max(self.max_ms, other.max_ms))


class Master:
    """`options` are more of its command line; `start_ms` is what the last start took, to /readyz and a served read."""

    def __init__(self, *options: str, name: str = "bench") -> None:
        # More of its command line, at the next start.
        self.options: Sequence[str] = options
        self._name = name
        self.directory = Path(tempfile.mkdtemp(prefix="barque-bench-"))
        self.grpc_port, self.peer_port, self.https_port, self.bus_port, self.route_port = free_ports(5)
        self.start_ms = 0.0
        self.log = self.directory / "master.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Master:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is not None:
                print(self.log.read_text()[-2000:], file=sys.stderr)
            self.stop()
        finally:
            self.remove()

    def remove(self) -> None:
        """Its directory, once it has ended."""
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def site(self) -> list[str]:
        """The options that say who it is, and where."""
        return [
            *("--data-dir", str(self.directory / "data"), "--name", self._name, "--address", "127.0.0.1"),
            *("--grpc-port", str(self.grpc_port), "--peer-port", str(self.peer_port)),
            *("--https-port", str(self.https_port)),
            *("--bus-port", str(self.bus_port), "--route-port", str(self.route_port)),
        ]

    def start(self) -> None:
        """Start it and wait until it serves."""
        argv = [
            *(sys.executable, "-m", "barque.cli", "master", "run", *self.site, "--listen", "127.0.0.1"),
            *self.options,
        ]
        began = time.monotonic()
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(argv, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        self._wait_ready(began + _START_TIMEOUT_S)
        asyncio.run(self._read())
        self.start_ms = (time.monotonic() - began) * 1000

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def stalls(self) -> Stalls:
        """Of the last run that has ended: the master says them as it stops."""
        said = _STALLS.findall(self.log.read_text())
        if not said:
            raise RuntimeError("the master did not say how its event loop did")
        longest, delays = said[-1]
        pairs = (delay.split(":") for delay in delays.split())
        return Stalls(Counter({float(bound): int(count) for bound, count in pairs}), float(longest))

    @property
    def pki(self) -> Path:
        return self.directory / "data" / "pki"

    @property
    def admin(self) -> Identity:
        return Identity.load(self.pki, "admin")

    @property
    def authority(self) -> Authority:
        """The cluster's CA, for a benchmark that plays many nodes."""
        return Authority(*split_pem((self.pki / "authority.pem").read_bytes()))

    @property
    def profile(self) -> Profile:
        return Profile.of([f"127.0.0.1:{self.grpc_port}"], self.admin)

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection with the administrator's certificate."""
        connection = connect(self.profile)
        try:
            yield connection
        finally:
            await connection.close()

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """A client with the administrator's certificate."""
        async with self.connection() as connection:
            yield connection.client

    async def _read(self) -> None:
        async with self.client() as client:
            await client.get(Namespace, "default")

    def rss_mib(self) -> float:
        """Resident memory of the master's own process."""
        return _rss_kib(self._pid) / 1024

    def bus_rss_mib(self) -> float:
        """Resident memory of the nats-server it supervises, 0 where there is none."""
        return sum(_rss_kib(child) for child in self.children()) / 1024

    def children(self) -> list[int]:
        """The processes it has started: its nats-server, while there is one."""
        return [int(pid) for pid in Path(f"/proc/{self._pid}/task/{self._pid}/children").read_text().split()]

    def cpu_s(self) -> float:
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

    @property
    def _pid(self) -> int:
        assert self._process is not None, "the master does not run"
        return self._process.pid

    def _wait_ready(self, deadline: float) -> None:
        # Before its first start there is no CA to check it against.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"https://127.0.0.1:{self.https_port}/readyz", context=context, timeout=1)
                return
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"bench: the master did not start:\n{self.log.read_text()[-2000:]}")
            time.sleep(_POLL_S)


def _rss_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0
