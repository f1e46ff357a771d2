"""Server-side apply, as Kubernetes' documentation and KEP-555 tell it."""

from __future__ import annotations

import copy
import json
from typing import Any

import msgspec
import pytest

from barque.api import codec
from barque.api.apply import Manager, apply_configuration, finish, scale_managed, track_update
from barque.api.apply.schema import plan_of
from barque.api.errors import ApiError
from barque.api.types.apiextensions_v1 import JSONSchemaProps
from barque.api.types.apps_v1 import Deployment
from barque.api.types.core_v1 import ConfigMap, Pod, Service

Document = dict[str, Any]
CLOCK = iter(range(10**9))


def now() -> str:
    """A later second with every call."""
    second = next(CLOCK)
    return f"2026-01-01T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}Z"


def apply(
    live: Any, configuration: Document, by: str, *, force: bool = False, through: str = "", kind: Any = None
) -> Any:
    """The object as the registry would store it (here without defaults)."""
    kind = kind or type(live)
    before = copy.deepcopy((codec.encode(live) if live is not None else b"", configuration))
    manager = Manager(by, "Apply", through, now())
    applied = apply_configuration(kind, live, configuration, manager, force)
    assert (codec.encode(live) if live is not None else b"", configuration) == before
    new = codec.decode(kind, msgspec.json.encode(applied.document))
    new.metadata.managedFields = finish(live, new, applied.managed)
    return new


def update(live: Any, changes: Document, by: str, through: str = "") -> Any:
    """The object after a merge patch."""
    new = copy.deepcopy(live)
    document = merged(msgspec.json.decode(codec.encode(live)), changes)
    new = codec.decode(type(live), msgspec.json.encode(document))
    new.metadata.managedFields = track_update(live, new, Manager(by, "Update", through, now()))
    return new


def create(kind: Any, document: Document, by: str) -> Any:
    new = codec.decode(kind, msgspec.json.encode(document))
    new.metadata.managedFields = track_update(None, new, Manager(by, "Update", "", now()))
    return new


def merged(document: Any, changes: Any) -> Any:
    if isinstance(changes, dict) and isinstance(document, dict):
        both = document | {k: merged(document.get(k), v) for k, v in changes.items()}
        return {k: v for k, v in both.items() if v is not None}
    return changes


def owners(obj: Any) -> dict[str, Any]:
    return {entry.manager: json.loads(bytes(entry.fieldsV1)) for entry in obj.metadata.managedFields}


def seen(obj: Any, *parts: str) -> Any:
    """The object, or what is at this place of it, as JSON without the owners."""
    document = json.loads(codec.encode(obj))
    document["metadata"].pop("managedFields", None)
    for part in parts:
        document = document[part]
    return document


def conflict(live: Any, configuration: Document, by: str, through: str = "") -> ApiError:
    with pytest.raises(ApiError) as refusal:
        apply(live, configuration, by, through=through)
    assert (refusal.value.code, refusal.value.reason) == (409, "Conflict")
    return refusal.value


def config(data: Document | None = None, **metadata: Any) -> Document:
    document: Document = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "c", "namespace": "d", **metadata},
    }
    return document if data is None else document | {"data": data}


def deployment(**spec: Any) -> Document:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": spec,
    }


def web(image: str = "web:1", **container: Any) -> Document:
    return {"spec": {"containers": [{"name": "web", "image": image, **container}]}}


def pod(*containers: Document, **spec: Any) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web"},
        "spec": {"containers": list(containers), **spec},
    }


# --- the life of an object


def test_an_applier_owns_what_it_wrote() -> None:
    created = apply(None, config({"key": "some value"}, labels={"test-label": "test"}), "kubectl", kind=ConfigMap)
    [entry] = created.metadata.managedFields
    assert (entry.manager, entry.operation, entry.apiVersion) == ("kubectl", "Apply", "v1")
    assert owners(created) == {"kubectl": {"f:data": {"f:key": {}}, "f:metadata": {"f:labels": {"f:test-label": {}}}}}
    assert seen(created) == config({"key": "some value"}, labels={"test-label": "test"})


