"""Builders for tests of a member's log, and a model of what a start may find in it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import google_crc32c
import msgspec

from barque.master.raft.disk import Disk
from barque.master.raft.messages import Entry, HardState
from barque.master.raft.wal import Wal, open_wal
from tests.support.faulty_disk import QuickDisk


def opened(path: Path, disk: Disk | None = None, segment_bytes: int = 1 << 20) -> Wal:
    return open_wal(path, disk or QuickDisk(), create=True, segment_bytes=segment_bytes)


def numbered(after: int, payloads: Sequence[bytes], term: int = 0) -> list[Entry]:
    """Entries with data that follow entry `after`."""
    return [Entry(index, term, data=payload) for index, payload in enumerate(payloads, after + 1)]


def append(wal: Wal, *payloads: bytes, after: int | None = None, term: int = 0, state: HardState | None = None) -> None:
    """At the end of the log, or in the place of what follows entry `after`."""
    wal.append(numbered(wal.last_index if after is None else after, payloads, term), state)


def payloads(path: Path, after: int = 0) -> list[bytes]:
    """What a start finds."""
    wal = opened(path)
    found = [record.data for record in wal.entries(after)]
    wal.close()
    return found


class LogState(NamedTuple):
    """What a start finds when it reads on from entry `after`."""

    after: int = 0
    entries: tuple[Entry, ...] = ()
    hard_state: HardState = HardState()

    @property
    def last_index(self) -> int:
        return self.after + len(self.entries)

    def upto(self, index: int) -> LogState:
        return self._replace(entries=self.entries[: index - self.after])

    def with_hard_state(self, state: HardState) -> LogState:
        return self._replace(hard_state=msgspec.structs.replace(state, commit=min(state.commit, self.last_index)))

    def read_from(self, wal: Wal) -> LogState | None:
        """What `wal`, just opened, has after the same entry; None where it does not reach back so far."""
        if wal.first_index > self.after + 1 or wal.last_index < self.after:
            return None
        entries = tuple(Entry(r.index, r.term, r.kind, r.data) for r in wal.entries(self.after))
        return LogState(self.after, entries, wal.hard_state)


class LogModel:
    """`now` is what the log of a running member holds; `allowed` what a start may find, were there one now.

    Before each call on the log its `try_` twin is called, then `held`, or `failed`.
    """

    def __init__(self) -> None:
        self.now = LogState()
        self.allowed = [self.now]
        self._next = self.now
        self._undone: list[LogState] = []

    def try_append(self, entries: Sequence[Entry], state: HardState | None) -> None:
        kept = self.now.upto(entries[0].index - 1) if entries else self.now
        voting = kept.with_hard_state(state or kept.hard_state)
        self._undone = [*self.allowed, kept]
        parts = [voting._replace(entries=(*kept.entries, *entries[:count])) for count in range(len(entries) + 1)]
        self.allowed = [*self._undone, *parts]
        self.now, self._next = kept, parts[-1]

    def try_skip(self, index: int) -> None:
        """Followed by what begins a segment."""
        self._next = LogState(index, (), self.now.hard_state)
        self.allowed = self._undone = [*self.allowed, self._next]
        self.now = self._next

    def try_release(self, through: int) -> None:
        """Nobody reads what is before it any more."""
        self._next = self.now = _without(self.now, through)
        self.allowed = self._undone = [_without(state, through) for state in self.allowed]

    def try_roll(self) -> None:
        self._next, self._undone = self.now, self.allowed

    def held(self) -> None:
        self.now = self._next
        self.allowed = [self.now]

    def failed(self, *, undone: bool) -> None:
        if undone:
            self.allowed = self._undone

    def started(self, wal: Wal) -> LogState:
        """What `wal`, just opened, holds; fails where that is not allowed."""
        for state in self.allowed:
            if state.read_from(wal) == state:
                return state
        found = self.now.read_from(wal) or (wal.first_index, wal.last_index)
        raise AssertionError(f"found {found}, allowed are {self.allowed}")

    def find(self, path: Path) -> LogState:
        """What a start finds in the directory; fails where that is not allowed."""
        wal = opened(path)
        try:
            return self.started(wal)
        finally:
            wal.close()

    def go_on_from(self, state: LogState) -> None:
        self.now = state
        self.allowed = [state]


def _without(state: LogState, through: int) -> LogState:
    through = max(state.after, min(through, state.last_index))
    return state._replace(after=through, entries=state.entries[through - state.after :])


def former_segment(first_index: int, groups: Sequence[Sequence[bytes]]) -> bytes:
    """A segment as the release before elections wrote it (format 1); one append each."""
    data = _checked(struct.pack("<8sIQ", b"BARQUEWL", 1, first_index))
    index = first_index - 1
    for group in groups:
        durable = index
        for payload in group:
            index += 1
            crc = google_crc32c.value(payload)
            data += _checked(struct.pack("<4sIIQQQI", b"\xb5rec", len(payload), 1, index, 0, durable, crc)) + payload
    return data


def _checked(header: bytes) -> bytes:
    return header + google_crc32c.value(header).to_bytes(4, "little")
