"""What another master finds when it takes over: a feed that the old leader still writes to, streams half made."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
import nats
import nats.errors
import pytest
from nats.js import api
from nats.js.errors import APIError

from barque.api.errors import ApiError
from barque.client.clock import SystemClock
from barque.client.pki import MASTER_HOST, Identity
from barque.master.auth.ca import MasterPki
from barque.master.bus import event_writer
from barque.master.bus.accounts import create_prefix, render_accounts
from barque.master.bus.callout import SUBJECT, Admission, issuer_of
from barque.master.bus.changes import FeedMessage, Position, Step, chains, steps
from barque.master.bus.config import user_of
from barque.master.bus.consumers import Consumers
from barque.master.bus.events import EventBackend
from barque.master.bus.feed import ChangeFeed
from barque.master.bus.link import BusAwayError, Link, Session
from barque.master.bus.permissions import api_prefix
from barque.master.bus.serving import QUEUE
from barque.master.bus.streams import Streams
from barque.master.bus.subjects import CHANGE_STREAM, EVENT_STREAM, change_subjects, event_subject, event_subjects
from barque.master.bus.survey import copies_of
from barque.master.store.port import Absent, Change, Committed, HistoryGoneError, Key, Op, Refused, Stored
from tests.support.nats_servers import NatsServers

CLUSTER, CLUSTER_ID = "lab", "c1"


@asynccontextmanager
async def a_session(servers: NatsServers, first: int = 0) -> AsyncIterator[Session]:
    """A master's, its own server first."""
    others = (number for number in range(len(servers.ports)) if number != first)
    link = Link(servers.access(first, *others), SystemClock())
    running = asyncio.create_task(link.run())
    try:
        async with asyncio.timeout(30):
            session = await link.up()
        yield session
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def a_change(revision: int) -> Change:
    json = b'{"metadata":{"resourceVersion":"%d"}}' % revision
    return Change(revision, None, Stored(Key("pods", "default", "a"), json, revision, {}, {}))


def told_of(position: Position, first: int, last: int) -> list[Step]:
    """What a publisher sends of these revisions once the feed stands at `position`."""
    changes = [a_change(revision) for revision in range(first, last + 1)]
    (chain,) = chains(steps(CLUSTER, CLUSTER_ID, position, changes, 1 << 20))
    return chain


async def publish(session: Session, chain: Sequence[Step]) -> Position:
    await session.publish_chain([step.message for step in chain])
    return chain[-1].position


async def told(session: Session) -> list[FeedMessage]:
    state = await session.stream_state(CHANGE_STREAM)
    assert state is not None
    found = [
        await session.ask(session.jetstream.get_msg(CHANGE_STREAM, sequence))
        for sequence in range(state.state.first_seq, state.state.last_seq + 1)
    ]
    return [msgspec.json.decode(message.data or b"", type=FeedMessage) for message in found]


async def expect_told(session: Session, revision: int) -> None:
    """Until the feed has come to this revision."""
    async with asyncio.timeout(8):
        while not (messages := await told(session)) or messages[-1].revision != revision:
            await asyncio.sleep(0.05)


class History:
    """A store that remembers the changes after `floor` only."""

    cluster_id = CLUSTER_ID

    def __init__(self, floor: int, revision: int) -> None:
        self.revision = revision
        self._floor = floor
        self._news = asyncio.Event()

    def write(self, revision: int) -> None:
        self.revision = revision
        self._news.set()
        self._news = asyncio.Event()

    async def barrier(self) -> int:
        return self.revision

    async def changes(self, since: int) -> AsyncIterator[list[Change]]:
        if since < self._floor:
            raise HistoryGoneError(str(since))
        while True:
            news = self._news
            if since < self.revision:
                yield [a_change(revision) for revision in range(since + 1, self.revision + 1)]
                since = self.revision
            await news.wait()


def as_documented(messages: Sequence[FeedMessage]) -> list[int]:
    """The revisions that a consumer deals with who was there from the beginning (docs/feed.md)."""
    handled, listed = [], 0
    for message in messages:
        if message.verb == "RESYNC":
            listed = max(listed, message.revision)
        elif message.revision > listed:
            handled.append(message.revision)
    return handled


