"""Merge patches and the three-way merge."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque.api.errors import ApiError
from barque.api.patch import merge_patch, strategic_merge, three_way
from barque.api.types.apps_v1 import Deployment
from barque.api.types.core_v1 import Pod, Service

Document = dict[str, Any]

LEAVES = st.one_of(st.integers(0, 3), st.sampled_from(["a", "b"]), st.booleans())
TREES: st.SearchStrategy[Any] = st.recursive(
    LEAVES,
    lambda below: st.one_of(st.dictionaries(st.sampled_from("xyz"), below, max_size=3), st.lists(below, max_size=2)),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(st.sampled_from("abc"), TREES, max_size=3)


@pytest.mark.parametrize(
    ("document", "patch", "result"),
    [  # RFC 7386, appendix A, as far as objects go
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_follows_the_rfc(document: Document, patch: Document, result: Document) -> None:
    before = copy.deepcopy(document)
    assert merge_patch(document, patch) == result
    assert document == before


@given(DOCUMENTS, DOCUMENTS)
def test_a_merge_patch_is_idempotent(document: Document, patch: Document) -> None:
    once = merge_patch(document, patch)
    assert merge_patch(once, patch) == once


def spec(*containers: Document, **more: Any) -> Document:
    return {"spec": {"containers": list(containers), **more}}


def test_containers_merge_by_name() -> None:
    current = spec({"name": "a", "image": "a:1", "tty": True}, {"name": "b", "image": "b:1"})
    patched = strategic_merge(Pod, current, spec({"name": "b", "image": "b:2"}, {"name": "c", "image": "c:1"}))
    assert patched == spec(
        {"name": "a", "image": "a:1", "tty": True}, {"name": "b", "image": "b:2"}, {"name": "c", "image": "c:1"}
    )


def test_directives_delete_and_replace() -> None:
    current = spec({"name": "a"}, {"name": "b"}, nodeSelector={"x": "1", "y": "2"}, hostAliases=[{"ip": "1.1.1.1"}])
    patch: Document = spec(
        {"$patch": "delete", "name": "a"}, nodeSelector={"$patch": "replace", "z": "3"}, hostAliases=None
    )
    assert strategic_merge(Pod, current, patch) == spec({"name": "b"}, nodeSelector={"z": "3"})
    replaced = strategic_merge(Pod, current, spec({"$patch": "replace"}, {"name": "new"}))
    assert replaced["spec"]["containers"] == [{"name": "new"}]
    assert strategic_merge(Pod, current, {"spec": {"nodeSelector": {"$patch": "delete"}}})["spec"]["nodeSelector"] == {}


def test_primitive_lists_merge_as_sets() -> None:
    current = {"metadata": {"finalizers": ["a", "b"]}}
    assert strategic_merge(Pod, current, {"metadata": {"finalizers": ["b", "c"]}}) == {
        "metadata": {"finalizers": ["a", "b", "c"]}
    }
    patch = {
        "metadata": {
            "$deleteFromPrimitiveList/finalizers": ["a"],
            "$setElementOrder/finalizers": ["d", "b"],
            "finalizers": ["d"],
        }
    }
    assert strategic_merge(Pod, current, patch) == {"metadata": {"finalizers": ["d", "b"]}}


def test_other_lists_are_replaced() -> None:
    current = spec({"name": "a", "args": ["x", "y"]}, tolerations=[{"key": "k"}])
    patched = strategic_merge(Pod, current, spec({"name": "a", "args": ["z"]}, tolerations=[]))
    assert patched == spec({"name": "a", "args": ["z"]}, tolerations=[])


def test_retain_keys_drops_the_others() -> None:
    current = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert strategic_merge(Deployment, current, patch) == {"spec": {"strategy": {"type": "Recreate"}}}


def test_element_order_is_set_and_strangers_keep_their_place() -> None:
    current = spec({"name": "a"}, {"name": "sidecar"}, {"name": "b"})
    patch = {"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}
    patched = strategic_merge(Pod, current, patch)
    assert [c["name"] for c in patched["spec"]["containers"]] == ["sidecar", "b", "a"]


@pytest.mark.parametrize(
    "patch",
    [
        {"spec": {"containers": [{"image": "x"}]}},
        {"spec": {"containers": ["x"]}},
        {"spec": {"$patch": "explode"}},
        {"spec": {"$retainKeys": ["a"], "nodeName": "n"}},
        {"spec": {"$retainKeys": "a"}},
        {"spec": {"$setElementOrder/containers": "a"}},
        {"$frobnicate": 1},
    ],
)
def test_a_patch_that_makes_no_sense_is_a_bad_request(patch: Document) -> None:
    with pytest.raises(ApiError) as refusal:
        strategic_merge(Pod, spec({"name": "a"}), patch)
    assert refusal.value.code == 400


def test_nulls_and_directives_do_not_survive_in_what_is_new() -> None:
    patch = {"spec": {"affinity": {"nodeAffinity": None}, "tolerations": [{"key": "k", "value": None}]}}
    assert strategic_merge(Pod, {}, patch) == {"spec": {"affinity": {}, "tolerations": [{"key": "k"}]}}


# --- apply


def apply(kind: type[Any], original: Document, modified: Document, current: Document) -> Document:
    return strategic_merge(kind, current, three_way(kind, original, modified, current))


def test_apply_changes_what_changed_and_keeps_what_others_set() -> None:
    original = spec({"name": "web", "image": "web:1"})
    current = spec({"name": "web", "image": "web:1", "imagePullPolicy": "IfNotPresent"}, restartPolicy="Always")
    modified = spec({"name": "web", "image": "web:2"})
    assert three_way(Pod, original, modified, current) == {
        "spec": {
            "containers": [{"name": "web", "image": "web:2"}],
            "$setElementOrder/containers": [{"name": "web"}],
        }
    }
    assert apply(Pod, original, modified, current) == spec(
        {"name": "web", "image": "web:2", "imagePullPolicy": "IfNotPresent"}, restartPolicy="Always"
    )


def test_apply_of_the_same_manifest_is_no_patch() -> None:
    manifest = spec({"name": "web", "image": "web:1", "ports": [{"containerPort": 80}]})
    current = spec(
        {"name": "web", "image": "web:1", "ports": [{"containerPort": 80, "protocol": "TCP"}], "tty": False},
        dnsPolicy="X",
    )
    assert three_way(Pod, manifest, manifest, current) == {}


def test_what_leaves_the_manifest_goes_away() -> None:
    original: Document = {
        "metadata": {"labels": {"a": "1", "b": "2"}, "finalizers": ["x", "y"]},
        **spec({"name": "web", "image": "i", "env": [{"name": "A", "value": "1"}]}, {"name": "log"}, nodeName="n"),
    }
    current = copy.deepcopy(original)
    current["metadata"]["labels"]["c"] = "3"
    current["metadata"]["finalizers"].append("z")
    current["spec"]["containers"][0]["env"].append({"name": "INJECTED"})
    modified: Document = {
        "metadata": {"labels": {"a": "1"}, "finalizers": ["y"]},
        **spec({"name": "web", "image": "i", "env": []}),
    }
    assert apply(Pod, original, modified, current) == {
        "metadata": {"labels": {"a": "1", "c": "3"}, "finalizers": ["y", "z"]},
        **spec({"name": "web", "image": "i", "env": [{"name": "INJECTED"}]}),
    }


def test_a_field_the_user_never_set_is_not_removed() -> None:
    assert three_way(Pod, {}, {"spec": {}}, {"spec": {"nodeName": "n1"}}) == {}


def test_an_explicit_null_removes() -> None:
    assert apply(Pod, {}, {"spec": {"nodeName": None}}, {"spec": {"nodeName": "n1"}}) == {"spec": {}}
    assert three_way(Pod, {}, {"spec": {"nodeName": None}}, {"spec": {}}) == {}


def test_a_volume_changes_its_source() -> None:
    original = {"spec": {"volumes": [{"name": "v", "configMap": {"name": "c"}}]}}
    current = {"spec": {"volumes": [{"name": "v", "configMap": {"name": "c", "defaultMode": 420}}]}}
    modified = {"spec": {"volumes": [{"name": "v", "secret": {"secretName": "s"}}]}}
    assert apply(Pod, original, modified, current) == modified


def test_a_strategy_change_drops_the_defaults_of_the_old_one() -> None:
    current = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}}}}
    modified = {"spec": {"strategy": {"type": "Recreate"}}}
    assert apply(Deployment, {"spec": {}}, modified, current) == modified


DNS_TCP = {"name": "tcp", "port": 53, "protocol": "TCP"}
DNS_UDP = {"name": "udp", "port": 53, "protocol": "UDP"}


def ports(*entries: Document) -> Document:
    return {"spec": {"ports": list(entries)}}


def test_one_port_number_with_two_protocols() -> None:
    assert apply(Service, ports(DNS_TCP), ports(DNS_TCP, DNS_UDP), ports(DNS_TCP)) == ports(DNS_TCP, DNS_UDP)
    both = ports(DNS_TCP, DNS_UDP)
    assert three_way(Service, both, both, both) == {}
    assert apply(Service, both, ports(DNS_UDP), both) == ports(DNS_UDP)
    renamed = ports(DNS_TCP, {**DNS_UDP, "name": "dns"})
    assert apply(Service, both, renamed, both) == renamed
    assert apply(Service, both, ports(DNS_UDP, DNS_TCP), both) == ports(DNS_UDP, DNS_TCP)


def test_a_port_changes_its_protocol() -> None:
    old, new = {"port": 80, "protocol": "TCP", "nodePort": 30080}, {"port": 80, "protocol": "UDP"}
    assert apply(Service, ports({"port": 80}), ports(new), ports(old)) == ports({**old, "protocol": "UDP"})


def test_a_patch_without_protocol_means_tcp() -> None:
    current = ports(DNS_UDP, DNS_TCP)
    patched = strategic_merge(Service, current, ports({"port": 53, "targetPort": 5353}))
    assert patched == ports(DNS_UDP, {**DNS_TCP, "targetPort": 5353})


def test_elements_without_their_key_are_left_for_the_server_to_refuse() -> None:
    patch = three_way(Pod, {}, spec({"image": "x"}), spec({"name": "a"}))
    assert patch == spec({"image": "x"})


def test_an_empty_map_that_is_not_stored_needs_no_patch() -> None:
    assert (
        three_way(Pod, {}, {"metadata": {"labels": {}}, "spec": {"tolerations": []}}, {"metadata": {}, "spec": {}})
        == {}
    )


ENV: st.SearchStrategy[Document] = st.fixed_dictionaries(
    {"name": st.sampled_from("EF"), "value": st.sampled_from("12")}
)
PORTS: st.SearchStrategy[Document] = st.fixed_dictionaries(
    {"containerPort": st.integers(1, 2), "protocol": st.sampled_from(["TCP", "UDP"])},
    optional={"name": st.sampled_from("mn")},
)
CONTAINER: st.SearchStrategy[Document] = st.fixed_dictionaries(
    {"name": st.sampled_from("abcd")},
    optional={
        "image": st.sampled_from(["x", "y"]),
        "args": st.lists(st.sampled_from("pq"), max_size=2),
        "env": st.lists(ENV, max_size=2, unique_by=lambda e: str(e["name"])),
        "ports": st.lists(PORTS, max_size=3, unique_by=lambda p: (str(p["containerPort"]), str(p["protocol"]))),
    },
)
CONTAINERS = st.lists(CONTAINER, max_size=3, unique_by=lambda c: str(c["name"]))
METADATA: st.SearchStrategy[Document] = st.fixed_dictionaries(
    {},
    optional={
        "labels": st.dictionaries(st.sampled_from("kl"), st.sampled_from("12")),
        "finalizers": st.lists(st.sampled_from("fgh"), unique=True),
    },
)
SPECS: st.SearchStrategy[Document] = st.fixed_dictionaries(
    {}, optional={"nodeName": st.sampled_from("nm"), "containers": CONTAINERS}
)
PODS: st.SearchStrategy[Document] = st.fixed_dictionaries({}, optional={"metadata": METADATA, "spec": SPECS})


def holds(wanted: Any, got: Any, field: str = "") -> bool:
    """Whether `got` has everything that `wanted` says."""
    if isinstance(wanted, dict):
        return all(holds(v, got.get(k), k) for k, v in wanted.items() if v or k in got)
    key = {"containers": "name", "env": "name"}.get(field)
    if key is not None:
        return all(any(e[key] == w[key] and holds(w, e) for e in got) for w in wanted)
    if field == "ports":
        return all(
            any((e["containerPort"], e["protocol"]) == (w["containerPort"], w["protocol"]) and holds(w, e) for e in got)
            for w in wanted
        )
    if field == "finalizers":
        return set(wanted) <= set(got)
    return bool(wanted == got)


@given(PODS, PODS, PODS)
def test_applying_a_three_way_patch_yields_what_the_manifest_says(
    original: Document, modified: Document, current: Document
) -> None:
    before = copy.deepcopy((original, modified, current))
    result = apply(Pod, original, modified, current)
    assert holds(modified, result)
    assert (original, modified, current) == before
    assert three_way(Pod, modified, modified, result) == {}


@given(PODS, PODS)
def test_removed_fields_are_gone_when_nobody_else_changed_anything(original: Document, modified: Document) -> None:
    result = apply(Pod, original, modified, original)
    assert without_empties(result) == without_empties(modified)


def without_empties(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: cleaned for k, v in value.items() if (cleaned := without_empties(v)) not in ({}, [])}
    return [without_empties(v) for v in value] if isinstance(value, list) else value
