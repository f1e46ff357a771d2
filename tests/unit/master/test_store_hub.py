"""The watch hub: order, resumption, enter and leave, bookmarks, and who is cut off. On a fake clock."""

from __future__ import annotations

import asyncio

import pytest

from barque.master.store.fsm import StateMachine
from barque.master.store.hub import Hub, HubSettings
from barque.master.store.port import (
    Change,
    Filter,
    FutureRevisionError,
    HistoryGoneError,
    Op,
    SlowWatcherError,
    StoreUnavailableError,
)
from tests.support.clock import FakeClock, settle
from tests.support.store import Reading, a_pod, a_service, words

web = a_pod("web")


class Ship:
    """A state machine and a hub behind it, as in a store."""

    def __init__(self, settings: HubSettings = HubSettings()) -> None:
        self.clock = FakeClock()
        self.machine = StateMachine()
        self.hub = Hub(self.clock, settings)

    def apply(self, *ops: Op) -> None:
        applied = self.machine.apply(ops)
        self.hub.publish(applied.changes, self.machine.revision)

    def watch(self, since: int = 0, selected: Filter = Filter(), resource: str = "pods") -> Reading:
        return Reading(self.hub.watch(resource, since, selected))


async def test_changes_come_in_order_with_what_they_are() -> None:
    ship = Ship()
    reading = ship.watch()
    await settle()
    ship.apply(web.put(), a_service("s").put(), web.saying("2").put())
    ship.apply(web.delete())
    await settle()
    assert reading.said == ["ADDED web 1", "MODIFIED web 3", "DELETED web 4"]
    assert reading.events[-1].json == web.saying("2").json_at(4)
    await reading.stop()


async def test_a_watch_resumes_after_any_revision_without_a_gap() -> None:
    ship = Ship()
    ship.apply(*(web.saying(str(n)).put() for n in range(5)))
    for since in range(6):
        reading = ship.watch(since)
        await settle()
        assert [e.revision for e in reading.events] == list(range(since + 1, 6))
        await reading.stop()


async def test_history_and_what_comes_join_without_a_gap_in_many_batches() -> None:
    ship = Ship()
    ship.apply(*(a_pod(f"p{n}").put() for n in range(1200)))
    reading = ship.watch()
    await asyncio.sleep(0)
    ship.apply(*(a_pod(f"q{n}").put() for n in range(100)))
    await settle()
    assert [e.revision for e in reading.events] == list(range(1, 1301))
    await reading.stop()


async def test_a_subscription_calls_whoever_is_to_take() -> None:
    ship = Ship()
    calls: list[str] = []
    ship.apply(web.put())
    blue = Filter(matches=lambda labels, fields: labels.get("colour") == "blue")
    subscription = ship.hub.subscribe("pods", 0, blue, lambda: calls.append("news"))
    assert (subscription.take(), subscription.take()) == ([], None), "what is not selected is nothing, and no end"
    ship.apply(web.labelled(colour="blue").put())
    assert calls == ["news"]
    taken = subscription.take()
    assert taken is not None
    assert [(e.type, e.revision) for e in taken] == [("ADDED", 2)]
    assert subscription.take() is None
    ship.hub.restart(9)
    assert calls == ["news", "news"]
    with pytest.raises(HistoryGoneError):
        subscription.take()
    subscription.close()
    assert ship.hub.watchers == 0
    with pytest.raises(FutureRevisionError):
        ship.hub.subscribe("pods", 10, Filter(), lambda: None)


async def test_entering_and_leaving_a_selector_is_added_and_deleted() -> None:
    ship = Ship()
    blue = Filter(matches=lambda labels, fields: labels.get("colour") == "blue")
    reading = ship.watch(selected=blue)
    await settle()
    ship.apply(web.labelled(colour="red").put())
    ship.apply(web.labelled(colour="blue").put())
    ship.apply(web.labelled(colour="blue").saying("2").put())
    ship.apply(web.labelled(colour="red").saying("3").put())
    ship.apply(web.delete())
    await settle()
    assert reading.said == ["ADDED web 2", "MODIFIED web 3", "DELETED web 4"]
    assert reading.events[-1].json == web.labelled(colour="blue").saying("2").json_at(4)
    await reading.stop()