@pytest.mark.parametrize("remembers", [20, 24])
async def test_what_the_old_leader_had_under_way_at_a_resync(tmp_path: Path, remembers: int) -> None:
    """It was paused amid sending; the new one, whose history begins later, says RESYNC. What comes late then fits by
    its sequence, and spoils nothing: neither where the history reaches back to it nor where it does not.
    """
    cluster = NatsServers(tmp_path, 1)
    publishing = None
    try:
        await cluster.start()
        async with a_session(cluster) as old:
            info = await Streams(lambda: 1).ensure(old, _changes_config(), 100)
            at = await publish(old, told_of(Position(info.state.last_seq, generation=100), 1, 10))
            # Its chain is 11 to 22; all but the first were still in its hands.
            late = told_of(at, 11, 22)
            store = History(remembers, 25)
            link = Link(cluster.access(0), SystemClock())
            feed = ChangeFeed(link, cast(Any, store), CLUSTER, SystemClock())
            publishing = asyncio.gather(link.run(), feed.run())
            await expect_told(old, 25)
            with pytest.raises((APIError, BusAwayError)):
                await publish(old, late[:1])
            await publish(old, late[1:])
            store.write(26)
            await expect_told(old, 26)
            store.write(30)
            await expect_told(old, 30)
            messages = await told(old)
            assert as_documented(messages) == [*range(1, 11), *range(27, 31)]
            verbs = [message.verb for message in messages]
            assert verbs == ["ADDED"] * 10 + ["RESYNC"] + ["ADDED"] * 11 + ["RESYNC"] + ["ADDED"] * 4
            assert messages[-1].generation == messages[22].generation > messages[10].generation
    finally:
        if publishing is not None:
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)
        cluster.stop()


class Accounts(NatsServers):
    """Servers that know one master and ask about all others."""

    issuer = ""

    def _config(self, number: int, directory: Path) -> str:
        users = [user_of(self.identity.subject)]
        plain = super()._config(number, directory).replace("verify: true", "verify_and_map: true")
        return plain + render_accounts(CLUSTER, users, "CN=nobody", self.issuer)


async def test_a_hung_master_that_is_asked_keeps_nobody_out(tmp_path: Path) -> None:
    """Two of three members of the queue hear the servers' questions, and readers' wishes, and never answer."""
    cluster = Accounts(tmp_path, servers=1)
    keys = MasterPki.open(tmp_path / "pki", "m1", [], datetime.datetime.now(datetime.UTC))
    issuer = issuer_of(keys.account_key)
    cluster.issuer = issuer.name
    clock = SystemClock()
    running: list[asyncio.Task[Any]] = []
    try:
        await cluster.start()
        links = [Link(cluster.access(0), clock) for _ in range(2)]
        parts = [link.run() for link in links]
        parts += [Admission(link, issuer, keys.ca_pem, CLUSTER, clock, lambda: ["m1"]).run() for link in links]
        parts += [Consumers(link, CLUSTER, clock).run() for link in links]
        running = [asyncio.create_task(part) for part in parts]
        session = await links[0].up()
        await Streams(lambda: 1).ensure(session, _changes_config(), 1)
        # Whoever comes before the masters listen is refused.
        await (await _connected(cluster, keys.admin)).close()
        hung = await nats.connect(
            f"tls://127.0.0.1:{cluster.ports[0]}", tls=cluster.identity.client_context(), tls_hostname=MASTER_HOST
        )
        for subject in (SUBJECT, f"{create_prefix(CLUSTER)}.>"):
            for _ in range(4):
                await hung.subscribe(subject, queue=QUEUE)
        await hung.flush()
        for number in range(3):
            admin = await _reader(cluster, keys.admin)
            feed = admin.jetstream(prefix=api_prefix(CLUSTER), timeout=3)
            config = api.ConsumerConfig(
                name=f"c{number}", filter_subject=change_subjects(CLUSTER), ack_policy=api.AckPolicy.NONE
            )
            made = await feed.add_consumer(CHANGE_STREAM, config)
            assert made.stream_name == CHANGE_STREAM
            await admin.close()
        await hung.close()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        cluster.stop()


async def _reader(cluster: NatsServers, identity: Identity) -> Any:
    async def quiet(_: Exception) -> None:
        return None

    return await nats.connect(
        f"tls://127.0.0.1:{cluster.ports[0]}", tls=identity.client_context(), tls_hostname=MASTER_HOST,
        inbox_prefix=b"_INBOX_barque-admin", allow_reconnect=False, error_cb=quiet, connect_timeout=5,
    )  # fmt: skip


