"""The log on files: what is torn and what is damaged, and a disk that refuses."""

from __future__ import annotations

import logging
from pathlib import Path

import google_crc32c
import pytest

from barque.master.raft.disk import Disk
from barque.master.raft.errors import CorruptFileError, NewerFormatError, StoreStartError
from barque.master.raft.messages import Entry, HardState, Kind
from barque.master.raft.segment import (
    HARD_STATE,
    HEADER_BYTES,
    RECORD_HEADER_BYTES,
    pack_entries,
    pack_hard_state,
    pack_header,
    read_hard_state,
    read_records,
)
from barque.master.raft.wal import LogWriteError
from tests.support.faulty_disk import FaultyDisk
from tests.support.raft_log import append, opened, payloads

# A segment without entries: its header, and the hard state that it begins with.
EMPTY_BYTES = HEADER_BYTES + len(pack_hard_state(HardState(), 0, 0))


def written(path: Path, *groups: list[bytes]) -> Path:
    """A log with these groups, one append each; returns its last segment."""
    wal = opened(path)
    for group in groups:
        append(wal, *group)
    wal.close()
    return max(path.glob("*.wal"))


def change(file: Path, offset: int, data: bytes) -> None:
    content = bytearray(file.read_bytes())
    content[offset : offset + len(data)] = data
    file.write_bytes(content)


def flip(file: Path, offset: int) -> None:
    content = bytearray(file.read_bytes())
    content[offset] ^= 0x10
    file.write_bytes(content)


def test_what_was_appended_is_there_at_the_next_start(tmp_path: Path) -> None:
    written(tmp_path, [b"a", b"b"], [b"c"])
    assert payloads(tmp_path) == [b"a", b"b", b"c"]
    assert payloads(tmp_path, after=2) == [b"c"]
    written(tmp_path, [b"d"])
    assert payloads(tmp_path) == [b"a", b"b", b"c", b"d"]


def test_one_append_is_one_sync(tmp_path: Path) -> None:
    disk = FaultyDisk()
    wal = opened(tmp_path, disk)
    before = disk.syncs
    append(wal, *[b"x"] * 100)
    assert disk.syncs == before + 1
    wal.close()


def test_segments_follow_each_other_and_old_ones_are_released(tmp_path: Path) -> None:
    wal = opened(tmp_path, segment_bytes=EMPTY_BYTES + 180)
    for n in range(20):
        append(wal, b"%060d" % n)
    assert len(list(tmp_path.glob("*.wal"))) == 10
    assert wal.size_bytes == sum(f.stat().st_size for f in tmp_path.glob("*.wal"))
    wal.release(through=10)
    assert wal.first_index <= 11
    assert len(list(tmp_path.glob("*.wal"))) == 5
    wal.release(through=20)
    assert len(list(tmp_path.glob("*.wal"))) == 1
    wal.close()
    assert payloads(tmp_path, after=18) == [b"%060d" % 18, b"%060d" % 19]
    with pytest.raises(StoreStartError, match="lacks log entries 11 to"):
        payloads(tmp_path, after=10)


def test_a_torn_end_is_cut_wherever_the_write_stopped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = written(tmp_path, [b"first"], [b"x" * 700])
    whole = file.read_bytes()
    record_bytes = RECORD_HEADER_BYTES + 700
    for missing in range(1, record_bytes + 1):
        file.write_bytes(whole[:-missing])
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert payloads(tmp_path) == [b"first"]
        said = f"cut {record_bytes - missing} bytes at offset {len(whole) - record_bytes}, the torn end"
        assert (said in caplog.text) == (missing < record_bytes)
    written(tmp_path, [b"next"])
    assert payloads(tmp_path) == [b"first", b"next"]


def test_a_sector_that_never_reached_the_medium_is_torn(tmp_path: Path) -> None:
    file = written(tmp_path, [b"first"], [b"x" * 2000])
    change(file, 1024, bytes(512))
    assert payloads(tmp_path) == [b"first"]


