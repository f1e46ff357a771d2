"""A host of the test's own on this machine: its own network, mounts and processes, so that nothing of it stays behind.

It is a host as the lab makes them (`barque.deploy.lab.host`), with one interface that leads to nobody, and ends at the
latest with the test process, however that ends. Its folders are its own, so commands run there with their defaults.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from barque.deploy.lab import host as hosts
from barque.deploy.processes import Daemon
from tests.support.expecting import expect_soon

NAME = "barque-host"
ADDRESS = "192.168.77.1"
_LOGS = Path(__file__).resolve().parents[2] / "build" / "e2e-logs"
_REMOVAL_S = 60.0

# For `ip -batch`: the one interface, which leads to nobody.
_UPLINK = f"""
link add uplink type veth peer name far
link set far up
address add {ADDRESS}/24 dev uplink
link set uplink up
route add default dev uplink
"""


def missing() -> str:
    """Why a host cannot be made here; "" where it can."""
    return hosts.missing()


class Host:
    """A running host; `run` runs a command in it."""

    def __init__(self, pid: int, folder: Path) -> None:
        self.pid = pid
        self.folder = folder

    def argv(self, command: Sequence[str]) -> list[str]:
        return hosts.inside(self.pid, command)

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        return hosts.environment({"COLUMNS": "200", **(extra or {})})

    def run(
        self, *command: str, check: bool = True, timeout_s: float = 120, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end; a failure raises with what it printed."""
        done = subprocess.run(
            self.argv(command),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=self.environment(),
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(command)} ended {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a command whose output nobody reads; the caller ends it, or the host's end does."""
        return subprocess.Popen(
            self.argv(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self.environment(),
        )

    def barque(self, *arguments: str, check: bool = True, timeout_s: float = 120, stdin: str | None = None) -> str:
        """Run the `barque` command; its standard output."""
        return self.run("barque", *arguments, check=check, timeout_s=timeout_s, stdin=stdin).stdout

    def kill(self, pid: int, number: signal.Signals = signal.SIGKILL) -> None:
        """Signal a process by its pid inside the host."""
        self.run("/bin/kill", f"-{number.value}", str(pid))


@contextmanager
def a_host() -> Iterator[Host]:
    """Make a host, and leave nothing of it."""
    folder = Path(tempfile.mkdtemp(prefix="barque-host-"))
    hosts.lay_disk(folder, NAME, f"127.0.0.1 localhost {NAME}\n")
    started: list[Daemon] = []
    try:
        # It dies with the process that holds its namespaces, and that one with the test.
        first = hosts.boot(folder, started.append, prefix=dying_with_parent("KILL"))
        hosts.run_ip(first.pid, _UPLINK)
        yield Host(first.pid, folder)
    finally:
        for process in started:
            hosts.cut_power(process)
        _remove(folder)


def dying_with_parent(signal_name: str) -> list[str]:
    """What to write before a command, so that the kernel sends it the signal when the starting thread ends, however
    that ends. Code between fork and exec would do the same, but must not run beside the threads of gRPC.
    """
    return ["setpriv", "--pdeathsig", signal_name]


def end_group(process: subprocess.Popen[Any], number: signal.Signals = signal.SIGTERM) -> None:
    """End a command in a host that was started with a session of its own, and wait for it.

    The whole group gets the signal: `nsenter` is the command's parent, and would leave it behind.
    """
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)
        raise


def keep_logs(name: str, logs: Mapping[str, Path]) -> None:
    """Copy folders of logs below `build/e2e-logs/NAME`, for whoever must find out why a test failed.

    Daemons may still write and rename their files: what is not there by then is not copied.
    """
    kept = _LOGS / name
    shutil.rmtree(kept, ignore_errors=True)
    for part, folder in logs.items():
        with suppress(OSError):
            shutil.copytree(folder, kept / part, dirs_exist_ok=True)


def control_groups(*names: str) -> list[Path]:
    """Every control group of one of these names. Others come and go meanwhile, which `os.walk` bears."""
    wanted = set(names)
    return [Path(path, name) for path, below, _ in os.walk("/sys/fs/cgroup") for name in wanted.intersection(below)]


def _remove(folder: Path) -> None:
    """Remove the host's files and its containers' empty cgroups; its last mounts go a moment after its processes."""
    containers = folder / "docker" / "containers"
    names = [c.name for c in containers.iterdir()] if containers.is_dir() else []

    def gone() -> bool:
        for group in control_groups(*names):
            with suppress(OSError):
                group.rmdir()
        shutil.rmtree(folder, ignore_errors=True)
        assert not (left := control_groups(*names)), left
        return not folder.exists()

    expect_soon(gone, _REMOVAL_S, f"{folder} and the control groups of its containers can be removed", pause_s=0.1)
