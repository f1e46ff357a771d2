"""Daemons that outlive the command that started them, each known by a pid file.

A pid file holds the pid and the process's start time (ticks since boot, `/proc/PID/stat` field 22), so that a pid that
the kernel has given to someone else since is never signalled.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

_POLL_S = 0.02
# The shell notes itself before it becomes the daemon; waiting for the note lets whoever called read it at once.
_START_DETACHED = """
mkdir -p "${1%/*}" "${2%/*}" && rm -f "$1" && setsid -f /bin/sh -c '
    note=$1 log=$2; shift 2
    exec </dev/null >>"$log" 2>&1
    echo "$$ $(cut -d" " -f22 /proc/$$/stat)" >"$note.new" && mv "$note.new" "$note" && exec "$@"
' sh "$@" && while [ ! -e "$1" ]; do sleep 0.01; done
"""


class Daemon(NamedTuple):
    """A running process as its pid file names it."""

    pid: int
    started_ticks: int

    def alive(self) -> bool:
        return start_ticks(self.pid) == self.started_ticks


def start_ticks(pid: int) -> int | None:
    """When the process started, in ticks since boot; None when it is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else int(fields[19])


def read_pid_file(path: Path) -> Daemon | None:
    """The daemon of a pid file, None where there is no file, or one that no running process fits."""
    try:
        pid, ticks = path.read_text().split()
    except (FileNotFoundError, ValueError):
        return None
    daemon = Daemon(int(pid), int(ticks))
    return daemon if daemon.alive() else None


def start(
    argv: Sequence[str], pid_file: Path, log: Path, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a daemon in a session of its own, its output appended to `log`; the caller may watch it by the Popen."""
    pid_file.parent.mkdir(parents=True, exist_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **(env or {})},
        )
    pid_file.write_text(f"{process.pid} {start_ticks(process.pid) or 0}\n")
    return process


def detached(argv: Sequence[str], pid_file: str, log: str) -> list[str]:
    """The command that starts a daemon as `start` does, where this process cannot note the pid: in another pid
    namespace. It ends once the daemon's pid file is written.
    """
    return ["/bin/sh", "-c", _START_DETACHED, "sh", pid_file, log, *argv]


def stop(pid_file: Path, timeout_s: float = 10.0) -> bool:
    """End the daemon of a pid file: SIGTERM, and SIGKILL after `timeout_s`. True if there was one to end."""
    daemon = read_pid_file(pid_file)
    if daemon is not None:
        _signal(daemon, signal.SIGTERM)
        if not wait_gone(daemon, timeout_s):
            _signal(daemon, signal.SIGKILL)
            wait_gone(daemon, 5.0)
    pid_file.unlink(missing_ok=True)
    return daemon is not None


def kill(daemon: Daemon) -> None:
    """SIGKILL, unless the pid is someone else's by now."""
    with contextlib.suppress(ProcessLookupError):
        _signal(daemon, signal.SIGKILL)


def wait_gone(daemon: Daemon, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while daemon.alive():
        if time.monotonic() > deadline:
            return False
        _reap(daemon.pid)
        time.sleep(_POLL_S)
    return True


def listens(address: str, port: int, timeout_s: float = 1.0) -> bool:
    """Whether somebody takes TCP connections there."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(timeout_s)
        return probe.connect_ex((address, port)) == 0


def last_lines(log: Path, count: int = 5) -> str:
    """The end of a log, for the message that says a daemon did not start."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-count:])
    except FileNotFoundError:
        return ""


def _signal(daemon: Daemon, number: signal.Signals) -> None:
    if daemon.alive():
        os.kill(daemon.pid, number)


def _reap(pid: int) -> None:
    """Collect the daemon where it is a child of this very process, so that it does not stay a zombie."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
