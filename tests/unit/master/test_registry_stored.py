"""What stands in the store can be changed and deleted: what is written now, and what was before it was looked at."""

from __future__ import annotations

import msgspec

from barque.api import codec
from barque.api.bulk import MOST_VALUES
from barque.api.types.apps_v1 import Deployment
from barque.client.verbs import APPLY_PATCH, WriteOptions
from barque.master.store.port import Key, Op
from tests.support.memory_store import a_bench, refusal, target

TEMPLATE = {
    "metadata": {"labels": {"app": "web"}},
    "spec": {"containers": [{"name": "main", "image": "web:1"}]},
}


async def test_what_is_written_can_be_patched_and_replaced() -> None:
    """The owners of its fields count as well, which are as many as the fields."""
    bench = await a_bench()
    data = {f"k{number}": "" for number in range(MOST_VALUES // 2 - 100)}
    refused = await refusal(bench.create("configmaps", {"metadata": {"name": "a"}, "data": data}))
    assert (refused.code, refused.message) == (413, "Request entity holds too many values: limit is 100000")
    half = dict(list(data.items())[: len(data) // 2])
    taken = await bench.create("configmaps", {"metadata": {"name": "a"}, "data": half})
    labelled = {**taken["metadata"], "labels": {"a": "b"}, "resourceVersion": ""}
    await bench.update("configmaps", {**taken, "metadata": labelled})
    assert (await bench.patch("configmaps", "a", {"data": {"k0": "x"}}))["data"]["k0"] == "x"
    for refused in (
        await refusal(bench.update("configmaps", {"metadata": {"name": "a"}, "data": data})),
        await refusal(bench.patch("configmaps", "a", {"data": data})),
        await refusal(bench.patch("configmaps", "a", {"data": {f"m{number}": "" for number in range(80_000)}})),
    ):
        assert refused.code == 413
    await bench.delete("configmaps", "a")


async def test_an_object_with_a_moment_that_is_none_can_be_changed_mended_and_deleted() -> None:
    """It was stored before anybody looked."""
    bench = await a_bench()
    metadata = {"name": "web", "finalizers": ["example.com/a"]}
    spec = {"selector": {"matchLabels": {"app": "web"}}, "template": TEMPLATE}
    old = await bench.create("deployments", {"metadata": metadata, "spec": spec})
    condition = {"type": "Available", "status": "True", "lastUpdateTime": "soon"}
    stored = codec.from_document(Deployment, {**old, "status": {"conditions": [condition]}})
    stored.metadata.resourceVersion = ""
    slotted = codec.encode_slotted(stored)
    key = Key("deployments.apps", "default", "web")
    await bench.store.commit([Op("put", key, slotted.json, slotted.slot)])

    labelled = await bench.patch("deployments", "web", {"metadata": {"labels": {"a": "b"}}})
    assert labelled["status"]["conditions"][0]["lastUpdateTime"] == "soon"
    worse = {"status": {"conditions": [{"type": "Available", "lastUpdateTime": "later"}]}}
    assert (await refusal(bench.patch("deployments", "web", worse, sub="status"))).code == 422
    applied = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"c": "d"}}}
    by = WriteOptions(field_manager="tests")
    await bench.admin.patch(target("deployments", "web"), APPLY_PATCH, msgspec.json.encode(applied), by)
    await bench.delete("deployments", "web")
    await bench.patch("deployments", "web", {"metadata": {"finalizers": None}})
    assert await bench.names("deployments") == []
