"""Who owns what: sets of fields and their algebra, and what updates make of managedFields."""

from __future__ import annotations

import copy
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque.api import codec
from barque.api.apply import Manager, check_manager, manager_name, mark_reset, scale_managed, track_update
from barque.api.apply import fieldset as sets
from barque.api.errors import ApiError
from barque.api.types.apps_v1 import Deployment
from barque.api.types.core_v1 import ConfigMap, Pod, Service
from barque.api.types.meta_v1 import ManagedFieldsEntry

FieldSet = dict[str, Any]
Path = tuple[str, ...]

NOON, LATER, LATEST = "2026-01-01T12:00:00Z", "2026-01-01T12:00:05Z", "2026-01-01T12:00:09Z"

# --- sets

ELEMENTS = ["f:a", "f:b", 'k:{"name":"x"}', 'k:{"port":80,"protocol":"TCP"}', 'v:"x"', "v:1"]
PATHS: st.SearchStrategy[Path] = st.lists(st.sampled_from(ELEMENTS), min_size=1, max_size=3).map(tuple)
PATH_SETS = st.frozensets(PATHS, max_size=6)


def set_of(paths: frozenset[Path]) -> FieldSet:
    """The set with these members, one inserted after the other."""
    fields: FieldSet = {}
    for path in sorted(paths):
        branch: FieldSet = {}
        for element in reversed(path):
            branch = {element: branch}
        fields = sets.union(fields, branch)
    return fields


def members(fields: FieldSet) -> frozenset[Path]:
    return frozenset(sets.paths(fields))


@given(PATH_SETS, PATH_SETS)
def test_the_algebra_is_that_of_sets_of_paths(a: frozenset[Path], b: frozenset[Path]) -> None:
    x, y = set_of(a), set_of(b)
    assert members(x) == a
    before = copy.deepcopy((x, y))
    assert members(sets.union(x, y)) == a | b
    assert members(sets.difference(x, y)) == a - b
    assert members(sets.intersection(x, y)) == a & b
    assert (x, y) == before
    for result in (sets.union(x, y), sets.difference(x, y), sets.intersection(x, y)):
        assert sets.parse(sets.render(result)) == result
        assert sets.render(sets.parse(sets.render(result))) == sets.render(result)


@given(PATH_SETS, PATH_SETS)
def test_equal_sets_are_equal_bytes_however_they_were_made(a: frozenset[Path], b: frozenset[Path]) -> None:
    assert sets.render(sets.union(set_of(a), set_of(b))) == sets.render(set_of(a | b))


@given(PATH_SETS, PATHS)
def test_membership(paths: frozenset[Path], path: Path) -> None:
    assert sets.has(set_of(paths), path) == (path in paths)


def test_sets_are_ordered_as_kubernetes_orders_them() -> None:
    port_80, port_443 = 'k:{"port":80}', 'k:{"port":443}'
    ordered: FieldSet = {
        "f:z": {},
        port_80: {".": {}, "f:a": {}, "f:b": {}},
        port_443: {},
        "v:9": {},
        "v:10": {},
        'v:"b"': {},
    }
    backwards = dict(reversed(ordered.items())) | {port_80: {"f:b": {}, "f:a": {}, ".": {}}}
    assert sets.render(sets.parse(msgspec.json.encode(backwards))) == msgspec.json.encode(ordered)


def test_elements_have_one_spelling() -> None:
    assert sets.parse(b'{"k:{ \\"protocol\\": \\"TCP\\", \\"port\\":80 }":{".":{}}}') == {
        'k:{"port":80,"protocol":"TCP"}': {}
    }


@pytest.mark.parametrize(
    "fields", [b"[]", b"{", b'{"f:a":1}', b'{"x:a":{}}', b'{"a":{}}', b'{"k:[]":{}}', b'{"k:{":{}}', b'{"i:x":{}}']
)
def test_what_is_no_set_is_a_value_error(fields: bytes) -> None:
    with pytest.raises(ValueError, match="fieldsV1"):
        sets.parse(fields)


