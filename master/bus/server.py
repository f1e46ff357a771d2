"""The master's own `nats-server`: configured, started, followed as the masters come and go, and healed.

In: the topology, the masters' pins, this master's certificate. The configuration is rendered purely (`config`) and
reloaded in the running process where something in it changes; only a change of mode (alone, or one of several) takes a
new process, and a new store for its streams. A server that dies, that does not answer any more, or whose JetStream has
stopped is started again, with pauses that grow; after a full disk not before there is room.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
from collections.abc import Callable

from barque.client.clock import Clock
from barque.client.pki import MASTER_PREFIX, Identity, write_private
from barque.master.bus.binary import NoNatsServerError, find_nats_server
from barque.master.bus.config import (
    CLIENTS_CA_FILE,
    CONFIG_FILE,
    IDENTITY_FILE,
    BusSettings,
    MiB,
    render_config,
    store_directories,
)
from barque.master.bus.link import BusAwayError
from barque.master.bus.process import ServerLog, remove_left_over, spawn, stop, write_pid
from barque.master.bus.roster import Roster
from barque.master.bus.topology import Topology
from barque.master.bus.vitals import Probe, Vitals, supervisor_identity

log = logging.getLogger(__name__)

_PID_FILE = "nats.pid"
# After so many starts in a row that failed on its store, a server gets an empty one: that is filled again by the
# other servers and the masters. What the machine refuses is no fault of the store.
_STARTS_ON_A_STORE = 3
_STORE_REMARK = "Can't start JetStream"
_MACHINE_REMARKS = ("no space left", "permission denied", "read-only file system", "too many open files")


class NatsServer:
    """Supervises the process. `fault` is "" while it answers, else one sentence why it does not; `vitals` are None
    where it has not told. Without a `topology` this master is the only one.
    """

    def __init__(
        self,
        settings: BusSettings,
        identity: Callable[[], Identity],
        clock: Clock,
        topology: Callable[[], Topology] | None = None,
        issuer: str = "",
    ) -> None:
        self._settings = settings
        self._patience = settings.patience
        self._identity = identity
        self._clock = clock
        self._issuer = issuer
        self._process: asyncio.subprocess.Process | None = None
        self._written = ""
        self.topology = topology or (lambda: settings.alone(identity().name.removeprefix(MASTER_PREFIX)))
        self.roster = Roster(settings.directory, self.topology, identity, clock, settings.patience)
        self.probe = Probe(
            settings.local_address, supervisor_identity(identity().ca_pem, clock.wall()), settings.patience.answer_s
        )
        self.vitals: Vitals | None = None
        self.fault = "it has not been started yet"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    async def run(self) -> None:
        """Keep a server running, while this master votes, until cancelled; then stop it gracefully."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.roster.run(), name="roster")
            group.create_task(self._supervise(), name="nats-server")

    def reload(self) -> None:
        """Have new connections use the identity as it is now."""
        self._written = ""

    async def _supervise(self) -> None:
        patience = self._patience
        pause_s, failed_on_store = patience.first_pause_s, 0
        while True:
            topology = await self._settled()
            started = self._clock.monotonic()
            try:
                why = await self._run_once(topology)
            except (NoNatsServerError, OSError) as error:
                why = str(error)
            self.vitals = None
            if not why:
                pause_s = patience.first_pause_s
                continue
            self.fault = f"restarting: {why}"
            failed_on_store = failed_on_store + 1 if is_stores_fault(why) else 0
            if failed_on_store >= _STARTS_ON_A_STORE:
                log.warning("the bus's store cannot be read: this server begins with an empty one")
                await self._remove_store(store_directories(topology)[0])
                failed_on_store = 0
            if self._clock.monotonic() - started > patience.stable_s:
                pause_s = patience.first_pause_s
            log.warning("the bus is down: %s; starting it again in %.1f s", why, pause_s)
            await self._clock.sleep(pause_s)
            pause_s = min(2 * pause_s, patience.longest_pause_s)

    async def _settled(self) -> Topology:
        """Wait until this master is to have a server, and where another mode's streams are to go until that is sure."""
        since, present = self._clock.monotonic(), self.topology()
        while not self._may_start(present, self._clock.monotonic() - since):
            if present.own is None:
                self.fault = ""
            await self._clock.sleep(self._patience.look_s)
            before, present = present, self.topology()
            if _mode(before) != _mode(present):
                since = self._clock.monotonic()
        return present

    def _may_start(self, topology: Topology, steady_s: float) -> bool:
        if topology.own is None:
            return False
        other_mode = self._settings.directory / store_directories(topology)[1]
        return steady_s >= self._patience.settle_s or not other_mode.exists()

    async def _run_once(self, topology: Topology) -> str:
        """Start one process and attend to it until its end; return why it ended, "" where that was wanted."""
        directory = self._settings.directory
        binary = await find_nats_server()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        await self._have_room()
        await self._remove_store(store_directories(topology)[1])
        self._write_files(topology)
        await remove_left_over(directory / _PID_FILE, self._clock)
        process = await spawn([str(binary), "-c", str(directory / CONFIG_FILE)])
        assert process.stderr is not None
        self._process = process
        said = ServerLog(self._clock)
        ended = asyncio.create_task(_end(process, said))
        attended = asyncio.create_task(self._attend(process, topology, said))
        try:
            write_pid(directory / _PID_FILE, process.pid)
            await asyncio.wait({ended, attended}, return_when=asyncio.FIRST_COMPLETED)
            return await attended if attended.done() else _why(ended.result(), said)
        finally:
            attended.cancel()
            # Whoever reads its log must go on until it has closed it: a full pipe would keep it from ending.
            await stop(process)
            await asyncio.wait({ended, attended}, timeout=self._patience.answer_s)
            ended.cancel()
            await self.probe.close()
            self._process = None
            (directory / _PID_FILE).unlink(missing_ok=True)

    async def _remove_store(self, name: str) -> None:
        await asyncio.to_thread(shutil.rmtree, self._settings.directory / name, ignore_errors=True)

    async def _attend(self, process: asyncio.subprocess.Process, started_as: Topology, said: ServerLog) -> str:
        """Have a running server follow the topology, and look after its health; return why it must be ended, "" where
        another is to take its place.
        """
        patience, clock = self._patience, self._clock
        began = agreed = answered = clock.monotonic()
        asked, ready = began, False
        while True:
            present, now = self.topology(), clock.monotonic()
            if _mode(present) == _mode(started_as):
                agreed = now
                # Before it is ready, the signal would end it.
                if ready and self._config(present) != self._written:
                    self._write_files(present)
                    process.send_signal(signal.SIGHUP)
            elif now - agreed >= patience.settle_s:
                log.info("the masters are %s now: the bus starts anew", ", ".join(present.masters) or "not known")
                return ""
            if not ready or now - asked >= patience.ask_s:
                asked = now
                fault = await self._examine(present, said)
                answered = clock.monotonic() if fault is None else answered
                ready = ready or fault is None
                if clock.monotonic() - answered > (patience.silence_s if ready else patience.start_s):
                    process.kill()
                    return f"nats-server did not answer for {patience.silence_s:g} s: {fault}"
                if self.vitals is not None and self.vitals.hurt and not self.fault:
                    return f"JetStream has stopped: {self.vitals.hurt}"
            await clock.sleep(patience.look_s if ready else patience.look_first_s)

    async def _examine(self, present: Topology, said: ServerLog) -> str | None:
        """Ask the server how it is; return None where it answered, else why not."""
        try:
            vitals = await self.probe.vitals(present)
        except BusAwayError as error:
            self.roster.missing = frozenset(place.name for place in present.others)
            if self.vitals is not None:
                self.fault = f"nats-server does not answer: {error}"
            return str(error)
        self.vitals = vitals = vitals._replace(hurt=vitals.hurt or said.hurt)
        self.roster.missing = frozenset(vitals.away)
        # A restart would be of no use before there is room.
        self.fault = self._no_room() if vitals.hurt else ""
        return None

    async def _have_room(self) -> None:
        while why := self._no_room():
            self.fault = why
            await self._clock.sleep(self._patience.look_s)

    def _no_room(self) -> str:
        free = shutil.disk_usage(self._settings.directory).free
        if free >= self._settings.room_bytes:
            return ""
        return f"the disk is full: {free // MiB} MiB free, {self._settings.room_bytes // MiB} MiB needed"

    def _config(self, topology: Topology) -> str:
        return render_config(self._settings, topology, self.roster.pins(topology), self._issuer)

    def _write_files(self, topology: Topology) -> None:
        directory = self._settings.directory
        identity = self._identity()
        identity.save(directory, IDENTITY_FILE.removesuffix(".pem"))
        write_private(directory / CLIENTS_CA_FILE, identity.ca_pem + self.probe.certificate_pem)
        self._written = self._config(topology)
        write_private(directory / CONFIG_FILE, self._written.encode())


def is_stores_fault(why: str) -> bool:
    """Whether a server has ended because of what is in its store."""
    return _STORE_REMARK in why and not any(remark in why.lower() for remark in _MACHINE_REMARKS)


def _why(status: int, said: ServerLog) -> str:
    """Why a server ended by itself."""
    if status < 0:
        return f"nats-server was ended by signal {-status}"
    return f"nats-server ended with {status}{said.last_word()}"


def _mode(topology: Topology) -> tuple[str, bool]:
    """What a running server cannot change."""
    return (topology.own.name if topology.own is not None else "", topology.clustered)


async def _end(process: asyncio.subprocess.Process, said: ServerLog) -> int:
    """Read the server's log until its end, and return its exit status."""
    assert process.stderr is not None
    await said.follow(process.stderr)
    return await process.wait()
