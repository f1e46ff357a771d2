"""Delete of a collection: each selected object as a delete of it alone would, and nothing else."""

from typing import Any

import msgspec
import pytest

from barque.client.verbs import Page, RawList, Selection
from tests.support.memory_store import Bench, a_bench, refusal, target

SPEC = {"containers": [{"name": "main", "image": "web:1"}]}
CONFIGS = target("configmaps")


async def with_configs(*names: str) -> Bench:
    bench = await a_bench()
    for name in names:
        await bench.create("configmaps", {"metadata": {"name": name, "labels": {"app": name[0]}}})
    return bench


async def clear(
    bench: Bench, plural: str = "configmaps", labels: str = "", fields: str = "", **options: Any
) -> RawList:
    body = msgspec.json.encode(options) if options else b""
    return await bench.admin.delete_collection(target(plural), Selection(labels, fields), body)


def names(listed: RawList) -> list[str]:
    return [msgspec.json.decode(item)["metadata"]["name"] for item in listed.items]


async def test_only_what_is_selected_goes() -> None:
    bench = await with_configs("a1", "a2", "b1", "b2")
    await bench.create("configmaps", {"metadata": {"name": "a3", "labels": {"app": "a"}}}, "kube-public")
    assert names(await clear(bench, labels="app=a")) == ["a1", "a2"]
    assert await bench.names("configmaps") == ["b1", "b2", "a3"]
    assert names(await clear(bench, fields="metadata.name=b2")) == ["b2"]
    assert names(await clear(bench)) == ["b1"]
    assert await bench.names("configmaps") == ["a3"]
    assert names(await bench.admin.delete_collection(target("configmaps", "", ""))) == ["a3"]
    assert names(await clear(bench)) == []


async def test_a_page_of_a_list_goes() -> None:
    bench = await with_configs("a1", "a2", "a3", "b1", "b2")
    first = await bench.admin.delete_collection(CONFIGS, Selection("app=a"), b"", Page(limit=2))
    assert (names(first), await bench.names("configmaps")) == (["a1", "a2"], ["a3", "b1", "b2"])
    rest = await bench.admin.delete_collection(CONFIGS, Selection("app=a"), b"", Page(2, first.continue_))
    assert (names(rest), rest.continue_, await bench.names("configmaps")) == (["a3"], "", ["b1", "b2"])


async def test_many_go_with_few_commits() -> None:
    bench = await with_configs(*(f"c{i:03}" for i in range(300)))
    bench.store.commits = 0
    assert len((await clear(bench)).items) == 300
    assert bench.store.commits == 2
    assert await bench.names("configmaps") == []


async def test_each_waits_for_what_it_would_wait_for_alone() -> None:
    bench = await a_bench()
    for name in ("bound", "kept", "free"):
        finalizers = ["example.com/wait"] if name == "kept" else []
        await bench.create("pods", {"metadata": {"name": name, "finalizers": finalizers}, "spec": SPEC})
    await bench.bind("bound", "n1")
    going = [msgspec.json.decode(item) for item in (await clear(bench, "pods")).items]
    deleted = {pod["metadata"]["name"]: pod for pod in going}
    assert deleted["bound"]["metadata"]["deletionGracePeriodSeconds"] == 30
    assert deleted["kept"]["metadata"]["deletionTimestamp"] == "2026-01-01T00:00:00Z"
    assert await bench.names("pods") == ["bound", "kept"]
    await clear(bench, "pods", gracePeriodSeconds=0)
    assert await bench.names("pods") == ["kept"]


async def test_options_count_for_each() -> None:
    bench = await with_configs("a", "b")
    await clear(bench, dryRun=["All"])
    assert await bench.names("configmaps") == ["a", "b"]
    going = await clear(bench, propagationPolicy="Foreground")
    assert [msgspec.json.decode(item)["metadata"]["finalizers"] for item in going.items] == [["foregroundDeletion"]] * 2


async def test_the_first_refusal_ends_it() -> None:
    bench = await with_configs("a", "b")
    uid = (await bench.get("configmaps", "b"))["metadata"]["uid"]
    refused = await refusal(clear(bench, preconditions={"uid": uid}))
    assert (refused.code, refused.reason) == (409, "Conflict")
    assert await bench.names("configmaps") == ["a"]


async def test_what_others_delete_meanwhile_is_no_fault() -> None:
    bench = await with_configs("a", "b", "c")
    bench.store.before_commit = lambda: bench.delete("configmaps", "b")
    assert names(await clear(bench)) == ["a", "c"]
    assert await bench.names("configmaps") == []


async def test_what_others_create_meanwhile_stays() -> None:
    bench = await with_configs("a")
    bench.store.before_commit = lambda: bench.create("configmaps", {"metadata": {"name": "b"}})
    assert names(await clear(bench)) == ["a"]
    assert await bench.names("configmaps") == ["b"]


@pytest.mark.parametrize(
    ("labels", "options", "code"),
    [
        ("a in", b"", 400),
        ("", b"{", 400),
        ("", b'{"propagationPolicy":"Sideways"}', 422),
        ("", b'{"dryRun":["x"]}', 422),
    ],
)
async def test_bad_requests_delete_nothing(labels: str, options: bytes, code: int) -> None:
    bench = await with_configs("a")
    assert (await refusal(bench.admin.delete_collection(CONFIGS, Selection(labels), options))).code == code
    assert await bench.names("configmaps") == ["a"]


async def test_namespaces_are_deleted_one_by_one() -> None:
    bench = await a_bench()
    refused = await refusal(bench.admin.delete_collection(target("namespaces")))
    assert (refused.code, refused.reason) == (405, "MethodNotAllowed")


async def test_a_worker_may_not() -> None:
    bench = await with_configs("a")
    assert (await refusal(bench.as_node("n1").delete_collection(CONFIGS))).code == 403
    assert await bench.names("configmaps") == ["a"]