async def _connected(cluster: NatsServers, identity: Identity) -> Any:
    async with asyncio.timeout(30):
        while True:
            try:
                return await _reader(cluster, identity)
            except nats.errors.Error:
                await asyncio.sleep(0.1)


def _changes_config() -> api.StreamConfig:
    return api.StreamConfig(name=CHANGE_STREAM, subjects=[change_subjects(CLUSTER)])


class Master:
    """The Event records of one master, which tries its own server first."""

    def __init__(self, servers: NatsServers, number: int) -> None:
        self.link = Link(servers.access(*((number + step) % 3 for step in range(3))), SystemClock())
        self.events = EventBackend(self.link, CLUSTER, SystemClock(), Streams(lambda: 3))
        self._tasks = [asyncio.create_task(self.link.run()), asyncio.create_task(self.events.run())]

    def lead(self) -> None:
        self._tasks.append(asyncio.create_task(self.events.lead()))

    async def die(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def names(self) -> list[str]:
        return [stored.key.name for stored in (await self.events.list("events")).items]

    async def write(self, name: str) -> None:
        """As a recorder does, again and again."""
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(ApiError):
                    (result,) = await self.events.commit([an_event(name)])
                    if isinstance(result, Committed | Refused):
                        return
                await asyncio.sleep(0.02)


def an_event(name: str) -> Op:
    key = Key("events", "default", name)
    json = b'{"metadata":{"resourceVersion":"","name":"%b"}}' % name.encode()
    return Op("put", key, json, json.index(b'"",') + 1, compares=(Absent(key),))


async def test_a_leader_dies_amid_making_and_filling_a_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has got one copy where there are to be three, and has carried over some of the Events. The next one ends with
    three, with all Events, and with none twice. Its server's orderly stop then costs nobody anything.
    """
    servers = NatsServers(tmp_path, 3)
    masters: list[Master] = []
    names = [f"e{number:03}" for number in range(400)]
    try:
        await servers.start()
        masters = [Master(servers, number) for number in range(3)]
        first, second, third = masters
        first.lead()
        await first.write(names[0])
        results = await first.events.commit(list(map(an_event, names[1:])))
        await until(lambda: not any(master.events.fault for master in masters))
        for master in masters:
            await master.events.reach(max(result.revision for result in results if isinstance(result, Committed)))

        await first.die()
        session = await second.link.up()
        await session.jetstream.delete_stream(EVENT_STREAM)
        config = api.StreamConfig(name=EVENT_STREAM, subjects=[event_subjects(CLUSTER)])
        made = await Streams(lambda: 1).ensure(session, config, int(time.time() * 1000))
        await until(lambda: 0 < len(second.events._seeding) < len(names))
        assert made.config.num_replicas == 1
        second.lead()
        await until(lambda: not len(second.events._seeding) and not len(third.events._seeding))

        async def complete() -> api.StreamInfo | None:
            info = await session.jetstream.stream_info(EVENT_STREAM, subjects_filter=">")
            return info if info.config.num_replicas == copies_of(info) == 3 else None

        async with asyncio.timeout(30):
            while (info := await complete()) is None:
                await asyncio.sleep(0.1)
        assert info.state.subjects == {event_subject(CLUSTER, Key("events", "default", name)): 1 for name in names}
        for master in (second, third):
            await master.events.current()
            assert await master.names() == names

        # Whose time is over before it is sent was not written, and hears that: it may be sent again.
        with monkeypatch.context() as patch:
            patch.setattr(event_writer, "WRITE_S", 0.0)
            (late,) = await second.events.commit([an_event("late")])
        assert isinstance(late, ApiError)
        assert late.code == 503

        assert info.cluster is not None
        assert info.cluster.leader is not None
        leading = int(info.cluster.leader.removeprefix("n"))
        writer = third if leading == 1 else second
        servers.send(leading, signal.SIGTERM)
        began = time.monotonic()
        await writer.write("at-once")
        # Killed, NATS' servers take four to nine seconds to agree on another.
        assert time.monotonic() - began < 3.0
        assert await writer.names() == ["at-once", *names]
    finally:
        await asyncio.gather(*(master.die() for master in masters))
        servers.stop()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.005)
