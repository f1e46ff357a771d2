"""Whatever is sent to whatever verb: an answer or an `ApiError` below 500, never anything else, and a refusal changes
nothing.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from barque.api.errors import ApiError
from barque.api.resources import RESOURCES
from barque.client.verbs import (
    APPLY_PATCH,
    JSON_PATCH,
    MERGE_PATCH,
    STRATEGIC_MERGE_PATCH,
    Create,
    Delete,
    Page,
    Patch,
    Selection,
    Target,
    Update,
    WriteOptions,
)
from tests.support.memory_store import Bench, a_bench, target

NAMES = st.sampled_from(["a", "web", "default", "n1", "nowhere", "", "A_b", "ä", "x" * 300])
WORDS = st.sampled_from(
    [
        "metadata", "name", "namespace", "labels", "annotations", "finalizers", "resourceVersion", "uid",
        "generateName", "deletionTimestamp", "ownerReferences", "spec", "status", "replicas", "selector",
        "matchLabels", "template", "containers", "image", "ports", "port", "nodePort", "protocol", "type",
        "clusterIP", "clusterIPs", "podCIDR", "volumes", "resources", "limits", "cpu", "data", "stringData",
        "apiVersion", "kind", "target", "conditions", "nodeName", "gracePeriodSeconds", "propagationPolicy",
        "preconditions", "dryRun", "$patch", "$retainKeys", "$setElementOrder/containers", "endpoints",
        "addressType", "involvedObject", "capacity", "strategy", "managedFields", "manager", "operation", "fieldsV1",
        "op", "path", "value", "from",
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
TYPES = st.sampled_from([MERGE_PATCH, STRATEGIC_MERGE_PATCH, JSON_PATCH, APPLY_PATCH, "", "text/plain"])
OPTIONS = st.builds(
    WriteOptions,
    st.booleans(),
    st.sampled_from(["", "me", "x" * 200, "a\nb", "ä"]),
    st.sampled_from(["", "Ignore", "Warn", "Strict", "Loose"]),
    st.booleans(),
)
POINTERS = st.lists(WORDS | st.sampled_from(["0", "-", "1", "~1", "~", ""]), max_size=4).map(
    lambda parts: "".join(f"/{part}" for part in parts)
)
OPERATIONS = st.lists(
    st.fixed_dictionaries(
        {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test", "shake"]), "path": POINTERS},
        optional={"value": JSON, "from": POINTERS},
    ),
    max_size=4,
)
# A body for any patch: documents, operations, configurations with and without their kind, YAML, garbage.
PATCHES = st.one_of(
    BODIES,
    OPERATIONS.map(encode),
    st.builds(
        lambda kind, body: encode({"apiVersion": kind.api_version, "kind": kind.kind, **body}),
        st.sampled_from(RESOURCES),
        OBJECTS.filter(lambda value: isinstance(value, dict)),
    ),
    st.text(alphabet="ab: -{}[]&*!<>|\n'\"#,?", max_size=40).map(str.encode),
)
SELECTIONS = st.builds(
    Selection,
    st.text(max_size=12) | st.sampled_from(["app=web", "app in (a,b)", "!app", "a>1"]),
    st.text(max_size=12) | st.sampled_from(["metadata.name=web", "spec.nodeName!=n1", "a=b,c"]),
)
# None that is not reached yet, for that would be waited for.
REVISIONS = st.text(max_size=6).filter(lambda text: not text.isdigit()) | st.sampled_from(["0", "1", "-1", "01"])
TOKENS = st.one_of(
    st.just(""),
    st.text(max_size=30),
    st.builds(
        lambda token: base64.urlsafe_b64encode(encode(token)).decode().rstrip("="),
        st.fixed_dictionaries({}, optional={"v": SCALARS | st.just("meta.k8s.io/v1"), "rv": SCALARS, "start": SCALARS}),
    ),
    st.builds(
        lambda rv, start: base64.urlsafe_b64encode(encode({"v": "meta.k8s.io/v1", "rv": rv, "start": start})).decode(),
        st.integers(-2, 30) | st.integers(),
        st.sampled_from(["default/web", "web", "default/", "/web", "a/b/c", "../x"]),
    ),
)
PAGES = st.builds(Page, st.integers(-1, 3), TOKENS, REVISIONS, st.sampled_from(["", "Exact", "NotOlderThan", "Nearly"]))
INCLUDES = st.sampled_from(["Metadata", "Object", "None", "Everything"])

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
    await bench.create("events", {**meta, "involvedObject": {"kind": "Pod", "name": "web", "namespace": "default"}})
    return bench


async def well_answered(bench: Bench, call: Awaitable[Any]) -> None:
    """An answer, or a refusal in order that has changed nothing."""
    revision = bench.store.revision, bench.events.revision
    refused: ApiError | None = None
    try:
        await call
    except ApiError as error:
        refused = error
    if refused is not None:
        assert 400 <= refused.code < 500, refused
        msgspec.json.encode(refused.status())
        assert (bench.store.revision, bench.events.revision) == revision


def check(act: Callable[[Bench], Awaitable[Any]]) -> None:
    async def run() -> None:
        bench = await furnished()
        await well_answered(bench, act(bench))

    asyncio.run(run())


@settings(max_examples=200)
@given(TARGETS, BODIES, OPTIONS)
def test_create(target: Target, body: bytes, options: WriteOptions) -> None:
    check(lambda bench: bench.admin.create(target, body, options))


@settings(max_examples=150)
@given(TARGETS, BODIES, OPTIONS)
def test_update(target: Target, body: bytes, options: WriteOptions) -> None:
    check(lambda bench: bench.admin.update(target, body, options))


@settings(max_examples=400)
@given(TARGETS, TYPES, PATCHES, OPTIONS)
def test_patch(target: Target, content_type: str, body: bytes, options: WriteOptions) -> None:
    check(lambda bench: bench.admin.patch(target, content_type, body, options))


@st.composite
def disturbed(draw: st.DrawFn) -> tuple[str, bytes]:
    """An object as it is stored, by its plural, with a few values in it replaced or taken out."""
    plural, obj = draw(st.sampled_from(sorted(STORED.items())))
    document = msgspec.json.decode(obj)
    for _ in range(draw(st.integers(1, 3))):
        place: Any = document
        while True:
            keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(place[key], dict | list) and draw(st.booleans()):
                place = place[key]
                continue
            if draw(st.booleans()):
                place[key] = draw(JSON)
            else:
                del place[key]
            break
    return plural, encode(document)


@settings(max_examples=300)
@given(disturbed(), st.sampled_from(["update", "status", "scale", "merge", "strategic", "apply", "create"]))
def test_a_stored_object_that_comes_back_disturbed(sent: tuple[str, bytes], how: str) -> None:
    plural, body = sent
    at = target(plural, "web")

    async def act(bench: Bench) -> None:
        match how:
            case "update":
                await bench.admin.update(at, body)
            case "status" | "scale":
                await bench.admin.update(at._replace(subresource=how), body)
            case "merge":
                await bench.admin.patch(at, MERGE_PATCH, body)
            case "strategic":
                await bench.admin.patch(at, STRATEGIC_MERGE_PATCH, body)
            case "apply":
                await bench.admin.patch(at, APPLY_PATCH, body, WriteOptions(field_manager="me", force=True))
            case _:
                await bench.admin.create(at._replace(name=""), body)

    check(act)


@settings(max_examples=150)
@given(TARGETS, BODIES)
def test_delete(target: Target, options: bytes) -> None:
    check(lambda bench: bench.admin.delete(target, options))


@settings(max_examples=100)
@given(TARGETS, SELECTIONS, BODIES)
def test_delete_collection(target: Target, selection: Selection, options: bytes) -> None:
    check(lambda bench: bench.admin.delete_collection(target._replace(name=""), selection, options))


@settings(max_examples=300)
@given(TARGETS, SELECTIONS, PAGES, INCLUDES, REVISIONS)
def test_reads(target: Target, selection: Selection, page: Page, include: Any, revision: str) -> None:
    async def read(bench: Bench) -> None:
        await well_answered(bench, bench.admin.get(target, revision))
        await well_answered(bench, bench.admin.list(target, selection, page))
        await well_answered(bench, bench.admin.table(target, selection, page, include))
        # A watch from a revision in the past would wait for what comes.
        if not revision.isdigit():
            await well_answered(bench, anext(bench.admin.watch(target, selection, revision, include)))

    asyncio.run(_with_bench(read))


async def _with_bench(read: Callable[[Bench], Awaitable[None]]) -> None:
    await read(await furnished())


@settings(max_examples=100)
@given(st.lists(st.tuples(TARGETS, PATCHES, TYPES, st.integers(0, 3)), max_size=5))
def test_batch(writes: list[tuple[Target, bytes, str, int]]) -> None:
    async def act(bench: Bench) -> None:
        made = [(Create(t, b), Update(t, b), Patch(t, kind, b), Delete(t, b))[which] for t, b, kind, which in writes]
        for answer in await bench.admin.batch(made):
            assert isinstance(answer, bytes) or answer.code < 500

    check(act)


async def _stored() -> dict[str, bytes]:
    bench = await furnished()
    plurals = ("pods", "services", "deployments", "replicasets", "endpointslices", "configmaps")
    return {plural: await bench.admin.get(target(plural, "web")) for plural in plurals}


STORED = asyncio.run(_stored())
