"""An etcd of the test run's own: one member or three, on loopback ports that were free, its data in a temporary folder.

`shared()` is one for the whole run, for tests that need only a prefix of their own. `running(n)` is for those that
kill it. Run as a program, `load ENDPOINT PREFIX KEYS TURN` writes pods until it is killed, and prints each one
acknowledged.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from barque.client.clock import SystemClock
from barque.master.raft.messages import MemberInfo
from barque.master.store.engine_etcd import EngineEtcd, EtcdSettings, open_etcd_store
from barque.master.store.etcd.client import Endpoints
from barque.master.store.hub import HubSettings
from barque.master.store.port import Absent, Committed
from tests.support.expecting import expect_soon
from tests.support.host import dying_with_parent
from tests.support.ports import free_ports
from tests.support.store import a_pod

# Any will do: what masters share.
WRAPPING = bytes(range(32))


def missing() -> str:
    """Why there can be none here; "" where there can."""
    return "" if shutil.which("etcd") else "needs etcd: apt-get install etcd-server"


class Tls(NamedTuple):
    """PEM files."""

    ca: Path
    cert: Path
    key: Path


class Member:
    """One etcd process, that can be killed and started again. With `tls`, its own, it admits clients of that CA."""

    def __init__(self, name: str, folder: Path, port: int, peer_port: int, tls: Tls | None) -> None:
        self.name = name
        self.tls = tls
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        self.peer_url = f"http://127.0.0.1:{peer_port}"
        self.process: subprocess.Popen[bytes] | None = None
        self._folder = folder

    def start(self, members: Sequence[Member], options: Sequence[str] = ()) -> None:
        cluster = ",".join(f"{member.name}={member.peer_url}" for member in members)
        command = [
            *dying_with_parent("KILL"), "etcd", "--name", self.name, "--data-dir", str(self._folder / self.name),
            "--listen-client-urls", self.url, "--advertise-client-urls", self.url,
            "--listen-peer-urls", self.peer_url, "--initial-advertise-peer-urls", self.peer_url,
            "--initial-cluster", cluster, "--heartbeat-interval", "50", "--election-timeout", "500", *options,
        ]  # fmt: skip
        if self.tls:
            ca, cert, key = map(str, self.tls)
            command += ["--cert-file", cert, "--key-file", key, "--trusted-ca-file", ca, "--client-cert-auth"]
        # Its settings come from here alone, not from the variables of a system's own etcd.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("ETCD")}
        with (self._folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """As power does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(60)
            self.process = None

    def says(self, *words: str) -> subprocess.CompletedProcess[str]:
        """What etcdctl says of this member."""
        files = zip(("--cacert", "--cert", "--key"), map(str, self.tls or ()), strict=False)
        return subprocess.run(
            ["etcdctl", "--endpoints", self.url, "--command-timeout=10s", *chain.from_iterable(files), *words],
            env={**os.environ, "ETCDCTL_API": "3"}, capture_output=True, text=True, errors="replace", check=False,
            timeout=60,
        )  # fmt: skip


class Etcd:
    """A cluster of them."""

    def __init__(self, members: list[Member]) -> None:
        self.members = members

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(member.url for member in self.members)

    def start(self, *members: Member) -> None:
        for member in members or self.members:
            member.start(self.members)
        expect_soon(self._serves, 60, "etcd serves")

    def leader(self) -> Member:
        """The member that leads."""

        def find() -> Member | None:
            alive = [member for member in self.members if member.process is not None]
            for member in alive:
                said = member.says("endpoint", "status", "--write-out=fields").stdout
                fields = dict(line.split(" : ") for line in said.splitlines() if " : " in line)
                if fields and fields['"MemberID"'] == fields['"Leader"']:
                    return member
            return None

        found = expect_soon(find, 60, "etcd has a leader")
        assert found is not None
        return found

    def _serves(self) -> bool:
        return any(
            member.process is not None and member.says("get", "nothing").returncode == 0 for member in self.members
        )


@contextmanager
def running(count: int = 1, tls: Tls | None = None) -> Iterator[Etcd]:
    """That many members; nothing of them stays."""
    folder = Path(tempfile.mkdtemp(prefix="barque-etcd-"))
    ports = free_ports(2 * count)
    etcd = Etcd([Member(f"m{n}", folder, ports[2 * n], ports[2 * n + 1], tls) for n in range(count)])
    try:
        etcd.start()
        yield etcd
    finally:
        for member in etcd.members:
            member.kill()
        shutil.rmtree(folder)


@functools.cache
def shared() -> Etcd:
    """One member, started at the first call, that ends with this process."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(running())


class Line:
    """The line between a master and an etcd member: `url` is the master's end. It can be cut and mended, and `mute`
    loses the answers while requests still arrive. `delay_s` is the time of each way.
    """

    def __init__(self, url: str, delay_s: float = 0.0) -> None:
        self._delay_s = delay_s
        self.mute = False
        self._up = True
        self._host, _, port = url.removeprefix("http://").rpartition(":")
        self._port = int(port)
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def lay(self) -> str:
        self._server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        self._up = False
        for end in self._open:
            end.transport.abort()

    def mend(self) -> None:
        self._up, self.mute = True, False

    async def close(self) -> None:
        self.cut()
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._up:
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        if not self._up:
            writer.transport.abort()
            far_writer.transport.abort()
            return
        self._open |= {writer, far_writer}
        try:
            await asyncio.gather(
                self._pass(reader, far_writer, answers=False), self._pass(far_reader, writer, answers=True)
            )
        finally:
            self._open -= {writer, far_writer}

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        try:
            while data := await reader.read(1 << 16):
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                if not (answers and self.mute):
                    writer.write(data)
                    await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


async def open_engine(
    urls: Sequence[str],
    prefix: str,
    keys: Path,
    *,
    name: str = "m1",
    hub: HubSettings = HubSettings(),
    lease_s: int = 2,
    compaction_s: float = 0.0,
    patience_s: float = 30.0,
    wrapping: bytes = WRAPPING,
    tls: Tls | None = None,
) -> EngineEtcd:
    settings = EtcdSettings(
        Endpoints(tuple(urls), *(tls or ()), call_s=1.0),
        prefix,
        lease_s=lease_s,
        compaction_s=compaction_s,
        start_s=60,
        patience_s=patience_s,
        hub=hub,
    )
    info = MemberInfo("", name, "127.0.0.1")
    return await open_etcd_store(settings, info, keys, wrapping, SystemClock())


async def _load(url: str, prefix: str, keys: Path, turn: str) -> None:
    store = await open_engine([url], prefix, keys)

    async def write(worker: int) -> None:
        number = 0
        while True:
            pod = a_pod(f"r{turn}-{worker}-{number}").sized(1000)
            (result,) = await store.commit([pod.put(Absent(pod.key))])
            assert isinstance(result, Committed)
            # One write per line: a killed process leaves whole lines.
            os.write(1, f"{pod.key.name} {result.revision}\n".encode())
            number += 1

    await asyncio.gather(*(write(worker) for worker in range(16)))


if __name__ == "__main__":
    asyncio.run(_load(sys.argv[2], sys.argv[3], Path(sys.argv[4]), sys.argv[5]))
