"""Snapshots between members: the pieces of one that is sent, and the state and file that grow from those received.

A piece is one section, packed as in a file; Secrets go plain, since the way between members is encrypted and each seals
with keys of its own. The receiver reads every piece into a new state as it comes, a few milliseconds each, and writes
it to a file of its own, Secrets sealed. `install` puts that file under its name and lets the log begin anew after it;
only then the state is served.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from barque.master.raft.messages import Configuration
from barque.master.raft.ports import SnapshotHead
from barque.master.store.fsm import StateMachine
from barque.master.store.keyring import KeyRing
from barque.master.store.records import SEALED_RESOURCES
from barque.master.store.replica import Replica
from barque.master.store.restoring import InLane
from barque.master.store.snapshot import (
    End,
    Head,
    Objects,
    Section,
    SnapshotWriter,
    encode_section,
    load_section,
    pack_section,
    read_packed,
    seal_secrets,
    unpack_section,
)


class FileSource:
    """Implements `ports.SnapshotSource`: a snapshot file, `data` of `path`, whose head is `head`."""

    def __init__(self, path: Path, data: bytes, head: Head, configuration: Configuration, ring: KeyRing) -> None:
        self._path = path
        self._data = data
        self._ring = ring
        self.head = SnapshotHead(head.index, head.term, configuration)

    async def pieces(self, start: int) -> AsyncIterator[bytes]:
        for number, (section, packed) in enumerate(read_packed(self._path, self._data, self._ring)):
            if number >= start:
                yield packed or pack_section(encode_section(section))
            await asyncio.sleep(0)

    def close(self) -> None:
        self._data = b""


class Room(NamedTuple):
    """Where a received snapshot goes: its file, the lane that writes it, and who takes over what is complete."""

    cluster_id: str
    ring: KeyRing
    writer: SnapshotWriter
    in_lane: InLane
    # Before values are sealed (`KeyRing.reserve_uses`).
    reserve_uses: Callable[[], Awaitable[None]]
    # Puts the file in place, begins the log anew and serves the state. Raises `OSError`: nothing has changed then.
    install: Callable[[SnapshotWriter, Replica], Awaitable[None]]
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
        await self._room.install(self._room.writer, replica)
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
        if isinstance(section, Objects) and any(row.key.resource in SEALED_RESOURCES for row in section.rows):
            await room.reserve_uses()
            await room.in_lane(lambda: room.writer.add(seal_secrets(section.rows, room.ring)))
        else:
            await room.in_lane(lambda: room.writer.add_packed(piece))
