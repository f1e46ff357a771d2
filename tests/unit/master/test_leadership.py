"""Terms of leadership on the real state machine: who may write as the leader, and what ends when."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from barque.api import resources
from barque.api.types.core_v1 import ConfigMap
from barque.api.types.meta_v1 import ObjectMeta
from barque.client.client import Client, target_of
from barque.client.recording.outbox import LAST_S
from barque.client.verbs import Create
from barque.master.apiserver.bootstrap import ensure_namespaces
from barque.master.apiserver.registry import Registry
from barque.master.apiserver.settings import ApiSettings
from barque.master.bus.changes import Position, steps
from barque.master.leadership import STOP_S, Leadership, StuckWorkError, Work
from barque.master.store.epoch import LEADER, Epoch, begin
from barque.master.store.port import Op, StoreUnavailableError
from tests.support.clock import FakeClock, settle
from tests.support.memory_store import ADMIN, MemoryEvents, MemoryStore, refusal


class Seat:
    """One member's place at a store that all members share; the test says who leads."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._leads = False
        self._changed = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @property
    def leads(self) -> bool:
        return self._leads

    @leads.setter
    def leads(self, leads: bool) -> None:
        self._leads = leads
        self._changed.set()

    async def led(self, *, leads: bool) -> None:
        while self._leads is not leads:
            self._changed.clear()
            await self._changed.wait()