def test_a_path_reads_as_in_kubernetes_errors() -> None:
    path = ("f:spec", 'k:{"containerPort":80,"protocol":"TCP"}', 'v:"x"', "v:true", "i:2")
    assert sets.show(path) == '.spec[containerPort=80,protocol="TCP"][="x"][=true][2]'


# --- updates


def pod(**changes: Any) -> Pod:
    document = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default", "uid": "u", "labels": {"app": "web"}},
        "spec": {
            "containers": [
                {
                    "name": "web",
                    "image": "web:1",
                    "ports": [{"containerPort": 443, "protocol": "TCP"}, {"containerPort": 80, "protocol": "TCP"}],
                }
            ],
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"key": "a"}],
        },
        "status": {"phase": "Pending"},
    }
    made: Pod = decoded(Pod, merged(document, changes))
    return made


def merged(document: Any, changes: Any) -> Any:
    if isinstance(changes, dict) and isinstance(document, dict):
        return document | {k: merged(document.get(k), v) for k, v in changes.items()}
    return changes


def decoded(kind: Any, document: Any) -> Any:
    return codec.decode(kind, msgspec.json.encode(document))


def config_map(**data: str) -> ConfigMap:
    document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "d"}, "data": data}
    made: ConfigMap = decoded(ConfigMap, document)
    return made


def wrote(name: str, time: str = NOON, subresource: str = "") -> Manager:
    return Manager(name, "Update", subresource, time)


def written(before: Any, after: Any, manager: Manager) -> Any:
    """`after` as it is stored once the manager has written it."""
    stored = copy.deepcopy(after)
    stored.metadata.managedFields = copy.deepcopy(before.metadata.managedFields) if before is not None else []
    stored.metadata.managedFields = track_update(before, stored, manager)
    return stored


def owners(obj: Any) -> dict[str, Any]:
    return {entry.manager: json.loads(bytes(entry.fieldsV1)) for entry in obj.metadata.managedFields}


def test_a_creator_owns_what_it_wrote_and_nothing_of_the_systems() -> None:
    created = written(None, pod(), wrote("kubectl-create"))
    [entry] = created.metadata.managedFields
    assert (entry.manager, entry.operation, entry.apiVersion, entry.fieldsType, entry.time, entry.subresource) == (
        "kubectl-create",
        "Update",
        "v1",
        "FieldsV1",
        NOON,
        "",
    )
    # Byte for byte what Kubernetes writes: no "." where the field is there in an empty pod already.
    assert bytes(entry.fieldsV1).decode() == (
        '{"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:containers":{"k:{\\"name\\":\\"web\\"}":{".":{},'
        '"f:image":{},"f:name":{},"f:ports":{".":{},"k:{\\"containerPort\\":80,\\"protocol\\":\\"TCP\\"}":{".":{},'
        '"f:containerPort":{},"f:protocol":{}},"k:{\\"containerPort\\":443,\\"protocol\\":\\"TCP\\"}":{".":{},'
        '"f:containerPort":{},"f:protocol":{}}}}},"f:nodeSelector":{},"f:tolerations":{}}}'
    )


def test_atomic_structs_and_lists_are_owned_whole_and_inline_structs_by_nobody() -> None:
    deployment = decoded(
        Deployment,
        {
            "spec": {
                "selector": {"matchLabels": {"app": "web"}},
                "strategy": {"rollingUpdate": {"maxSurge": 1}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web"}]}},
            }
        },
    )
    assert owners(written(None, deployment, wrote("x")))["x"] == {
        "f:spec": {
            "f:selector": {},
            "f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}}},
            "f:template": {
                "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                "f:spec": {"f:containers": {'k:{"name":"web"}': {".": {}, "f:name": {}}}},
            },
        }
    }
    service = decoded(Service, {"spec": {"selector": {"a": "b"}, "ports": [{"port": 53}]}})
    assert owners(written(None, service, wrote("x")))["x"] == {
        "f:spec": {
            "f:ports": {".": {}, 'k:{"port":53,"protocol":"TCP"}': {".": {}, "f:port": {}}},
            "f:selector": {},
        }
    }


def test_owner_references_and_finalizers() -> None:
    reference = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "7"}
    child = pod(metadata={"ownerReferences": [reference], "finalizers": ["b", "a"], "generateName": "r-"})
    assert owners(written(None, child, wrote("x")))["x"]["f:metadata"] == {
        "f:labels": {".": {}, "f:app": {}},
        "f:finalizers": {".": {}, 'v:"a"': {}, 'v:"b"': {}},
        "f:generateName": {},
        "f:ownerReferences": {".": {}, 'k:{"uid":"7"}': {}},
    }


