"""Merge patches: RFC 7386 and Kubernetes' strategic one. JSON patch has a file of its own."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque.api.errors import ApiError
from barque.api.patch import merge_patch, strategic_merge
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
    ("patch", "why"),
    [
        (spec({"image": "x"}), "map: map[image:x] does not contain declared merge key: name"),
        (spec({"$patch": "delete"}), "map: map[$patch:delete] does not contain declared merge key: name"),
        ({"spec": {"containers": ["x"]}}, "expected a map with the declared merge key name, but received x"),
        ({"spec": {"$patch": "explode"}}, "unknown patch type: explode in map: map[$patch:explode]"),
        (spec({"$patch": "explode", "name": "a"}), "unknown patch type: explode in map: map[$patch:explode name:a]"),
        ({"spec": {"$retainKeys": ["a"], "nodeName": "n"}}, "invalid patch format of retainKeys"),
        ({"spec": {"$retainKeys": "a"}}, "invalid patch format of retainKeys"),
        ({"spec": {"$setElementOrder/containers": "a"}}, "invalid patch format of setElementOrder list"),
        ({"metadata": {"$deleteFromPrimitiveList/finalizers": "a"}}, "invalid patch format of primitive list"),
        ({"$frobnicate": 1}, "unknown directive $frobnicate in a strategic merge patch"),
        (
            spec({"name": "b"}, {"name": "a"}, **{"$setElementOrder/containers": [{"name": "a"}, {"name": "b"}]}),
            "The order in patch list:\n[map[name:b] map[name:a]]\n doesn't match $setElementOrder list:\n"
            "[map[name:a] map[name:b]]\n",
        ),
        (
            spec({"name": "b"}, **{"$setElementOrder/containers": [{"name": "a"}]}),
            "The order in patch list:\n[map[name:b]]\n doesn't match $setElementOrder list:\n[map[name:a]]\n",
        ),
    ],
)
def test_a_patch_that_makes_no_sense_is_a_bad_request(patch: Document, why: str) -> None:
    with pytest.raises(ApiError) as refusal:
        strategic_merge(Pod, spec({"name": "a"}), patch)
    assert (refusal.value.code, refusal.value.message) == (400, why)


def test_an_element_in_the_store_without_its_key_is_named_too() -> None:
    with pytest.raises(ApiError, match=r"map: map\[tty:true\] does not contain declared merge key: name"):
        strategic_merge(Pod, spec({"tty": True}), spec({"name": "a"}))


def test_nulls_and_directives_do_not_survive_in_what_is_new() -> None:
    patch = {"spec": {"affinity": {"nodeAffinity": None}, "tolerations": [{"key": "k", "value": None}]}}
    assert strategic_merge(Pod, {}, patch) == {"spec": {"affinity": {}, "tolerations": [{"key": "k"}]}}


def test_a_new_element_comes_first_where_the_patch_gives_no_order() -> None:
    current = spec({"name": "a"}, {"name": "b"})
    assert names(strategic_merge(Pod, current, spec({"name": "new"}))) == ["new", "a", "b"]
    assert names(strategic_merge(Pod, current, spec({"name": "b"}, {"name": "new"}))) == ["a", "b", "new"]
    assert names(strategic_merge(Pod, current, spec({"name": "b"}, {"name": "a"}))) == ["b", "a"]


def test_the_order_directive_places_new_elements() -> None:
    patch = spec({"name": "new"}, **{"$setElementOrder/containers": [{"name": n} for n in ("a", "new", "b")]})
    assert names(strategic_merge(Pod, spec({"name": "a"}, {"name": "x"}, {"name": "b"}), patch)) == [
        "a",
        "new",
        "x",
        "b",
    ]


def names(pod: Document) -> list[str]:
    return [container["name"] for container in pod["spec"]["containers"]]


def test_a_deletion_and_a_replacement_in_one_list() -> None:
    current = spec({"name": "a", "tty": True}, {"name": "b"})
    patch = spec({"$patch": "replace"}, {"$patch": "delete", "name": "b"}, {"name": "a"})
    assert strategic_merge(Pod, current, patch) == spec({"name": "a"})


def test_an_explicit_merge_is_a_merge() -> None:
    current = spec({"name": "a", "tty": True})
    patch = spec({"$patch": "merge", "name": "a", "stdin": True}, **{"$patch": "merge"})
    assert strategic_merge(Pod, current, patch) == spec({"name": "a", "tty": True, "stdin": True})


def test_a_volume_changes_its_source() -> None:
    current = {"spec": {"volumes": [{"name": "v", "configMap": {"name": "c", "defaultMode": 420}}]}}
    volume = {"$retainKeys": ["name", "secret"], "name": "v", "secret": {"secretName": "s"}}
    patched = strategic_merge(Pod, current, {"spec": {"volumes": [volume]}})
    assert patched == {"spec": {"volumes": [{"name": "v", "secret": {"secretName": "s"}}]}}


DNS_TCP = {"name": "tcp", "port": 53, "protocol": "TCP"}
DNS_UDP = {"name": "udp", "port": 53, "protocol": "UDP"}


def ports(*entries: Document) -> Document:
    return {"spec": {"ports": list(entries)}}


def test_one_port_number_with_two_protocols() -> None:
    assert strategic_merge(Service, ports(DNS_TCP), ports(DNS_TCP, DNS_UDP)) == ports(DNS_TCP, DNS_UDP)
    both = ports(DNS_TCP, DNS_UDP)
    assert strategic_merge(Service, both, ports({**DNS_UDP, "name": "dns"})) == ports(
        DNS_TCP, {**DNS_UDP, "name": "dns"}
    )
    gone = {"$patch": "delete", "port": 53, "protocol": "TCP"}
    assert strategic_merge(Service, both, ports(gone)) == ports(DNS_UDP)
    assert strategic_merge(Service, both, ports({"$patch": "delete", "port": 53})) == ports()


def test_a_port_changes_its_protocol() -> None:
    old = {"port": 80, "protocol": "TCP", "nodePort": 30080}
    assert strategic_merge(Service, ports(old), ports({"port": 80, "protocol": "UDP"})) == ports(
        {**old, "protocol": "UDP"}
    )


def test_a_port_of_a_new_protocol_takes_no_port_that_the_patch_means_otherwise() -> None:
    patch = ports({"port": 53, "protocol": "SCTP"}, {"port": 53, "protocol": "UDP"})
    patched = strategic_merge(Service, ports(DNS_UDP, DNS_TCP), patch)
    assert patched == ports({**DNS_TCP, "protocol": "SCTP"}, DNS_UDP)


def test_a_patch_without_protocol_means_tcp() -> None:
    current = ports(DNS_UDP, DNS_TCP)
    patched = strategic_merge(Service, current, ports({"port": 53, "targetPort": 5353}))
    assert patched == ports(DNS_UDP, {**DNS_TCP, "targetPort": 5353})


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


@given(PODS, PODS)
def test_a_strategic_patch_brings_what_it_says_and_changes_no_argument(current: Document, patch: Document) -> None:
    before = copy.deepcopy((current, patch))
    once = strategic_merge(Pod, current, patch)
    assert holds(patch, once)
    assert strategic_merge(Pod, once, patch) == once
    assert (current, patch) == before
