"""The master's own `nats-server`: configured, started, restarted when it dies, and never left behind.

The configuration is rendered purely. Only masters' and the administrator's certificates may connect
(`verify_and_map`: the certificate is the user); a worker's is of the same CA and is refused all the same. The kernel
is asked to kill the process with its master; should one be left, the next start recognises it by its pid file and
replaces it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from barque.client.clock import Clock
from barque.client.pki import ADMIN, MASTER_HOST, Identity, write_private
from barque.master.bus.binary import NoNatsServerError, find_nats_server

log = logging.getLogger(__name__)

MiB = 1024 * 1024
# An object of 1.5 MiB and what is around it; beyond 8 MiB nats-server itself advises against.
MAX_PAYLOAD_BYTES = 4 * MiB
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 10.0
# A server that has lived this long died of something new: start over with the short pause.
STABLE_S = 60.0
STOP_TIMEOUT_S = 5.0
_KEPT_LINES = 20


@dataclass(frozen=True)
class BusSettings:
    """Where the bus lives. `address` is `host:port` for clients; sizes bound the disk that JetStream may take."""

    directory: Path
    address: str = "127.0.0.1:4222"
    cluster: str = "barque"
    name: str = "master"
    max_disk_bytes: int = 512 * MiB

    @property
    def local_address(self) -> str:
        """Where the master itself connects."""
        host, _, port = self.address.rpartition(":")
        return f"127.0.0.1:{port}" if host in ("", "0.0.0.0", "[::]") else self.address


def render_config(settings: BusSettings) -> str:
    """nats-server's configuration file."""
    quoted = json.dumps
    directory = settings.directory
    admin = f"CN={ADMIN.name},O={ADMIN.groups[0]}"
    return f"""\
# Written by Barque at every start of the bus; changes made here do not last.
server_name: {quoted(settings.name)}
listen: {quoted(settings.address)}
max_payload: {MAX_PAYLOAD_BYTES}
max_connections: 256
write_deadline: "10s"
ping_interval: "5s"
ping_max: 2
logtime: false
tls {{
  cert_file: {quoted(str(directory / "tls.pem"))}
  key_file: {quoted(str(directory / "tls.pem"))}
  ca_file: {quoted(str(directory / "ca.pem"))}
  verify_and_map: true
  timeout: 5
}}
authorization {{
  users: [ {{ user: {quoted(MASTER_HOST)} }}, {{ user: {quoted(admin)} }} ]
}}
jetstream {{
  store_dir: {quoted(str(directory / "data"))}
  max_file_store: {settings.max_disk_bytes}
  max_memory_store: {16 * MiB}
  sync_interval: always
}}
"""


class NatsServer:
    """Supervises the process. `fault` is "" while it runs, else one sentence why it does not."""

    def __init__(self, settings: BusSettings, identity: Callable[[], Identity], clock: Clock) -> None:
        self._settings = settings
        self._identity = identity
        self._clock = clock
        self._process: asyncio.subprocess.Process | None = None
        self.fault = "it has not been started yet"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    async def run(self) -> None:
        """Keep a server running until cancelled; then stop it gracefully."""
        pause_s = FIRST_PAUSE_S
        while True:
            started = self._clock.monotonic()
            try:
                await self._run_once()
            except (NoNatsServerError, OSError) as error:
                self.fault = str(error)
            if self._clock.monotonic() - started > STABLE_S:
                pause_s = FIRST_PAUSE_S
            log.warning("the bus is down: %s; starting it again in %.1f s", self.fault, pause_s)
            await self._clock.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def reload(self) -> None:
        """Have new connections use the identity as it is now."""
        self._write_files()
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGHUP)

    async def _run_once(self) -> None:
        """Start one process and wait for its end; `fault` then says why it ended."""
        directory = self._settings.directory
        binary = await find_nats_server()
        self._write_files()
        await remove_left_over(directory / "nats.pid", self._clock)
        process = await _spawn([str(binary), "-c", str(directory / "nats.conf")])
        self._process = process
        lines: deque[str] = deque(maxlen=_KEPT_LINES)
        try:
            _write_pid(directory / "nats.pid", process.pid)
            self.fault = ""
            await _follow_log(process, lines)
            code = await process.wait()
            self.fault = f"nats-server ended with {code}{_last_word(lines)}"
        finally:
            await _stop(process)
            self._process = None
            (directory / "nats.pid").unlink(missing_ok=True)

    def _write_files(self) -> None:
        directory = self._settings.directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._identity().save(directory, "tls")
        write_private(directory / "nats.conf", render_config(self._settings).encode())


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


def _write_pid(path: Path, pid: int) -> None:
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


async def _spawn(command: list[str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        # A Ctrl-C at the master's terminal is the master's to handle.
        start_new_session=True,
    )  # fmt: skip


async def _follow_log(process: asyncio.subprocess.Process, lines: deque[str]) -> None:
    """Pass on the server's warnings and keep its last lines, until it closes its log."""
    assert process.stderr is not None
    while True:
        try:
            line = await process.stderr.readline()
        except ValueError:
            continue  # longer than the reader's buffer; nothing of ours logs such lines
        if not line:
            return
        text = line.decode(errors="replace").strip()
        lines.append(text)
        if "[WRN]" in text or "[ERR]" in text or "[FTL]" in text:
            log.info("nats-server: %s", text)


def _last_word(lines: deque[str]) -> str:
    """The server's own reason, out of its last lines."""
    fatal = [line for line in lines if "[FTL]" in line] or [line for line in lines if "[ERR]" in line]
    reason = fatal[-1] if fatal else (lines[-1] if lines and "[INF]" not in lines[-1] else "")
    return re.sub(r"^(\[\d+\] )?(\[[A-Z]{3}\] )?", ": ", reason) if reason else ""


async def _stop(process: asyncio.subprocess.Process) -> None:
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