def test_a_changed_field_changes_hands_and_the_rest_stays() -> None:
    created = written(None, config_map(a="1", b="1"), wrote("alice"))
    updated = written(created, config_map(a="1", b="2", c="3"), wrote("bob", LATER))
    assert owners(updated) == {
        "alice": {"f:data": {".": {}, "f:a": {}}},
        "bob": {"f:data": {"f:b": {}, "f:c": {}}},
    }
    assert [e.time for e in updated.metadata.managedFields] == [NOON, LATER]


def test_a_removed_field_is_nobodys_and_an_owner_of_nothing_is_gone() -> None:
    created = written(None, config_map(a="1"), wrote("alice"))
    shared = written(created, config_map(a="1", b="2"), wrote("bob", LATER))
    removed = written(shared, config_map(a="1"), wrote("carol", LATEST))
    assert removed.metadata.managedFields == created.metadata.managedFields


def test_an_owner_that_only_removes_keeps_its_time() -> None:
    created = written(None, config_map(a="1", b="2"), wrote("alice"))
    updated = written(created, config_map(a="1"), wrote("alice", LATER))
    assert owners(updated) == {"alice": {"f:data": {".": {}, "f:a": {}}}}
    assert updated.metadata.managedFields[0].time == NOON


def test_an_owner_that_changes_and_removes_owns_what_is_left() -> None:
    created = written(None, config_map(a="1", b="2"), wrote("alice"))
    updated = written(created, config_map(a="1", c="3"), wrote("alice", LATER))
    assert owners(updated) == {"alice": {"f:data": {".": {}, "f:a": {}, "f:c": {}}}}
    assert updated.metadata.managedFields[0].time == LATER


def test_an_equal_update_changes_nothing() -> None:
    created = written(None, pod(), wrote("alice"))
    again = written(created, pod(), wrote("bob", LATER))
    assert again.metadata.managedFields == created.metadata.managedFields


def test_a_field_that_only_the_system_writes_makes_nobody_an_owner() -> None:
    created = written(None, pod(), wrote("alice"))
    touched = written(created, pod(metadata={"generation": 7, "resourceVersion": "9"}), wrote("bob", LATER))
    assert touched.metadata.managedFields == created.metadata.managedFields