def test_a_second_apply_of_the_same_changes_nothing_not_even_the_time() -> None:
    created = apply(None, config({"a": "1"}), "kubectl", kind=ConfigMap)
    again = apply(created, config({"a": "1"}), "kubectl")
    assert codec.encode(again) == codec.encode(created)


def test_what_the_server_adds_is_nobodys_and_stays() -> None:
    created = apply(None, deployment(template=web()), "kubectl", kind=Deployment)
    owned = owners(created)
    created.spec.replicas = 1
    created.spec.template.spec.containers[0].imagePullPolicy = "IfNotPresent"
    again = apply(created, deployment(template=web("web:2")), "kubectl")
    assert owners(again) == owned
    assert again.spec.replicas == 1
    assert again.spec.template.spec.containers[0].imagePullPolicy == "IfNotPresent"
    assert again.spec.template.spec.containers[0].image == "web:2"


def test_what_an_applier_leaves_out_goes_away() -> None:
    created = apply(None, config({"a": "1", "b": "1"}, labels={"x": "1"}), "kubectl", kind=ConfigMap)
    again = apply(created, config({"a": "1"}), "kubectl")
    assert seen(again) == config({"a": "1"})
    assert owners(again) == {"kubectl": {"f:data": {"f:a": {}}}}


def test_a_struct_goes_with_its_last_owned_field_and_what_hung_on_it() -> None:
    created = apply(
        None, deployment(strategy={"rollingUpdate": {"maxSurge": 2}}, template=web()), "kubectl", kind=Deployment
    )
    created.spec.strategy.type = "RollingUpdate"
    created.spec.strategy.rollingUpdate.maxUnavailable = "25%"
    again = apply(created, deployment(template=web()), "kubectl")
    assert again.spec.strategy is None


def test_an_element_goes_by_its_key_with_what_was_defaulted_in_it() -> None:
    created = apply(None, pod({"name": "a", "image": "a"}, {"name": "b", "image": "b"}), "kubectl", kind=Pod)
    created.spec.containers[1].imagePullPolicy = "Always"
    created.spec.restartPolicy = "Always"
    again = apply(created, pod({"name": "a", "image": "a"}), "kubectl")
    assert seen(again, "spec") == {"containers": [{"name": "a", "image": "a"}], "restartPolicy": "Always"}


def test_a_struct_in_which_another_owns_only_what_is_not_there_goes() -> None:
    created = apply(None, pod(securityContext={"runAsGroup": 1}), "kubectl", kind=Pod)
    shared = apply(created, pod(securityContext={"runAsUser": None}), "other")
    assert apply(shared, pod(), "kubectl").spec.securityContext is None


def test_an_element_in_which_somebody_else_owns_a_field_stays() -> None:
    created = apply(None, pod({"name": "a"}, {"name": "b", "image": "b"}), "kubectl", kind=Pod)
    shared = apply(created, pod({"name": "b", "tty": True}), "debugger")
    again = apply(shared, pod({"name": "a"}), "kubectl")
    assert seen(again, "spec", "containers") == [{"name": "a"}, {"name": "b", "tty": True}]


def test_a_field_that_an_updater_owns_stays() -> None:
    created = apply(None, config({"a": "1", "b": "1"}), "kubectl", kind=ConfigMap)
    edited = update(created, {"data": {"b": "2"}}, "kubectl-edit")
    again = apply(edited, config({"a": "1"}), "kubectl")
    assert seen(again, "data") == {"a": "1", "b": "2"}


def test_what_is_left_of_an_atomic_field_is_nothing() -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}}
    created = apply(None, {**service, "spec": {"selector": {"a": "1", "b": "2"}}}, "kubectl", kind=Service)
    again = apply(created, {**service, "spec": {"selector": {"a": "1"}}}, "kubectl")
    assert seen(again, "spec", "selector") == {"a": "1"}
    assert "selector" not in seen(apply(again, service, "kubectl"), "spec")


def test_an_explicit_null_unsets_a_field() -> None:
    created = create(Deployment, deployment(replicas=3, template=web()), "alice")
    assert ".spec.replicas" in conflict(created, deployment(replicas=None), "kubectl").message
    assert apply(created, deployment(replicas=None), "kubectl", force=True).spec.replicas is None


