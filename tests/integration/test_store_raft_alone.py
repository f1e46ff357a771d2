"""A group of one with real processes and real limits: two on one directory, a full disk, torn and flipped bytes."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import pytest

from barque.client.clock import SystemClock
from barque.master.raft.errors import CorruptFileError, DirectoryInUseError
from barque.master.store.engine_raft import EngineRaft
from barque.master.store.port import Committed
from tests.support.raft_group import open_store
from tests.support.store import a_pod

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tmp_path(tmp_path: Path) -> Path:
    """A directory with room beside it for the key ring."""
    return tmp_path / "store"


async def writer(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.store_writer", *arguments, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )


async def store_with(path: Path, count: int) -> EngineRaft:
    store = await open_store(path, SystemClock())
    for n in range(count):
        (result,) = await store.commit([a_pod(f"p{n}").sized(1000).put()])
        assert isinstance(result, Committed)
    return store


async def test_a_second_process_is_refused_and_the_lock_ends_with_the_first(tmp_path: Path) -> None:
    first = await writer("load", str(tmp_path), "0")
    assert first.stdout is not None
    try:
        await asyncio.wait_for(first.stdout.readline(), 60)
        with pytest.raises(DirectoryInUseError, match=rf"in use by another master \(process {first.pid}\)"):
            await open_store(tmp_path, SystemClock())
    finally:
        first.kill()
        await first.communicate()
    await (await open_store(tmp_path, SystemClock())).close()


async def test_a_full_disk_refuses_writes_serves_reads_and_goes_on_when_there_is_space(tmp_path: Path) -> None:
    process = await writer("fill", str(tmp_path))
    out, _ = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode == 0
    lines = out.decode().splitlines()
    written = [line.split()[1] for line in lines if line.startswith("written")]
    refused = [line for line in lines if line.startswith("refused")]
    assert len(written) > 50
    assert len(refused) == 1
    assert "cannot write to the log: [Errno 27] File too large; nothing was written" in refused[0]
    assert f"reads {len(written) - 2} True" in lines
    told = [line for line in lines if line.startswith("fault")]
    assert told[0].startswith("fault cannot write to the log: [Errno 27] File too large")
    assert told[1] == "fault none"
    store = await open_store(tmp_path, SystemClock())
    assert {s.key.name for s in store.list("pods").items} == set(written)
    assert store.revision == len(written)
    await store.close()


async def test_a_torn_end_is_cut_and_said_and_the_log_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    await (await store_with(tmp_path, 10)).close()
    (file,) = tmp_path.glob("*.wal")
    file.write_bytes(file.read_bytes()[:-100])
    with caplog.at_level(logging.WARNING):
        store = await open_store(tmp_path, SystemClock())
    assert f"{file}: cut " in caplog.text
    assert store.revision == 9
    assert await store.commit([a_pod("more").put()]) == [Committed(10)]
    await store.close()
    store = await open_store(tmp_path, SystemClock())
    assert store.revision == 10
    await store.close()


async def test_a_flipped_bit_stops_the_start_with_what_to_do(tmp_path: Path) -> None:
    await (await store_with(tmp_path, 10)).close()
    (file,) = tmp_path.glob("*.wal")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    with pytest.raises(CorruptFileError, match=rf"{file} is damaged at offset \d+: .*restore the directory"):
        await open_store(tmp_path, SystemClock())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    store = await open_store(tmp_path, SystemClock())
    assert store.revision == 10
    await store.close()
