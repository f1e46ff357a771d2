"""Faults that were found by reading: what several parts of the store do at the same time, and what is out of bounds."""

from __future__ import annotations

import asyncio
import base64
import errno
import os
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from barque.client.clock import SystemClock
from barque.master.raft.append_queue import AppendQueue
from barque.master.raft.disk import Disk
from barque.master.raft.errors import CorruptFileError, KeyMissingError
from barque.master.raft.member import MemberSettings
from barque.master.raft.messages import (
    Append,
    AppendReply,
    Configuration,
    Entry,
    HardState,
    Heartbeat,
    Kind,
    Message,
    encode_configuration,
    flaw_of,
)
from barque.master.raft.ports import SnapshotHead
from barque.master.raft.ready import Ready
from barque.master.store import engine_raft, snapshot
from barque.master.store.directory import Directory, Identity
from barque.master.store.engine_raft import EngineRaft, Settings
from barque.master.store.fsm import StateMachine
from barque.master.store.group_changes import GroupChanges
from barque.master.store.records import RestoreBegin, RestoreEnd, RestoreSection, encode_command, encode_entry
from barque.master.store.recovery import Reader
from barque.master.store.snapshot import Head, Objects, SnapshotFile, encode_section, encode_sections, read_packed
from barque.master.store.snapshot_transfer import FileSource
from tests.support.clock import FakeClock, settle
from tests.support.faulty_disk import QuickDisk
from tests.support.raft_group import open_store
from tests.support.store import a_pod, a_ring, a_ring_in_memory, a_secret, entropy, unpacked

SMALL = Settings(segment_bytes=20_000, snapshot_log_bytes=50_000)
TEXT = "correct horse battery staple"


async def store_at(root: Path, settings: Settings = SMALL, disk: Disk | None = None) -> EngineRaft:
    return await open_store(root / "store", FakeClock(), settings, disk=disk or QuickDisk(), entropy=entropy())


async def at_rest(store: EngineRaft) -> None:
    while store._upkeep.task is not None:
        await asyncio.wait([store._upkeep.task])


async def chunks_of(data: bytes) -> AsyncIterator[bytes]:
    yield data


def a_directory(path: Path) -> Directory:
    return Directory(path, -1, Disk(), Identity("c", "m1", "m1", founded=True, alone=False), first_start=False)


def a_machine(secrets: int, size: int) -> StateMachine:
    machine = StateMachine()
    machine.apply(encode_entry([a_secret(f"s{n}").sized(size).put() for n in range(secrets)])[1])
    return machine


def a_file(machine: StateMachine, ring: snapshot.KeyRing, index: int = 7) -> bytes:
    """A snapshot of it."""
    data = snapshot.pack_header()
    for section in encode_sections(machine.view(), Head(index, 1, machine.revision, "c"), ring):
        data += snapshot.pack_frame(snapshot.pack_section(section))
    return data


def a_source(data: bytes, ring: snapshot.KeyRing, damaged: Callable[[], None] = lambda: None) -> FileSource:
    head = SnapshotHead(7, 1, Configuration())
    return FileSource(SnapshotFile(Path("s"), 7), data, head, ring, damaged)


# Secrets in snapshots


def test_many_large_secrets_make_a_snapshot_that_reads() -> None:
    ring = a_ring_in_memory()
    # As Helm keeps its releases; together more than a section may be.
    data = a_file(a_machine(100, 700_000), ring)
    sections = list(read_packed(Path("s"), data, ring))
    assert sum(len(section.rows) for section, _ in sections if isinstance(section, Objects)) == 100


async def test_many_large_secrets_go_to_others_in_pieces_that_a_message_holds(tmp_path: Path) -> None:
    ring = a_ring_in_memory()
    machine = a_machine(40, 700_000)
    whole = [snapshot.seal_secrets(list(machine.view().objects), ring)]
    head, end = snapshot.encode_section(Head(7, 1, machine.revision, "c")), snapshot.encode_section(snapshot.End(40))
    data = snapshot.pack_header()
    for section in [head, *whole, end]:
        data += snapshot.pack_frame(snapshot.pack_section(section))
    source = a_source(data, ring)
    pieces = [piece async for piece in source.pieces(0)]
    sections = [snapshot.unpack_section(piece) for piece in pieces]
    rows = [len(encode_section(section)) for section in sections if isinstance(section, Objects)]
    assert len(rows) == 40
    assert max(rows) < 1024 * 1024
    assert [piece async for piece in source.pieces(17)] == pieces[17:]


async def test_many_large_secrets_are_restored(tmp_path: Path) -> None:
    store = await store_at(tmp_path, Settings())
    machine = a_machine(40, 700_000)
    await restore(store, a_file(machine, store._ring))
    assert len(store.machine) == 40
    assert store.get(a_secret("s39").key) is not None
    await store.close()


async def restore(store: EngineRaft, data: bytes) -> None:
    async with asyncio.timeout(60):
        await store.restore_snapshot(chunks_of(data))


