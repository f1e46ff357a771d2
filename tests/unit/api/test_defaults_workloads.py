"""Defaults of workloads, Jobs, endpoints and priorities, where no published object shows them."""

from __future__ import annotations

from typing import Any

import pytest

from barque.api import codec
from barque.api.defaults import DEFAULTS, apply_defaults
from barque.api.defaults.jobs import select_own_pods
from barque.api.types.base import Object
from barque.api.types.batch_v1 import CronJob, Job
from barque.api.types.core_v1 import Endpoints, PodTemplate, ReplicationController, Service
from barque.api.types.discovery_v1 import EndpointSlice
from barque.api.types.scheduling_v1 import PriorityClass

KINDS = {kind.__name__: kind for kind in DEFAULTS}


def defaulted(kind: type[Object], **fields: Any) -> dict[str, Any]:
    obj = codec.from_document(kind, fields)
    apply_defaults(obj)
    return codec.to_document(obj)


def spec_of(kind: str, **spec: Any) -> dict[str, Any]:
    found: dict[str, Any] = defaulted(KINDS[kind], spec=spec)["spec"]
    return found


@pytest.mark.parametrize(
    ("kind", "field", "written", "stored"),
    [
        (
            "Deployment",
            "strategy",
            {"type": "RollingUpdate"},
            {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
        ),
        ("Deployment", "strategy", {"type": "Recreate"}, {"type": "Recreate"}),
        (
            "DaemonSet",
            "updateStrategy",
            {"rollingUpdate": {"maxUnavailable": "10%"}},
            {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": "10%"}},
        ),
        ("DaemonSet", "updateStrategy", {"type": "OnDelete"}, {"type": "OnDelete"}),
        (
            "StatefulSet",
            "updateStrategy",
            {},
            {"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": 1}},
        ),
        ("StatefulSet", "updateStrategy", {"type": "RollingUpdate"}, {"type": "RollingUpdate"}),
        (
            "StatefulSet",
            "updateStrategy",
            {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}},
            {"type": "RollingUpdate", "rollingUpdate": {"partition": 2, "maxUnavailable": 1}},
        ),
        ("StatefulSet", "updateStrategy", {"type": "OnDelete"}, {"type": "OnDelete"}),
        (
            "StatefulSet",
            "persistentVolumeClaimRetentionPolicy",
            {"whenScaled": "Delete"},
            {"whenDeleted": "Retain", "whenScaled": "Delete"},
        ),
    ],
)
def test_how_workloads_update(kind: str, field: str, written: dict[str, Any], stored: dict[str, Any]) -> None:
    assert spec_of(kind, **{field: written})[field] == stored


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ({}, {"completions": 1, "parallelism": 1, "backoffLimit": 6, "podReplacementPolicy": "TerminatingOrFailed"}),
        ({"parallelism": 2}, {"parallelism": 2, "completions": None}),
        ({"completions": 0}, {"parallelism": 1, "completions": 0}),
        ({"backoffLimitPerIndex": 1}, {"backoffLimit": 2**31 - 1}),
        ({"backoffLimitPerIndex": 1, "backoffLimit": 3}, {"backoffLimit": 3}),
        ({"podFailurePolicy": {"rules": []}}, {"podReplacementPolicy": "Failed"}),
        ({"suspend": True, "manualSelector": True}, {"suspend": True, "manualSelector": True}),
    ],
)
def test_jobs(written: dict[str, Any], stored: dict[str, Any]) -> None:
    spec = spec_of("Job", **written)
    assert {name: spec.get(name) for name in stored} == stored


def test_a_condition_that_a_failure_policy_names_is_true() -> None:
    rules = [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}, {"type": "X", "status": "False"}]}]
    written = {"podFailurePolicy": {"rules": rules}}
    for spec in (spec_of("Job", **written), spec_of("CronJob", jobTemplate={"spec": written})["jobTemplate"]["spec"]):
        conditions = spec["podFailurePolicy"]["rules"][0]["onPodConditions"]
        assert [condition["status"] for condition in conditions] == ["True", "False"]


