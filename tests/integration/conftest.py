"""What several modules share: a master for the clients that others wrote, as each keeps to namespaces of its own; and a
door of streams, for each module one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest
import pytest_asyncio

from barque.master.apiserver.grpc_calls import Bounds
from barque.master.apiserver.streams import idle
from barque.master.apiserver.streams.service import PodStreams
from tests.support.expecting import expect_soon_async
from tests.support.rest_master import RestMaster, a_rest_master
from tests.support.stream_door import StreamDoor, a_stream_door


@pytest.fixture(scope="session")
def rest_master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestMaster]:
    """A master that serves, for tests that leave it as they found it."""
    with a_rest_master(tmp_path_factory.mktemp("rest")) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def opened(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[StreamDoor]:
    async with a_stream_door(tmp_path_factory.mktemp("door")) as door:
        yield door


@pytest_asyncio.fixture(loop_scope="module")
async def door(opened: StreamDoor, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StreamDoor]:
    """The shared door as if nothing had been asked of its worker."""
    opened.worker.forget()
    opened.bounds = Bounds()
    opened.streams = PodStreams(opened.places, opened.bounds, opened.clock)
    monkeypatch.setattr(idle, "CHECK_S", 0.1)
    yield opened
    await expect_soon_async(lambda: not opened.bounds._running, 30, "the streams of the test have ended")


@pytest_asyncio.fixture(loop_scope="module")
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(60)) as session:
        yield session
