"""Server-side tables: the rows people read, of the same objects and revisions as lists and watches."""

import asyncio
from typing import Any

import msgspec
import pytest

from barque.client.verbs import Page, RawEvent, RawTable, Selection
from barque.master.apiserver import tables
from tests.support.memory_store import Bench, a_bench, refusal, target

SPEC = {"containers": [{"name": "main", "image": "web:1"}]}
PODS = target("pods")


async def with_pods(*names: str) -> Bench:
    bench = await a_bench()
    for name in names:
        await bench.create("pods", {"metadata": {"name": name, "labels": {"app": name[0]}}, "spec": SPEC})
    return bench


def rows(table: RawTable) -> list[dict[str, Any]]:
    return [msgspec.json.decode(row) for row in table.rows]


def first_cells(table: RawTable) -> list[str]:
    return [row["cells"][0] for row in rows(table)]


async def test_columns_and_cells_are_those_kubectl_shows() -> None:
    bench = await with_pods("web")
    await bench.clock.advance(90)
    table = await bench.admin.table(PODS)
    columns = msgspec.json.decode(table.columns)
    (row,) = rows(table)
    shown = [c["name"] for c in columns if not c["priority"]]
    assert shown == ["Name", "Ready", "Status", "Restarts", "Age"]
    assert row["cells"][: len(shown)] == ["web", "0/1", "Pending", "0", "90s"]
    assert len(row["cells"]) == len(columns)
    assert {c["type"] for c in columns} <= {"string", "integer", "number", "boolean", "date"}


@pytest.mark.parametrize("plural", ["namespaces", "configmaps", "services", "events", "leases", "podtemplates"])
async def test_every_kind_has_a_table_even_without_objects(plural: str) -> None:
    bench = await a_bench()
    table = await bench.admin.table(target(plural, "", ""), Selection("no=such"))
    assert msgspec.json.decode(table.columns)[0]["name"]
    assert table.rows == []


async def test_a_row_carries_as_much_of_its_object_as_is_asked_for() -> None:
    bench = await with_pods("web")
    pod = await bench.get("pods", "web")
    (row,) = rows(await bench.admin.table(PODS))
    assert row["object"] == {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": pod["metadata"],
    }
    (row,) = rows(await bench.admin.table(PODS, include="Object"))
    assert row["object"] == pod
    (row,) = rows(await bench.admin.table(PODS, include="None"))
    assert "object" not in row
    include: Any = "Everything"
    refused = await refusal(bench.admin.table(PODS, include=include))
    assert (refused.code, refused.message) == (400, 'unrecognized includeObject value: "Everything"')
    assert (await refusal(anext(bench.admin.watch(PODS, rows=include)))).code == 400


async def test_pages_and_selectors_are_those_of_a_list() -> None:
    bench = await with_pods("a1", "a2", "a3", "b1")
    first = await bench.admin.table(PODS, page=Page(limit=2))
    assert (first_cells(first), first.remaining) == (["a1", "a2"], 2)
    await bench.delete("pods", "a3")
    last = await bench.admin.table(PODS, page=Page(limit=2, continue_=first.continue_))
    assert (first_cells(last), last.resource_version, last.continue_) == (["a3", "b1"], first.resource_version, "")
    assert first_cells(await bench.admin.table(PODS, Selection("app=b"))) == ["b1"]


async def test_one_object_is_one_row() -> None:
    bench = await with_pods("a", "b")
    table = await bench.admin.table(target("pods", "b"))
    pod = await bench.get("pods", "b")
    assert (first_cells(table), table.resource_version) == (["b"], pod["metadata"]["resourceVersion"])
    refused = await refusal(bench.admin.table(target("pods", "c")))
    assert (refused.code, refused.message) == (404, 'pods "c" not found')


async def test_a_scale_has_no_table() -> None:
    bench = await a_bench()
    refused = await refusal(bench.admin.table(target("deployments", "web", subresource="scale")))
    assert (refused.code, refused.message) == (400, "deployments/scale has no table")


async def test_a_watch_brings_rows() -> None:
    bench = await with_pods("a")
    watch = bench.admin.watch(PODS, rows="None")
    seen: list[RawEvent] = [*await anext(watch), *await anext(watch)]
    await bench.delete("pods", "a")
    seen += await anext(watch)
    await watch.aclose()  # type: ignore[attr-defined]
    said = [(event.type, msgspec.json.decode(event.json)["cells"][0] if event.json else "") for event in seen]
    assert said == [("ADDED", "a"), ("BOOKMARK", ""), ("DELETED", "a")]
    assert seen[-1].revision == bench.store.revision


async def test_watchers_of_the_same_changes_share_their_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = await with_pods()
    watches = [bench.admin.watch(PODS, Selection(), str(bench.store.revision), "Metadata") for _ in range(3)]
    waiting = [asyncio.ensure_future(anext(watch)) for watch in watches]  # type: ignore[arg-type]
    await asyncio.sleep(0)
    made: list[bytes] = []
    row_of = tables.row_of

    def counted(json: bytes, *arguments: Any) -> bytes:
        made.append(json)
        return row_of(json, *arguments)

    monkeypatch.setattr(tables, "row_of", counted)
    await bench.create("pods", {"metadata": {"name": "a"}, "spec": SPEC})
    batches = await asyncio.gather(*waiting)
    assert len({event.json for (event,) in batches}) == 1
    assert len(made) == 1
    for watch in watches:
        await watch.aclose()  # type: ignore[attr-defined]


async def test_a_worker_sees_only_its_own_pods_in_a_table() -> None:
    bench = await with_pods("mine", "other")
    await bench.create("nodes", {"metadata": {"name": "n1"}})
    await bench.bind("mine", "n1")
    worker = bench.as_node("n1")
    assert (await refusal(worker.table(PODS))).code == 403
    assert first_cells(await worker.table(target("pods", "", ""), Selection(fields="spec.nodeName=n1"))) == ["mine"]
    assert first_cells(await worker.table(target("pods", "mine"))) == ["mine"]
    assert (await refusal(worker.table(target("pods", "other")))).code == 403