def test_a_job_is_labelled_as_its_pods_and_selects_by_its_uid() -> None:
    job = codec.from_document(Job, {"metadata": {"name": "j", "uid": "u"}})
    select_own_pods(job)
    apply_defaults(job)
    labels = {
        "batch.kubernetes.io/controller-uid": "u",
        "controller-uid": "u",
        "batch.kubernetes.io/job-name": "j",
        "job-name": "j",
    }
    document = codec.to_document(job)
    assert document["metadata"]["labels"] == document["spec"]["template"]["metadata"]["labels"] == labels
    assert document["spec"]["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}}
    by_hand = codec.from_document(Job, {"metadata": {"name": "j", "uid": "u"}, "spec": {"manualSelector": True}})
    select_own_pods(by_hand)
    assert by_hand.spec.selector is None
    assert by_hand.spec.template is None


def test_a_cron_jobs_history_may_be_nought() -> None:
    spec = defaulted(CronJob, spec={"successfulJobsHistoryLimit": 0, "failedJobsHistoryLimit": 0})["spec"]
    assert (spec["successfulJobsHistoryLimit"], spec["failedJobsHistoryLimit"]) == (0, 0)
    assert spec["concurrencyPolicy"] == "Allow"


def test_a_replication_controller_takes_its_pods_labels() -> None:
    template = {"metadata": {"labels": {"app": "web"}}}
    found = defaulted(ReplicationController, spec={"template": template})
    assert found["metadata"]["labels"] == found["spec"]["selector"] == {"app": "web"}
    assert found["spec"]["replicas"] == 1
    own = defaulted(
        ReplicationController, metadata={"labels": {"a": "b"}}, spec={"selector": {"c": "d"}, "template": template}
    )
    assert (own["metadata"]["labels"], own["spec"]["selector"]) == ({"a": "b"}, {"c": "d"})


def test_a_pod_template() -> None:
    spec = defaulted(PodTemplate, template={"spec": {"containers": [{"name": "c", "image": "web"}]}})["template"][
        "spec"
    ]
    assert (spec["restartPolicy"], spec["containers"][0]["imagePullPolicy"]) == ("Always", "Always")
    assert "enableServiceLinks" not in spec


def test_endpoints_and_their_slices() -> None:
    ports = [{"port": 80}, {"port": 53, "protocol": "UDP"}]
    subset = defaulted(Endpoints, subsets=[{"ports": ports}])["subsets"][0]
    assert [port["protocol"] for port in subset["ports"]] == ["TCP", "UDP"]
    assert defaulted(EndpointSlice, ports=[{"port": 80}])["ports"] == [{"name": "", "port": 80, "protocol": "TCP"}]


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        (
            {"sessionAffinity": "ClientIP"},
            {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}}},
        ),
        (
            {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}},
            {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}},
        ),
        ({"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}}, {"sessionAffinityConfig": None}),
        (
            {"type": "ExternalName", "externalName": "example.com"},
            {"internalTrafficPolicy": None, "externalTrafficPolicy": None},
        ),
        ({"externalIPs": ["192.0.2.1"]}, {"externalTrafficPolicy": "Cluster"}),
        ({"ports": [{"port": 80, "targetPort": ""}]}, {"ports": [{"port": 80, "targetPort": 80, "protocol": "TCP"}]}),
    ],
)
def test_services(written: dict[str, Any], stored: dict[str, Any]) -> None:
    spec = defaulted(Service, spec=written)["spec"]
    assert {name: spec.get(name) for name in stored} == stored


def test_priority_classes() -> None:
    found = defaulted(PriorityClass, metadata={"name": "p"}, value=5)
    assert (found["value"], found["preemptionPolicy"]) == (5, "PreemptLowerPriority")
    assert defaulted(PriorityClass, value=5, preemptionPolicy="Never")["preemptionPolicy"] == "Never"
