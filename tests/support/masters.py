"""Real masters on loopback: `barque master run` as processes of the test's own, joined to one another by the command
that an operator uses, and an operator who asks about them with it.

`Masters` makes them in directories below one; each has free ports of its own. They end with the test process, however
that ends. The operator's commands run in this process (`Masters.barque`), with a home below the same directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import grpc.aio
import pytest
from click.testing import CliRunner

from barque.cli.main import cli
from barque.client import profile as profiles
from barque.client.client import Client
from barque.client.pki import Identity
from barque.client.profile import Profile
from barque.client.remote import Connection, connect
from barque.proto import cluster_pb2
from tests.support.expecting import expect_soon
from tests.support.host import dying_with_parent
from tests.support.ports import free_ports

ROOT = Path(__file__).parents[2]
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0
COMMAND_TIMEOUT_S = 90.0
# Long enough for masters on a busy machine, and no test waits that long where all is well.
SOON_S = 60.0
# What a test may leave to the masters to mend.
_MEND_S = 30.0
# Masters of tests compare their states so often; any that deviates stops, and so fails the test that runs.
INSPECT = "inspect=2"

T = TypeVar("T")


class Said(NamedTuple):
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line of its error."""
        lines = [line for line in self.err.splitlines() if line]
        assert lines, self
        return lines[-1]


class AMaster:
    """One master. `odd` are oddities of `odd_master`; `holder` is the process whose mounts it has, if not all's."""

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        self.directory = directory / name
        self.data = self.directory / "data"
        self.grpc_port, self.peer_port, self.https_port, self.bus_port, self.route_port = free_ports(5)
        self.odd: list[str] = []
        self.holder = 0
        self._log = self.directory / "log"
        self._began = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.directory.mkdir(parents=True, exist_ok=True)

    @property
    def door(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def pki(self) -> Path:
        return self.data / "pki"

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} does not run"
        return self._process.pid

    @property
    def log(self) -> str:
        """What it has said since it was started last."""
        # It may be writing: half a letter is none yet.
        return self._log.read_bytes()[self._began :].decode(errors="ignore") if self._log.exists() else ""

    def site(self) -> list[str]:
        ports = (
            "--grpc-port", self.grpc_port, "--peer-port", self.peer_port, "--https-port", self.https_port,
            "--bus-port", self.bus_port, "--route-port", self.route_port,
        )  # fmt: skip
        return [str(word) for word in ("--data-dir", self.data, "--name", self.name, "--address", "127.0.0.1", *ports)]

    def launch(self, *options: str) -> None:
        """Start it."""
        assert not self.runs
        self._began = self._log.stat().st_size if self._log.exists() else 0
        run = ["master", "run", *self.site(), "--listen", "127.0.0.1", *options]
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command([INSPECT, *self.odd], run), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                env=self.environment(),
            )  # fmt: skip

    def start(self, *options: str) -> None:
        """Start it and wait until it serves."""
        self.launch(*options)
        self.wait_serving()

    def wait_serving(self) -> None:
        def serving() -> bool:
            if not self.runs:
                pytest.fail(f"{self.name} has ended:\n{self.log[-3000:]}")
            return "serving on" in self.log

        expect_soon(serving, START_TIMEOUT_S, f"{self.name} serves")

    def ended(self, timeout_s: float = START_TIMEOUT_S) -> Said:
        """Wait for its own end."""
        assert self._process is not None
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} goes on:\n{self.log[-3000:]}") from None
        self._process = None
        return Said(status, "", self.log)

    def signal(self, number: signal.Signals) -> None:
        """SIGSTOP and SIGCONT pause it."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL; nothing where it has ended."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(STOP_TIMEOUT_S)

    def stop(self) -> None:
        """SIGTERM, and wait for a clean end."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        status = self._process.wait(STOP_TIMEOUT_S)
        assert status == 0, self.log[-3000:]
        self._process = None

    def join(self, line: str, *options: str) -> Said:
        """Run the line that `barque cluster add-member` printed, as this master."""
        done = subprocess.run(
            [*self.joining(line), *options], env=self.environment(), capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=COMMAND_TIMEOUT_S,
        )  # fmt: skip
        return Said(done.returncode, done.stdout, done.stderr)

    def joining(self, line: str) -> list[str]:
        """The command that `join` runs."""
        words = shlex.split(line)
        assert words[:3] == ["barque", "master", "join"], line
        profile = ["--profile", str(self.directory / "profile")]
        return self._command(self.odd, ["master", "join", *words[3:], *self.site(), *profile])

    def seen(self, path: Path) -> Path:
        """`path` as this master sees it, whatever is mounted for it alone."""
        return Path(f"/proc/{self.holder}/root{path}") if self.holder else path

    def _command(self, odd: Sequence[str], arguments: Sequence[str]) -> list[str]:
        barque = [sys.executable, "-m", "tests.support.odd_master", *odd, "--", *arguments]
        inside = ["nsenter", f"--mount=/proc/{self.holder}/ns/mnt"] if self.holder else []
        return [*dying_with_parent("KILL"), *inside, *barque]

    def environment(self) -> dict[str, str]:
        path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {**os.environ, "HOME": str(self.directory), "NO_COLOR": "1", "PYTHONPATH": os.pathsep.join(path)}