async def test_secrets_that_stand_plain_in_an_old_file_are_sealed_as_they_are_restored(tmp_path: Path) -> None:
    store = await store_at(tmp_path)
    machine = StateMachine()
    encoded = base64.b64encode(TEXT.encode()).decode()
    machine.apply(encode_entry([a_pod("p").put(), a_secret("db").saying(encoded).put()])[1])
    sections = [Head(7, 1, machine.revision, "c"), Objects(list(machine.view().objects)), snapshot.End(2)]
    data = snapshot.pack_header()
    for section in sections:
        data += snapshot.pack_frame(snapshot.pack_section(encode_section(section)))
    await restore(store, data)
    assert store.get(a_secret("db").key) is not None
    assert store.get(a_pod("p").key) is not None
    await store.close()
    files = [file for file in (tmp_path / "store").iterdir() if file.is_file()]
    assert [file.name for file in files if encoded[:20].encode() in unpacked(file)] == []
    assert [file.name for file in files if zlib_shows(file, encoded[:20].encode())] == []


def zlib_shows(file: Path, text: bytes) -> bool:
    """Whether a compressed stretch anywhere in the file holds the text."""
    data = file.read_bytes()
    at = data.find(b"\x78\x01")
    while at >= 0:
        unpacker = zlib.decompressobj()
        try:
            if text in unpacker.decompress(data[at:]):
                return True
        except zlib.error:
            pass
        at = data.find(b"\x78\x01", at + 1)
    return False


# Damage


async def test_a_snapshot_that_is_damaged_is_replaced_by_a_new_one(tmp_path: Path) -> None:
    store = await store_at(tmp_path)
    await store.commit([a_pod(f"p{n}").put() for n in range(20)])
    first = await store.offer(1)
    file = await store._upkeep.snapshot(1)
    data = bytearray(file.path.read_bytes())
    data[-30] ^= 1
    file.path.write_bytes(data)
    damaged = await store.offer(1)
    with pytest.raises(OSError, match="another snapshot is taken"):
        [piece async for piece in damaged.pieces(0)]
    await store.commit([a_pod("new").put()])
    sound = await store.offer(1)
    assert sound.head.index > first.head.index
    assert len([piece async for piece in sound.pieces(0)]) > 1
    assert not file.path.exists()
    await store.close()
    again = await store_at(tmp_path)
    assert len(again.machine) == 21
    await again.close()


# New keys


async def test_a_new_key_does_not_stop_a_leader_that_sends_a_snapshot(tmp_path: Path) -> None:
    ring = a_ring(tmp_path)
    machine = a_machine(300, 1000)
    data = a_file(machine, ring)
    source = a_source(data, ring)
    pieces = source.pieces(0)
    await anext(pieces)
    ring.add_key("2026-01-02T00:00:00Z", settled=False)
    ring.forget_others()
    with pytest.raises(OSError, match="is sealed with key") as caught:
        [piece async for piece in pieces]
    assert isinstance(caught.value.__cause__, KeyMissingError)


async def test_a_snapshot_that_is_sealed_with_a_key_of_yesterday_is_not_kept(tmp_path: Path) -> None:
    store = await store_at(tmp_path)
    machine = a_machine(3, 100)
    data = a_file(machine, store._ring)
    head = Head(1000, 1, machine.revision, store.cluster_id)
    sink = await store.accept(SnapshotHead(1000, 1, store.configuration))
    await sink.add(snapshot.pack_section(encode_section(head)))
    source = a_source(data, store._ring)
    async for piece in source.pieces(1):
        await sink.add(piece)
    await store.rotate_key()
    with pytest.raises(OSError, match="a new key was made while it came"):
        await sink.install()
    sink.abort()
    await store.close()
    again = await store_at(tmp_path)
    assert len(again.machine) == 0
    await again.close()


# Restores and snapshots


async def test_no_snapshot_is_taken_within_a_restore(tmp_path: Path) -> None:
    store = await store_at(tmp_path)
    async with store._upkeep._turn:
        await store.commit([a_pod(f"p{n}").sized(1000).put() for n in range(60)])
        assert store._upkeep.task is not None  # It waits for its turn,
        await store._propose(RestoreBegin("r"))  # and meanwhile a restore begins.
    for n in range(20):
        await store.commit([a_pod(f"q{n}").put()])
    assert list((tmp_path / "store").glob("state-*")) == []
    await store._propose(RestoreEnd("r", -1, 0))
    await at_rest(store)
    assert len(list((tmp_path / "store").glob("state-*.snap"))) == 1
    await store.close()


async def test_who_waits_for_the_end_of_a_restore_waits_for_that_of_the_next(tmp_path: Path) -> None:
    store = await store_at(tmp_path)
    await store._propose(RestoreBegin("one"))
    waiting = asyncio.ensure_future(store.reach(1))
    await asyncio.sleep(0)
    term = store.group_figures().term
    last = store._replica.index
    commands = [RestoreEnd("one", -1, 0), RestoreBegin("two")]
    for at, command in enumerate(commands, last + 1):
        store.apply([Entry(at, term, data=encode_command(command))])
    await settle()
    assert not waiting.done()
    store.apply([Entry(last + 3, term, data=encode_command(RestoreEnd("two", -1, 0)))])
    await waiting
    await store.close()


