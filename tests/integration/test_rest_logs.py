"""The logs of pods at the REST door, against a worker's node API."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from barque.proto import pods_pb2 as pb
from tests.support.expecting import expect_soon_async
from tests.support.stream_door import StreamDoor

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_log(door: StreamDoor, http: aiohttp.ClientSession) -> None:
    async with http.get(door.url("alone", "log", "tailLines=3&timestamps=1")) as answer:
        assert (answer.status, await answer.text()) == (200, "line 1\n")
        assert answer.headers["Content-Type"] == "text/plain"
        assert answer.headers["Transfer-Encoding"] == "chunked"
    request = pb.LogsRequest(namespace="default", pod="alone", container="main", tail_lines=3, timestamps=True)
    assert door.worker.asked == [request]
    async with http.get(door.url("alone", "log")) as again:
        assert await again.text() == "line 1\n"


async def test_a_followed_log_ends_when_the_client_goes(door: StreamDoor, http: aiohttp.ClientSession) -> None:
    async with http.get(door.url("alone", "log", "follow=true")) as answer:
        assert [await answer.content.readline(), await answer.content.readline()] == [b"line 1\n", b"line 2\n"]
        assert not door.worker.ended.is_set()
    await asyncio.wait_for(door.worker.ended.wait(), 30)
    await expect_soon_async(lambda: not door.bounds._running, 30, "the stream counts no longer")


async def test_a_log_that_breaks_off_is_not_taken_for_whole(door: StreamDoor, http: aiohttp.ClientSession) -> None:
    async with http.get(door.url("web", "log", "follow=true&container=b")) as answer:
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
    assert [error.args for error in door.unexpected] == []


async def test_a_log_that_is_refused(door: StreamDoor, http: aiohttp.ClientSession) -> None:
    for query, code, message in (
        ("previous=1", 400, 'previous terminated container "main" in pod "alone" not found'),
        ("tailLines=-1", 422, 'PodLogOptions "alone" is invalid: tailLines: Invalid value: -1: must be greater than '
                              "or equal to 0"),
    ):  # fmt: skip
        async with http.get(door.url("alone", "log", query)) as answer:
            assert (answer.status, (await answer.json())["message"]) == (code, message)


async def test_the_log_of_a_pod_without_a_node_is_empty(door: StreamDoor, http: aiohttp.ClientSession) -> None:
    async with http.get(door.url("homeless", "log")) as answer:
        assert (answer.status, await answer.read()) == (204, b"")
