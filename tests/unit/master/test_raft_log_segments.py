"""What a member promised and what it gave up, as segments tell it: hard states, replaced tails, files that are missing,
and logs of the release before elections.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from barque.master.raft.errors import CorruptFileError, Remedy, StoreStartError
from barque.master.raft.messages import Entry, HardState, Kind
from barque.master.raft.segment import HARD_STATE, HEADER_BYTES, Record, read_header, read_records
from barque.master.raft.wal import LogWriteError, open_wal
from tests.support.faulty_disk import FaultyDisk, QuickDisk
from tests.support.raft_log import append, former_segment, numbered, opened, payloads

FIRST = HardState(1, "a" * 16, 0)
SECOND = HardState(2, "b" * 16, 1)


def kept_state(path: Path) -> HardState:
    """What a start finds."""
    wal = opened(path)
    wal.close()
    return wal.hard_state


def segments(path: Path) -> list[Path]:
    return sorted(path.glob("*.wal"))


def records(file: Path) -> list[Record]:
    return [record for record, _ in read_records(file.read_bytes())]


def flip(file: Path, offset: int) -> None:
    content = bytearray(file.read_bytes())
    content[offset] ^= 0x10
    file.write_bytes(content)


def test_kinds_and_terms_come_back(tmp_path: Path) -> None:
    entries = [Entry(1, 1, Kind.EMPTY), Entry(2, 1, Kind.CONFIGURATION, b"who"), Entry(3, 4, Kind.DATA, b"what")]
    wal = opened(tmp_path)
    wal.append(entries, FIRST)
    wal.close()
    wal = opened(tmp_path)
    assert [Entry(r.index, r.term, r.kind, r.data) for r in wal.entries(0)] == entries
    wal.close()


def test_the_newest_hard_state_holds_wherever_it_stands(tmp_path: Path) -> None:
    wal = opened(tmp_path)
    assert wal.hard_state == HardState()
    wal.append([], FIRST)
    assert kept_state(tmp_path) == wal.hard_state == FIRST
    append(wal, b"a", b"b")
    assert kept_state(tmp_path) == FIRST
    append(wal, b"c", state=SECOND)
    assert kept_state(tmp_path) == wal.hard_state == SECOND
    append(wal, b"d")
    wal.close()
    assert kept_state(tmp_path) == SECOND
    assert payloads(tmp_path) == [b"a", b"b", b"c", b"d"]


def test_an_append_of_both_is_one_sync(tmp_path: Path) -> None:
    disk = FaultyDisk()
    wal = opened(tmp_path, disk)
    before = disk.syncs
    append(wal, b"a", b"b", state=FIRST)
    assert disk.syncs == before + 1
    wal.append([], None)
    assert disk.syncs == before + 1
    wal.close()


def test_the_hint_of_what_is_committed_never_speaks_of_what_a_torn_end_lost(tmp_path: Path) -> None:
    wal = opened(tmp_path)
    append(wal, b"a")
    append(wal, b"b", b"c", state=HardState(1, "", 3))
    wal.close()
    (file,) = segments(tmp_path)
    file.write_bytes(file.read_bytes()[:-1])
    wal = opened(tmp_path)
    assert (wal.last_index, wal.hard_state) == (2, HardState(1, "", 1))
    wal.close()


def test_every_segment_begins_with_the_newest_hard_state(tmp_path: Path) -> None:
    wal = opened(tmp_path)
    append(wal, b"a", state=FIRST)
    wal.roll()
    append(wal, b"b", state=SECOND)
    wal.roll()
    append(wal, b"c")
    first, second, third = segments(tmp_path)
    assert [record.kind for record in records(first)] == [HARD_STATE, HARD_STATE, Kind.DATA]
    assert [record.kind for record in records(second)] == [HARD_STATE, HARD_STATE, Kind.DATA]
    assert [record.kind for record in records(third)] == [HARD_STATE, Kind.DATA]
    wal.release(through=2)
    assert segments(tmp_path) == [third]
    wal.close()
    assert kept_state(tmp_path) == SECOND


def test_a_hard_state_that_is_torn_is_cut_and_one_that_has_changed_stops_the_start(tmp_path: Path) -> None:
    wal = opened(tmp_path)
    wal.append([], FIRST)
    wal.append([], SECOND)
    wal.close()
    (file,) = segments(tmp_path)
    whole = file.read_bytes()
    begun, first, second = records(file)
    for offset in range(begun.offset, len(whole)):
        flip(file, offset)
        with pytest.raises(CorruptFileError, match="is damaged at offset") as caught:
            kept_state(tmp_path)
        record = next(record for record in (second, first, begun) if record.offset <= offset)
        assert caught.value.offset == record.offset
        assert ("removing the file" in str(caught.value)) == (record is begun)
        flip(file, offset)
    for size in range(second.offset, len(whole)):
        file.write_bytes(whole[:size])
        assert kept_state(tmp_path) == FIRST
    for size in range(HEADER_BYTES, first.offset):
        # No file gets its name before the first one is synced.
        file.write_bytes(whole[:size])
        with pytest.raises(CorruptFileError, match="the file was begun with"):
            kept_state(tmp_path)


def test_entries_take_the_place_of_a_tail(tmp_path: Path) -> None:
    wal = opened(tmp_path)
    append(wal, b"a", b"b", b"c", term=1)
    append(wal, b"B", after=1, term=2, state=SECOND)
    assert wal.last_index == 2
    append(wal, b"C", b"D", term=2)
    wal.close()
    assert payloads(tmp_path) == [b"a", b"B", b"C", b"D"]
    assert kept_state(tmp_path) == SECOND


def test_a_replaced_tail_reaches_over_segments_and_two_in_a_row_hold(tmp_path: Path) -> None:
    wal = opened(tmp_path)
    for payload in (b"a", b"b", b"c", b"d"):
        append(wal, payload, payload)
        wal.roll()
    append(wal, b"x", after=5)
    append(wal, b"y", after=3)
    assert [int(file.stem[4:]) for file in segments(tmp_path)] == [1, 3, 4]
    wal.close()
    assert payloads(tmp_path) == [b"a", b"a", b"b", b"y"]
    wal = opened(tmp_path)
    append(wal, b"z", after=0)
    append(wal, b"z")
    wal.close()
    assert payloads(tmp_path) == [b"z", b"z"]
    assert len(segments(tmp_path)) == 1


class StubbornDisk(QuickDisk):
    """Does not remove the file of that name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def remove(self, path: Path) -> None:
        if path.name == self.name:
            raise OSError(5, "Input/output error")
        super().remove(path)