def test_status_belongs_to_the_status_subresource() -> None:
    created = written(None, pod(), wrote("alice"))
    running = pod(status={"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}], "conditions": [{"type": "Ready"}]})
    through_main = written(created, running, wrote("bob", LATER))
    assert through_main.metadata.managedFields == created.metadata.managedFields
    reported = written(created, running, wrote("barque-worker", LATER, "status"))
    entry = reported.metadata.managedFields[1]
    assert (entry.manager, entry.subresource) == ("barque-worker", "status")
    assert owners(reported)["barque-worker"] == {
        "f:status": {
            "f:conditions": {
                ".": {},
                'k:{"type":"Ready"}': {".": {}, "f:status": {}, "f:type": {}},
            },
            "f:phase": {},
            "f:podIPs": {".": {}, 'k:{"ip":"10.0.0.1"}': {".": {}, "f:ip": {}}},
        }
    }


def test_one_manager_through_two_doors_has_two_entries() -> None:
    created = written(None, decoded(Deployment, {"spec": {"replicas": 1}}), wrote("alice"))
    scaled = written(created, decoded(Deployment, {"spec": {"replicas": 5}}), wrote("alice", LATER, "scale"))
    [entry] = scaled.metadata.managedFields
    assert (entry.subresource, owners(scaled)["alice"]) == ("scale", {"f:spec": {"f:replicas": {}}})


def test_a_scale_shows_who_owns_its_replicas() -> None:
    deployment = decoded(Deployment, {"spec": {"replicas": 1, "paused": True}})
    created = written(None, deployment, wrote("alice"))
    [shown] = scale_managed(created.metadata.managedFields)
    assert (shown.apiVersion, shown.manager, shown.time) == ("autoscaling/v1", "alice", NOON)
    assert bytes(shown.fieldsV1) == b'{"f:spec":{"f:replicas":{}}}'
    paused = written(None, decoded(Deployment, {"spec": {"paused": True}}), wrote("alice"))
    assert scale_managed(paused.metadata.managedFields) == []


def test_duplicates_in_an_associative_list_are_owned_together() -> None:
    env = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}, {"name": "B", "value": "3"}]
    both = pod(spec={"containers": [{"name": "web", "env": env}]})
    created = written(None, both, wrote("alice"))
    listed = owners(created)["alice"]["f:spec"]["f:containers"]['k:{"name":"web"}']["f:env"]
    assert listed['k:{"name":"A"}'] == {}
    changed = pod(spec={"containers": [{"name": "web", "env": [env[1], env[0], env[2]]}]})
    assert owners(written(created, changed, wrote("bob")))["bob"] == {
        "f:spec": {"f:containers": {'k:{"name":"web"}': {"f:env": {'k:{"name":"A"}': {}}}}}
    }
    single = pod(spec={"containers": [{"name": "web", "env": [env[0], env[2]]}]})
    assert owners(written(created, single, wrote("bob")))["bob"] == {
        "f:spec": {
            "f:containers": {'k:{"name":"web"}': {"f:env": {'k:{"name":"A"}': {".": {}, "f:name": {}, "f:value": {}}}}}
        }
    }
    assert owners(written(written(None, single, wrote("alice")), created, wrote("bob")))["bob"] == {
        "f:spec": {"f:containers": {'k:{"name":"web"}': {"f:env": {'k:{"name":"A"}': {}}}}}
    }


def test_no_more_than_ten_updaters_the_oldest_become_one() -> None:
    stored = written(None, config_map(k0="x"), wrote("m0", time_of(0)))
    for n in range(1, 13):
        data = {f"k{i}": "x" for i in range(n + 1)}
        stored = written(stored, config_map(**data), wrote(f"m{n}", time_of(n)))
    names = [entry.manager for entry in stored.metadata.managedFields]
    assert names == ["ancient-changes", *(f"m{n}" for n in range(4, 13))]
    ancient = stored.metadata.managedFields[0]
    assert ancient.time == time_of(3)
    assert owners(stored)["ancient-changes"] == {"f:data": {".": {}, "f:k0": {}, "f:k1": {}, "f:k2": {}, "f:k3": {}}}


def time_of(second: int) -> str:
    return f"2026-01-01T12:00:{second:02}Z"


def test_appliers_come_first_then_the_older() -> None:
    applier = ManagedFieldsEntry(
        manager="z",
        operation="Apply",
        apiVersion="v1",
        fieldsType="FieldsV1",
        fieldsV1=raw({"f:data": {"f:z": {}}}),
        time=LATEST,
    )
    first = config_map(z="1")
    first.metadata.managedFields = [applier]
    second = written(first, config_map(z="1", b="1"), wrote("b", LATER))
    third = written(second, config_map(z="1", b="1", a="1"), wrote("a", NOON))
    assert [entry.manager for entry in third.metadata.managedFields] == ["z", "a", "b"]


def raw(fields: FieldSet) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(fields))


# --- what clients send


