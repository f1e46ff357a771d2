"""A session with a real nats-server: what it asks for, what it leaves behind, and what others have there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, cast

import pytest
from nats.js import api

from barque.client.clock import SystemClock
from barque.master.bus import link
from barque.master.bus.link import PULL_BYTES, PULL_MESSAGES, BusAwayError, Link, Session
from barque.master.bus.streams import ForeignStreamError, Streams
from tests.support.nats_servers import NatsServers

WITHIN_S = 90.0


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server is given up here, however long a busy machine keeps it."""
    monkeypatch.setattr(link, "PING_INTERVAL_S", 30)
    monkeypatch.setattr(link, "REQUEST_TIMEOUT_S", 30.0)
    monkeypatch.setattr(link.Inbox.take, "__defaults__", (WITHIN_S,))


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServers]:
    servers = NatsServers(tmp_path_factory.mktemp("nats"), 1)
    try:
        asyncio.run(servers.start())
        yield servers
    finally:
        servers.stop()


@asynccontextmanager
async def session_of(servers: NatsServers, name: str) -> AsyncIterator[Session]:
    """A session with a stream of this name, whose subject is the same."""
    way = Link(servers.access(0), SystemClock())
    running = asyncio.create_task(way.run())
    try:
        async with asyncio.timeout(WITHIN_S):
            session = await way.up()
            await session.ask(session.jetstream.add_stream(name=name, subjects=[name]))
        yield session
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_follower_is_never_sent_more_bytes_at_a_time_than_it_asked_for(servers: NatsServers) -> None:
    async with session_of(servers, "large") as session, asyncio.timeout(WITHIN_S):
        size = session.max_payload_bytes * 3 // 4
        total = 3 * PULL_BYTES // size
        for number in range(total):
            await session.publish("large", bytes([number]) + bytes(size - 1), {})
        found: list[int] = []
        waiting: list[int] = []
        async with aclosing(cast(Any, session.follow("large", 0))) as batches:
            async for messages in batches:
                found += [message.data[0] for message in messages]
                # All that it is sent before it asks again arrives meanwhile.
                await asyncio.sleep(0.1)
                (inbox,) = session._inboxes
                waiting.append(sum(len(message.data) for message in inbox._arrived + messages))
                if len(found) == total:
                    break
    assert found == list(range(total))
    assert max(waiting) <= PULL_BYTES


async def test_requests_that_are_filled_are_followed_by_the_next(servers: NatsServers) -> None:
    async with session_of(servers, "many") as session, asyncio.timeout(WITHIN_S):
        total = 3 * PULL_MESSAGES + 1
        for number in range(total):
            await session.tell("many", str(number).encode())
        found: list[int] = []
        async with aclosing(cast(Any, session.follow("many", 0))) as batches:
            async for messages in batches:
                found += [int(message.data) for message in messages]
                if len(found) == total:
                    break
    assert found == list(range(total))


async def test_a_follower_leaves_no_consumer_behind(servers: NatsServers) -> None:
    async with session_of(servers, "left") as session, asyncio.timeout(WITHIN_S):
        await session.publish("left", b"1", {})
        async with aclosing(cast(Any, session.follow("left", 0))) as batches:
            assert [message.data for message in await anext(batches)] == [b"1"]
            assert (await session.ask(session.jetstream.stream_info("left"))).state.consumer_count == 1
        # The server sees to it in its own time, but long before the consumer would end by itself.
        while (await session.ask(session.jetstream.stream_info("left"))).state.consumer_count:
            await asyncio.sleep(0.02)


async def test_whoever_begins_to_listen_as_the_session_ends_is_told(servers: NatsServers) -> None:
    async with session_of(servers, "late") as session, asyncio.timeout(WITHIN_S):
        session.end()
        with pytest.raises(BusAwayError):
            await anext(cast(Any, session.listen("late")))


async def test_a_server_that_is_none_of_the_bus_any_more_is_left(servers: NatsServers) -> None:
    """However well it answers: as that of a master does which was removed and has not heard of it."""
    access = servers.access(0)
    # The same server again: what counts is where it was found.
    access.addresses.insert(0, access.addresses[0].replace("127.0.0.1", "localhost"))
    way = Link(access, SystemClock())
    running = asyncio.create_task(way.run())
    try:
        async with asyncio.timeout(WITHIN_S):
            before = await way.up()
            told = asyncio.create_task(anext(cast(Any, before.listen("told"))))
            await asyncio.sleep(2 * link.LOOK_S)
            assert way.session is before, "it stays while its server is one of them"
            del access.addresses[0]
            with pytest.raises(BusAwayError):
                await told
            after = await way.up()
            assert after is not before
            await after.tell("told", b"1")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_two_clusters_in_one_account_do_not_take_each_others_stream(servers: NatsServers) -> None:
    async with session_of(servers, "shared") as session, asyncio.timeout(WITHIN_S):
        ours, theirs = Streams(lambda: 1, "ours"), Streams(lambda: 1, "theirs")
        wanted = api.StreamConfig(name="shared", subjects=["shared"])
        assert (await ours.ensure(session, wanted, 1)).config.metadata
        with pytest.raises(ForeignStreamError):
            await theirs.ensure(session, api.StreamConfig(name="shared", subjects=["other"]), 1)
        await ours.ensure(session, wanted, 1)
        state = await session.stream_state("shared")
        assert state is not None
        with pytest.raises(ForeignStreamError):
            theirs.check("shared", state.config.metadata)