# --- sharing and conflicts


def test_the_documentations_story_of_two_appliers() -> None:
    """ "Transferring ownership between managers": an autoscaler takes the replicas over without a disruption."""
    created = apply(None, deployment(replicas=3, template=web()), "kubectl", kind=Deployment)
    shared = apply(created, deployment(replicas=3), "handover-to-hpa")
    assert owners(shared)["handover-to-hpa"] == {"f:spec": {"f:replicas": {}}}
    left = apply(shared, deployment(template=web()), "kubectl")
    assert left.spec.replicas == 3
    assert "f:replicas" not in owners(left)["kubectl"]["f:spec"]
    assert apply(left, deployment(replicas=5), "handover-to-hpa").spec.replicas == 5


def test_changing_what_an_updater_owns_is_a_conflict_in_kubernetes_words() -> None:
    created = apply(None, deployment(replicas=3, template=web()), "kubectl", kind=Deployment)
    edited = update(created, {"spec": {"replicas": 5}}, "kubectl-edit")
    refusal = conflict(edited, deployment(replicas=3, template=web()), "kubectl")
    assert refusal.message == (
        'Apply failed with 1 conflict: conflict with "kubectl-edit" using apps/v1: .spec.replicas'
    )
    assert refusal.details is not None
    [cause] = refusal.details.causes
    assert (cause.reason, cause.field, cause.message) == (
        "FieldManagerConflict",
        ".spec.replicas",
        'conflict with "kubectl-edit" using apps/v1',
    )


def test_several_conflicts_are_listed_by_owner() -> None:
    created = create(ConfigMap, config({"a": "1", "b": "1"}), "x")
    shared = apply(created, config({"c": "1"}), "y")
    refusal = conflict(shared, config({"a": "2", "b": "2", "c": "2"}), "kubectl")
    assert refusal.message == (
        'Apply failed with 3 conflicts: conflicts with "x" using v1:\n- .data.a\n- .data.b\n'
        'conflicts with "y":\n- .data.c'
    )
    assert refusal.details is not None
    assert [(cause.message, cause.field) for cause in refusal.details.causes] == [
        ('conflict with "x" using v1', ".data.a"),
        ('conflict with "x" using v1', ".data.b"),
        ('conflict with "y"', ".data.c"),
    ]


def test_a_conflict_names_the_subresource() -> None:
    created = apply(None, deployment(replicas=3, template=web()), "kubectl", kind=Deployment)
    scaled = update(created, {"spec": {"replicas": 5}}, "kubectl", "scale")
    assert conflict(scaled, deployment(replicas=3, template=web()), "kubectl").message == (
        'Apply failed with 1 conflict: conflict with "kubectl" with subresource "scale" using apps/v1: .spec.replicas'
    )


def test_a_conflict_in_a_list_names_the_element() -> None:
    created = create(Pod, pod({"name": "web", "image": "a"}), "alice")
    assert conflict(created, pod({"name": "web", "image": "b"}), "kubectl").message.endswith(
        ': .spec.containers[name="web"].image'
    )


def test_the_same_value_is_shared_not_a_conflict() -> None:
    created = create(ConfigMap, config({"a": "1"}), "alice")
    shared = apply(created, config({"a": "1"}), "kubectl")
    assert owners(shared) == {"kubectl": {"f:data": {"f:a": {}}}, "alice": {"f:data": {".": {}, "f:a": {}}}}


def test_force_takes_the_field_and_only_that() -> None:
    created = create(ConfigMap, config({"a": "1", "b": "1"}), "alice")
    forced = apply(created, config({"a": "2"}), "kubectl", force=True)
    assert seen(forced, "data") == {"a": "2", "b": "1"}
    assert owners(forced) == {"kubectl": {"f:data": {"f:a": {}}}, "alice": {"f:data": {".": {}, "f:b": {}}}}