def entry_of(manager: str, fields: FieldSet, **more: str) -> ManagedFieldsEntry:
    defaults = {"operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "time": NOON}
    return ManagedFieldsEntry(manager=manager, fieldsV1=raw(fields), **(defaults | more))


def test_a_client_may_rewrite_the_owners() -> None:
    created = written(None, config_map(a="1", b="1"), wrote("alice"))
    after = config_map(a="1", b="2")
    after.metadata.managedFields = [entry_of("carol", {"f:data": {"f:a": {}, "f:b": {}}})]
    after.metadata.managedFields = track_update(created, after, wrote("bob", LATER))
    assert owners(after) == {"carol": {"f:data": {"f:a": {}}}, "bob": {"f:data": {"f:b": {}}}}


def test_what_a_client_sends_is_stored_in_order() -> None:
    created = written(None, config_map(a="1", b="1", c="1"), wrote("alice"))
    after = config_map(a="1", b="1", c="1")
    after.metadata.managedFields = [entry_of("carol", {"f:data": {"f:b": {}, "f:a": {".": {}}}})]
    [entry] = track_update(created, after, wrote("bob", LATER))
    assert bytes(entry.fieldsV1) == b'{"f:data":{"f:a":{},"f:b":{}}}'


@pytest.mark.parametrize(
    "broken",
    [{"operation": "Frob"}, {"apiVersion": ""}, {"fieldsType": "FieldsV2"}, {"fieldsV1": msgspec.Raw(b'{"x":1}')}],
)
def test_garbled_owners_are_as_none_sent(broken: dict[str, Any]) -> None:
    created = written(None, config_map(a="1"), wrote("alice"))
    after = config_map(a="1", b="2")
    after.metadata.managedFields = [msgspec.structs.replace(entry_of("carol", {"f:data": {}}), **broken)]
    after.metadata.managedFields = track_update(created, after, wrote("bob", LATER))
    assert set(owners(after)) == {"alice", "bob"}
    assert set(owners(written(None, after, wrote("dave")))) == {"dave"}


@pytest.mark.parametrize("sent", [[], [{}]])
def test_a_client_may_reset_the_owners_and_then_nobody_is_tracked(sent: list[Any]) -> None:
    created = written(None, config_map(a="1"), wrote("alice"))
    document = mark_reset({"metadata": {"name": "c", "managedFields": sent}, "data": {"a": "2"}})
    after = decoded(ConfigMap, document)
    after.metadata.managedFields = track_update(created, after, wrote("bob", LATER))
    assert after.metadata.managedFields == []
    assert written(after, config_map(a="3"), wrote("carol", LATEST)).metadata.managedFields == []


def test_only_an_empty_list_is_a_reset() -> None:
    documents: list[dict[str, Any]] = [{}, {"metadata": None}, {"metadata": {}}, {"metadata": {"managedFields": None}}]
    for document in documents:
        assert mark_reset(document) == document


def test_owners_cannot_be_rewritten_through_a_subresource() -> None:
    created = written(None, pod(), wrote("alice"))
    after = pod(status={"phase": "Running"})
    after.metadata.managedFields = [ManagedFieldsEntry()]
    tracked = track_update(created, after, wrote("worker", LATER, "status"))
    assert [entry.manager for entry in tracked] == ["alice", "worker"]


def test_arguments_are_left_as_they_were() -> None:
    before = written(None, pod(), wrote("alice"))
    after = pod(metadata={"labels": {"app": "other"}}, spec={"nodeName": "n"})
    after.metadata.managedFields = list(before.metadata.managedFields)
    remembered = codec.encode(before), codec.encode(after)
    track_update(before, after, wrote("bob", LATER))
    assert (codec.encode(before), codec.encode(after)) == remembered


# --- names of managers


@pytest.mark.parametrize(
    ("field_manager", "user_agent", "name"),
    [
        ("me", "kubectl/v1.36", "me"),
        ("", "kubectl/v1.36 (linux)", "kubectl"),
        ("", "Mozilla/5.0", "Mozilla"),
        ("", "x" * 200, "x" * 128),
        ("", "a\x00b/1", "ab"),
        ("", "", "unknown"),
    ],
)
def test_a_managers_name(field_manager: str, user_agent: str, name: str) -> None:
    assert manager_name(field_manager, user_agent) == name


def test_a_name_that_will_not_do_is_refused_in_kubernetes_words() -> None:
    check_manager("", "Update")
    check_manager("me", "Apply")
    with pytest.raises(ApiError) as missing:
        check_manager("", "Apply")
    assert missing.value.code == 422
    assert missing.value.message == (
        'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch'
    )
    with pytest.raises(ApiError, match="fieldManager: Too long: may not be more than 128 bytes"):
        check_manager("x" * 129, "Update")
    with pytest.raises(ApiError, match=r"invalid character U\+000A \(at position 1\)"):
        check_manager("a\nb", "Update")
