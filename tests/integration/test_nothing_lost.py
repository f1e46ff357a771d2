"""Nothing acknowledged is lost and no event is missed, however often the master is killed; and what a start says of
files that are torn or damaged, and a master of a disk that is full. Real processes, real files, gRPC with TLS.
"""

from __future__ import annotations

import asyncio
import base64
import os
import random
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from barque.api.errors import ApiError
from barque.client.remote import Connection
from barque.client.verbs import Selection
from barque.master.raft.messages import Entry
from barque.master.raft.segment import pack_entries, read_records
from tests.support.expecting import expect_soon_async
from tests.support.store_process import Crew, MasterProcess, of

# Two masters of two clusters, killed side by side: a start leaves half of the machine idle.
# What is lost is lost: no second try.
pytestmark = pytest.mark.flaky(reruns=0)

SEEDS = (20, 21)
KILLS = 25


@pytest.fixture
async def master(tmp_path: Path) -> AsyncIterator[MasterProcess]:
    process = MasterProcess(tmp_path)
    yield process
    await process.end()


@pytest.mark.timeout(900)
async def test_no_acknowledged_write_is_lost_and_no_event_missed(tmp_path: Path) -> None:
    async with asyncio.TaskGroup() as group:
        for seed in SEEDS:
            directory = tmp_path / str(seed)
            directory.mkdir()
            group.create_task(killed_again_and_again(MasterProcess(directory), seed))


async def killed_again_and_again(master: MasterProcess, seed: int) -> None:
    """Kill it while it is written to and watched, and at times while it starts; then judge what it holds."""
    dice = random.Random(seed)
    crew = Crew()
    try:
        for kill in range(KILLS):
            await master.start()
            async with master.connect() as connection:
                await crew.go(connection)
                wanted = crew.writes + dice.randrange(1, 120)
                async with asyncio.timeout(90):
                    while crew.writes < wanted:
                        await asyncio.sleep(0.001)
                await asyncio.sleep(dice.random() * 0.005)
                await master.end()
                await asyncio.sleep(0)
                await crew.rest()
            print(f"kill {kill + 1} of seed {seed}: {crew.writes} writes acknowledged", flush=True)
            if kill % 10 == 9:  # Once more, while it is still starting.
                await master.launch()
                await asyncio.sleep(dice.random())
                await master.end()
        await master.start()
        async with master.connect() as connection:
            await crew.go(connection, write=False)
            await crew.check(connection)
            await crew.rest()
    finally:
        await master.end()
    assert crew.writes > KILLS * 20
    assert exposed(master.data) == []


def exposed(data: Path) -> list[Path]:
    """Files that show a Secret's value (`x…` after its text), as it is or in base64."""
    shown = [base64.b64encode(text.encode() + b"x" * 60)[:60] for text in ("first", "second")]
    found = []
    for folder, _, names in os.walk(data):
        for file in (Path(folder, name) for name in names):
            # The bus's server may still be ending, and puts its files away.
            with suppress(FileNotFoundError):
                found += [file] if any(form in file.read_bytes() for form in shown) else []
    return found


async def test_a_torn_end_is_cut_and_said(master: MasterProcess) -> None:
    await founded(master, "kept")
    segment = last_segment(master)
    whole = segment.read_bytes()
    *_, (last, end) = read_records(whole)
    half = pack_entries([Entry(last.index + 1, last.term, data=b"x" * 1000)], durable=end)[:500]
    segment.write_bytes(whole + half)
    await master.start()
    assert f"{segment}: cut 500 bytes at offset {end}, the torn end of a write" in master.log
    async with master.connect() as connection:
        assert await names(connection) == {"kept"}
        await create(connection, "configmaps", "more")


async def test_a_flipped_bit_stops_the_start_with_what_to_do(master: MasterProcess) -> None:
    await founded(master, "kept")
    segment = last_segment(master)
    whole = segment.read_bytes()
    middle = len(whole) // 2
    damaged = max(record.offset for record, _ in read_records(whole) if record.offset <= middle)
    flip(segment, middle)
    await master.launch()
    status, said = await master.ended()
    assert status == 1
    (line,) = [line for line in said.splitlines() if "the master stops" in line]
    found = re.search(rf"{segment} is damaged at offset (\d+): .*; restore the directory from a backup", line)
    assert found is not None, line
    assert int(found[1]) == damaged
    flip(segment, middle)
    await master.start()
    async with master.connect() as connection:
        assert await names(connection) == {"kept"}