def test_an_owner_of_nothing_is_gone_after_force() -> None:
    created = apply(None, config({"a": "1"}), "alice", kind=ConfigMap)
    assert set(owners(apply(created, config({"a": "2"}), "kubectl", force=True))) == {"kubectl"}


def test_applying_only_a_name_owns_nothing() -> None:
    created = apply(None, config({"a": "1"}), "kubectl", kind=ConfigMap)
    assert owners(apply(created, config(), "other")) == owners(created)


def test_the_spelling_of_an_amount_is_no_change() -> None:
    live = create(Pod, pod({"name": "web", "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}}}), "alice")
    shared = apply(live, pod({"name": "web", "resources": {"limits": {"cpu": 0.5, "memory": "1024Mi"}}}), "kubectl")
    assert seen(shared, "spec") == seen(live, "spec")


# --- lists


def test_elements_merge_by_key_in_the_appliers_order() -> None:
    live = create(Pod, pod({"name": "x"}, {"name": "a"}, {"name": "y"}, {"name": "b"}), "alice")
    applied = apply(live, pod({"name": "new"}, {"name": "b"}, {"name": "a"}), "kubectl")
    assert [c.name for c in applied.spec.containers] == ["x", "y", "new", "b", "a"]


def test_a_port_without_protocol_is_the_tcp_port() -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "dns"}}
    both = [{"name": "u", "port": 53, "protocol": "UDP"}, {"name": "t", "port": 53, "protocol": "TCP"}]
    live = create(Service, {**service, "spec": {"ports": both}}, "alice")
    applied = apply(live, {**service, "spec": {"ports": [{"port": 53, "targetPort": 5353}]}}, "kubectl")
    assert seen(applied, "spec", "ports") == [both[0], {**both[1], "targetPort": 5353}]
    assert owners(applied)["kubectl"] == {
        "f:spec": {"f:ports": {'k:{"port":53,"protocol":"TCP"}': {".": {}, "f:port": {}, "f:targetPort": {}}}}
    }


def test_a_set_gains_and_loses_values() -> None:
    live = create(ConfigMap, config(finalizers=["theirs"]), "alice")
    applied = apply(live, config(finalizers=["mine", "theirs"]), "kubectl")
    assert sorted(applied.metadata.finalizers) == ["mine", "theirs"]
    assert apply(applied, config(), "kubectl").metadata.finalizers == ["theirs"]


def test_stored_duplicates_stay_until_somebody_applies_their_key() -> None:
    env = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}, {"name": "B", "value": "3"}]
    live = create(Pod, pod({"name": "web", "env": env}), "alice")
    untouched = apply(live, pod({"name": "web", "env": [{"name": "C", "value": "4"}]}), "kubectl")
    assert sorted(e.value for e in untouched.spec.containers[0].env) == ["1", "2", "3", "4"]
    one = apply(live, pod({"name": "web", "env": [{"name": "A", "value": "9"}]}), "kubectl", force=True)
    assert sorted(e.value for e in one.spec.containers[0].env) == ["3", "9"]
    bare = apply(live, pod({"name": "web", "env": [{"name": "A"}]}), "kubectl", force=True)
    assert sorted(e.value for e in bare.spec.containers[0].env) == ["", "3"]


def test_a_secret_without_a_name_has_the_empty_one() -> None:
    applied = apply(None, pod(imagePullSecrets=[{}, {"name": "a"}]), "kubectl", kind=Pod)
    assert owners(applied)["kubectl"]["f:spec"] == {"f:imagePullSecrets": {'k:{"name":""}': {}, 'k:{"name":"a"}': {}}}


def test_keys_of_a_map_of_structs_are_members_and_its_fields_are_merged() -> None:
    plan = plan_of(JSONSchemaProps)
    properties = {"properties": {"a": {"type": "string"}, "b": {}}, "items": {"type": "string"}}
    assert plan.owned(properties) == {
        "f:items": {},
        "f:properties": {"f:a": {".": {}, "f:type": {}}, "f:b": {}},
    }
    assert plan.merge(properties, {"properties": {"a": {"format": "date"}}}) == {
        "properties": {"a": {"type": "string", "format": "date"}, "b": {}},
        "items": {"type": "string"},
    }


