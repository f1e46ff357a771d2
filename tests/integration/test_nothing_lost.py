"""Nothing acknowledged is lost and no event is missed, however often the master is killed; and what a start says of
files that are torn or damaged, and a master of a disk that is full. Real processes, real files, gRPC with TLS.
"""

from __future__ import annotations

import asyncio
import base64
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.store_process import Crew, MasterProcess

KILLS = 50
SEED = 20


@pytest.fixture
async def master(tmp_path: Path) -> AsyncIterator[MasterProcess]:
    process = MasterProcess(tmp_path)
    yield process
    await process.end()


@pytest.mark.timeout(400)
async def test_no_acknowledged_write_is_lost_and_no_event_missed(master: MasterProcess) -> None:
    dice = random.Random(SEED)
    crew = Crew()
    for kill in range(KILLS):
        await master.start()
        async with master.connect() as connection:
            await crew.go(connection)
            wanted = crew.writes + dice.randrange(1, 120)
            async with asyncio.timeout(30):
                while crew.writes < wanted:
                    await asyncio.sleep(0.001)
            await asyncio.sleep(dice.random() * 0.005)
            await master.end()
            await asyncio.sleep(0)
            await crew.rest()
        print(f"kill {kill + 1} of seed {SEED}: {crew.writes} writes acknowledged", flush=True)
    await master.start()
    async with master.connect() as connection:
        await crew.go(connection, write=False)
        await crew.check(connection)
        await crew.rest()
    assert crew.writes > KILLS * 20
    assert exposed(master.data) == []


def exposed(data: Path) -> list[Path]:
    """Files that show a Secret's value (`x…` after its text), as it is or in base64."""
    shown = [base64.b64encode(text.encode() + b"x" * 60)[:60] for text in ("first", "second")]
    return [file for file in data.rglob("*") if file.is_file() and any(form in file.read_bytes() for form in shown)]