# Reads of a member that is alone


class FullDisk(QuickDisk):
    """What exists can be written again, no file can grow."""

    full = True

    def write(self, fd: int, data: bytes, offset: int) -> None:
        if self.full and offset:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write(fd, data, offset)


async def test_a_member_that_is_alone_reads_only_what_includes_its_whole_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await store_at(tmp_path)
    await store.commit([a_pod("web").put()])
    both = msgspec.structs.replace(store.configuration, voters=(store.member_id, "b"))
    joint = msgspec.structs.replace(store.configuration, outgoing=both.voters)
    term, index = store.group_figures().term + 1, store._wal.last_index
    payload, _ = encode_entry([a_pod("acknowledged").put()])
    entries = [
        Entry(index + 1, term, int(Kind.CONFIGURATION), encode_configuration(both)),
        Entry(index + 2, term, data=payload),
        Entry(index + 3, term, int(Kind.CONFIGURATION), encode_configuration(joint)),
        Entry(index + 4, term, int(Kind.CONFIGURATION), encode_configuration(store.configuration)),
    ]
    await store.in_log(lambda: store._wal.append(entries, HardState(term, "", index + 1)))
    await store.close()
    disk = FullDisk()
    monkeypatch.setattr(engine_raft, "_LEAD_S", 0.1)
    settings = SMALL._replace(member=MemberSettings(retry_append_s=0.01, ask_again_s=0.01))
    again = await open_store(tmp_path / "store", SystemClock(), settings, disk=disk, entropy=entropy())
    assert again.alone
    assert not again.leads
    reading = asyncio.ensure_future(again.barrier())
    await settle()
    assert not reading.done()
    disk.full = False
    await asyncio.wait_for(reading, 60)
    assert again.get(a_pod("acknowledged").key) is not None
    await again.close()


# Peers with faults


@pytest.mark.parametrize(
    ("message", "flaw"),
    [
        (Append("a", "b", 3, 7, 2, 7, (Entry(9, 3),)), "entry 9 of kind 1 and term 3 after 7 of term 2"),
        (Append("a", "b", 3, 7, 2, 7, (Entry(8, 3, 2),)), "entry 8 of kind 2 and term 3 after 7 of term 2"),
        (Append("a", "b", 3, 7, 2, 7, (Entry(8, 4),)), "entry 8 of kind 1 and term 4 after 7 of term 2"),
        (Append("a", "b", 3, 7, 2, 7, (Entry(8, 1),)), "entry 8 of kind 1 and term 1 after 7 of term 2"),
        (Append("a", "b", 3, -1, 0, 7), "entries after entry -1 of term 0"),
        (Append("a", "b", 3, 7, 2, 7, (Entry(8, 3, 3, b"no"),)), "a configuration that does not read: "),
        (Heartbeat("a", "b", -1, 7), "a term of -1"),
        (Append("a", "b", 3, 7, 2, 7, (Entry(8, 2), Entry(9, 3, 4))), ""),
        (Heartbeat("a", "b", 3, 7), ""),
    ],
)
def test_what_no_member_sends_is_not_heard(message: Message, flaw: str) -> None:
    found = flaw_of(message)
    assert found.startswith(flaw) if flaw else found == ""


def test_a_disk_that_refuses_for_days_does_not_gather_the_answers_of_days() -> None:
    queue = AppendQueue(HardState())
    for index in range(10_000):
        reply = AppendReply("a", "b", 1, index)
        queue.add(Ready([], None, [], [reply], [], [], [], None))
    messages = queue.messages()
    assert len(messages) == 4096
    assert messages[-1] == AppendReply("a", "b", 1, 9999)


async def test_a_payload_that_no_entry_holds_is_refused_and_stops_nobody(tmp_path: Path) -> None:
    store = await store_at(tmp_path)
    with pytest.raises(ValueError, match="an entry takes 16777216 bytes"):
        await store._propose(RestoreSection("r", 0, bytes(17 * 1024 * 1024)))
    await store.commit([a_pod("next").put()])
    await store.close()


# What to do about damage


def test_a_damaged_snapshot_of_a_member_of_several_says_how_to_join_anew(tmp_path: Path) -> None:
    directory = a_directory(tmp_path)
    path = tmp_path / "state-00000000000000000007.snap"
    path.write_bytes(b"no snapshot")
    reader = Reader(None, directory, Disk(), a_ring_in_memory(), Configuration())  # type: ignore[arg-type]
    with pytest.raises(CorruptFileError, match="remove-member m1") as caught:
        reader.replica(SnapshotFile(path, 7))
    assert "from a backup" not in str(caught.value)


# Letters of an earlier run


def test_no_two_runs_number_their_requests_alike() -> None:
    numbers = []
    for seed in range(20):
        changes = GroupChanges("a", lambda: pytest.fail("nobody is asked"), FakeClock(), entropy(seed))
        numbers.append(next(changes._numbers))
    assert len(set(numbers)) == 20
