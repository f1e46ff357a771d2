"""`Restoring`: bringing a saved state into the group.

The whole file is read and checked before anything is proposed. Then its sections go through the log, one after another,
so that every member gathers the same state beside the one it serves; the end entry puts it in its place, on every
member between the same two writes (see `replica`). Until that entry is applied nothing has changed, whatever ends the
restore before it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from barque.master.raft.disk import Disk
from barque.master.raft.errors import CorruptFileError, KeyMissingError, NewerFormatError
from barque.master.raft.ports import MAX_PAYLOAD_BYTES
from barque.master.store.keyring import KeyRing
from barque.master.store.port import Restored, SnapshotRefusedError, StoreUnavailableError
from barque.master.store.proposals import OutcomeUnknownError
from barque.master.store.records import Command, RestoreBegin, RestoreEnd, RestoreSection
from barque.master.store.replica import Turn
from barque.master.store.snapshot import End, Objects, Section, holds_secrets, read_packed, secret_slices

# Proposes a command and waits until it is applied here. Raises `StoreUnavailableError`, `OutcomeUnknownError`.
Propose = Callable[[Command], Awaitable[Turn]]


# What an entry takes, but for what else it says.
_SECTION_BYTES = MAX_PAYLOAD_BYTES - 1024


class InLane(Protocol):
    async def __call__(self, job: Callable[[], Any], /) -> Any: ...


class Restoring:
    """One restore, named `name`, by way of the file `spool`: `read`, then `carry_out`."""

    def __init__(self, spool: Path, disk: Disk, ring: KeyRing, in_lane: InLane, propose: Propose, name: str) -> None:
        self._spool = spool
        self._disk = disk
        self._ring = ring
        self._in_lane = in_lane
        self._propose = propose
        self._name = name
        self._data = b""

    async def read(self, chunks: AsyncIterator[bytes]) -> None:
        """Take the file in and see that it is whole. Raises `SnapshotRefusedError`, `StoreUnavailableError`."""
        fd = await self._on_disk(lambda: self._disk.create(self._spool))
        offset = 0
        try:
            async for chunk in chunks:
                await self._on_disk(partial(self._disk.write, fd, chunk, offset))
                offset += len(chunk)
        finally:
            await self._in_lane(lambda: self._disk.close(fd))
        try:
            await self._on_disk(self._ring.read_foreign)
            self._data = await self._on_disk(lambda: self._disk.read(self._spool))
            for _, packed in read_packed(self._spool, self._data, self._ring):
                if len(packed) > _SECTION_BYTES:
                    raise SnapshotRefusedError(f"the file has a section of {len(packed)} bytes, which no log takes")
                await asyncio.sleep(0)
        except CorruptFileError as e:
            raise SnapshotRefusedError(f"the file is damaged at offset {e.offset}: {e.why}") from e
        except KeyMissingError as e:
            raise SnapshotRefusedError(e.why) from e
        except NewerFormatError as e:
            raise SnapshotRefusedError(str(e)) from e

    async def carry_out(self) -> Restored:
        """Raises `StoreUnavailableError`; it says where nothing was restored."""
        number = objects = 0
        try:
            await self._propose(RestoreBegin(self._name))
            for section, packed in read_packed(self._spool, self._data, self._ring):
                if isinstance(section, Objects):
                    objects += len(section.rows)
                if isinstance(section, End):
                    break
                for part in self._parts(section, packed, number):
                    await self._propose(part)
                    number += 1
        except (OutcomeUnknownError, StoreUnavailableError) as e:
            # The others need not wait for sections that never come.
            with contextlib.suppress(OutcomeUnknownError, StoreUnavailableError):
                await self._propose(RestoreEnd(self._name, -1, 0))
            why = str(e).removesuffix("; nothing was written")
            raise StoreUnavailableError(f"{why}; nothing was restored") from e
        try:
            turn = await self._propose(RestoreEnd(self._name, number, objects))
        except OutcomeUnknownError as e:
            raise StoreUnavailableError(
                f"{e}: where the cluster's revision has risen by a thousand million, the state was restored"
            ) from e
        if turn.restored is None:
            raise StoreUnavailableError(turn.refusal)
        return turn.restored

    def _parts(self, section: Section, packed: bytes, number: int) -> Iterator[RestoreSection]:
        """The entries that carry a section, from `number` on. Secrets go by themselves, since each log seals them; also
        those of an old file, where they stand plain among others.
        """
        if not isinstance(section, Objects) or not holds_secrets(section):
            yield RestoreSection(self._name, number, packed)
            return
        for at, rows in enumerate(secret_slices(section.rows), number):
            yield RestoreSection(self._name, at, secrets=rows)

    async def _on_disk(self, job: Callable[[], Any]) -> Any:
        try:
            return await self._in_lane(job)
        except OSError as e:
            raise StoreUnavailableError(f"{e}; nothing was restored") from e
