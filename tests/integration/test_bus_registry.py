"""Events through the whole of a master's API: registry, bus, a real nats-server; and the real store's change feed."""

from __future__ import annotations

import asyncio
import datetime
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import nats
import pytest

from barque.api.errors import ApiError
from barque.api.types.core_v1 import Event, ObjectReference, Secret
from barque.api.types.meta_v1 import ObjectMeta
from barque.client.client import Client
from barque.client.clock import SystemClock
from barque.client.pki import MASTER_HOST, MASTERS_GROUP
from barque.master.apiserver.bootstrap import ensure_namespaces
from barque.master.apiserver.registry import Registry
from barque.master.apiserver.settings import ApiSettings
from barque.master.auth.ca import MasterPki
from barque.master.auth.identity import User
from barque.master.bus.bus import Bus
from barque.master.bus.feed import FeedMessage
from barque.master.bus.server import BusSettings
from barque.master.bus.subjects import change_subjects
from tests.support.raft_group import open_store


class Master:
    """The API of one master, with what the bus needs to run."""

    def __init__(self, client: Client, pki: MasterPki, address: str) -> None:
        self.client = client
        self.pki = pki
        self.address = address


@pytest.fixture
async def master(tmp_path: Path) -> AsyncIterator[Master]:
    clock = SystemClock()
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{held.getsockname()[1]}"
    pki = MasterPki.open(tmp_path / "pki", "m1", [], datetime.datetime.now(datetime.UTC))
    store = await open_store(tmp_path / "store", clock)
    bus = Bus(BusSettings(tmp_path / "bus", address, cluster="lab"), lambda: pki.master, store, clock)
    tasks = [asyncio.create_task(store.run()), asyncio.create_task(bus.run())]
    try:
        client = Client(Registry(store, bus.events, ApiSettings(), clock).as_user(User("m1", (MASTERS_GROUP,))))
        await ensure_namespaces(client)
        async with asyncio.timeout(15):
            while not bus.health().healthy:
                await asyncio.sleep(0.02)
        yield Master(client, pki, address)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await store.close()


def an_event(name: str, about: str) -> Event:
    reference = ObjectReference(kind="Pod", name=about, namespace="default")
    meta = ObjectMeta(name=name, namespace="default")
    return Event(metadata=meta, involvedObject=reference, reason="Pulled", type="Normal", message="pulled", count=1)


async def test_events_as_the_recorder_and_describe_use_them(master: Master) -> None:
    await master.client.create(an_event("web.1", "web"))
    await master.client.create(an_event("db.1", "db"))
    patched = await master.client.patch(Event, "web.1", "default", {"count": 2})
    assert patched.count == 2
    listed = await master.client.list(Event, "default", fields="involvedObject.name=web")
    assert [(event.metadata.name, event.count) for event in listed.items] == [("web.1", 2)]
    with pytest.raises(ApiError, match="already exists"):
        await master.client.create(an_event("web.1", "web"))
    await master.client.delete(Event, "web.1", "default")
    with pytest.raises(ApiError, match=r'events "web\.1" not found'):
        await master.client.get(Event, "web.1", "default")


async def test_the_feed_tells_of_a_secret_but_not_what_it_holds(master: Master) -> None:
    secret = Secret(
        metadata=ObjectMeta(name="db", namespace="default", annotations={"applied": "czNjcjN0"}),
        data={"password": "czNjcjN0"},
    )
    await master.client.create(secret)
    connection = await nats.connect(
        f"tls://{master.address}", tls=master.pki.admin.client_context(), tls_hostname=MASTER_HOST
    )
    try:
        feed = await connection.jetstream().subscribe(change_subjects("lab"), ordered_consumer=True)
        async with asyncio.timeout(15):
            while (message := await feed.next_msg(timeout=10)).subject != "barque.lab.change.core.secrets.default.db":
                assert b"czNjcjN0" not in message.data
    finally:
        await connection.close()
    assert b"czNjcjN0" not in message.data
    said = msgspec.json.decode(message.data, type=FeedMessage)
    assert (said.verb, msgspec.json.decode(said.object)["metadata"]["name"]) == ("ADDED", "db")
