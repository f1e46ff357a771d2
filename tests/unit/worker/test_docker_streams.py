"""Docker's lines of JSON, whatever the pieces their bytes come in, and its answers that never come to an end."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from barque.worker.runtime import docker_streams
from barque.worker.runtime.docker_streams import Stream, json_lines

LINES = [
    {"status": "größer als 🚢"},
    {"stream": "Loaded image: café:1\n"},
    {"id": "a", "progressDetail": {"current": 1}},
]
BODY = b"\r\n".join(json.dumps(line, ensure_ascii=False).encode() for line in LINES)


def a_stream(*pieces: bytes, end: bool = True) -> Stream:
    reader = asyncio.StreamReader()
    for piece in pieces:
        reader.feed_data(piece)
    if end:
        reader.feed_eof()
    return Stream(reader, None)  # type: ignore[arg-type]


async def read(stream: Stream, silence_s: float | None = None) -> list[dict[str, Any]]:
    return [line async for line in json_lines(stream, silence_s=silence_s)]


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 10**6])
async def test_lines_are_whole_whatever_the_pieces(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_streams, "CHUNK_BYTES", piece)
    assert await read(a_stream(BODY)) == LINES
    assert await read(a_stream(BODY + b"\r\n")) == LINES


async def test_an_answer_that_breaks_off_within_a_line_is_a_break() -> None:
    lines = json_lines(a_stream(BODY[:-5]))
    assert [await anext(lines) for _ in LINES[:-1]] == LINES[:-1]
    with pytest.raises(ConnectionError, match="in the middle of a message"):
        await anext(lines)


async def test_what_is_no_json_is_not_gathered_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_streams, "MAX_OBJECT_CHARACTERS", 100)
    with pytest.raises(ConnectionError, match="no JSON"):
        await read(a_stream(b"<html>" + b"x" * 100, end=False))


async def test_an_answer_that_falls_silent_is_given_up() -> None:
    with pytest.raises(TimeoutError):
        await read(a_stream(BODY, end=False), silence_s=0.0)
