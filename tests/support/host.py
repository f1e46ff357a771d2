"""A host of the test's own on this machine: its own network, mounts and processes, so that nothing of it stays behind.

The host is the first process of fresh network, mount and pid namespaces. When it ends (or the test process, however
that ends) the kernel ends every process in it and with them goes every link, rule and mount. `/run`, `/var/lib/docker`,
`/var/lib/barque`, `/var/log/barque`, `/etc/docker` and `$HOME` are the host's own, so commands run there with their
defaults.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

ADDRESS = "192.168.77.1"
_BIN = Path(sys.executable).parent

T = TypeVar("T")

# Runs as the host's first process: lays the mounts and the one interface, says so, and waits.
_SETUP = f"""
set -e
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock /run/netns /etc/docker
mount -t tmpfs -o mode=755 tmpfs /etc/docker
for folder in docker barque; do
    mkdir -p /var/lib/$folder "$1/$folder"
    mount --bind "$1/$folder" /var/lib/$folder
done
mkdir -p /var/log/barque "$1/log" "$1/home"
mount --bind "$1/log" /var/log/barque
# As on a fresh host, whatever the machine around it does.
echo 0 > /proc/sys/net/ipv4/ip_forward
ip link set lo up
ip link add uplink type veth peer name far
ip link set far up
ip address add {ADDRESS}/24 dev uplink
ip link set uplink up
ip route add default dev uplink
touch "$1/ready"
trap 'exit 0' TERM
while :; do sleep 3600 & wait $!; done
"""


def missing() -> str:
    """Why a host cannot be made here; "" where it can."""
    if os.geteuid() != 0:
        return "needs root"
    for tool in ("unshare", "nsenter", "ip", "dockerd", "iptables-restore"):
        if shutil.which(tool) is None:
            return f"needs {tool}"
    return ""


class Host:
    """A running host; `run` runs a command in it."""

    def __init__(self, pid: int, folder: Path) -> None:
        self.pid = pid
        self.folder = folder

    def argv(self, command: Sequence[str]) -> list[str]:
        return ["nsenter", "-t", str(self.pid), "-m", "-n", "-p", "--", *command]

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        path = f"{_BIN}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
        return {**os.environ, "HOME": str(self.folder / "home"), "PATH": path, "COLUMNS": "200", **(extra or {})}

    def run(
        self, *command: str, check: bool = True, timeout_s: float = 60, stdin: str | None = None
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

    def barque(self, *arguments: str, check: bool = True, timeout_s: float = 60, stdin: str | None = None) -> str:
        """Run the `barque` command; its standard output."""
        return self.run("barque", *arguments, check=check, timeout_s=timeout_s, stdin=stdin).stdout

    def kill(self, pid: int, number: signal.Signals = signal.SIGKILL) -> None:
        """Signal a process by its pid inside the host."""
        self.run("/bin/kill", f"-{number.value}", str(pid))


@contextmanager
def a_host() -> Iterator[Host]:
    """Make a host, and leave nothing of it."""
    folder = Path(tempfile.mkdtemp(prefix="barque-host-"))
    holder = subprocess.Popen(
        # --kill-child: the host's first process dies with this one, which dies with the test (the death signal below).
        [*dying_with_parent("KILL"),
         "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "/bin/bash", "-c", _SETUP,
         "host", str(folder)],
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        expect_soon(lambda: (folder / "ready").exists() or holder.poll() is not None, 10, "the host is set up")
        assert holder.poll() is None, "the host could not be set up; its error is printed above"
        pid = int(Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()[0])
        yield Host(pid, folder)
    finally:
        holder.kill()
        holder.wait(10)
        _remove(folder)


def expect_soon(probe: Callable[[], T], timeout_s: float, what: str, pause_s: float = 0.05) -> T:
    """Call `probe` until it answers something true; its answer. Fails saying `what` never came and the last fault."""
    deadline = time.monotonic() + timeout_s
    while True:
        fault: Exception | None = None
        try:
            found = probe()
        except (AssertionError, OSError, LookupError, subprocess.TimeoutExpired) as error:
            fault = error
        else:
            if found:
                return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what}" + (f"\n{fault}" if fault else ""))
        time.sleep(pause_s)


def dying_with_parent(signal_name: str) -> list[str]:
    """What to write before a command, so that the kernel sends it the signal when the starting thread ends, however
    that ends. Code between fork and exec would do the same, but must not run beside the threads of gRPC.
    """
    return ["setpriv", "--pdeathsig", signal_name]


def _remove(folder: Path) -> None:
    """Remove the host's files and its containers' empty cgroups; its last mounts go a moment after its processes."""
    containers = folder / "docker" / "containers"
    names = [c.name for c in containers.iterdir()] if containers.is_dir() else []
    for _ in range(50):
        left = [cgroup for name in names for cgroup in Path("/sys/fs/cgroup").glob(f"**/docker/{name}")]
        for cgroup in left:
            with suppress(OSError):
                cgroup.rmdir()
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists() and not left:
            return
        time.sleep(0.1)
    raise AssertionError(f"{folder} cannot be removed: something of the host still runs")
