"""An informer lists once and then never again, whatever happens to its watch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from barque.api.types.core_v1 import Pod
from barque.client.informer import Informer
from tests.support.clock import FakeClock, settle
from tests.support.fake_verbs import FakeVerbs
from tests.support.workloads import a_pod

Start = Callable[..., Awaitable[Informer[Pod]]]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def verbs(clock: FakeClock) -> FakeVerbs:
    return FakeVerbs(clock)


@pytest.fixture
async def start(verbs: FakeVerbs, clock: FakeClock) -> AsyncIterator[Start]:
    tasks: list[asyncio.Task[None]] = []

    async def begin(**options: Any) -> Informer[Pod]:
        informer = Informer(verbs.client, Pod, clock=clock, random=lambda: 0.5, **options)
        tasks.append(asyncio.create_task(informer.run()))
        await settle()
        return informer

    yield begin
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def names(informer: Informer[Pod]) -> list[str]:
    return sorted(p.metadata.name for p in informer.list())


async def test_shows_what_is_there_and_what_comes(verbs: FakeVerbs, start: Start) -> None:
    verbs.put(a_pod("a"))
    informer = await start()
    assert informer.synced
    verbs.put(a_pod("b"))
    verbs.remove(a_pod("a"))
    await settle()
    assert names(informer) == ["b"]
    assert informer.get("b", "default") is not None
    assert informer.get("a", "default") is None


async def test_resumes_a_broken_watch_without_gap_or_list(verbs: FakeVerbs, start: Start, clock: FakeClock) -> None:
    informer = await start()
    for name in "abc":
        verbs.break_watches()
        verbs.put(a_pod(name))
        await clock.advance(5)
    assert names(informer) == ["a", "b", "c"]
    assert (informer.lists, verbs.lists) == (1, 1)
    assert informer.watches == 4


async def test_survives_an_outage_and_says_so_once(
    verbs: FakeVerbs, start: Start, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    informer = await start()
    verbs.down = True
    verbs.break_watches()
    await clock.advance(3600)
    assert len(caplog.records) == 1
    assert "no master is reachable" in caplog.text or "connection broke" in caplog.text
    verbs.down = False
    verbs.put(a_pod("late"))
    await clock.advance(4)
    assert names(informer) == ["late"]
    assert verbs.lists == 1
    assert len(caplog.records) == 2
    assert "following changes again" in caplog.records[-1].message


async def test_is_not_synced_until_the_first_list_succeeds(verbs: FakeVerbs, start: Start, clock: FakeClock) -> None:
    verbs.down = True
    informer = await start()
    await clock.advance(60)
    assert not informer.synced
    verbs.down = False
    await clock.advance(4)
    assert informer.synced


async def test_pauses_grow_to_their_limit_with_jitter(verbs: FakeVerbs, start: Start, clock: FakeClock) -> None:
    verbs.down = True
    informer = await start()
    pauses = [informer._reflector._next_pause() for _ in range(12)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == pytest.approx(3.0 * 0.75)


async def test_lists_again_only_when_history_is_gone(verbs: FakeVerbs, start: Start, clock: FakeClock) -> None:
    verbs.put(a_pod("kept"))
    verbs.put(a_pod("doomed"))
    informer = await start()
    seen: list[tuple[str, str]] = []
    informer.add_handler(lambda old, new: seen.append((_name(old), _name(new))))
    seen.clear()
    verbs.down = True
    verbs.break_watches()
    await settle()
    verbs.remove(a_pod("doomed"))
    verbs.put(a_pod("born"))
    verbs.compact()
    verbs.down = False
    await clock.advance(5)
    assert names(informer) == ["born", "kept"]
    assert verbs.lists == 2
    assert sorted(seen) == [("", "born"), ("doomed", "")]


async def test_a_watch_that_falls_silent_is_begun_anew(verbs: FakeVerbs, start: Start, clock: FakeClock) -> None:
    informer = await start()
    await clock.advance(80)
    assert informer.watches == 1
    await clock.advance(20)
    assert informer.watches == 2
    verbs.put(a_pod("a"))
    await settle()
    assert names(informer) == ["a"]


async def test_tells_a_replaced_object_as_gone_and_new(verbs: FakeVerbs, start: Start, clock: FakeClock) -> None:
    verbs.put(a_pod("a"))
    informer = await start()
    seen: list[tuple[str, str]] = []
    informer.add_handler(lambda old, new: seen.append((_uid(old), _uid(new))))
    verbs.remove(a_pod("a"))
    again = a_pod("a")
    again.metadata.uid = "other"
    verbs.put(again)
    await settle()
    assert seen == [("", "uid-a"), ("uid-a", ""), ("", "other")]


async def test_indexes_follow_the_objects(verbs: FakeVerbs, start: Start) -> None:
    verbs.put(a_pod("a", node="n1"))
    informer = await start()
    informer.add_index("node", lambda pod: [pod.spec.nodeName])
    verbs.put(a_pod("b", node="n1"))
    verbs.put(a_pod("a", node="n2"))
    await settle()
    assert [p.metadata.name for p in informer.by_index("node", "n1")] == ["b"]
    assert [p.metadata.name for p in informer.by_index("node", "n2")] == ["a"]
    verbs.remove(a_pod("b"))
    await settle()
    assert informer.by_index("node", "n1") == []


async def test_selects_by_label_field_and_namespace(verbs: FakeVerbs, start: Start) -> None:
    verbs.put(a_pod("a", node="n1"))
    verbs.put(a_pod("b", node="n2"))
    verbs.put(a_pod("c", node="n1", app="db"))
    verbs.put(a_pod("d", node="n1", namespace="other"))
    informer = await start(namespace="default", labels="app=web", fields="spec.nodeName=n1")
    assert names(informer) == ["a"]
    verbs.put(a_pod("b", node="n1"))
    verbs.put(a_pod("a", node="n2"))
    await settle()
    assert names(informer) == ["b"]


def _name(pod: Pod | None) -> str:
    return pod.metadata.name if pod else ""


def _uid(pod: Pod | None) -> str:
    return pod.metadata.uid if pod else ""
