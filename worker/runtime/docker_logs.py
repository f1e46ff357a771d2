"""Docker's logs, taken apart into dated records.

Docker is always asked for the dates. It writes a line longer than 16 KiB as several records, each with its date, so
that a date may stand in the middle of a line and has to be found there.
"""

from __future__ import annotations

import calendar
import re
import time
from asyncio import IncompleteReadError
from collections.abc import AsyncGenerator
from typing import Any

from barque.worker.runtime.docker_streams import CHUNK_BYTES, FRAME, Stream
from barque.worker.runtime.port import LogOptions, LogRecord, RuntimeFault

# How much of a line Docker writes as one record.
RECORD_BYTES = 16 * 1024
# Far above that: what says so is no log.
_MAX_FRAME_BYTES = 1024 * 1024
_STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z) ")
_STAMP_BYTES = len("2006-01-02T15:04:05.000000000Z ")


def query_of(options: LogOptions) -> dict[str, Any]:
    """The query of `GET /containers/{id}/logs`."""
    outputs = {name: int(options.stream in ("", name)) for name in ("stdout", "stderr")}
    query: dict[str, Any] = {**outputs, "timestamps": 1, "follow": int(options.follow)}
    query["tail"] = options.tail_lines if options.tail_lines >= 0 else "all"
    if options.since:
        seconds, _, fraction = options.since.removesuffix("Z").partition(".")
        query["since"] = f"{calendar.timegm(time.strptime(seconds, '%Y-%m-%dT%H:%M:%S'))}.{fraction or 0}"
    return query


async def records(stream: Stream, *, tty: bool) -> AsyncGenerator[LogRecord, None]:
    """The records of a log, in order. A terminal's come in one stream of bytes, others in frames."""
    if not tty:
        while frame := await _frame(stream):
            yield record_of(frame)
        return
    held = b""
    while data := await stream.reader.read(CHUNK_BYTES):
        held += data
        while end := end_of_record(held):
            yield record_of(held[:end])
            held = held[end:]
    if held:
        yield record_of(held)


def end_of_record(held: bytes) -> int:
    """Where the record that `held` begins with ends; 0 where that is not known yet."""
    longest = _STAMP_BYTES + RECORD_BYTES
    found = held.find(b"\n", _STAMP_BYTES, longest)
    if found >= 0:
        return found + 1
    return longest if len(held) >= longest else 0


def record_of(data: bytes) -> LogRecord:
    """A record without the date before it; undated where there is none."""
    found = _STAMP.match(data)
    return LogRecord(found.group(1).decode(), data[found.end() :]) if found else LogRecord("", data)


async def _frame(stream: Stream) -> bytes:
    """The next record; empty at the end of the log. Raises `RuntimeFault` for what cannot be one."""
    try:
        _, size = FRAME.unpack(await stream.reader.readexactly(FRAME.size))
        if size > _MAX_FRAME_BYTES:
            raise RuntimeFault(f"Docker's log has a record of {size} bytes: it is damaged")
        return await stream.reader.readexactly(size)
    except IncompleteReadError:
        return b""