async def test_a_node_sees_its_pods_come_and_go() -> None:
    ship = Ship()
    one, two, none = (ship.watch(selected=Filter(node=n)) for n in ("n1", "n2", ""))
    await settle()
    ship.apply(web.put(), web.on("n1").put(), web.on("n1").saying("x").put(), web.on("n2").put(), web.delete())
    await settle()
    assert none.said == ["ADDED web 1", "DELETED web 2"]
    assert one.said == ["ADDED web 2", "MODIFIED web 3", "DELETED web 4"]
    assert two.said == ["ADDED web 4", "DELETED web 5"]
    for reading in (one, two, none):
        await reading.stop()


async def test_namespace_name_and_node_are_all_kept() -> None:
    ship = Ship()
    everywhere = ship.watch(selected=Filter(name="web"))
    here = ship.watch(selected=Filter(namespace="blue", name="web"))
    space = ship.watch(selected=Filter(namespace="blue"))
    node = ship.watch(selected=Filter(namespace="blue", node="n1"))
    await settle()
    ship.apply(a_pod("web", "red").on("n1").put(), a_pod("web", "blue").put(), a_pod("db", "blue").on("n1").put())
    await settle()
    assert everywhere.said == ["ADDED web 1", "ADDED web 2"]
    assert here.said == ["ADDED web 2"]
    assert space.said == ["ADDED web 2", "ADDED db 3"]
    assert node.said == ["ADDED db 3"]
    for reading in (everywhere, here, space, node):
        await reading.stop()


async def test_an_event_touches_only_the_watchers_of_its_node() -> None:
    ship = Ship()
    asked: list[str] = []

    def matches_of(node: str) -> Filter:
        def matches(labels: dict[str, str], fields: dict[str, str]) -> bool:
            asked.append(node)
            return True

        return Filter(node=node, matches=matches)

    readings = [ship.watch(selected=matches_of(f"n{n}")) for n in range(200)]
    await settle()
    ship.apply(web.on("n7").put())
    await settle()
    assert set(asked) == {"n7"}
    assert readings[7].said == ["ADDED web 1"]
    for reading in readings:
        await reading.stop()


async def test_every_watch_gets_a_bookmark_at_least_once_a_minute() -> None:
    ship = Ship()
    bookmarks = asyncio.create_task(ship.hub.run())
    readings = [ship.watch() for _ in range(40)]
    await settle()
    ship.apply(a_service("s").put())
    for _ in range(60):
        await ship.clock.advance(1)
    assert all(r.said == ["BOOKMARK 1", "BOOKMARK 1"] for r in readings)
    ship.apply(web.put())
    await ship.clock.advance(30)
    assert all(r.said[2:] == ["ADDED web 2", "BOOKMARK 2"] for r in readings)
    for reading in readings:
        await reading.stop()
    bookmarks.cancel()


async def test_a_bookmark_never_runs_ahead_of_what_was_delivered() -> None:
    ship = Ship()
    bookmarks = asyncio.create_task(ship.hub.run())
    ship.apply(*(a_pod(f"p{n}").put() for n in range(1300)))
    watch = ship.hub.watch("pods", 0)
    first = await anext(watch)
    for _ in range(30):
        await ship.clock.advance(1)
    second = await anext(watch)
    third = await anext(watch)
    assert words(second) == ["BOOKMARK 500"]
    assert [e.revision for e in [*first, *third, *await anext(watch)]] == list(range(1, 1301))
    bookmarks.cancel()


async def test_a_slow_watcher_is_cut_off_and_may_resume() -> None:
    ship = Ship(HubSettings(watcher_changes=10))
    slow = ship.hub.watch("pods", 0)
    ship.apply(web.put())
    assert [e.revision for e in await anext(slow)] == [1]
    fast = ship.watch(1)
    for n in range(11):
        ship.apply(web.saying(str(n)).put())
        await settle()
    with pytest.raises(SlowWatcherError, match="10 changes behind"):
        await anext(slow)
    assert [e.revision for e in fast.events] == list(range(2, 13))
    resumed = ship.watch(1)
    await settle()
    assert [e.revision for e in resumed.events] == list(range(2, 13))
    await fast.stop()
    await resumed.stop()


