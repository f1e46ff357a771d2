"""A container's log as a stream that may be taken up again where it broke off, neither losing a line nor doubling one.

The engine dates every record. A position names the container, the last record's date, and how many records of that
date have been sent: taken up again, the log is read from that date on and so many of its records are passed over.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Literal, NamedTuple, cast

from barque.api.errors import bad_request
from barque.proto import pods_pb2 as pb
from barque.worker.runtime.port import LogOptions, LogRecord, Runtime

# The ends of logs are looked for up to so many lines; beyond that the engine's own count will do.
MAX_TAIL_LINES = 10_000
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


class Position(NamedTuple):
    """Behind the `sent`th record of the date `time` in the log of `container`, whose last byte was a line's end or
    not.
    """

    container: str
    time: str
    sent: int
    whole: bool = True

    def __str__(self) -> str:
        return f"{self.container} {self.time} {self.sent} {int(self.whole)}"


def read_position(text: str) -> Position | None:
    """Raises 400 for what was never given as a position."""
    if not text:
        return None
    try:
        container, time, count, whole = text.split(" ")
        return Position(container, read_time(time) if time else "", int(count), whole == "1")
    except ValueError:
        raise bad_request("the log's position cannot be read") from None


def read_time(text: str) -> str:
    """A moment (RFC 3339) in the form in which records are dated: UTC with nine digits of fractions. Raises 400."""
    found = _RFC3339.fullmatch(text)
    try:
        if found is None:
            raise ValueError(text)
        day, time, fraction, zone = found.groups()
        moment = datetime.datetime.fromisoformat(f"{day}T{time}{zone.upper().replace('Z', '+00:00')}")
    except ValueError:
        raise bad_request(f"{text!r} is not a time; write it as 2006-01-02T15:04:05Z") from None
    digits = (fraction or ".")[1:10].ljust(9, "0")
    return f"{moment.astimezone(datetime.UTC):%Y-%m-%dT%H:%M:%S}.{digits}Z"


def since_of(request: pb.LogsRequest, now: datetime.datetime) -> str:
    """From when on records are wanted, "" for all. Raises 400 for limits that contradict each other."""
    if request.since_s and request.since_time:
        raise bad_request("at most one of sinceTime or sinceSeconds may be specified")
    if request.since_s < 0 or request.limit_bytes < 0:
        raise bad_request("sinceSeconds and limitBytes must be greater than 0")
    if request.since_s:
        return read_time((now - datetime.timedelta(seconds=request.since_s)).isoformat())
    return read_time(request.since_time) if request.since_time else ""


def options_of(request: pb.LogsRequest, start: Position, since: str) -> LogOptions:
    """What the engine is asked for. Raises 400 for a stream that no container has."""
    if request.stream not in ("", "stdout", "stderr"):
        raise bad_request(f"{request.stream!r} is no stream of a log")
    stream = cast(Literal["", "stdout", "stderr"], request.stream)
    if start.time:
        return LogOptions(follow=request.follow, since=max(start.time, since), stream=stream)
    return LogOptions(follow=request.follow, tail_lines=request.tail_lines, since=since, stream=stream)


async def begin(runtime: Runtime, container: str, request: pb.LogsRequest) -> Position:
    """Where a log begins that was not read before."""
    if not 0 <= request.tail_lines <= MAX_TAIL_LINES:
        return Position(container, "", 0)
    found = await _find_tail(runtime, container, request.tail_lines)
    request.tail_lines = -1
    return found


async def _find_tail(runtime: Runtime, container: str, lines: int) -> Position:
    """Where the last so many lines begin: the engine counts records, and a long line is several."""
    asked = lines + 1
    while True:
        async with aclosing(runtime.logs(container, LogOptions(tail_lines=asked))) as records:
            found = [(record.time, record.data.endswith(b"\n")) async for record in records]
        complete = len(found) < asked
        begins = [at for at in range(len(found)) if (found[at - 1][1] if at else complete)]
        if complete and (len(begins) <= lines or not found):
            return Position(container, "", 0)
        if len(begins) >= lines:
            at = begins[-lines] if lines else len(found)
            time, whole = found[min(at, len(found) - 1)][0], found[at - 1][1] if at else True
            # Those of the same moment before it must all be known, to be passed over.
            if complete or found[0][0] < time:
                return Position(container, time, sum(1 for each, _ in found[:at] if each == time), whole)
        asked *= 4


async def chunks(
    records: AsyncIterator[LogRecord], request: pb.LogsRequest, start: Position
) -> AsyncGenerator[pb.LogsChunk, None]:
    """The records as they are to be sent, in order, until they end or the limit is reached.

    A followed log opens with a chunk that says where to take it up again before anything was sent.
    """
    if request.follow and not request.position:
        yield pb.LogsChunk(position=str(start))
    left = request.limit_bytes or -1
    at, passed_over = start, 0
    async for record in records:
        if record.time == start.time and passed_over < start.sent:
            passed_over += 1
            continue
        stamp = f"{record.time} ".encode() if request.timestamps and at.whole else b""
        data = stamp + record.data
        sent = at.sent + 1 if record.time == at.time else 1
        at = Position(start.container, record.time, sent, record.data.endswith(b"\n"))
        if 0 <= left < len(data):
            data = data[:left]
        left -= len(data) if left > 0 else 0
        if data:
            yield pb.LogsChunk(data=data, position=str(at))
        if left == 0:
            return
