"""A consumer of the change feed as docs/feed.md describes one: the stream, in order, on a connection of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import msgspec
import nats
import nats.errors
from nats.aio.client import Client
from nats.js import JetStreamContext, api

from barque.client.pki import ADMIN_NAME, MASTER_HOST
from barque.master.bus.subjects import CHANGE_STREAM, change_subjects
from tests.bench.master import Master

CLUSTER = "barque"
_FETCH, _FETCH_S = 100, 5.0


class _Meta(msgspec.Struct):
    name: str = ""


class _Object(msgspec.Struct):
    metadata: _Meta


class _Change(msgspec.Struct):
    object: _Object | None = None


class Feed:
    """`hear` is told the name of each object in a message on `subject`, which follows `barque.<cluster>.change.`.

    Use as an async context.
    """

    def __init__(self, master: Master, subject: str, hear: Callable[[str], None]) -> None:
        self._master = master
        self._subject = change_subjects(CLUSTER).removesuffix(">") + subject
        self._hear = hear
        self._connection: Client | None = None
        self._following: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Feed:
        identity = self._master.admin
        self._connection = await nats.connect(
            f"tls://127.0.0.1:{self._master.bus_port}", tls=identity.client_context(), tls_hostname=MASTER_HOST,
            inbox_prefix=f"_INBOX_{ADMIN_NAME}".encode(),
        )  # fmt: skip
        feed = self._connection.jetstream(prefix=f"barque.{CLUSTER}.jetstream")
        consumer = api.ConsumerConfig(
            name="bench", ack_policy=api.AckPolicy.NONE, filter_subject=self._subject,
            deliver_policy=api.DeliverPolicy.NEW,
        )  # fmt: skip
        await feed.add_consumer(CHANGE_STREAM, consumer)
        messages = await feed.pull_subscribe_bind(consumer="bench", stream=CHANGE_STREAM)
        self._following = asyncio.create_task(self._follow(messages))
        return self

    async def __aexit__(self, *failure: object) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        if self._connection is not None:
            await self._connection.close()

    async def _follow(self, messages: JetStreamContext.PullSubscription) -> None:
        while True:
            with contextlib.suppress(nats.errors.TimeoutError):
                for message in await messages.fetch(_FETCH, timeout=_FETCH_S):
                    change = msgspec.json.decode(message.data, type=_Change)
                    if change.object is not None:
                        self._hear(change.object.metadata.name)