async def test_what_waits_for_a_watcher_is_bounded_in_bytes_too() -> None:
    ship = Ship(HubSettings(watcher_bytes=5000))
    slow = ship.hub.watch("pods", 0)
    ship.apply(web.put())
    await anext(slow)
    for n in range(6):
        ship.apply(web.sized(1000 + n).put())
    with pytest.raises(SlowWatcherError, match="5000 bytes behind"):
        await anext(slow)


async def test_watchers_with_equal_filters_get_the_same_batch() -> None:
    ship = Ship()
    here = Filter(namespace="default")
    watches = [ship.hub.watch("pods", 0, selected) for selected in (here, Filter(namespace="default"), Filter())]
    gathered = asyncio.gather(*(anext(watch) for watch in watches))
    await settle()
    ship.apply(web.put(), a_pod("db").put())
    first, second, other = await gathered
    assert first is second
    assert first is not other
    assert words(first) == words(other) == ["ADDED web 1", "ADDED db 2"]
    first.memo["wire"] = b"encoded once"
    assert second.memo == {"wire": b"encoded once"}
    for watch in watches:
        await watch.aclose()  # type: ignore[attr-defined]
    assert ship.hub.watchers == 0
    assert ship.hub._interests == {}


async def test_a_selector_runs_once_for_all_who_share_it_and_never_in_a_publish() -> None:
    ship = Ship()
    asked: list[str] = []

    def blue(labels: dict[str, str], fields: dict[str, str]) -> bool:
        asked.append(fields["metadata.name"])
        return labels.get("colour") == "blue"

    readings = [ship.watch(selected=Filter(matches=blue)) for _ in range(20)]
    await settle()
    ship.apply(web.labelled(colour="blue").put())
    assert asked == []
    await settle()
    assert asked == ["web"]
    assert all(reading.said == ["ADDED web 1"] for reading in readings)
    for reading in readings:
        await reading.stop()


async def test_after_a_restart_every_watch_ends_and_none_resumes_from_before() -> None:
    ship = Ship()
    ship.apply(web.put())
    readings = [ship.watch(), Reading(ship.hub.changes(0)), ship.watch(500)]
    await settle()
    ship.machine = StateMachine(1000)
    ship.hub.restart(1000)
    for reading in readings:
        assert isinstance(await reading.ended(), HistoryGoneError)
    with pytest.raises(HistoryGoneError):
        await anext(ship.hub.watch("pods", 999))
    with pytest.raises(HistoryGoneError):
        ship.hub.superseded("pods", 1)
    resumed = ship.watch(1000)
    await settle()
    ship.apply(web.put())
    await settle()
    assert resumed.said == ["ADDED web 1001"]
    await resumed.stop()


async def test_a_long_backlog_does_not_cut_a_watcher_off() -> None:
    ship = Ship(HubSettings(watcher_changes=10))
    ship.apply(*(a_pod(f"p{n}").put() for n in range(1000)))
    watch = ship.hub.watch("pods", 0)
    assert len(await anext(watch)) == 500
    ship.apply(*(a_pod(f"q{n}").put() for n in range(10)))
    assert len(await anext(watch)) == 500
    assert len(await anext(watch)) == 10
    ship.apply(*(a_pod(f"r{n}").put() for n in range(11)))
    with pytest.raises(SlowWatcherError):
        await anext(watch)


async def test_a_watch_that_is_not_read_is_cut_off_and_holds_nothing() -> None:
    ship = Ship()
    bookmarks = asyncio.create_task(ship.hub.run())
    ship.apply(web.put())
    forgotten = ship.hub.watch("pods", 0)
    await anext(forgotten)
    ship.apply(web.saying("2").put())
    for _ in range(61):
        await ship.clock.advance(1)
    with pytest.raises(SlowWatcherError, match="half a minute"):
        await anext(forgotten)
    assert ship.hub.watchers == 0
    bookmarks.cancel()


