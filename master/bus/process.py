"""One nats-server process: started so that it dies with its master, recognised by its pid file, listened to, ended.

The kernel is asked to kill the process with its master; should one be left, the next start recognises it by its pid
file and replaces it. What it says is passed on within bounds: a server that is refused somewhere says so for ever.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import sys
from collections import deque
from pathlib import Path

import msgspec

from barque.client.clock import Clock
from barque.client.pki import write_private

log = logging.getLogger(__name__)

STOP_TIMEOUT_S = 5.0
_KEPT_LINES, _LINE_LETTERS = 20, 500
# Lines of its log that are passed on in so many seconds.
_PASSED_LINES, _PASSED_S = 20, 60.0
_WORTH_PASSING = ("[WRN]", "[ERR]", "[FTL]")
# What it says of each client at each reload where certificates are the users.
_IDLE_REMARK = "found in connect proto, but user required from cert"
# A store that could not be written once takes nothing more until a restart, whatever is asked of it goes unanswered,
# and where the server stands alone it still calls itself well.
_HURT_REMARK = "critical write error"
_PREFIX = re.compile(r"^(\[\d+\] )?(\[[A-Z]{3}\] )?")


class _Pid(msgspec.Struct):
    """Names one process for ever: a pid alone is used again."""

    pid: int
    start_ticks: int
    boot_id: str


async def remove_left_over(path: Path, clock: Clock) -> None:
    """End the process that `path` names, if it is still that very process."""
    left = _read_pid(path)
    for number in (signal.SIGTERM, signal.SIGKILL):
        waited = 0.0
        while left is not None and _is_alive(left):
            if not waited:
                log.warning("ending the nats-server %d that an earlier master left", left.pid)
                os.kill(left.pid, number)
            if waited > STOP_TIMEOUT_S:
                break
            await clock.sleep(0.05)
            waited += 0.05


def write_pid(path: Path, pid: int) -> None:
    write_private(path, msgspec.json.encode(_Pid(pid, _start_ticks(pid), _boot_id())))


def _read_pid(path: Path) -> _Pid | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Pid)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _is_alive(named: _Pid) -> bool:
    return named.boot_id == _boot_id() and _start_ticks(named.pid) == named.start_ticks


def _start_ticks(pid: int) -> int:
    """When a process started, in ticks since boot; 0 where there is none, or only its zombie (proc(5))."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if after_name[0] == "Z" else int(after_name[19])


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


# Asks the kernel for SIGKILL when the master dies (prctl 1, PR_SET_PDEATHSIG), which exec keeps. A launcher rather than
# a hook between fork and exec: Python code must not run in a fork of a process with gRPC's threads. JetStream with
# synced writes survives SIGKILL.
_LAUNCHER = """\
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the master has died")
os.execv(sys.argv[2], sys.argv[2:])
"""


async def spawn(command: list[str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        # A Ctrl-C at the master's terminal is the master's to handle.
        start_new_session=True,
    )  # fmt: skip


class ServerLog:
    """The last lines of a server's log; its warnings are passed on, within bounds. `hurt` is what it said of a store
    that it cannot write, "" while it can.
    """

    def __init__(self, clock: Clock) -> None:
        self.hurt = ""
        self._clock = clock
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._since = clock.monotonic()
        self._passed = 0

    async def follow(self, stream: asyncio.StreamReader) -> None:
        """Read until the server closes its log."""
        while True:
            try:
                line = await stream.readline()
            except ValueError:
                continue  # longer than the reader's buffer; nothing of ours logs such lines
            if not line:
                return
            self.take(line.decode(errors="replace").strip()[:_LINE_LETTERS])

    def take(self, line: str) -> None:
        self._lines.append(line)
        if not self.hurt and _HURT_REMARK in line.lower():
            self.hurt = _PREFIX.sub("", line)
        if _IDLE_REMARK in line or not any(sign in line for sign in _WORTH_PASSING):
            return
        now = self._clock.monotonic()
        if now - self._since > _PASSED_S:
            if self._passed > _PASSED_LINES:
                log.info("nats-server: and %d lines more", self._passed - _PASSED_LINES)
            self._since, self._passed = now, 0
        self._passed += 1
        if self._passed <= _PASSED_LINES:
            log.info("nats-server: %s", line)

    def last_word(self) -> str:
        """The server's own reason for its end, out of its last lines: `: <reason>`, or ""."""
        lines = self._lines
        fatal = [line for line in lines if "[FTL]" in line] or [line for line in lines if "[ERR]" in line]
        reason = fatal[-1] if fatal else (lines[-1] if lines and "[INF]" not in lines[-1] else "")
        return _PREFIX.sub(": ", reason) if reason else ""


async def stop(process: asyncio.subprocess.Process) -> None:
    """SIGTERM, then SIGKILL. Finishes also where the caller is being cancelled."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
