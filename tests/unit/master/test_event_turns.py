"""Writers of Events take turns, each user's among themselves; everybody else goes past them."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence

import pytest

from barque.api import codec
from barque.api.errors import ApiError
from barque.api.types import core_v1 as core
from barque.api.types.core_v1 import Event, ObjectReference
from barque.api.types.meta_v1 import ObjectMeta
from barque.client.client import Client, target_of
from barque.client.clock import SystemClock
from barque.client.pki import MASTERS_GROUP
from barque.client.verbs import Create
from barque.master.apiserver import event_turns
from barque.master.apiserver.backend import StoreBackend
from barque.master.apiserver.bootstrap import ensure_namespaces
from barque.master.apiserver.event_turns import AT_ONCE, EventTurns
from barque.master.apiserver.registry import Registry
from barque.master.apiserver.settings import ApiSettings
from barque.master.auth.identity import User
from barque.master.store.port import Op, Result
from tests.support.memory_store import MemoryStore


class SlowBus(StoreBackend):
    """Where Events are kept; it answers writers once `open` is set. `ops` are those that have come to it."""

    guards = False

    def __init__(self) -> None:
        super().__init__(MemoryStore(SystemClock()), "events")
        self.open = asyncio.Event()
        self.ops = 0

    async def commit(self, ops: Sequence[Op]) -> Sequence[Result | ApiError]:
        self.ops += len(ops)
        await self.open.wait()
        return await super().commit(ops)


class World:
    """A registry with such a bus."""

    def __init__(self) -> None:
        self.bus = SlowBus()
        self.registry = Registry(MemoryStore(SystemClock()), self.bus, ApiSettings(), SystemClock())

    def client(self, name: str) -> Client:
        return Client(self.registry.as_user(User(name, (MASTERS_GROUP,))))


@pytest.fixture
async def world() -> World:
    made = World()
    await ensure_namespaces(made.client("m1"))
    return made


def an_event(name: str) -> Event:
    about = ObjectReference(kind="Pod", name=name, namespace="default")
    return Event(metadata=ObjectMeta(name=name, namespace="default"), involvedObject=about, reason="Tested")


async def settled() -> None:
    for _ in range(100):
        await asyncio.sleep(0)


async def test_of_a_flood_few_are_under_way_and_others_go_past_them(world: World) -> None:
    loud = world.client("loud")
    flood = [asyncio.ensure_future(loud.create(an_event(f"e{n}"))) for n in range(5 * AT_ONCE)]
    await settled()
    assert world.bus.ops == AT_ONCE
    # Another's Event, and whatever else the loud one does.
    other = asyncio.ensure_future(world.client("other").create(an_event("other")))
    await settled()
    assert world.bus.ops == AT_ONCE + 1
    await loud.create(core.ConfigMap(metadata=ObjectMeta(name="c", namespace="default")))
    world.bus.open.set()
    assert len(await asyncio.gather(*flood, other)) == 5 * AT_ONCE + 1
    assert len(world.registry.environment.event_turns) == 0


async def test_patches_deletions_and_batches_take_turns_too(world: World) -> None:
    loud = world.client("loud")
    world.bus.open.set()
    for n in range(2):
        await loud.create(an_event(f"e{n}"))
    world.bus.open.clear()
    flood = [asyncio.ensure_future(loud.create(an_event(f"f{n}"))) for n in range(AT_ONCE)]
    await settled()
    begun = world.bus.ops
    target = target_of(Event, "", "default")
    waiting = [
        asyncio.ensure_future(loud.patch(Event, "e0", "default", {"count": 2})),
        asyncio.ensure_future(loud.delete(Event, "e1", "default")),
        asyncio.ensure_future(loud.batch([Create(target, codec.encode(an_event(f"b{n}"))) for n in range(20)])),
        asyncio.ensure_future(loud.delete_collection(Event, "kube-system")),
    ]
    await settled()
    assert world.bus.ops == begun
    world.bus.open.set()
    await asyncio.gather(*flood, *waiting)
    assert world.bus.ops >= begun + 22


async def test_nobody_waits_for_ever_and_who_leaves_makes_room(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_turns, "WAIT_S", 0.0)
    turns = EventTurns()
    held = [turns.turn("loud") for _ in range(AT_ONCE)]
    for turn in held:
        await turn.__aenter__()
    with pytest.raises(ApiError, match=r"^loud has too many writes of events under way$") as refused:
        async with turns.turn("loud"):
            raise AssertionError("there was no turn left")
    assert refused.value.code == 429
    async with turns.turn("other"):
        pass
    for turn in held:
        await turn.__aexit__(None, None, None)
    async with turns.turn("loud"):
        assert len(turns) == 1
    assert len(turns) == 0


async def test_who_is_refused_for_too_many_keeps_the_turn_for_a_moment(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a flood is answered no faster than that; a batch, too, of which something was refused."""
    monkeypatch.setattr(event_turns, "HOLD_S", 3600.0)
    world.bus.open.set()
    limits = world.registry.environment.event_limits
    loud, turns = world.client("loud"), world.registry.environment.event_turns
    monkeypatch.setattr(limits, "admit", functools.partial(_refuse, limits.admit))
    target = target_of(Event, "", "default")
    refused = [
        asyncio.ensure_future(loud.create(an_event("e"))),
        asyncio.ensure_future(loud.batch([Create(target, codec.encode(an_event(name))) for name in ("e", "f")])),
    ]
    taken = asyncio.ensure_future(loud.create(an_event("g")))
    await settled()
    assert [taken.done(), *(one.done() for one in refused)] == [True, False, False]
    assert len(turns) == 1
    for one in refused:
        one.cancel()
    await asyncio.gather(*refused, return_exceptions=True)
    assert len(turns) == 0


def _refuse(admit: Callable[..., None], event: Event, *rest: object) -> None:
    if event.metadata.name == "e":
        raise ApiError(429, "TooManyRequests", "Too many requests")
    admit(event, *rest)