def test_a_group_whose_first_record_is_torn_is_cut_as_a_whole(tmp_path: Path) -> None:
    file = written(tmp_path, [b"first"], [b"x" * 2000, b"second", b"third"])
    change(file, 1024, bytes(512))
    assert payloads(tmp_path) == [b"first"]


@pytest.mark.parametrize("record", [0, 1, 2])
def test_a_flipped_bit_stops_the_start_and_names_file_and_offset(tmp_path: Path, record: int) -> None:
    groups = [[b"a" * 100], [b"b" * 100], [b"c" * 100]]
    file = written(tmp_path, *groups)
    size = RECORD_HEADER_BYTES + 100
    start = EMPTY_BYTES + record * size
    for offset in range(start, start + size):
        flip(file, offset)
        with pytest.raises(CorruptFileError) as caught:
            payloads(tmp_path)
        assert caught.value.path == file
        assert caught.value.offset == start
        assert f"damaged at offset {start}" in str(caught.value)
        assert f"loses every write from entry {record + 1} on" in str(caught.value)
        flip(file, offset)
    assert payloads(tmp_path) == [b"a" * 100, b"b" * 100, b"c" * 100]


def test_zeros_over_an_acknowledged_record_are_damage(tmp_path: Path) -> None:
    file = written(tmp_path, [b"a" * 2000], [b"b"])
    change(file, 512, bytes(512))
    with pytest.raises(CorruptFileError, match="later entries state that it was written"):
        payloads(tmp_path)


def test_a_flipped_bit_in_an_older_segment_stops_the_start(tmp_path: Path) -> None:
    wal = opened(tmp_path, segment_bytes=EMPTY_BYTES + 180)
    for n in range(10):
        append(wal, b"%060d" % n)
    wal.close()
    first = min(tmp_path.glob("*.wal"))
    flip(first, EMPTY_BYTES + RECORD_HEADER_BYTES + 3)
    with pytest.raises(CorruptFileError, match="the checksum of entry 1 is wrong"):
        payloads(tmp_path)


def test_an_older_segment_cut_short_stops_the_start(tmp_path: Path) -> None:
    wal = opened(tmp_path, segment_bytes=EMPTY_BYTES + 180)
    for n in range(10):
        append(wal, b"%060d" % n)
    wal.close()
    first = min(tmp_path.glob("*.wal"))
    whole = first.read_bytes()
    for size in (len(whole) - 1, EMPTY_BYTES, EMPTY_BYTES - 1, HEADER_BYTES, HEADER_BYTES - 1):
        first.write_bytes(whole[:size])
        with pytest.raises(CorruptFileError):
            payloads(tmp_path)


def test_a_damaged_header_or_a_newer_format_stops_the_start(tmp_path: Path) -> None:
    file = written(tmp_path, [b"a"])
    for offset in range(HEADER_BYTES):
        flip(file, offset)
        with pytest.raises(CorruptFileError, match="its header does not read"):
            payloads(tmp_path)
        flip(file, offset)
    start = pack_header(1, 1, 0)[:20].replace(b"\x02\x00\x00\x00", b"\x03\x00\x00\x00", 1)
    file.write_bytes(start + google_crc32c.value(start).to_bytes(4, "little") + b"whatever it is then")
    with pytest.raises(NewerFormatError, match="format 3, this release reads up to 2"):
        payloads(tmp_path)


def test_half_made_segments_are_removed(tmp_path: Path) -> None:
    written(tmp_path, [b"a"])
    (tmp_path / "log-00000000000000000002.wal.tmp").write_bytes(b"BARQ")
    assert payloads(tmp_path) == [b"a"]
    assert list(tmp_path.glob("*.tmp")) == []


