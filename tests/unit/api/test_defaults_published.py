"""Objects that real API servers returned: they need no more defaults, grow back from what was written, and are valid.

`published/` has one to a file, its source above it. Left out are nulls, empty `resources`, managedFields and most of
what the server alone sets; nothing is added. Where the object carries the manifest that kubectl applied, it must come
from that; every object must come from itself without what a server fills in.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import yaml

from barque.api import codec
from barque.api.defaults import DEFAULTS, apply_defaults
from barque.api.defaults.jobs import select_own_pods
from barque.api.defaults.networking import default_address
from barque.api.types.batch_v1 import Job
from barque.api.types.core_v1 import Service
from barque.api.validation import validate, validate_status_update, validate_update

PUBLISHED = {path.stem: path for path in sorted((Path(__file__).parent / "published").glob("*.yaml"))}
KINDS = {kind.__name__: kind for kind in DEFAULTS}
APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

# What a server fills in, by field; such a value can be left out of a manifest.
FILLED_IN: dict[str, tuple[Any, ...]] = {
    "allocateLoadBalancerNodePorts": (True,),
    "apiVersion": ("v1",),
    "backoffLimit": (6,),
    "completionMode": ("NonIndexed",),
    "completions": (1,),
    "concurrencyPolicy": ("Allow",),
    "defaultMode": (0o644,),
    "dnsPolicy": ("ClusterFirst",),
    "enableServiceLinks": (True,),
    "externalTrafficPolicy": ("Cluster",),
    "failedJobsHistoryLimit": (1,),
    "failureThreshold": (3,),
    "finalizers": (["kubernetes"],),
    "internalTrafficPolicy": ("Cluster",),
    "ipFamilies": (["IPv4"],),
    "ipFamilyPolicy": ("SingleStack",),
    "ipMode": ("VIP",),
    "loadBalancer": ({},),
    "manualSelector": (False,),
    "metadata": ({},),
    "parallelism": (1,),
    "periodSeconds": (10,),
    "phase": ("Active", "Pending"),
    "podManagementPolicy": ("OrderedReady",),
    "podReplacementPolicy": ("TerminatingOrFailed",),
    "progressDeadlineSeconds": (600,),
    "protocol": ("TCP",),
    "replicas": (1,),
    "restartPolicy": ("Always",),
    "revisionHistoryLimit": (10,),
    "schedulerName": ("default-scheduler",),
    "scheme": ("HTTP",),
    "securityContext": ({},),
    "sessionAffinity": ("None",),
    "strategy": ({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},),
    "successThreshold": (1,),
    "successfulJobsHistoryLimit": (3,),
    "suspend": (False,),
    "terminationGracePeriodSeconds": (30,),
    "terminationMessagePath": ("/dev/termination-log",),
    "terminationMessagePolicy": ("File",),
    "timeoutSeconds": (1,),
    "type": ("", "ClusterIP"),
    "updateStrategy": (
        {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
        {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
    ),
    "volumeMode": ("Filesystem",),
}
# These follow from other fields, so their values are the server's to find again.
DERIVED = ("allocatable", "clusterIPs", "imagePullPolicy", "qosClass", "serviceAccount")
# What somebody wrote although it is what follows from other fields, or is not.
WRITTEN: dict[str, tuple[str, ...]] = {"daemonset-gadget": ("imagePullPolicy",)}
# What a status that nobody has written yet shows nevertheless.
UNWRITTEN = (
    {"replicas": 0},
    {"currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0},
)
# What servers fill in that are newer than the one which returned the object.
LATER: dict[str, dict[str, Any]] = {
    "namespace-kube-system": {"metadata": {"labels": {"kubernetes.io/metadata.name": "kube-system"}}},
    "service-balanced": {"status": {"loadBalancer": {"ingress": [{"ipMode": "VIP"}]}}},
    "statefulset-nginx": {
        "spec": {
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
            "updateStrategy": {"rollingUpdate": {"maxUnavailable": 1}},
            "volumeClaimTemplates": [{"apiVersion": "v1", "kind": "PersistentVolumeClaim"}],
        }
    },
}


def published(name: str) -> dict[str, Any]:
    """The object as it was returned, with what a server of today fills in besides."""
    document: dict[str, Any] = yaml.safe_load(PUBLISHED[name].read_text())
    return overlaid(document, LATER.get(name, {}))


def overlaid(value: Any, addition: Any) -> Any:
    if isinstance(addition, dict):
        return {**value, **{name: overlaid(value.get(name, {}), below) for name, below in addition.items()}}
    if isinstance(addition, list):
        return [overlaid(element, below) for element, below in zip(value, addition, strict=True)]
    return addition


def defaulted(document: dict[str, Any], *, made_by_server: dict[str, Any] | None = None) -> dict[str, Any]:
    """The document with its defaults; `made_by_server` lends the identity that a Job's selector is made of."""
    obj: Any = codec.from_document(KINDS[document["kind"]], document)
    if made_by_server is not None and isinstance(obj, Job):
        obj.metadata.uid = made_by_server["metadata"]["uid"]
        select_own_pods(obj)
    apply_defaults(obj)
    if isinstance(obj, Service):
        default_address(obj)
    again = copy.deepcopy(obj)
    apply_defaults(again)
    assert again == obj
    return {name: value for name, value in codec.to_document(obj).items() if value not in ({}, [], *UNWRITTEN)}


