"""What is remembered of a lab, in `state.json` of its directory, so that any later command finds it, after any crash.

A host's first process is written down before it is let begin (`host.boot`), so there is never one that is not here. The
file is replaced as a whole; `held` keeps two commands from changing one lab at a time.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from barque.deploy.lab.plan import Cut, HostPlan, LabError, Role
from barque.deploy.processes import Daemon

VERSION = 1
_FILE, _LOCK = "state.json", "lock"
_NEW = f".{_FILE}.new"
# All that is in the directory of a lab whose making was cut off before it was remembered.
UNREMEMBERED = frozenset({_LOCK, _NEW})


class HostState(msgspec.Struct):
    """A host, and its first process as the machine sees it; pid 0 where it never ran."""

    name: str
    role: Role
    address: str
    prefix: int
    mac: str
    pid: int = 0
    started_ticks: int = 0
    paused: bool = False

    @property
    def plan(self) -> HostPlan:
        return HostPlan(self.name, self.role, self.address, self.prefix, self.mac)

    @property
    def process(self) -> Daemon:
        return Daemon(self.pid, self.started_ticks)

    @property
    def alive(self) -> bool:
        return self.pid != 0 and self.process.alive()


class LabState(msgspec.Struct):
    """All of a lab; the switch is the first of its hosts. `door` and `https_door` are the ports of the machine's
    loopback at which its master answers, 0 where it does not.
    """

    hosts: list[HostState]
    cuts: list[Cut] = []
    door: int = 0
    https_door: int = 0
    version: int = VERSION

    @property
    def switch(self) -> HostState:
        return self.hosts[0]

    def of_role(self, role: Role) -> list[HostState]:
        return [host for host in self.hosts if host.role == role]

    def running(self, name: str) -> HostState:
        """Raises `LabError` for a name that is none, or of a host that is off."""
        found = self.host(name)
        if not found.alive:
            raise LabError(f"host {name} is off: `barque lab start {name}`")
        return found

    def host(self, name: str) -> HostState:
        """Raises `LabError` for a name that is none."""
        for host in self.hosts:
            if host.name == name:
                return host
        known = ", ".join(host.name for host in self.hosts if host.role != "switch")
        raise LabError(f'no host "{name}" in this lab; there are {known}')


def of_plan(hosts: list[HostPlan]) -> LabState:
    """A lab in which nothing runs yet."""
    return LabState([HostState(*host) for host in hosts])


def load(directory: Path) -> LabState | None:
    """The lab in this directory; None where there is none. Raises `LabError` for one that cannot be read."""
    path = directory / _FILE
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        version = msgspec.json.decode(raw, type=dict[str, object]).get("version")
        if version != VERSION:
            raise LabError(f"{path} is of version {version}, this barque reads {VERSION}: use the barque that made it")
        return msgspec.json.decode(raw, type=LabState)
    except msgspec.DecodeError as error:
        raise LabError(f"{path} is damaged: {error}") from error


def read(directory: Path) -> LabState:
    """The lab in this directory. Raises `LabError`, also where there is none."""
    found = load(directory)
    if found is None:
        raise LabError(f"no lab in {directory}: `barque lab up` makes one")
    return found


def save(directory: Path, state: LabState) -> None:
    """Replace what is remembered."""
    beside = directory / _NEW
    beside.write_bytes(msgspec.json.format(msgspec.json.encode(state), indent=1))
    beside.replace(directory / _FILE)


@contextlib.contextmanager
def held(directory: Path) -> Iterator[None]:
    """Let nobody else change this lab meanwhile; the directory is made where it is not there. Raises `LabError`."""
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    path = directory / _LOCK
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabError(f"another `barque lab` is at work on {directory}: wait until it has ended") from None
        # A `down` may have removed the file between our opening and locking it.
        if not path.exists() or path.stat().st_ino != os.fstat(handle).st_ino:
            raise LabError(f"the lab in {directory} was just taken down: try again")
        yield
    finally:
        os.close(handle)