def test_files_that_are_void_are_gone_before_the_one_that_voids_them(tmp_path: Path) -> None:
    disk = StubbornDisk("log-00000000000000000003.wal")
    wal = opened(tmp_path, disk)
    append(wal, b"a")
    for payload in (b"lost", b"lost too"):
        wal.roll()
        append(wal, payload)
    append(wal, b"b", after=1)
    append(wal, b"c")
    wal.roll()
    append(wal, b"d")
    assert len(segments(tmp_path)) == 4
    with pytest.raises(OSError, match="Input/output error"):
        wal.release(through=3)
    assert len(segments(tmp_path)) == 4
    disk.name = ""
    wal.release(through=3)
    assert len(segments(tmp_path)) == 1
    wal.close()
    assert payloads(tmp_path, after=3) == [b"d"]


def test_entries_that_would_leave_a_gap_are_refused(tmp_path: Path) -> None:
    wal = opened(tmp_path)
    append(wal, b"a", b"b")
    wal.roll()
    append(wal, b"c")
    wal.release(through=2)
    for entries in (numbered(4, [b"x"]), numbered(1, [b"x"]), [*numbered(3, [b"x"]), *numbered(5, [b"y"])]):
        with pytest.raises(ValueError, match="do not go on from 3"):
            wal.append(entries)
    append(wal, b"d")
    wal.close()
    assert payloads(tmp_path, after=2) == [b"c", b"d"]


def test_a_segment_that_was_begun_by_halves_takes_nothing_from_what_is_acknowledged_later(tmp_path: Path) -> None:
    """Its name stands there, though the disk refused to make it durable; the next start would find it."""
    disk = FaultyDisk()
    wal = opened(tmp_path, disk)
    append(wal, b"a")
    disk.failing = {"sync_directory"}
    with pytest.raises(OSError, match="Input/output error"):
        wal.roll()
    assert len(segments(tmp_path)) == 2
    with pytest.raises(LogWriteError) as caught:
        append(wal, b"lost")
    assert caught.value.undone
    disk.failing = set()
    append(wal, b"b")
    assert payloads(tmp_path) == [b"a", b"b"]
    wal.close()


def test_a_snapshot_in_the_place_of_the_log(tmp_path: Path) -> None:
    wal = opened(tmp_path)
    append(wal, b"a", b"b", state=FIRST)
    wal.roll()
    append(wal, b"c")
    wal.skip_to(2)
    assert (wal.first_index, wal.last_index, list(wal.entries(2))) == (3, 2, [])
    with pytest.raises(StoreStartError, match="lacks log entries 2 to 2"):
        list(wal.entries(1))
    wal.roll()
    assert len(segments(tmp_path)) == 1
    append(wal, b"C")
    wal.skip_to(10)
    wal.release(through=10)
    assert [file.name for file in segments(tmp_path)] == ["log-00000000000000000011.wal"]
    wal.close()
    wal = opened(tmp_path)
    assert (wal.first_index, wal.last_index, wal.hard_state) == (11, 10, FIRST)
    wal.close()


def three_segments(path: Path) -> list[Path]:
    """`a b c d e f`: the second voids the end of the first, the third that of the second."""
    wal = opened(path)
    append(wal, b"a", b"b", b"lost", b"lost", state=FIRST)
    append(wal, b"c", b"d", b"lost", after=2)
    append(wal, b"e", b"f", after=4)
    wal.close()
    assert payloads(path) == [b"a", b"b", b"c", b"d", b"e", b"f"]
    return segments(path)