def as_written(document: dict[str, Any], derived: Collection[str] = DERIVED) -> dict[str, Any]:
    """A manifest from which a server could have made this object."""
    root = {name: document[name] for name in ("apiVersion", "kind", "metadata")}
    rest = {name: value for name, value in document.items() if name not in root}
    return {**root, **without_filled_in(rest, derived, requests_follow=document["kind"] == "Pod")}


def without_filled_in(value: Any, derived: Collection[str], *, requests_follow: bool) -> Any:
    """`requests_follow` says whether limits are taken for requests, as in pods but not in templates of them."""
    if isinstance(value, list):
        return [without_filled_in(element, derived, requests_follow=requests_follow) for element in value]
    if not isinstance(value, dict):
        return value
    kept = {
        name: without_filled_in(below, derived, requests_follow=requests_follow)
        for name, below in value.items()
        if name not in derived and below not in FILLED_IN.get(name, ())
    }
    if requests_follow and "limits" in kept and "requests" in kept:
        kept["requests"] = {n: a for n, a in kept["requests"].items() if kept["limits"].get(n) != a}
    return kept


def allocated(document: dict[str, Any]) -> dict[str, Any]:
    """What is handed out to a Service and stands in no manifest."""
    spec = document["spec"]
    return {"clusterIP": spec["clusterIP"]} if document["kind"] == "Service" else {}


def test_most_kinds_have_been_seen() -> None:
    """A kind is missing where no server's answer was found that says anything about it."""
    seen = {published(name)["kind"] for name in PUBLISHED}
    bindings = {"ClusterRoleBinding", "RoleBinding"}
    assert KINDS.keys() - seen == {"PodTemplate", "PriorityClass", "ReplicationController", "Secret"} | bindings


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_a_server_returned_needs_nothing_more(name: str) -> None:
    assert defaulted(published(name)) == published(name)


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_a_server_filled_in_grows_back(name: str) -> None:
    returned = published(name)
    written = as_written(returned, [field for field in DERIVED if field not in WRITTEN.get(name, ())])
    assert written != returned
    # The amounts that a node has are what it may give, unless it says otherwise.
    if returned["kind"] == "Node":
        returned["status"]["allocatable"] = returned["status"]["capacity"]
    assert defaulted(written) == returned


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_a_server_has_accepted_is_valid(name: str) -> None:
    """Only Barque's own gate, which names itself, may refuse some of it."""
    obj: Any = codec.from_document(KINDS[published(name)["kind"]], published(name))
    assert [fault for fault in validate(obj) if "barque" not in fault.message] == []
    assert validate_update(obj, obj) == validate(obj)
    assert validate_status_update(obj, obj) == []


@pytest.mark.parametrize("name", [name for name in PUBLISHED if APPLIED in PUBLISHED[name].read_text()])
def test_what_was_applied_becomes_what_the_server_returned(name: str) -> None:
    returned = published(name)
    applied = json.loads(returned["metadata"]["annotations"][APPLIED])
    applied.setdefault("spec", {}).update(allocated(returned))
    grown = defaulted(applied, made_by_server=returned)
    assert grown["spec"] == returned["spec"]
    assert grown["metadata"].get("labels") == returned["metadata"].get("labels")
    assert grown.get("status") == returned.get("status")