# --- what cannot be applied


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (config(managedFields=[]), "metadata.managedFields must be nil"),
        (config(managedFields=[{"manager": "x"}]), "metadata.managedFields must be nil"),
        ({**config(), "apiVersion": "v2"}, "invalid object type: /v2, Kind=ConfigMap"),
        ({**config(), "apiVersion": "apps/v1", "kind": "Deployment"}, "invalid object type: apps/v1, Kind=Deployment"),
        ({"metadata": {"name": "c"}}, "invalid object type: /, Kind="),
        (
            config("text"),  # type: ignore[arg-type]
            'failed to create typed patch object (d/c; /v1, Kind=ConfigMap): .data: expected map, got "text"',
        ),
        (
            {**config(), "colour": 1, "flavour": 2},
            "failed to create typed patch object (d/c; /v1, Kind=ConfigMap): errors:\n"
            "  .colour: field not declared in schema\n  .flavour: field not declared in schema",
        ),
        (
            {**config(), "metadata": "c"},
            'failed to create typed patch object (/; /v1, Kind=ConfigMap): .metadata: expected map, got "c"',
        ),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(document: Document, why: str) -> None:
    with pytest.raises(ApiError) as refusal:
        apply_configuration(ConfigMap, None, document, Manager("x", "Apply"), False)
    assert (refusal.value.code, refusal.value.message) == (400, why)


@pytest.mark.parametrize(
    ("containers", "why"),
    [
        (
            [{"image": "x"}],
            ".spec.containers: element 0: associative list with keys has an element that omits key field "
            '"name" (and doesn\'t have default value)',
        ),
        ([None], ".spec.containers: element 0: associative list with keys may not have a null element"),
        (["x"], ".spec.containers: element 0: associative list with keys may not have non-map elements"),
        ("x", '.spec.containers: expected list, got "x"'),
        ([{"name": "a"}, {"name": "a"}], '.spec.containers: duplicate entries for key [name="a"]'),
        (
            [{"name": "a", "ports": [{"containerPort": 80}, {"containerPort": 80, "protocol": "TCP"}]}],
            '.spec.containers[name="a"].ports: duplicate entries for key [containerPort=80,protocol="TCP"]',
        ),
    ],
)
def test_elements_without_identity_are_refused(containers: Any, why: str) -> None:
    document = {**pod(), "spec": {"containers": containers}}
    with pytest.raises(ApiError) as refusal:
        apply_configuration(Pod, None, document, Manager("x", "Apply"), False)
    assert refusal.value.code == 400
    assert refusal.value.message == f"failed to create typed patch object (/web; /v1, Kind=Pod): {why}"


@pytest.mark.parametrize(
    ("finalizer", "why"),
    [
        ({}, "element 0: associative list without keys has an element that's a map type"),
        ([], "element 0: not supported: associative list with lists as elements"),
        (None, "element 0: associative list without keys has an element that's an explicit null"),
    ],
)
def test_a_set_holds_values_only(finalizer: Any, why: str) -> None:
    with pytest.raises(ApiError, match=why):
        apply_configuration(ConfigMap, None, config(finalizers=[finalizer]), Manager("x", "Apply"), False)


# --- subresources


def test_status_is_applied_through_its_own_door_only() -> None:
    live = create(Pod, pod({"name": "web"}), "alice")
    document = {**pod({"name": "web", "image": "other"}), "status": {"phase": "Running"}}
    through_main = apply(live, document, "reporter", force=True)
    assert through_main.status.phase == ""
    assert "f:status" not in owners(through_main)["reporter"]
    reported = apply(live, document, "reporter", through="status")
    assert (reported.status.phase, reported.spec.containers[0].image) == ("Running", "")
    assert owners(reported)["reporter"] == {"f:status": {"f:phase": {}}}