async def test_a_watch_given_up_leaves_nothing_behind() -> None:
    ship = Ship()
    readings = [ship.watch(selected=f) for f in (Filter(), Filter(node="n"), Filter(name="x"), Filter(namespace="y"))]
    changes = Reading(ship.hub.changes(0))
    await settle()
    assert ship.hub.watchers == 5
    for reading in [*readings, changes]:
        await reading.stop()
    assert ship.hub.watchers == 0
    assert ship.hub._interests == {}


async def test_history_that_is_gone_is_said_to_be() -> None:
    ship = Ship(HubSettings(history_changes=3))
    ship.apply(*(web.saying(str(n)).put() for n in range(5)))
    with pytest.raises(HistoryGoneError, match="revision 1 is too old, the history begins after 2"):
        await anext(ship.hub.watch("pods", 1))
    with pytest.raises(HistoryGoneError):
        await anext(ship.hub.changes(1))
    assert [e.revision for e in await anext(ship.hub.watch("pods", 2))] == [3, 4, 5]
    with pytest.raises(HistoryGoneError):
        await anext(ship.hub.watch("services", 1))


async def test_history_is_bounded_by_bytes_of_superseded_states() -> None:
    ship = Ship(HubSettings(history_bytes=100_000))
    ship.apply(*(web.sized(10_000 + n).put() for n in range(50)))
    assert 5 <= len(ship.hub._history) <= 10
    assert ship.hub._history.floor == 50 - len(ship.hub._history)


async def test_a_snapshot_is_where_history_begins() -> None:
    ship = Ship()
    ship.machine.revision = 7
    ship.hub.reset(7)
    with pytest.raises(HistoryGoneError):
        await anext(ship.hub.watch("pods", 6))
    reading = ship.watch(7)
    await settle()
    ship.apply(web.put())
    await settle()
    assert reading.said == ["ADDED web 8"]
    await reading.stop()


async def test_a_future_revision_is_waited_for() -> None:
    ship = Ship()
    reading = ship.watch(2)
    await ship.clock.advance(2.9)
    ship.apply(web.put(), web.saying("2").put(), web.saying("3").put())
    await settle()
    assert reading.said == ["MODIFIED web 3"]
    await reading.stop()


async def test_a_future_revision_that_does_not_come_is_given_up_after_three_seconds() -> None:
    ship = Ship()
    reading = ship.watch(2)
    await ship.clock.advance(2.9)
    ship.apply(web.put())
    await settle()
    assert not isinstance(reading.failure, FutureRevisionError)
    await ship.clock.advance(0.2)
    assert isinstance(reading.failure, FutureRevisionError)
    assert str(reading.failure) == "revision 2 is not reached yet, the newest is 1"
    assert ship.hub._awaited == []


async def test_all_changes_of_all_resources() -> None:
    ship = Ship()
    ship.apply(web.put(), a_service("s").put())
    reading = Reading(ship.hub.changes(1))
    await settle()
    ship.apply(web.delete())
    await settle()
    changes: list[Change] = reading.events
    assert [(c.revision, str(c.key)) for c in changes] == [(2, "services/default/s"), (3, "pods/default/web")]
    await reading.stop()


async def test_closing_ends_every_watch_and_refuses_new_ones() -> None:
    ship = Ship()
    reading, waiting = ship.watch(), ship.watch(9)
    await settle()
    ship.hub.close(StoreUnavailableError("the store is stopping"))
    await settle()
    assert isinstance(reading.failure, StoreUnavailableError)
    assert isinstance(waiting.failure, StoreUnavailableError)
    with pytest.raises(StoreUnavailableError):
        await anext(ship.hub.watch("pods", 0))


async def test_the_newest_change_of_some_resources() -> None:
    ship = Ship()
    ship.apply(web.put(), a_service("s").put())
    assert (ship.hub.newest(("pods",)), ship.hub.newest(("pods", "services"))) == (1, 2)
    assert ship.hub.newest(("secrets",)) == 0
    ship.apply(web.delete())
    assert (ship.hub.newest(("pods",)), ship.hub.newest(("services",))) == (3, 2)
    ship.hub.restart(1_000_000_003)
    assert ship.hub.newest(("services",)) == 1_000_000_003