def test_a_full_disk_refuses_and_leaves_nothing_behind(tmp_path: Path) -> None:
    disk = FaultyDisk()
    wal = opened(tmp_path, disk)
    append(wal, b"kept")
    for space in (0, 10, RECORD_HEADER_BYTES + 5, 150):
        disk.space = space
        with pytest.raises(LogWriteError, match="No space left") as caught:
            append(wal, b"lost" * 10, b"lost too" * 10)
        assert caught.value.undone
        assert payloads(tmp_path) == [b"kept"]
    disk.space = None
    append(wal, b"again")
    wal.close()
    assert payloads(tmp_path) == [b"kept", b"again"]


def test_after_a_failed_sync_the_file_is_abandoned(tmp_path: Path) -> None:
    disk = FaultyDisk()
    wal = opened(tmp_path, disk)
    append(wal, b"kept")
    disk.failing = {"sync"}
    with pytest.raises(LogWriteError, match="cannot sync") as caught:
        append(wal, b"lost")
    assert not caught.value.undone
    with pytest.raises(LogWriteError, match="cannot begin a new log segment") as caught:
        append(wal, b"not even tried")
    assert caught.value.undone
    disk.failing = set()
    append(wal, b"again")
    assert wal.last_index == 2
    assert len(list(tmp_path.glob("*.wal"))) == 2
    append(wal, b"more")
    wal.close()
    assert payloads(tmp_path) == [b"kept", b"again", b"more"]


class LyingDisk(FaultyDisk):
    """A disk that reports the failure of a sync once, and did write everything."""

    def sync(self, fd: int) -> None:
        self._fail_once("sync")
        Disk.sync(self, fd)

    def _fail_once(self, method: str) -> None:
        if method in self.failing:
            self.failing.discard(method)
            raise OSError(5, "Input/output error")


@pytest.mark.parametrize("kept", [0, 1])
def test_what_a_failed_sync_left_whole_in_the_file_stays_void(tmp_path: Path, kept: int) -> None:
    disk = LyingDisk()
    wal = opened(tmp_path, disk)
    if kept:
        append(wal, b"kept")
    disk.failing = {"sync"}
    with pytest.raises(LogWriteError) as caught:
        append(wal, b"void")
    assert caught.value.undone
    assert payloads(tmp_path) == [b"kept"] * kept
    append(wal, b"again")
    wal.close()
    assert payloads(tmp_path) == [b"kept"] * kept + [b"again"]


def test_a_cut_that_fails_abandons_the_file_too(tmp_path: Path) -> None:
    disk = FaultyDisk()
    wal = opened(tmp_path, disk)
    append(wal, b"kept")
    disk.space = 200
    disk.failing = {"truncate"}
    with pytest.raises(LogWriteError) as caught:
        append(wal, b"lost" * 40, b"lost too" * 40)
    assert not caught.value.undone
    disk.space, disk.failing = None, set()
    append(wal, b"again")
    wal.close()
    assert payloads(tmp_path) == [b"kept", b"again"]


def test_a_segment_that_cannot_be_begun_refuses_and_is_tried_again(tmp_path: Path) -> None:
    disk = FaultyDisk()
    wal = opened(tmp_path, disk, segment_bytes=EMPTY_BYTES + 50)
    append(wal, b"a" * 50)
    for failing in ("create", "write", "sync", "rename"):
        disk.failing = {failing}
        with pytest.raises(LogWriteError) as caught:
            append(wal, b"lost")
        assert caught.value.undone
    disk.failing = set()
    append(wal, b"b")
    wal.close()
    assert payloads(tmp_path) == [b"a" * 50, b"b"]


def test_records_read_back_from_bytes_alone() -> None:
    state = HardState(3, "0123456789abcdef", 4)
    entries = [Entry(5, 3, data=b"a"), Entry(6, 3, Kind.EMPTY)]
    data = pack_header(5, 2, 1) + pack_hard_state(state, 4, 0) + pack_entries(entries, 60)
    first, *others = (record for record, _ in read_records(data))
    assert (first.index, first.term, first.kind, read_hard_state(first)) == (4, 3, HARD_STATE, state)
    assert [Entry(record.index, record.term, record.kind, record.data) for record in others] == entries
