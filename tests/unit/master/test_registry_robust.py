"""Whatever is sent to whatever verb: an answer or an `ApiError` below 500, never anything else."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from barque.api.errors import ApiError
from barque.api.resources import RESOURCES
from barque.client.verbs import MERGE_PATCH, STRATEGIC_MERGE_PATCH, Create, Delete, Patch, Selection, Target, Update
from tests.support.memory_store import Bench, a_bench

NAMES = st.sampled_from(["a", "web", "default", "n1", "nowhere", "", "A_b", "ä", "x" * 300])
WORDS = st.sampled_from(
    [
        "metadata", "name", "namespace", "labels", "annotations", "finalizers", "resourceVersion", "uid",
        "generateName", "deletionTimestamp", "ownerReferences", "spec", "status", "replicas", "selector",
        "matchLabels", "template", "containers", "image", "ports", "port", "nodePort", "protocol", "type",
        "clusterIP", "clusterIPs", "podCIDR", "volumes", "resources", "limits", "cpu", "data", "stringData",
        "apiVersion", "kind", "target", "conditions", "nodeName", "gracePeriodSeconds", "propagationPolicy",
        "preconditions", "dryRun", "$patch", "$retainKeys", "$setElementOrder/containers", "endpoints",
        "addressType", "involvedObject", "capacity", "strategy",
    ]
)  # fmt: skip
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    NAMES,
    st.sampled_from(
        ["Service", "NodePort", "10.96.0.7", "None", "1Gi", "-1", "100m", "Always", "0", "99999999999999999999"]
    ),
)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4), max_leaves=25
)
CONTAINERS = st.lists(
    st.fixed_dictionaries({"name": NAMES, "image": st.just("web:1")}, optional={"ports": JSON}), max_size=2
)
OBJECTS = st.one_of(
    JSON,
    st.fixed_dictionaries(
        {
            "metadata": st.fixed_dictionaries(
                {"name": NAMES}, optional={"labels": JSON, "finalizers": JSON, "uid": JSON}
            )
        },
        optional={
            "spec": st.dictionaries(WORDS, JSON, max_size=5)
            | st.fixed_dictionaries({"containers": CONTAINERS}, optional={"volumes": JSON, "nodeName": NAMES})
            | st.fixed_dictionaries({"ports": JSON, "type": SCALARS}, optional={"clusterIP": SCALARS}),
            "status": JSON,
            "target": JSON,
            "data": JSON,
        },
    ),
)


def encode(value: Any) -> bytes:
    """JSON where the value has it, else bytes that are none."""
    try:
        return msgspec.json.encode(value)
    except (OverflowError, UnicodeEncodeError, TypeError):
        return repr(value).encode("utf-8", "replace")


BODIES = st.one_of(OBJECTS.map(encode), st.binary(max_size=30))
TARGETS = st.builds(
    Target,
    st.sampled_from(RESOURCES),
    st.sampled_from(["default", "", "nowhere", "n1"]),
    NAMES,
    st.sampled_from(["", "", "", "status", "scale", "binding", "log"]),
)
TYPES = st.sampled_from([MERGE_PATCH, STRATEGIC_MERGE_PATCH, "application/json-patch+json", ""])

SPEC = {"containers": [{"name": "main", "image": "web:1"}]}


async def furnished() -> Bench:
    """A cluster with an object of each kind named `web`, so that changes have something to hit."""
    bench = await a_bench()
    template = {"metadata": {"labels": {"app": "web"}}, "spec": SPEC}
    selector = {"matchLabels": {"app": "web"}}
    meta = {"metadata": {"name": "web"}}
    await bench.create("nodes", {"metadata": {"name": "n1"}})
    await bench.create("pods", {**meta, "spec": SPEC})
    await bench.create("configmaps", meta)
    await bench.create("secrets", meta)
    await bench.create("services", {**meta, "spec": {"type": "NodePort", "ports": [{"port": 80}]}})
    await bench.create("deployments", {**meta, "spec": {"selector": selector, "template": template}})
    await bench.create("replicasets", {**meta, "spec": {"selector": selector, "template": template}})
    await bench.create("endpointslices", {**meta, "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}]})
    return bench


async def well_answered(call: Awaitable[Any]) -> None:
    code = 0
    try:
        await call
    except ApiError as refused:
        code = refused.code
        msgspec.json.encode(refused.status())
    assert code < 500


def check(act: Callable[[Bench], Awaitable[Any]]) -> None:
    async def run() -> None:
        await well_answered(act(await furnished()))

    asyncio.run(run())


@settings(max_examples=150)
@given(TARGETS, BODIES)
def test_create(target: Target, body: bytes) -> None:
    check(lambda bench: bench.admin.create(target, body))


@settings(max_examples=150)
@given(TARGETS, BODIES)
def test_update(target: Target, body: bytes) -> None:
    check(lambda bench: bench.admin.update(target, body))


@settings(max_examples=250)
@given(TARGETS, TYPES, BODIES)
def test_patch(target: Target, content_type: str, body: bytes) -> None:
    check(lambda bench: bench.admin.patch(target, content_type, body))


@settings(max_examples=100)
@given(TARGETS, BODIES)
def test_delete(target: Target, options: bytes) -> None:
    check(lambda bench: bench.admin.delete(target, options))


@settings(max_examples=100)
@given(TARGETS, st.text(max_size=12), st.text(max_size=12), st.text(max_size=6))
def test_reads(target: Target, labels: str, fields: str, revision: str) -> None:
    async def read(bench: Bench) -> None:
        await well_answered(bench.admin.get(target))
        await well_answered(bench.admin.list(target, Selection(labels, fields)))
        # A revision not reached yet is waited for; everything else answers at once.
        if not revision.isdigit():
            await well_answered(anext(bench.admin.watch(target, Selection(labels, fields), revision)))

    check(read)


@settings(max_examples=100)
@given(st.lists(st.tuples(TARGETS, BODIES, st.integers(0, 3)), max_size=5))
def test_batch(writes: list[tuple[Target, bytes, int]]) -> None:
    async def act(bench: Bench) -> None:
        made = [(Create(t, b), Update(t, b), Patch(t, MERGE_PATCH, b), Delete(t, b))[which] for t, b, which in writes]
        for answer in await bench.admin.batch(made):
            assert isinstance(answer, bytes) or answer.code < 500

    check(act)
