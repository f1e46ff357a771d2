"""Server-side apply: what holds for any objects, any configurations and any order of writers."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from barque.api import codec, types
from barque.api.apply import Manager, apply_configuration, finish, track_update
from barque.api.apply import fieldset as sets
from barque.api.apply.documents import document_of, trackable
from barque.api.apply.schema import Changes, plan_of
from barque.api.errors import ApiError
from barque.api.shapes import shape_of
from barque.api.types.base import Object
from barque.api.types.core_v1 import ConfigMap, Pod, Service
from barque.api.types.meta_v1 import ObjectMeta

Document = dict[str, Any]
NOW = "2026-01-01T00:00:00Z"


def some(values: str) -> st.SearchStrategy[str]:
    return st.sampled_from(values)


LABELS = st.dictionaries(some("ab"), some("12"), max_size=2)
METADATA: st.SearchStrategy[Document] = st.fixed_dictionaries(
    {"name": st.just("x")},
    optional={"labels": LABELS, "annotations": LABELS, "finalizers": st.lists(some("fg"), max_size=2, unique=True)},
)
ENV: st.SearchStrategy[Document] = st.fixed_dictionaries({"name": some("EF")}, optional={"value": some("12")})
PORTS: st.SearchStrategy[Document] = st.fixed_dictionaries(
    {"containerPort": st.integers(1, 2)}, optional={"protocol": st.sampled_from(["TCP", "UDP"]), "name": some("mn")}
)
RESOURCES: st.SearchStrategy[Document] = st.fixed_dictionaries(
    {}, optional={"limits": st.dictionaries(st.sampled_from(["cpu", "memory"]), st.sampled_from(["1", "2"]))}
)


def is_root(struct: type[Object]) -> bool:
    shape = shape_of(struct)
    return "metadata" in shape and shape["metadata"].struct is ObjectMeta and bool(getattr(struct(), "kind", ""))


def port_key(port: Document, number: str = "containerPort") -> tuple[int, str]:
    return port[number], port.get("protocol", "TCP")


CONTAINER: st.SearchStrategy[Document] = st.fixed_dictionaries(
    {"name": some("abc")},
    optional={
        "image": some("xy"),
        "args": st.lists(some("pq"), max_size=2),
        "env": st.lists(ENV, max_size=2, unique_by=lambda e: str(e["name"])),
        "ports": st.lists(PORTS, max_size=3, unique_by=port_key),
        "resources": RESOURCES,
    },
)
POD_SPEC: st.SearchStrategy[Document] = st.fixed_dictionaries(
    {},
    optional={
        "containers": st.lists(CONTAINER, max_size=3, unique_by=lambda c: str(c["name"])),
        "nodeSelector": st.dictionaries(some("ab"), some("12"), min_size=1, max_size=2),
        "securityContext": st.fixed_dictionaries(
            {}, optional={"runAsUser": st.integers(1, 2), "runAsGroup": st.just(1)}
        ),
        "hostNetwork": st.booleans(),
        "tolerations": st.lists(st.fixed_dictionaries({"key": some("kl")}), max_size=2),
    },
)
SERVICE_PORT: st.SearchStrategy[Document] = st.fixed_dictionaries(
    {"port": st.integers(1, 2)}, optional={"protocol": st.sampled_from(["TCP", "UDP"]), "targetPort": st.integers(1, 2)}
)
SERVICE_SPEC: st.SearchStrategy[Document] = st.fixed_dictionaries(
    {},
    optional={
        "ports": st.lists(SERVICE_PORT, max_size=3, unique_by=lambda p: port_key(p, "port")),
        "selector": st.dictionaries(some("ab"), some("12"), min_size=1, max_size=2),
        "type": st.sampled_from(["ClusterIP", "NodePort"]),
    },
)


def objects(kind: str, **parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Document]:
    head = {"apiVersion": st.just("v1"), "kind": st.just(kind), "metadata": METADATA}
    return st.fixed_dictionaries(head, optional=parts)


# Every kind of object that there are types for, served or not.
ROOT_KINDS = [
    struct
    for module in pkgutil.iter_modules(types.__path__)
    if "_v" in module.name
    for struct in vars(importlib.import_module(f"{types.__name__}.{module.name}")).values()
    if isinstance(struct, type) and issubclass(struct, Object) and is_root(struct)
]
KINDS: dict[str, Any] = {"Pod": Pod, "Service": Service, "ConfigMap": ConfigMap}
FAMILIES = (
    objects("Pod", spec=POD_SPEC),
    objects("Service", spec=SERVICE_SPEC),
    objects("ConfigMap", data=st.dictionaries(some("abc"), some("12"), max_size=3)),
)
ONE = st.one_of(FAMILIES)
TWO = st.one_of([st.tuples(family, family) for family in FAMILIES])
THREE = st.one_of([st.tuples(family, family, family) for family in FAMILIES])


def decoded(document: Document) -> Any:
    return codec.decode(KINDS[document["kind"]], msgspec.json.encode(document))


def apply(live: Any, document: Document, by: str, *, force: bool = True) -> Any:
    kind = KINDS[document["kind"]]
    applied = apply_configuration(kind, live, document, Manager(by, "Apply", "", NOW), force)
    new = decoded(applied.document)
    new.metadata.managedFields = finish(live, new, applied.managed)
    return new


def update(before: Any, document: Document, by: str) -> Any:
    after = decoded(document)
    after.metadata.managedFields = list(before.metadata.managedFields) if before is not None else []
    after.metadata.managedFields = track_update(before, after, Manager(by, "Update", "", NOW))
    return after


def owned(obj: Any) -> dict[str, frozenset[tuple[str, ...]]]:
    return {e.manager: frozenset(sets.paths(sets.parse(bytes(e.fieldsV1)))) for e in obj.metadata.managedFields}


def wished(document: Document) -> frozenset[tuple[str, ...]]:
    """Every field that an applier of this document owns."""
    plan = plan_of(KINDS[document["kind"]])
    return frozenset(sets.paths(plan.owned(trackable(document, "")) or {}))


def differs(before: Any, after: Any) -> frozenset[tuple[str, ...]]:
    """Every field of which the two have another value, or which only one has."""
    changes = Changes()
    plan_of(type(after)).compare(trackable(document_of(before), ""), trackable(document_of(after), ""), changes)
    return frozenset(sets.paths(sets.union(changes.changed, changes.removed)))


def holds(wanted: Any, got: Any, field: str = "") -> bool:
    """Whether `got` has everything that `wanted` says; an empty list or map says nothing."""
    if isinstance(wanted, dict):
        if field in ("nodeSelector", "selector"):
            return bool(wanted == got)
        return (
            all(holds(v, got.get(k), k) for k, v in wanted.items() if v or k in got) if got is not None else not wanted
        )
    keys = {"containers": ("name",), "env": ("name",), "ports": ("port", "containerPort", "protocol")}.get(field)
    if keys is not None:
        return all(any(identity(w, keys) == identity(g, keys) and holds(w, g) for g in got or ()) for w in wanted)
    return set(wanted) <= set(got or ()) if field == "finalizers" else bool(wanted == got)


# Where a body goes wrong: JSON of any type, in any place where an object's parts may be.
WRONG: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=3)),
    lambda below: st.one_of(
        st.lists(below, max_size=3),
        st.dictionaries(st.sampled_from(["name", "ports", "protocol", "env", "containerPort", "labels", "x"]), below),
    ),
    max_leaves=8,
)
WRONG_PODS: st.SearchStrategy[Document] = st.fixed_dictionaries(
    {"apiVersion": st.just("v1"), "kind": st.just("Pod")},
    optional={
        "metadata": st.one_of(WRONG, st.fixed_dictionaries({}, optional={"labels": WRONG, "finalizers": WRONG})),
        "spec": st.one_of(
            WRONG,
            st.fixed_dictionaries({}, optional={"containers": st.one_of(WRONG, st.lists(WRONG)), "volumes": WRONG}),
        ),
        "status": WRONG,
        "x": WRONG,
    },
)


@given(FAMILIES[0], WRONG_PODS)
def test_a_body_of_any_shape_is_applied_or_refused(stored: Document, wrong: Document) -> None:
    live = update(None, stored, "alice")
    try:
        applied = apply_configuration(Pod, live, wrong, Manager("me", "Apply", "", NOW), True)
    except ApiError as error:
        assert error.code == 400  # noqa: PT017 - either outcome is right
    else:
        msgspec.json.encode(applied.document)


@pytest.mark.parametrize("kind", ROOT_KINDS, ids=lambda kind: str(kind.__name__))
def test_every_kind_can_be_tracked_and_applied(kind: Any) -> None:
    created = kind()
    created.metadata.labels = {"a": "1"}
    created.metadata.managedFields = track_update(None, created, Manager("alice", "Update", "", NOW))
    assert owned(created) == {"alice": frozenset({("f:metadata", "f:labels"), ("f:metadata", "f:labels", "f:a")})}
    document = {"apiVersion": created.apiVersion, "kind": created.kind, "metadata": {"labels": {"b": "2"}}}
    applied = apply_configuration(kind, created, document, Manager("me", "Apply", "", NOW), False)
    assert applied.document["metadata"]["labels"] == {"a": "1", "b": "2"}


def identity(element: Document, keys: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(element.get(key, "TCP" if key == "protocol" else None) for key in keys)


@given(ONE)
def test_creating_by_apply_yields_the_configuration_and_owns_it(document: Document) -> None:
    created = apply(None, document, "me")
    assert without_empties(document_of(created)) == without_empties(document_of(decoded(document)))
    assert owned(created).get("me", frozenset()) == wished(document)


@given(TWO)
def test_apply_is_idempotent(documents: tuple[Document, Document]) -> None:
    first, second = documents
    once = apply(update(None, first, "alice"), second, "me")
    assert codec.encode(apply(once, second, "me", force=False)) == codec.encode(once)


@given(THREE)
def test_what_is_applied_is_there_and_owned_and_nobodys_else_is_touched(
    documents: tuple[Document, Document, Document],
) -> None:
    live = apply(update(None, documents[0], "alice"), documents[1], "bob")
    after = apply(live, documents[2], "me")
    assert holds(documents[2], document_of(after))
    assert owned(after).get("me", frozenset()) == wished(documents[2])
    changed = differs(live, after)
    for other in ("alice", "bob"):
        assert owned(after).get(other, frozenset()) == owned(live).get(other, frozenset()) - changed


@given(THREE)
def test_a_conflict_is_exactly_a_change_to_what_another_owns(documents: tuple[Document, Document, Document]) -> None:
    live = apply(update(None, documents[0], "alice"), documents[1], "bob")
    forced = apply(live, documents[2], "me")
    taken = {
        (other, path)
        for other in ("alice", "bob")
        for path in owned(live).get(other, frozenset()) - owned(forced).get(other, frozenset())
    }
    refused = refusal(live, documents[2])
    if refused is None:
        assert not taken
        assert apply(live, documents[2], "me", force=False) == forced
    else:
        assert refused.details is not None
        told = {(cause.message.split('"')[1], cause.field) for cause in refused.details.causes}
        assert told == {(other, sets.show(path)) for other, path in taken}


def refusal(live: Any, document: Document) -> ApiError | None:
    try:
        apply(live, document, "me", force=False)
    except ApiError as error:
        return error
    return None


@given(TWO)
def test_appliers_of_disjoint_fields_never_conflict(documents: tuple[Document, Document]) -> None:
    first, second = documents
    assume(not overlapping(wished(first), wished(second)))
    both = apply(apply(None, first, "alice"), second, "me", force=False)
    assert owned(both).get("alice", frozenset()) == wished(first)
    assert owned(both).get("me", frozenset()) == wished(second)


def overlapping(a: frozenset[tuple[str, ...]], b: frozenset[tuple[str, ...]]) -> bool:
    return any(x[: len(y)] == y or y[: len(x)] == x for x in a for y in b)


@given(TWO)
def test_applying_another_configuration_leaves_nothing_of_the_old_one(documents: tuple[Document, Document]) -> None:
    first, second = documents
    replaced = apply(apply(None, first, "me"), second, "me")
    fresh = apply(None, second, "me")
    assert owned(replaced) == owned(fresh)
    assert without_empties(document_of(replaced)) == without_empties(document_of(fresh))


def without_empties(value: Any) -> Any:
    """With elements of lists by their keys: those that stayed keep their place."""
    if isinstance(value, dict):
        return {k: kept for k, v in value.items() if (kept := without_empties(v)) not in ({}, [])}
    if isinstance(value, list):
        return sorted((without_empties(v) for v in value), key=lambda v: msgspec.json.encode(v, order="sorted"))
    return value


@given(THREE)
def test_updaters_own_only_what_is_there(documents: tuple[Document, Document, Document]) -> None:
    live = update(update(apply(None, documents[0], "bob"), documents[1], "alice"), documents[2], "carol")
    plan = plan_of(type(live))
    there = frozenset(sets.paths(plan.with_fields(plan.whole(document_of(live)))))
    assert all(owned(live).get(updater, frozenset()) <= there for updater in ("alice", "carol"))


@given(THREE)
def test_what_comes_into_being_has_changed_against_nothing(documents: tuple[Document, Document, Document]) -> None:
    for document in documents:
        made = trackable(document_of(decoded(document)), "")
        changes = Changes()
        plan = plan_of(KINDS[document["kind"]])
        plan.compare({}, made, changes)
        assert plan.fresh(made) == changes.changed


@given(TWO)
def test_an_update_owns_exactly_what_it_changed(documents: tuple[Document, Document]) -> None:
    before = update(None, documents[0], "alice")
    after = update(before, documents[1], "bob")
    changes = Changes()
    plan_of(type(after)).compare(trackable(document_of(before), ""), trackable(document_of(after), ""), changes)
    if before.metadata.managedFields:
        assert owned(after).get("bob", frozenset()) == frozenset(sets.paths(changes.changed))
        gone = frozenset(sets.paths(sets.union(changes.changed, changes.removed)))
        assert owned(after).get("alice", frozenset()) == owned(before)["alice"] - gone