def test_a_scale_is_applied_to_its_parent() -> None:
    created = apply(None, deployment(replicas=3, template=web()), "kubectl", kind=Deployment)
    scale = deployment(replicas=5)
    assert conflict(created, scale, "hpa", through="scale").message.endswith('conflict with "kubectl": .spec.replicas')
    scaled = apply(created, scale, "hpa", force=True, through="scale")
    assert [(e.manager, e.subresource) for e in scaled.metadata.managedFields] == [("kubectl", ""), ("hpa", "scale")]
    assert [(e.manager, e.apiVersion) for e in scale_managed(scaled.metadata.managedFields)] == [
        ("hpa", "autoscaling/v1")
    ]


# --- objects from before server-side apply

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def untracked(kind: Any, document: Document, applied: Document | None = None) -> Any:
    """An object without owners, that a client has applied by itself if `applied` is given."""
    stored = codec.decode(kind, msgspec.json.encode(document))
    if applied is not None:
        stored.metadata.annotations = {**stored.metadata.annotations, LAST_APPLIED: json.dumps(applied)}
    return stored


def test_what_was_there_before_belongs_to_somebody_nameless() -> None:
    live = untracked(ConfigMap, config({"a": "1", "b": "1"}))
    refusal = conflict(live, config({"a": "2"}), "kubectl")
    assert refusal.message == ('Apply failed with 1 conflict: conflict with "before-first-apply" using v1: .data.a')
    applied = apply(live, config({"a": "1"}), "kubectl")
    assert owners(applied) == {
        "kubectl": {"f:data": {"f:a": {}}},
        "before-first-apply": {"f:data": {".": {}, "f:a": {}, "f:b": {}}},
    }


@pytest.mark.parametrize("tool", ["kubectl", "barque"])
def test_the_tool_that_applied_on_the_clients_side_goes_on_without_conflict(tool: str) -> None:
    last = config({"a": "1", "b": "1", "c": "1"})
    live = untracked(ConfigMap, config({"a": "1", "b": "1", "c": "theirs", "d": "theirs"}), last)
    applied = apply(live, config({"a": "2"}), tool)
    assert seen(applied, "data") == {"a": "2", "c": "theirs", "d": "theirs"}
    assert "f:b" not in owners(applied)["before-first-apply"]["f:data"]
    assert ".data.c" in conflict(live, config({"c": "2"}), tool).message
    assert ".data.a" in conflict(live, config({"a": "2"}), "somebody").message


def test_barque_keeps_the_annotation_no_longer_and_kubectl_keeps_it_true() -> None:
    live = untracked(ConfigMap, config({"a": "1"}, annotations={"note": "x"}), config({"a": "1"}))
    assert apply(live, config({"a": "2"}), "barque").metadata.annotations == {"note": "x"}
    kept = apply(live, config({"a": "2"}), "kubectl").metadata.annotations
    assert json.loads(kept[LAST_APPLIED]) == config({"a": "2"}, annotations={})
    assert apply(live, config(), "other").metadata.annotations == live.metadata.annotations
    live.metadata.managedFields = track_update(None, live, Manager("kubectl-client-side-apply", "Update", "", now()))
    assert apply(live, config({"b": "1"}), "barque").metadata.annotations == live.metadata.annotations


def test_kubectl_may_take_over_from_its_own_client_side_entry() -> None:
    document = config({"a": "1", "b": "1"})
    live = untracked(ConfigMap, document, document)
    live.metadata.managedFields = track_update(None, live, Manager("kubectl-client-side-apply", "Update", "", now()))
    assert apply(live, config({"a": "2", "b": "1"}), "kubectl").data == {"a": "2", "b": "1"}
    edited = update(live, {"data": {"b": "2"}}, "kubectl-edit")
    assert conflict(edited, config({"a": "2", "b": "1"}), "kubectl").message == (
        'Apply failed with 1 conflict: conflict with "kubectl-edit" using v1: .data.b'
    )


@pytest.mark.parametrize("annotation", ["", "{", "[]", '{"apiVersion":"v2","data":{"a":"1"}}', '{"data":"x"}'])
def test_an_annotation_that_says_nothing_helps_nobody(annotation: str) -> None:
    live = untracked(ConfigMap, config({"a": "1"}, annotations={LAST_APPLIED: annotation}))
    assert ".data.a" in conflict(live, config({"a": "2"}), "kubectl").message
