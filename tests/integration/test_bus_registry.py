"""Events through the whole of a master's API: registry, bus, a real nats-server; and the real store's change feed."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from barque.api.errors import ApiError
from barque.api.types import events_v1
from barque.api.types.core_v1 import Event, ObjectReference, Secret
from barque.api.types.meta_v1 import ObjectMeta
from barque.client.client import Client, target_of
from barque.client.clock import SystemClock
from barque.client.pki import MASTERS_GROUP
from barque.client.verbs import Selection
from barque.master.apiserver.bootstrap import ensure_namespaces
from barque.master.apiserver.registry import Registry
from barque.master.apiserver.settings import ApiSettings
from barque.master.auth.ca import MasterPki
from barque.master.auth.identity import User
from barque.master.bus.bus import Bus
from barque.master.bus.config import BusSettings
from barque.master.bus.permissions import inbox_prefix
from tests.support.expecting import expect_soon_async
from tests.support.ports import free_port
from tests.support.raft_group import open_store

# Long enough for a busy machine, and no test waits that long where all is well.
WITHIN_S = 90.0


class Master:
    """The API of one master, with what the bus needs to run."""

    def __init__(self, client: Client, pki: MasterPki, address: str) -> None:
        self.client = client
        self.pki = pki
        self.address = address


@pytest.fixture
async def master(tmp_path: Path) -> AsyncIterator[Master]:
    clock = SystemClock()
    address = f"127.0.0.1:{free_port()}"
    pki = MasterPki.open(tmp_path / "pki", "m1", [], datetime.datetime.now(datetime.UTC))
    store = await open_store(tmp_path / "store", clock)
    settings = BusSettings(tmp_path / "bus", address, cluster="lab")
    bus = Bus(settings, lambda: pki.master, store, clock, account_key=pki.account_key)
    tasks = [asyncio.create_task(part) for part in (store.run(), bus.run(), bus.lead())]
    try:
        client = Client(Registry(store, bus.events, ApiSettings(), clock).as_user(User("m1", (MASTERS_GROUP,))))
        await ensure_namespaces(client)
        await expect_soon_async(lambda: bus.health().healthy, WITHIN_S, "the bus is well")
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


async def test_what_one_group_writes_the_other_reads_and_watches(master: Master) -> None:
    client = master.client
    first = await client.create(an_event("old", "web"))
    target, about = target_of(events_v1.Event, namespace="default"), Selection(fields="regarding.name=web")
    changes = client.verbs.watch(target, about, first.metadata.resourceVersion)
    told: list[tuple[str, str, int]] = []

    async def follow() -> None:
        async for batch in changes:
            for change in batch:
                event = msgspec.json.decode(change.json or b"{}", type=events_v1.Event)
                told.append((change.type, event.note, event.series.count if event.series is not None else 0))

    following = asyncio.create_task(follow())
    newer = events_v1.Event(
        metadata=ObjectMeta(name="new", namespace="default"),
        regarding=ObjectReference(kind="Pod", name="web", namespace="default"),
        eventTime="2026-01-01T00:00:00.000000Z",
        type="Warning",
        reason="Unhealthy",
        note="probe failed",
        action="Probing",
        reportingController="barque.io/worker",
        reportingInstance="n1",
    )
    made = await client.create(newer)
    assert (await client.get(Event, "new", "default")).message == "probe failed"
    series = {"series": {"count": 2, "lastObservedTime": "2026-01-01T00:01:00.000000Z"}}
    await client.patch(Event, "new", "default", series)
    made.series = events_v1.EventSeries(count=9, lastObservedTime="2026-01-01T00:02:00.000000Z")
    with pytest.raises(ApiError, match="the object has been modified"):
        await client.update(made)
    await client.delete(events_v1.Event, "old", "default")
    await expect_soon_async(lambda: len(told) >= 3, WITHIN_S, "all is told")
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert told == [("ADDED", "probe failed", 0), ("MODIFIED", "probe failed", 2), ("DELETED", "pulled", 0)]
    with pytest.raises(ApiError, match="too old resource version: 1 ") as gone:
        async for _ in client.verbs.watch(target, about, "1"):
            pass
    assert (gone.value.code, gone.value.reason) == (410, "Expired")


async def test_the_feed_tells_of_a_secret_but_not_what_it_holds(
    master: Master, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The consumer of docs/feed.md, run as it stands, by the administrator."""
    secret = Secret(
        metadata=ObjectMeta(name="db", namespace="default", annotations={"applied": "czNjcjN0"}),
        data={"password": "czNjcjN0"},
    )
    await master.client.create(secret)
    master.pki.admin.save(tmp_path, "admin")
    monkeypatch.setenv("CA", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("CERT", str(tmp_path / "admin.pem"))
    monkeypatch.setenv("KEY", str(tmp_path / "admin.pem"))
    monkeypatch.setenv("NATS_URL", f"tls://{master.address}")
    monkeypatch.setenv("CLUSTER", "lab")
    monkeypatch.setenv("INBOX", inbox_prefix(User(*master.pki.admin.subject)))
    example: dict[str, Any] = {}
    text = (Path(__file__).parents[2] / "docs" / "feed.md").read_text()
    exec(text.partition("```python\n")[2].partition("```")[0], example)
    told: list[Any] = []
    gaps: list[int] = []

    async def handle(verb: str, said: Any) -> None:
        told.append((verb, said))

    async def resync(revision: int) -> None:
        gaps.append(revision)

    async with asyncio.timeout(WITHIN_S):
        after = 0
        while not told or told[-1][1]["metadata"]["name"] != "db":
            after = await example["consume"](handle, resync, after, many=1)
    # After nothing at all comes a gap: this consumer knew of no state before.
    assert gaps == [int(told[0][1]["metadata"]["resourceVersion"])]
    assert "czNjcjN0" not in str(told)
    assert told[-1][0] == "ADDED"