class Masters:
    """The masters of one cluster by name, and its operator."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.by_name: dict[str, AMaster] = {}
        self._disks = contextlib.ExitStack()

    def __getitem__(self, name: str) -> AMaster:
        return self.by_name[name]

    def __iter__(self) -> Iterator[AMaster]:
        return iter(list(self.by_name.values()))

    def found(self) -> AMaster:
        """The first one, `m1`, serving; the operator's profile is its."""
        first = self.by_name["m1"] = AMaster(self.directory, "m1")
        first.start("--profile", str(self._profile))
        return first

    def join(self, name: str, disk_mib: int = 0) -> AMaster:
        """One more, serving and not yet voting; with a disk of so many MiB of its own, where that is given."""
        made = AMaster(self.directory, name)
        if disk_mib:
            made.holder = self._disks.enter_context(a_small_disk(made.data, disk_mib))
        said = made.join(self.join_line())
        assert said.status == 0, said
        made.start()
        self.by_name[name] = made
        profiles.remember(self._profile, "barque", Profile.of([master.door for master in self], self.identity()))
        return made

    def join_line(self, *options: str) -> str:
        """What the operator is told to run on a new master's machine."""
        return self.barque("cluster", "add-member", *options).out.strip()

    def barque(self, *arguments: str, to: str = "", status: int | None = 0, stdin: str = "") -> Said:
        """The operator's command, to that master where one is named; fails where it does not end with `status`."""
        profile = self._profile_of(to)
        environment = {"HOME": str(self.directory), "NO_COLOR": "1", "BARQUE_CONFIG": None, "COLUMNS": "250"}
        done = CliRunner().invoke(cli, ["--config", str(profile), *arguments], env=environment, input=stdin)
        said = Said(done.exit_code, done.stdout, done.stderr)
        assert status in (said.status, None), f"barque {' '.join(arguments)}: {said}"
        return said

    def begin(self, *arguments: str, to: str) -> subprocess.Popen[str]:
        """The operator's command to that master, under way."""
        profile = self._profile_of(to)
        argv = [*dying_with_parent("KILL"), sys.executable, "-m", "barque.cli", "--config", str(profile), *arguments]
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def identity(self) -> Identity:
        """The administrator's."""
        return Identity.load(self["m1"].data / "pki", "admin")

    def connect(self, *names: str, patience_s: float = 0.0) -> Connection:
        """As the administrator, to these masters, or to all."""
        doors = [self[name].door for name in names] if names else [master.door for master in self]
        return connect(Profile.of(doors, self.identity()), patience_s=patience_s)

    def run(
        self,
        body: Callable[[Connection], Coroutine[Any, Any, T]],
        *names: str,
        patience_s: float = 0.0,
        timeout_s: float = 60.0,
    ) -> T:
        """Run `body` on a connection to these masters, or to all."""

        async def connected() -> T:
            async with asyncio.timeout(timeout_s), self.connect(*names, patience_s=patience_s) as connection:
                return await body(connection)

        return asyncio.run(connected())

    def client(self, body: Callable[[Client], Coroutine[Any, Any, T]], *names: str) -> T:
        return self.run(lambda connection: body(connection.client), *names)

    def status(self, name: str) -> cluster_pb2.StatusReply:
        """What this master says of itself and the group."""

        async def ask(connection: Connection) -> cluster_pb2.StatusReply:
            return await connection.cluster.Status(cluster_pb2.StatusRequest(), timeout=30)

        try:
            return self.run(ask, name)
        except grpc.aio.AioRpcError as error:
            raise ConnectionError(error.details()) from error

    def leader(self) -> AMaster:
        """Who leads, as the others agree."""

        def leading() -> AMaster | None:
            told = {self.told(master) for master in self if master.runs}
            (name,) = told if len(told) == 1 else [""]
            return self.by_name.get(name)

        return expect_soon(leading, SOON_S, "a leader that all know")

    def followers(self) -> list[AMaster]:
        leader = self.leader()
        return [master for master in self if master is not leader]

    def lead(self, name: str) -> AMaster:
        """Have that one lead. Who is behind, or whom a busy machine keeps, is asked again."""

        def leads() -> bool:
            if self.leader().name != name:
                self.barque("cluster", "transfer", name)
            return self.leader().name == name

        expect_soon(leads, SOON_S, f"{name} leads")
        return self[name]

    def remove(self, name: str) -> None:
        """Take that one out, as soon as the others can do without it."""

        def gone() -> bool:
            self.barque("cluster", "remove-member", name, status=None)
            return name not in {member.name for member in self.status(self.leader().name).members}

        self.by_name.pop(name, None)
        expect_soon(gone, SOON_S, f"{name} is a member no more")

    def undisturbed(self, work: Callable[[], object]) -> None:
        """Do `work`, during which nobody may stand for election because of it. A busy machine may bring one about by
        itself: so thrice, where need be.
        """
        for _ in range(3):
            term = self.term()
            work()
            if self.term() == term:
                return
        raise AssertionError("an election each time")

    def term(self) -> int:
        """The one that all masters which run are in."""

        def agreed() -> int:
            self.leader()
            (term,) = {self.status(master.name).group.term for master in self if master.runs}
            return term

        return expect_soon(agreed, SOON_S, "a term of all")

    def wait_whole(self, timeout_s: float = SOON_S) -> None:
        """Until every master runs, votes, and has all that the leader has."""

        def whole() -> bool:
            reply = self.status(self.leader().name)
            group = reply.group
            names = {member.name for member in reply.members}
            return names == set(self.by_name) and all(
                member.voter and member.state == "ok" and member.match >= group.commit for member in reply.members
            )

        expect_soon(whole, timeout_s, "all masters vote and have caught up", pause_s=0.1)

    def close(self) -> None:
        for master in self:
            with contextlib.suppress(OSError, AssertionError):
                master.signal(signal.SIGCONT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                master.kill()
        self._disks.close()

    def told(self, master: AMaster) -> str:
        """Who leads, as this one knows; "" where it knows of nobody."""
        reply = self.status(master.name)
        return next((member.name for member in reply.members if member.leader), "")

    def _profile_of(self, name: str) -> Path:
        if not name:
            return self._profile
        path = self.directory / f"profile-{name}"
        profiles.remember(path, "barque", Profile.of([self[name].door], self.identity()))
        return path

    @property
    def _profile(self) -> Path:
        return self.directory / "profile"


class Fleet:
    """Three masters for several tests, one after another: those of the last one where they are whole, else new ones.
    `directory()` makes a new directory; the third has a disk of `disk_mib` of its own, where that is given.
    """

    def __init__(self, directory: Callable[[], Path], disk_mib: int = 0) -> None:
        self._directory = directory
        self._disk_mib = disk_mib
        self._present: Masters | None = None

    def whole(self) -> Masters:
        # A test that failed may have left fewer, and odd ones.
        present = self._present
        if present is not None and len(present.by_name) == 3 and not any(master.odd for master in present):
            with contextlib.suppress(AssertionError, LookupError):
                present.wait_whole(_MEND_S)
                return present
        self.close()
        self._present = made = Masters(self._directory())
        made.found()
        made.join("m2")
        made.join("m3", self._disk_mib)
        made.wait_whole()
        return made

    def close(self) -> None:
        present, self._present = self._present, None
        if present is not None:
            present.close()


@contextlib.contextmanager
def a_small_disk(mount: Path, mib: int) -> Iterator[int]:
    """A disk of so many MiB at the directory `mount`, for those who have the mounts of the process it yields."""
    mount.mkdir(parents=True, exist_ok=True)
    script = f'mount -t tmpfs -o size={mib}m,mode=700 tmpfs "$1" && echo mounted && exec sleep infinity'
    argv = [*dying_with_parent("KILL"), "unshare", "--mount", "sh", "-c", script, "sh", str(mount)]
    holder = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "mounted\n"
        yield holder.pid
    finally:
        holder.kill()
        holder.wait()