async def test_a_lost_or_wrong_key_ring_stops_the_start_with_what_to_do(master: MasterProcess) -> None:
    await founded(master, "kept")
    ring = master.data / "keys" / "ring.json"
    kept = ring.rename(master.directory / "ring.json")
    key_id = msgspec.json.decode(kept.read_bytes())["primary"]
    another = kept.read_text().replace(key_id, "0" * 16)
    for wrong in ("", another):
        if wrong:
            ring.write_text(wrong)
        await master.launch()
        status, said = await master.ended()
        assert status == 1
        (line,) = [line for line in said.splitlines() if "the master stops" in line]
        assert str(ring) in line
        assert ("was changed" if wrong else f"sealed with key {key_id}") in line
        assert "from a backup" in line
        assert not wrong or ring.read_text() == wrong
        assert wrong or not ring.exists()
    kept.rename(ring)
    await master.start()
    async with master.connect() as connection:
        secret = msgspec.json.decode(await connection.verbs.get(of("secrets", "kept")))
        assert secret["data"] == {"text": base64.b64encode(b"kept").decode()}


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
async def test_a_full_disk_refuses_writes_serves_reads_and_goes_on_without_a_restart(tmp_path: Path) -> None:
    # A disk of its own, in a mount namespace that ends with the master.
    mount = f'mkdir {tmp_path}/data && mount -t tmpfs -o size=24m,mode=700 tmpfs {tmp_path}/data && exec "$@"'
    master = MasterProcess(tmp_path, ["unshare", "--mount", "sh", "-c", mount, "sh"])
    try:
        await master.start()
        filler = master.seen_inside(master.data) / "filler"
        async with master.connect(master.seen_inside(master.data), patience_s=0) as connection:
            await create(connection, "configmaps", "kept")
            filler.touch()
            with pytest.raises(OSError, match="No space left"):
                fill(filler)
            name, refused = await written_until_refused(connection)
            assert refused.code == 503
            assert "No space left on device; nothing was written" in refused.message
            present = await names(connection)
            assert "kept" in present
            assert name not in present
            watch = connection.verbs.watch(of("configmaps"), resource_version="0")
            assert (await anext(watch))[0].type == "ADDED"
            await watch.aclose()  # type: ignore[attr-defined]
            filler.unlink()
            await create(connection, "configmaps", "later")
            assert await names(connection) == {*present, "later"}
    finally:
        await master.end()


def fill(file: Path) -> None:
    """Take all the space there is."""
    with file.open("ab", buffering=0) as taken:
        while True:
            if taken.write(bytes(4096)) < 4096:
                raise OSError("No space left")


async def written_until_refused(connection: Connection) -> tuple[str, ApiError]:
    """Write ConfigMaps `n0`, `n1`, … until one is refused: which, and what it is refused with."""
    for number in range(1000):
        try:
            await write(connection, "configmaps", f"n{number}")
        except ApiError as refused:
            if refused.code != 504:  # one that stood still for seconds has refused nothing
                return f"n{number}", refused
    raise AssertionError("a full disk took 1,000 writes")


async def founded(master: MasterProcess, name: str) -> None:
    """A master that was killed after it had written a ConfigMap and a Secret of this name."""
    await master.start()
    async with master.connect() as connection:
        await create(connection, "configmaps", name)
        await create(connection, "secrets", name)
    await master.end()


async def create(connection: Connection, plural: str, name: str) -> None:
    """Write it, again where it is not known whether it was written."""

    async def there() -> bool:
        try:
            await write(connection, plural, name)
        except ApiError as refused:
            if refused.reason != "AlreadyExists":
                raise
        return True

    await expect_soon_async(there, 30, f"{plural} {name} is written")


async def write(connection: Connection, plural: str, name: str) -> None:
    field = "stringData" if plural == "secrets" else "data"
    await connection.verbs.create(of(plural), msgspec.json.encode({"metadata": {"name": name}, field: {"text": name}}))


async def names(connection: Connection) -> set[str]:
    """The ConfigMaps in `default` that a test has made, not the one of the cluster's own."""
    listed = await connection.verbs.list(of("configmaps"), Selection(fields="metadata.name!=kube-root-ca.crt"))
    return {msgspec.json.decode(item)["metadata"]["name"] for item in listed.items}


def last_segment(master: MasterProcess) -> Path:
    return max((master.data / "store").glob("log-*.wal"))


def flip(file: Path, offset: int) -> None:
    content = bytearray(file.read_bytes())
    content[offset] ^= 1
    file.write_bytes(content)
