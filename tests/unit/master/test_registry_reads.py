"""Get, list, watch and batch."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest

from barque.api import codec
from barque.api.errors import ApiError
from barque.client.verbs import MERGE_PATCH, Create, Delete, Patch, RawEvent, Selection, Update, Write
from tests.support.memory_store import Bench, a_bench, refusal, target

SPEC = {"containers": [{"name": "main", "image": "web:1"}]}


async def with_pods(*names: str) -> Bench:
    bench = await a_bench()
    for name in names:
        await bench.create("pods", {"metadata": {"name": name, "labels": {"app": name[0]}}, "spec": SPEC})
    return bench


def seen(events: Sequence[RawEvent]) -> list[tuple[str, str]]:
    named = [(e.type, msgspec.json.decode(e.json)["metadata"]["name"] if e.json else "") for e in events]
    return [(kind, name) for kind, name in named]


async def take(watch: AsyncIterator[Sequence[RawEvent]], count: int) -> list[RawEvent]:
    events: list[RawEvent] = []
    while len(events) < count:
        events += await anext(watch)
    return events


async def test_a_list_is_selected_and_ordered_and_of_one_revision() -> None:
    bench = await with_pods("b2", "a1", "b1")
    assert await bench.names("pods") == ["a1", "b1", "b2"]
    assert await bench.names("pods", labels="app=b") == ["b1", "b2"]
    assert await bench.names("pods", labels="app notin (b)") == ["a1"]
    assert await bench.names("pods", fields="metadata.name=b1") == ["b1"]
    assert await bench.names("pods", fields="metadata.name!=b1") == ["a1", "b2"]
    await bench.bind("b1", "n1")
    assert await bench.names("pods", fields="spec.nodeName=n1") == ["b1"]
    assert await bench.names("pods", fields="spec.nodeName=") == ["a1", "b2"]
    assert await bench.names("pods", "kube-system") == []
    listed = await bench.admin.list(target("pods", "", ""))
    assert listed.resource_version == str(bench.store.revision)


async def test_bad_selectors_are_400() -> None:
    bench = await a_bench()
    assert (await refusal(bench.names("pods", labels="a in"))).code == 400
    refused = await refusal(bench.names("pods", fields="spec.hostname=x"))
    assert (refused.code, refused.message) == (400, "field label not supported: spec.hostname")
    watch = bench.admin.watch(target("pods"), Selection(fields="spec.hostname=x"))
    assert (await refusal(anext(watch))).code == 400


async def test_reads_decode_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = await with_pods("a")

    def decode(*_: Any) -> None:
        raise AssertionError("a read decoded an object")

    monkeypatch.setattr(codec, "decode", decode)
    await bench.admin.get(target("pods", "a"))
    await bench.admin.list(target("pods"), Selection("app=a", "status.phase=Pending"))
    watch = bench.admin.watch(target("pods"))
    assert seen(await take(watch, 2)) == [("ADDED", "a"), ("BOOKMARK", "")]
    await watch.aclose()  # type: ignore[attr-defined]


async def test_a_watch_begins_with_what_there_is_and_goes_on() -> None:
    bench = await with_pods("a1", "b1")
    watch = bench.admin.watch(target("pods"), Selection("app=b"))
    assert seen(await take(watch, 2)) == [("ADDED", "b1"), ("BOOKMARK", "")]
    await bench.create("pods", {"metadata": {"name": "b2", "labels": {"app": "b"}}, "spec": SPEC})
    await bench.patch("pods", "b2", {"metadata": {"labels": {"app": "a"}}})
    await bench.patch("pods", "a1", {"metadata": {"labels": {"app": "b"}}})
    await bench.delete("pods", "b1")
    events = await take(watch, 4)
    assert seen(events) == [("ADDED", "b2"), ("DELETED", "b2"), ("ADDED", "a1"), ("DELETED", "b1")]
    for event in events:
        assert msgspec.json.decode(event.json)["metadata"]["resourceVersion"] == str(event.revision)


async def test_a_watch_from_zero_begins_with_what_there_is() -> None:
    bench = await with_pods("a1")
    watch = bench.admin.watch(target("pods"), Selection(), "0")
    assert seen(await take(watch, 2)) == [("ADDED", "a1"), ("BOOKMARK", "")]


async def test_a_watch_resumes_after_a_revision() -> None:
    bench = await with_pods("a1")
    listed = await bench.admin.list(target("pods"))
    await bench.create("pods", {"metadata": {"name": "a2"}, "spec": SPEC})
    watch = bench.admin.watch(target("pods"), Selection(), listed.resource_version)
    assert seen(await take(watch, 1)) == [("ADDED", "a2")]


async def test_a_watch_of_one_node_s_pods() -> None:
    bench = await with_pods("a1", "a2")
    watch = bench.admin.watch(target("pods", "", ""), Selection(fields="spec.nodeName=n1"))
    assert seen(await take(watch, 1)) == [("BOOKMARK", "")]
    await bench.bind("a1", "n2")
    await bench.bind("a2", "n1")
    await bench.patch("pods", "a2", {"status": {"phase": "Running"}}, "status")
    await bench.delete("pods", "a2", gracePeriodSeconds=0)
    assert seen(await take(watch, 3)) == [("ADDED", "a2"), ("MODIFIED", "a2"), ("DELETED", "a2")]


async def test_a_nonsense_revision_is_400() -> None:
    bench = await a_bench()
    assert (await refusal(anext(bench.admin.watch(target("pods"), Selection(), "abc")))).code == 400
    assert (await refusal(anext(bench.admin.watch(target("pods"), Selection(), "-1")))).code == 400


def created(name: str, plural: str = "configmaps", namespace: str = "default") -> Create:
    return Create(target(plural, "", namespace), msgspec.json.encode({"metadata": {"name": name}}))


def outcome(answers: list[bytes | ApiError]) -> list[str]:
    return [a.reason if isinstance(a, ApiError) else msgspec.json.decode(a)["metadata"]["name"] for a in answers]


async def test_a_batch_is_one_commit_and_each_write_is_answered_alone() -> None:
    bench = await a_bench()
    bad = Create(target("configmaps"), b"{")
    answers = await bench.admin.batch([created("a"), bad, created("b", namespace="nowhere"), created("c")])
    assert outcome(answers) == ["a", "BadRequest", "NotFound", "c"]
    assert bench.store.commits == 1
    assert await bench.names("configmaps") == ["a", "c"]


async def test_writes_of_one_object_in_a_batch_follow_one_another() -> None:
    bench = await a_bench()
    at = target("configmaps", "a")
    writes: list[Write] = [
        created("a"),
        Patch(at, MERGE_PATCH, b'{"data":{"x":"1"}}'),
        created("b"),
        Patch(at, MERGE_PATCH, b'{"data":{"y":"2"}}'),
        created("a"),
        Delete(at),
        Update(at, b'{"metadata":{"name":"a"}}'),
    ]
    assert outcome(await bench.admin.batch(writes)) == ["a", "a", "b", "a", "AlreadyExists", "a", "NotFound"]


async def test_a_namespace_and_what_is_in_it_in_one_batch() -> None:
    bench = await a_bench()
    answers = await bench.admin.batch([created("n", "namespaces"), created("c", namespace="n")])
    assert outcome(answers) == ["n", "c"]


async def test_a_batch_of_many_bindings() -> None:
    names = [f"p{i:03}" for i in range(100)]
    bench = await with_pods(*names)
    bench.store.commits = 0
    body = msgspec.json.encode({"target": {"kind": "Node", "name": "n1"}})
    answers = await bench.admin.batch([Create(target("pods", n, "default", "binding"), body) for n in names])
    assert outcome(answers) == names
    assert bench.store.commits == 1


async def test_a_batch_is_bounded() -> None:
    bench = await a_bench()
    assert (await refusal(bench.admin.batch([created(f"c{i}") for i in range(501)]))).code == 413
    assert await bench.admin.batch([]) == []


async def test_services_of_one_batch_get_different_addresses() -> None:
    bench = await a_bench()
    spec = {"type": "NodePort", "ports": [{"port": 80}]}
    writes = [
        Create(target("services"), msgspec.json.encode({"metadata": {"name": f"s{i}"}, "spec": spec}))
        for i in range(200)
    ]
    answers = [msgspec.json.decode(a)["spec"] for a in await bench.admin.batch(writes) if isinstance(a, bytes)]
    assert len({a["clusterIP"] for a in answers}) == 200
    assert len({a["ports"][0]["nodePort"] for a in answers}) == 200