class Sea:
    """A store, and the masters at it."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore(self.clock)
        self.values = itertools.count(1)

    def registry(self, epoch: Epoch | None = None) -> Client:
        events = MemoryEvents(MemoryStore(self.clock), "bus")
        made = Registry(self.store, events, ApiSettings(), self.clock, epoch=epoch)
        return Client(made.as_user(ADMIN))

    @asynccontextmanager
    async def leadership(self, seat: Seat, work: Work, name: str = "m1") -> AsyncIterator[asyncio.Task[None]]:
        leadership = Leadership(seat, name, work, lambda: f"epoch-{next(self.values)}", self.clock)
        task = asyncio.create_task(leadership.run())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def until(self, happens: Callable[[], bool]) -> None:
        """Let time pass until it has happened; five seconds are plenty."""
        for _ in range(50):
            if happens():
                return
            await self.clock.advance(0.1)
        raise AssertionError("it does not happen")


@pytest.fixture
async def sea() -> Sea:
    sea = Sea()
    await ensure_namespaces(sea.registry())
    return sea


def a_config(name: str) -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name=name, namespace="default"))


class Terms:
    """Work that notes when it begins and ends."""

    def __init__(self) -> None:
        self.begun: list[Epoch] = []
        self.ended: list[str] = []

    async def __call__(self, epoch: Epoch) -> None:
        self.begun.append(epoch)
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.append(epoch.value)


async def test_a_late_write_of_a_deposed_leader_is_refused_by_the_state_machine(sea: Sea) -> None:
    first = await begin(sea.store, "m1", "one")
    assert first is not None
    deposed = sea.registry(first)
    await deposed.create(a_config("in-time"))
    second = await begin(sea.store, "m2", "two")
    assert second is not None

    late = await refusal(deposed.create(a_config("late")))
    assert (late.code, late.message) == (
        503,
        "this master leads no longer: another one has taken over what it was doing",
    )
    assert first.over.is_set()
    assert not second.over.is_set()
    names = [c.metadata.name for c in (await sea.registry().list(ConfigMap, "default")).items]
    assert names == ["in-time"]
    await sea.registry(second).create(a_config("of-the-new-leader"))


@pytest.mark.parametrize("verb", ["update", "patch", "delete", "batch"])
async def test_every_verb_of_a_deposed_leader_is_refused(sea: Sea, verb: str) -> None:
    first = await begin(sea.store, "m1", "one")
    deposed = sea.registry(first)
    config = await deposed.create(a_config("a"))
    await begin(sea.store, "m2", "two")
    before = sea.store.revision
    config.data = {"k": "v"}

    calls: dict[str, Callable[[], Any]] = {
        "update": lambda: deposed.update(config),
        "patch": lambda: deposed.patch(ConfigMap, "a", "default", {"data": {"k": "v"}}),
        "delete": lambda: deposed.delete(ConfigMap, "a", "default"),
        "batch": lambda: deposed.batch(
            [Create(target_of(ConfigMap, "", "default"), b'{"metadata":{"name":"b"}}') for _ in range(2)]
        ),
    }
    if verb == "batch":
        assert [getattr(answer, "code", 0) for answer in await calls[verb]()] == [503, 503]
    else:
        assert (await refusal(calls[verb]())).code == 503
    assert sea.store.revision == before


async def test_an_ordinary_refusal_does_not_end_the_term(sea: Sea) -> None:
    epoch = await begin(sea.store, "m1", "one")
    assert epoch is not None
    leading = sea.registry(epoch)
    await leading.create(a_config("a"))
    assert (await refusal(leading.create(a_config("a")))).reason == "AlreadyExists"
    assert not epoch.over.is_set()


async def test_of_two_that_begin_at_once_one_does(sea: Sea) -> None:
    other: list[Epoch | None] = []

    async def quicker() -> None:
        other.append(await begin(sea.store, "m2", "two"))

    sea.store.before_commit = quicker
    assert await begin(sea.store, "m1", "one") is None
    assert other[0] is not None


async def test_work_lasts_as_long_as_leadership_and_begins_anew_with_it(sea: Sea) -> None:
    seat, terms = Seat(sea.store), Terms()
    async with sea.leadership(seat, terms):
        await settle()
        assert terms.begun == []
        seat.leads = True
        await sea.until(lambda: len(terms.begun) == 1)
        seat.leads = False
        await settle()
        assert terms.ended == ["epoch-1"]
        seat.leads = True
        await sea.until(lambda: len(terms.begun) == 2)
        assert [epoch.value for epoch in terms.begun] == ["epoch-1", "epoch-2"]


async def test_a_refused_write_ends_the_work_at_once_and_a_leader_begins_anew(sea: Sea) -> None:
    seat, terms = Seat(sea.store), Terms()
    seat.leads = True
    async with sea.leadership(seat, terms) as running:
        await sea.until(lambda: len(terms.begun) == 1)
        await begin(sea.store, "m2", "another's")
        await refusal(sea.registry(terms.begun[0]).create(a_config("late")))
        await settle()
        assert terms.ended == ["epoch-1"]
        await sea.until(lambda: len(terms.begun) == 2)
        assert not running.done()


async def test_what_fails_because_the_term_is_over_is_no_fault(sea: Sea) -> None:
    seat = Seat(sea.store)
    begun: list[Epoch] = []

    async def fails_with_its_term(epoch: Epoch) -> None:
        begun.append(epoch)
        if len(begun) == 1:
            await begin(sea.store, "m2", "another's")
            await sea.registry(epoch).create(a_config("late"))
        await asyncio.Event().wait()

    seat.leads = True
    async with sea.leadership(seat, fails_with_its_term) as running:
        await sea.until(lambda: len(begun) == 2)
        assert not running.done()


async def test_work_that_fails_by_itself_stops_the_master(sea: Sea) -> None:
    seat = Seat(sea.store)

    async def fails(_: Epoch) -> None:
        raise ValueError("a fault of ours")

    seat.leads = True
    async with sea.leadership(seat, fails) as running:
        await sea.until(running.done)
        with pytest.raises(ValueError, match="a fault of ours"):
            await running


def test_the_last_events_of_a_term_do_not_stop_the_master() -> None:
    assert 2 * LAST_S <= STOP_S, "a recorder that cannot reach the bus would be taken for stuck work"


async def test_work_that_does_not_end_stops_the_master(sea: Sea, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("barque.master.leadership.STOP_S", 0.01)
    seat = Seat(sea.store)
    let_go = asyncio.Event()

    async def holds_on(_: Epoch) -> None:
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    seat.leads = True
    async with sea.leadership(seat, holds_on) as running:
        await sea.until(lambda: sea.store.get(LEADER) is not None)
        await settle()
        seat.leads = False
        with pytest.raises(StuckWorkError, match=r"leader's work did not end within 0\.01 s"):
            await running
        let_go.set()


async def test_without_a_quorum_the_term_begins_when_it_is_back(sea: Sea) -> None:
    seat, terms = Seat(sea.store), Terms()
    sea.store.failure = StoreUnavailableError("no leader: 1 of 3 masters answer")
    seat.leads = True
    async with sea.leadership(seat, terms):
        await sea.clock.advance(1.0)
        assert terms.begun == []
        sea.store.failure = None
        await sea.until(lambda: len(terms.begun) == 1)


async def test_the_epoch_is_no_object_of_the_api_and_not_in_the_feed(sea: Sea) -> None:
    await begin(sea.store, "m1", "one")
    stored = sea.store.get(LEADER)
    assert stored is not None
    document = msgspec.json.decode(stored.json)
    assert document["metadata"]["resourceVersion"] == str(sea.store.revision)
    assert LEADER.resource not in {resource.group_resource for resource in resources.RESOURCES}
    await sea.registry().create(a_config("a"))

    batch = await anext(sea.store.changes(0))
    told = list(steps("c", sea.store.cluster_id, Position(0), batch, most_bytes=1024 * 1024))
    assert len(told) == len(batch) - 1
    assert not [step for step in told if "leaderepochs" in step.message.subject]
    assert told[-1].position.revision == sea.store.revision


async def test_a_restored_state_begins_with_a_new_term(sea: Sea) -> None:
    """The epoch of a snapshot is an older leader's: whoever leads now must not write as that one."""
    seat, terms = Seat(sea.store), Terms()
    seat.leads = True
    saved = [chunk async for chunk in sea.store.save_snapshot()]
    async with sea.leadership(seat, terms):
        await sea.until(lambda: len(terms.begun) == 1)

        async def chunks() -> AsyncIterator[bytes]:
            for chunk in saved:
                yield chunk

        await sea.store.restore_snapshot(chunks())
        assert sea.store.get(LEADER) is None
        await refusal(sea.registry(terms.begun[0]).create(a_config("a")))
        await sea.until(lambda: len(terms.begun) == 2)
        await sea.registry(terms.begun[1]).create(a_config("a"))


async def test_a_write_without_an_epoch_is_anybodys(sea: Sea) -> None:
    """What every master does for its clients goes on whoever leads."""
    await begin(sea.store, "m1", "one")
    await sea.registry().create(a_config("a"))
    await sea.store.commit([Op("delete", LEADER)])
    await sea.registry().create(a_config("b"))
    assert [stored.key.name for stored in sea.store.list("configmaps").items] == ["a", "b"]
