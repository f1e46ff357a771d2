"""Snapshots between members: the pieces of one that is sent, and the state and file that grow from those received.

A piece is one section, packed as in a file; Secrets go plain, since the way between members is encrypted and each seals
with keys of its own. The receiver reads every piece into a new state as it comes, a few milliseconds each, and writes
it to a file of its own, Secrets sealed. `install` puts that file under its name and lets the log begin anew after it;
only then the state is served.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import NamedTuple, Protocol, TypeVar

from barque.master.raft.disk import Disk
from barque.master.raft.errors import CorruptFileError, KeyMissingError
from barque.master.raft.ports import SnapshotHead, SnapshotSink, SnapshotSource
from barque.master.store.directory import Directory
from barque.master.store.fsm import StateMachine
from barque.master.store.keyring import KeyRing
from barque.master.store.port import StoreUnavailableError
from barque.master.store.replica import Replica
from barque.master.store.restoring import InLane
from barque.master.store.snapshot import (
    End,
    Head,
    Objects,
    Section,
    SnapshotFile,
    SnapshotWriter,
    encode_section,
    holds_secrets,
    load_section,
    pack_section,
    read_head,
    read_packed,
    seal_secrets,
    secret_slices,
    unpack_section,
)
from barque.master.store.upkeep import Upkeep

T = TypeVar("T")


class FileSource:
    """Implements `ports.SnapshotSource`: a snapshot `file` with its bytes. `damaged` hears that it does not read."""

    def __init__(
        self, file: SnapshotFile, data: bytes, head: SnapshotHead, ring: KeyRing, damaged: Callable[[], None]
    ) -> None:
        self.head = head
        self._file = file
        self._data = data
        self._ring = ring
        self._damaged = damaged

    async def pieces(self, start: int) -> AsyncIterator[bytes]:
        number = 0
        try:
            for section, packed in read_packed(self._file.path, self._data, self._ring):
                for piece in _pieces(section, packed):
                    if number >= start:
                        yield pack_section(encode_section(piece)) if isinstance(piece, Objects) else piece
                    number += 1
                await asyncio.sleep(0)
        except CorruptFileError as e:
            self._damaged()
            raise OSError(f"{e}; another snapshot is taken") from e
        except KeyMissingError as e:
            # A new key has been made since, and the state written anew with it: the next offer is of that.
            raise OSError(str(e)) from e

    def close(self) -> None:
        self._data = b""


def _pieces(section: Section, packed: bytes) -> Iterator[Objects | bytes]:
    """What a section is sent as: itself, or its Secrets, which are packed anew."""
    if packed:
        yield packed
    elif isinstance(section, Objects):
        yield from map(Objects, secret_slices(section.rows))


class Room(NamedTuple):
    """Where a received snapshot goes: its file, the lane that writes it, and who takes over what is complete."""

    cluster_id: str
    ring: KeyRing
    writer: SnapshotWriter
    in_lane: InLane
    # Before values are sealed (`KeyRing.reserve_uses`).
    reserve_uses: Callable[[], Awaitable[None]]
    # Puts the file in place, begins the log anew and serves the state. Raises `OSError`: nothing has changed then.
    install: Callable[[Replica], Awaitable[None]]
    # Lets go of the file of a transfer that has failed.
    abort: Callable[[SnapshotWriter], None]


class FileSink:
    """Implements `ports.SnapshotSink`."""

    def __init__(self, head: SnapshotHead, room: Room) -> None:
        self._head = head
        self._room = room
        self._machine = StateMachine()
        self._began = self._complete = self._ended = False
        self._objects = 0

    async def add(self, piece: bytes) -> None:
        section = unpack_section(piece)
        if section is None or self._complete or self._began == isinstance(section, Head):
            raise ValueError("a piece of the snapshot is none")
        if isinstance(section, Head):
            piece = pack_section(encode_section(self._own_head(section)))
            self._began = True
        elif isinstance(section, Objects):
            self._objects += len(section.rows)
        elif isinstance(section, End):
            if section.objects != self._objects:
                raise ValueError(f"the snapshot has {self._objects} objects, its end tells of {section.objects}")
            self._complete = True
        load_section(self._machine, section)
        await self._write(section, piece)

    async def install(self) -> None:
        if not self._complete:
            raise ValueError("the end of the snapshot is missing")
        head = self._head
        replica = Replica(self._machine, head.index, head.term, head.configuration)
        await self._room.install(replica)
        self._ended = True

    def abort(self) -> None:
        if not self._ended:
            self._ended = True
            self._room.abort(self._room.writer)

    def _own_head(self, found: Head) -> Head:
        """It stands for all before it, whatever this member's log says."""
        head = self._head
        if found.cluster_id != self._room.cluster_id or found.index != head.index:
            raise ValueError(f"the snapshot is of entry {found.index} of cluster {found.cluster_id}")
        return Head(head.index, head.term, found.revision, found.cluster_id, True, head.configuration)

    async def _write(self, section: Section, piece: bytes) -> None:
        room = self._room
        if isinstance(section, Objects) and holds_secrets(section):
            await room.reserve_uses()
            await room.in_lane(lambda: room.writer.add(seal_secrets(section.rows, room.ring)))
        else:
            await room.in_lane(lambda: room.writer.add_packed(piece))


class Served(Protocol):
    """The engine, whose state is sent and replaced."""

    @property
    def head(self) -> Head: ...

    def replace(self, replica: Replica) -> None:
        """A snapshot of another member has taken the place of log and state."""
        ...

    async def in_log(self, job: Callable[[], None]) -> None: ...


class Exchange:
    """Where snapshots come from that others need, and where those go that this member needs."""

    def __init__(self, served: Served, upkeep: Upkeep, directory: Directory, disk: Disk, ring: KeyRing) -> None:
        self._served = served
        self._upkeep = upkeep
        self._directory = directory
        self._disk = disk
        self._ring = ring

    async def offer(self, after: int) -> SnapshotSource:
        """As `Application.offer`."""
        try:
            file = await self._upkeep.snapshot(after)
        except StoreUnavailableError as e:
            raise OSError(str(e)) from e
        head, data = await self._in_lane(lambda: (read_head(file, self._disk), self._disk.read(file.path)))
        if head is None:
            self._upkeep.distrust(file)
            raise OSError(f"{file.path} is damaged: its head does not read; another snapshot is taken")
        # Files of a release without groups tell of none.
        configuration = head.configuration or self._served.head.configuration
        assert configuration is not None, "a state's own head tells of its members"
        told = SnapshotHead(head.index, head.term, configuration)
        return FileSource(file, data, told, self._ring, lambda: self._upkeep.distrust(file))

    async def accept(self, head: SnapshotHead) -> SnapshotSink:
        """As `Application.accept`."""
        key_id = self._ring.key_id
        writer = await self._in_lane(lambda: SnapshotWriter(self._directory.path, self._disk, head.index))

        async def reserve_uses() -> None:
            await self._served.in_log(self._ring.reserve_uses)

        async def install(replica: Replica) -> None:
            await self._upkeep.installed(writer, replica.index, key_id)
            self._served.replace(replica)

        cluster_id, abort = self._directory.cluster_id, self._upkeep.abort
        return FileSink(head, Room(cluster_id, self._ring, writer, self._in_lane, reserve_uses, install, abort))

    async def _in_lane(self, job: Callable[[], T]) -> T:
        try:
            return await self._upkeep.in_lane(job)
        except StoreUnavailableError as e:
            # A store that stops lets go of what is on its way; that is no fault of ours.
            raise OSError(str(e)) from e
