"""Events of both groups: the same records, written and read in either version."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from barque.api import conversion, resources
from barque.api.types import events_v1
from barque.api.types.core_v1 import Event, EventSource, ObjectReference
from barque.api.types.meta_v1 import ObjectMeta
from barque.client.verbs import APPLY_PATCH, MERGE_PATCH, Page, Selection, WriteOptions
from tests.support.memory_store import Bench, a_bench, refusal, target

CORE, NEW = "events", "events.events.k8s.io"
TIME = "2026-01-01T00:00:00.000000Z"
ABOUT = {"kind": "Pod", "namespace": "default", "name": "web", "uid": "u1"}
OLDER = {
    "involvedObject": ABOUT, "message": "pulled it", "reason": "Pulled", "type": "Normal", "count": 3,
    "source": {"component": "worker", "host": "n1"},
    "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:01:00Z",
}  # fmt: skip
NEWER = {
    "regarding": ABOUT, "note": "placed it", "reason": "Scheduled", "type": "Normal", "action": "Binding",
    "reportingController": "barque.io/scheduler", "reportingInstance": "m1", "eventTime": TIME,
    "related": {"kind": "Node", "name": "n1"},
}  # fmt: skip
SERIES = {"count": 2, "lastObservedTime": "2026-01-01T00:02:00.000000Z"}


def named(name: str, body: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": name}, **body}


def said(event: dict[str, Any]) -> dict[str, Any]:
    """All but what every object has."""
    return {key: value for key, value in event.items() if key not in ("apiVersion", "kind", "metadata")}


async def both(bench: Bench) -> None:
    await bench.create(CORE, named("older", OLDER))
    await bench.create(NEW, named("newer", NEWER))


def test_every_word_for_events_means_those_of_the_core() -> None:
    assert {resources.by_word(word).api_version for word in ("events", "ev", "event", "Event")} == {"v1"}
    assert resources.by_word("events.events.k8s.io").api_version == "events.k8s.io/v1"
    assert resources.by_word("ev.v1.events.k8s.io").api_version == "events.k8s.io/v1"
    assert resources.by_plural("events.k8s.io", "events", "v1").stored is resources.by_plural("", "events")


async def test_each_group_shows_what_was_made_in_the_other() -> None:
    bench = await a_bench()
    await both(bench)
    older = await bench.get(NEW, "older")
    assert (older["apiVersion"], older["kind"]) == ("events.k8s.io/v1", "Event")
    assert said(older) == {
        "regarding": ABOUT, "note": "pulled it", "reason": "Pulled", "type": "Normal", "deprecatedCount": 3,
        "deprecatedSource": {"component": "worker", "host": "n1"}, "eventTime": None,
        "deprecatedFirstTimestamp": "2026-01-01T00:00:00Z", "deprecatedLastTimestamp": "2026-01-01T00:01:00Z",
    }  # fmt: skip
    newer = await bench.get(CORE, "newer")
    assert (newer["apiVersion"], newer["kind"]) == ("v1", "Event")
    assert said(newer) == {
        "involvedObject": ABOUT, "message": "placed it", "reason": "Scheduled", "type": "Normal", "action": "Binding",
        "reportingComponent": "barque.io/scheduler", "reportingInstance": "m1", "eventTime": TIME,
        "related": {"kind": "Node", "name": "n1"},
    }  # fmt: skip
    assert older["metadata"] == (await bench.get(CORE, "older"))["metadata"]


def test_nothing_is_lost_on_the_way_there_and_back() -> None:
    full = events_v1.Event(
        metadata=ObjectMeta(name="e", namespace="default"),
        **{name: f"2026-01-0{at}T00:00:00Z" for at, name in enumerate(
            ("eventTime", "deprecatedFirstTimestamp", "deprecatedLastTimestamp"), 1)},
        **{name: name for name in ("action", "note", "reason", "reportingController", "reportingInstance", "type")},
        deprecatedCount=4,
        deprecatedSource=EventSource(component="c", host="h"),
        regarding=ObjectReference(name="a"),
        related=ObjectReference(name="b"),
        series=events_v1.EventSeries(count=5, lastObservedTime="2026-01-04T00:00:00Z"),
    )  # fmt: skip
    unset = events_v1.Event()
    assert all(getattr(full, name) != getattr(unset, name) for name in full.__struct_fields__[2:])
    there = conversion.converted(full, resources.by_type(Event))
    assert isinstance(there, Event)
    assert conversion.converted(there, resources.by_type(events_v1.Event)) == full
    assert conversion.converted(there, resources.by_type(Event)) is there


async def test_lists_watches_and_tables_are_of_the_group_asked() -> None:
    bench = await a_bench()
    await both(bench)
    listed = await bench.admin.list(target(NEW))
    items = [msgspec.json.decode(item) for item in listed.items]
    assert [(item["apiVersion"], item["note"]) for item in items] == [
        ("events.k8s.io/v1", "placed it"),
        ("events.k8s.io/v1", "pulled it"),
    ]
    tables = [await bench.admin.table(target(word), include="Object") for word in (CORE, NEW)]
    rows = [[msgspec.json.decode(row) for row in table.rows] for table in tables]
    assert tables[0].columns == tables[1].columns
    assert [row["cells"] for row in rows[0]] == [row["cells"] for row in rows[1]]
    assert [row["object"] for row in rows[1]] == items
    changes = bench.admin.watch(target(NEW), resource_version=listed.resource_version)
    coming = asyncio.ensure_future(anext(changes))
    await asyncio.sleep(0)
    await bench.create(CORE, named("third", OLDER))
    (event,) = await coming
    assert (event.type, msgspec.json.decode(event.json)["regarding"]) == ("ADDED", ABOUT)
    await changes.aclose()


async def test_watchers_of_a_group_share_the_work() -> None:
    bench = await a_bench()
    await both(bench)
    watches = [bench.admin.watch(target(NEW), resource_version=str(bench.events.revision)) for _ in range(2)]
    core = bench.admin.watch(target(CORE), resource_version=str(bench.events.revision))
    coming = [asyncio.ensure_future(anext(changes)) for changes in (*watches, core)]
    await asyncio.sleep(0)
    await bench.create(CORE, named("a", OLDER))
    batches = await asyncio.gather(*coming)
    assert batches[0] is batches[1]
    assert batches[2][0].json == bench.events.get(bench.events.ops[-1].key).json  # type: ignore[union-attr]
    for changes in (*watches, core):
        await changes.aclose()


async def test_field_selectors_are_those_of_the_group() -> None:
    bench = await a_bench()
    await both(bench)

    async def found(word: str, selector: str) -> list[str]:
        return await bench.names(word, "default", fields=selector)

    assert await found(NEW, "regarding.name=web,reason=Pulled") == ["older"]
    assert await found(NEW, "regarding.uid=u1,type!=Warning") == ["newer", "older"]
    assert await found(NEW, "reportingController=barque.io/scheduler") == ["newer"]
    assert await found(CORE, "reportingComponent=barque.io/scheduler") == ["newer"]
    assert await found(CORE, "source=barque.io/scheduler") == ["newer"]
    assert await found(CORE, "source=worker,involvedObject.kind=Pod") == ["older"]
    for word, field in ((NEW, "involvedObject.name"), (NEW, "source"), (CORE, "regarding.name"), (CORE, "note")):
        error = await refusal(found(word, f"{field}=x"))
        assert (error.code, error.message) == (400, f"field label not supported: {field}")


async def test_the_series_of_a_newer_event_goes_on_and_nothing_else() -> None:
    bench = await a_bench()
    await bench.create(NEW, named("e", NEWER))
    patched = await bench.patch(NEW, "e", {"series": SERIES}, kind=MERGE_PATCH)
    assert patched["series"] == SERIES
    assert (await bench.get(CORE, "e"))["series"] == SERIES
    error = await refusal(bench.patch(NEW, "e", {"note": "else"}))
    assert (error.code, error.message) == (
        422, 'Event.events.k8s.io "e" is invalid: note: Invalid value: "else": field is immutable'
    )  # fmt: skip
    # The core group lets everything change.
    assert (await bench.patch(CORE, "e", {"message": "else"}))["message"] == "else"
    assert (await bench.get(NEW, "e"))["note"] == "else"


async def test_the_newer_group_is_strict_when_an_event_is_made() -> None:
    bench = await a_bench()
    error = await refusal(bench.create(NEW, named("e", {**NEWER, "deprecatedCount": 1, "eventTime": None})))
    assert error.code == 422
    assert "eventTime: Required value" in error.message
    assert 'deprecatedCount: Invalid value: "": needs to be unset' in error.message
    error = await refusal(bench.create(NEW, named("e", OLDER)))
    assert (error.code, "unknown field" in error.message) == (400, True)
    assert bench.events.ops == []


async def test_updates_compare_revisions_and_deletes_uids_in_either_group() -> None:
    bench = await a_bench()
    await both(bench)
    stale = await bench.get(NEW, "newer")
    await bench.patch(CORE, "newer", {"series": SERIES})
    body = msgspec.json.encode({**stale, "series": {**SERIES, "count": 9}})
    error = await refusal(bench.admin.update(target(NEW, "newer"), body))
    assert (error.code, error.message) == (
        409,
        'Operation cannot be fulfilled on events.events.k8s.io "newer": the object has been modified; please apply '
        "your changes to the latest version and try again",
    )
    error = await refusal(bench.delete(NEW, "newer", preconditions={"uid": "another"}))
    assert (error.code, "the UID in the precondition (another)" in error.message) == (409, True)
    deleted = await bench.delete(NEW, "older")
    assert (deleted["apiVersion"], deleted["note"]) == ("events.k8s.io/v1", "pulled it")
    error = await refusal(bench.get(CORE, "older"))
    assert (error.code, error.message) == (404, 'events "older" not found')
    error = await refusal(bench.get(NEW, "older"))
    assert (error.code, error.message) == (404, 'events.events.k8s.io "older" not found')


async def test_names_are_made_up_and_dry_runs_leave_nothing() -> None:
    bench = await a_bench()
    dry = await bench.create(NEW, named("e", NEWER), dry_run=True)
    assert (dry["note"], bench.events.ops) == ("placed it", [])
    made = await bench.create(NEW, {"metadata": {"generateName": "web-"}, **NEWER})
    assert made["metadata"]["name"].startswith("web-")
    body = msgspec.json.encode({"series": SERIES})
    await bench.admin.patch(target(NEW, made["metadata"]["name"]), MERGE_PATCH, body, WriteOptions(dry_run=True))
    assert "series" not in await bench.get(CORE, made["metadata"]["name"])
    await bench.delete(NEW, made["metadata"]["name"], dryRun=["All"])
    assert len(await bench.names(CORE)) == 1
    error = await refusal(bench.create(CORE, named(made["metadata"]["name"], OLDER)))
    assert (error.code, error.reason) == (409, "AlreadyExists")


@pytest.mark.parametrize("word", [CORE, NEW])
async def test_pages_revisions_and_collections(word: str) -> None:
    bench = await a_bench()
    await both(bench)
    await bench.create(CORE, named("third", {**OLDER, "reason": "BackOff"}))
    first = await bench.admin.list(target(word), page=Page(2))
    await bench.create(CORE, named("late", OLDER))
    rest = await bench.admin.list(target(word), page=Page(2, first.continue_))
    assert [msgspec.json.decode(item)["metadata"]["name"] for item in rest.items] == ["third"]
    then = Page(resource_version=first.resource_version, match="Exact")
    assert len((await bench.admin.list(target(word), page=then)).items) == 3
    error = await refusal(bench.admin.list(target(word), page=Page(match="Exact")))
    assert "resourceVersionMatch is forbidden unless resourceVersion is provided" in error.message
    about = "involvedObject.name=web" if word == CORE else "regarding.name=web"
    gone = await bench.admin.delete_collection(target(word), Selection(fields=f"{about},reason=Pulled"))
    assert [msgspec.json.decode(item)["apiVersion"] for item in gone.items] == [target(word).resource.api_version] * 2
    assert await bench.names(CORE) == ["newer", "third"]


async def test_owners_of_fields_are_known_whichever_group_they_wrote_through() -> None:
    bench = await a_bench()
    applied = {"apiVersion": "events.k8s.io/v1", "kind": "Event", **named("e", NEWER)}
    options = WriteOptions(field_manager="a")
    await bench.admin.patch(target(NEW, "e"), APPLY_PATCH, msgspec.json.encode(applied), options)
    owned = (await bench.get(CORE, "e"))["metadata"]["managedFields"]
    assert [(entry["manager"], entry["apiVersion"]) for entry in owned] == [("a", "events.k8s.io/v1")]
    assert "f:note" in owned[0]["fieldsV1"]
    other = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "message": "else"}
    body = msgspec.json.encode(other)
    clash = bench.admin.patch(target(CORE, "e"), APPLY_PATCH, body, WriteOptions(field_manager="b"))
    error = await refusal(clash)
    assert (error.code, error.message) == (409, 'Apply failed with 1 conflict: conflict with "a": .message')
    forced = WriteOptions(field_manager="b", force=True)
    await bench.admin.patch(target(CORE, "e"), APPLY_PATCH, body, forced)
    owners = {e["manager"]: e for e in (await bench.get(NEW, "e"))["metadata"]["managedFields"]}
    assert (owners["b"]["apiVersion"], owners["b"]["fieldsV1"]) == ("v1", {"f:message": {}})
    assert owners["a"]["apiVersion"] == "events.k8s.io/v1"
    assert {"f:note", "f:message"}.isdisjoint(owners["a"]["fieldsV1"])
    assert "f:regarding" in owners["a"]["fieldsV1"]
    # A plain write takes fields over as well, and an apply through the other group lets go of what it leaves out.
    await bench.admin.patch(target(CORE, "e"), MERGE_PATCH, b'{"reason":"Other"}', WriteOptions(field_manager="c"))
    owners = {e["manager"]: e for e in (await bench.get(CORE, "e"))["metadata"]["managedFields"]}
    assert "f:reason" not in owners["a"]["fieldsV1"]
    await bench.admin.patch(target(CORE, "e"), APPLY_PATCH, b'{"apiVersion":"v1","kind":"Event"}', forced)
    assert "message" not in await bench.get(CORE, "e")


async def test_a_worker_records_events_in_either_group_and_reads_none() -> None:
    bench = await a_bench()
    worker = bench.as_node("n1")
    await worker.create(target(NEW), msgspec.json.encode(named("e", NEWER)))
    await worker.patch(target(NEW, "e"), MERGE_PATCH, msgspec.json.encode({"series": SERIES}))
    await worker.patch(target(CORE, "e"), MERGE_PATCH, b'{"type":"Warning"}')
    for call in (worker.list(target(NEW)), worker.delete(target(NEW, "e")), worker.get(target(NEW, "e"))):
        assert (await refusal(call)).code == 403


async def test_a_long_list_of_the_other_group_leaves_the_loop_free(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = await a_bench()
    for number in range(2000):
        about = {**ABOUT, "name": f"web-{number}", "uid": f"u{number}"}
        source = {"component": f"worker-{number}"}
        await bench.create(CORE, named(f"e{number}", {**OLDER, "involvedObject": about, "source": source}))
    in_turn, convert = [0], conversion.shown

    def counted(*about: Any) -> bytes:
        in_turn[-1] += 1
        return convert(*about)

    monkeypatch.setattr(conversion, "shown", counted)

    async def count_turns() -> None:
        while True:
            in_turn.append(0)
            await asyncio.sleep(0)

    counting = asyncio.create_task(count_turns())
    await asyncio.sleep(0)
    listed = await bench.admin.list(target(NEW))
    counting.cancel()
    assert len(listed.items) == sum(in_turn) == 2000
    # Of some microseconds each.
    assert max(in_turn) <= 1024
