"""Docker's logs taken apart: dates are found wherever Docker puts them, whatever the pieces the bytes come in."""

from __future__ import annotations

import asyncio
import struct

import pytest

from barque.worker.runtime import docker_logs
from barque.worker.runtime.docker_logs import RECORD_BYTES, query_of, record_of
from barque.worker.runtime.docker_streams import Stream
from barque.worker.runtime.port import LogOptions, LogRecord, RuntimeFault

T1, T2 = "2026-11-21T16:00:00.000000001Z", "2026-11-21T16:00:01.500000000Z"
LONG = b"y" * RECORD_BYTES
RECORDS = [
    LogRecord(T1, b"one\n"),
    LogRecord(T1, LONG),
    LogRecord(T2, LONG),
    LogRecord(T2, b"\n"),
    LogRecord(T2, b"$ "),
]


async def read(data: bytes, *, tty: bool, piece: int) -> list[LogRecord]:
    reader = asyncio.StreamReader()
    for at in range(0, len(data), piece):
        reader.feed_data(data[at : at + piece])
    reader.feed_eof()
    stream = Stream(reader, None)  # type: ignore[arg-type]
    return [record async for record in docker_logs.records(stream, tty=tty)]


@pytest.mark.parametrize("piece", [1, 31, 4096, 10**6])
async def test_records_of_a_terminal_and_of_frames(piece: int) -> None:
    stamped = [f"{record.time} ".encode() + record.data for record in RECORDS]
    assert await read(b"".join(stamped), tty=True, piece=piece) == RECORDS
    framed = b"".join(struct.pack(">BxxxI", 1 + n % 2, len(data)) + data for n, data in enumerate(stamped))
    assert await read(framed, tty=False, piece=piece) == RECORDS
    assert await read(framed[:-1], tty=False, piece=piece) == RECORDS[:-1]


async def test_what_is_no_log_is_refused() -> None:
    with pytest.raises(RuntimeFault, match="it is damaged"):
        await read(struct.pack(">BxxxI", 1, 2**31), tty=False, piece=8)


def test_a_record_without_a_date_is_kept() -> None:
    assert record_of(b"no date\n") == LogRecord("", b"no date\n")


def test_what_docker_is_asked() -> None:
    assert query_of(LogOptions()) == {"stdout": 1, "stderr": 1, "timestamps": 1, "follow": 0, "tail": "all"}
    asked = query_of(LogOptions(stream="stderr"))
    assert (asked["stdout"], asked["stderr"]) == (0, 1)
    asked = query_of(LogOptions(follow=True, tail_lines=5, since=T2))
    assert (asked["follow"], asked["tail"], asked["since"]) == (1, 5, "1795276801.500000000")