def test_a_missing_segment_stops_the_start_though_an_older_one_has_its_entries(tmp_path: Path) -> None:
    first, second, third = three_segments(tmp_path)
    away = second.rename(second.with_suffix(".away"))
    with pytest.raises(StoreStartError, match=rf"lacks log entries from 1 on, before {third.name}: a file is missing"):
        payloads(tmp_path)
    away.rename(second)
    first.unlink()
    assert payloads(tmp_path, after=2) == [b"c", b"d", b"e", b"f"]
    with pytest.raises(StoreStartError, match="lacks log entries 1 to 2, which the state needs"):
        payloads(tmp_path)


def test_a_log_without_files_is_not_a_new_one(tmp_path: Path) -> None:
    with pytest.raises(StoreStartError, match="has no log files any more: restore the directory from a backup"):
        open_wal(tmp_path, QuickDisk(), create=False)


def test_a_file_under_another_name_is_named(tmp_path: Path) -> None:
    *_, third = three_segments(tmp_path)
    third.rename(third.with_name("log-00000000000000000099.wal"))
    with pytest.raises(CorruptFileError, match="its first entry is 5; give the file its own name back"):
        payloads(tmp_path)


def test_a_member_of_several_joins_anew_and_never_comes_back_from_a_copy(tmp_path: Path) -> None:
    """A copy has forgotten what it promised to the others."""
    first, second, third = three_segments(tmp_path)
    said: list[str] = []

    def starts() -> None:
        with pytest.raises(StoreStartError) as caught:
            list(open_wal(tmp_path, QuickDisk(), create=False, remedy=Remedy("m2")).entries(0))
        said.append(str(caught.value))

    for file, offset in ((third, -1), (second, HEADER_BYTES + 60), (first, 5)):
        flip(file, offset)
        starts()
        flip(file, offset)
    second.rename(second.with_suffix(".away"))
    starts()
    for file in (first, third):
        file.unlink()
    starts()
    first.touch()
    starts()
    assert len(said) == 6
    for line in said:
        assert line.endswith(
            "; the other masters have the data, and a copy must never be put back here: run "
            "`barque cluster remove-member m2` on one of them, move this master's data directory away, and run "
            "`barque master join` here"
        ) or line.startswith(f"{tmp_path} has no log files any more: the other masters have the data")
        assert "backup" not in line
        assert "\n" not in line


def test_a_log_of_the_release_before_elections_is_read_and_goes_on(tmp_path: Path) -> None:
    old = tmp_path / "log-00000000000000000001.wal"
    newer = tmp_path / "log-00000000000000000004.wal"
    old.write_bytes(former_segment(1, [[b"a"], [b"b", b"c"], [b"void"]]))
    newer.write_bytes(former_segment(4, [[b"d"]]))
    before = old.read_bytes(), newer.read_bytes()
    wal = opened(tmp_path)
    assert [(r.index, r.term, r.kind, r.data) for r in wal.entries(0)] == [
        (index, 0, Kind.DATA, data) for index, data in enumerate((b"a", b"b", b"c", b"d"), 1)
    ]
    assert wal.hard_state == HardState()
    assert (old.read_bytes(), newer.read_bytes()) == before
    append(wal, b"e", term=1, state=FIRST)
    assert [read_header(file.read_bytes()).format for file in segments(tmp_path)] == [1, 1, 2]
    assert payloads(tmp_path) == [b"a", b"b", b"c", b"d", b"e"]
    assert kept_state(tmp_path) == FIRST
    append(wal, b"C", after=2, term=2)
    append(wal, b"D", term=2)
    assert payloads(tmp_path) == [b"a", b"b", b"C", b"D"]
    assert kept_state(tmp_path) == FIRST
    wal.roll()
    wal.release(through=4)
    assert len(segments(tmp_path)) == 1
    wal.close()


def test_an_old_log_that_ends_empty_torn_or_damaged(tmp_path: Path) -> None:
    file = tmp_path / "log-00000000000000000001.wal"
    file.write_bytes(former_segment(1, []))
    wal = opened(tmp_path)
    append(wal, b"a")
    wal.close()
    assert payloads(tmp_path) == [b"a"]
    whole = former_segment(1, [[b"a"], [b"b" * 600], [b"c"]])
    ends = [len(former_segment(1, groups)) for groups in ([[b"a"]], [[b"a"], [b"b" * 600]])]
    for size in range(ends[0], ends[1]):
        file.write_bytes(whole[:size])
        assert payloads(tmp_path) == [b"a"]
    file.write_bytes(whole)
    flip(file, ends[0] + 3)
    with pytest.raises(CorruptFileError, match=f"at offset {ends[0]}: .*later entries state that it was written"):
        payloads(tmp_path)
    flip(file, ends[0] + 3)
    assert payloads(tmp_path) == [b"a", b"b" * 600, b"c"]
    file.write_bytes(whole[: ends[1]])
    flip(file, ends[0] + 3)
    with pytest.raises(CorruptFileError, match=f"at offset {ends[0]}"):
        payloads(tmp_path)
