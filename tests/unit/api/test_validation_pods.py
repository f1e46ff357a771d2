"""Pods as the registry judges them: in Kubernetes' words, and by what this version can do. Workloads, too."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from barque.api import resources
from barque.api.decode import convert
from barque.api.defaults import apply_defaults
from barque.api.shapes import shape_of
from barque.api.types.apps_v1 import DeploymentStrategy
from barque.api.types.core_v1 import Pod, Toleration
from barque.api.types.meta_v1 import LabelSelector, LabelSelectorRequirement
from barque.api.validation import validate, validate_status_update, validate_update
from barque.api.validation.support import ONLY, SUPPORTED
from tests.support.builders import a_deployment, a_pod, a_replica_set

UNSUPPORTED = "Forbidden: barque does not support this field yet"
PODS = resources.by_plural("", "pods")


def pod(container: dict[str, Any] | None = None, **spec: Any) -> Pod:
    """A pod from a manifest's spec; `container` adds to its only container."""
    document = {
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"containers": [{"name": "main", "image": "web:1", **(container or {})}], **spec},
    }
    built = convert(document, PODS)
    assert isinstance(built, Pod)
    apply_defaults(built)
    return built


def faults(obj: Any) -> list[str]:
    return [str(fault) for fault in validate(obj)]


def container_faults(**container: Any) -> list[str]:
    """The faults of a container, without the path to it."""
    return [fault.removeprefix("spec.containers[0].") for fault in faults(pod(container, volumes=[{"name": "v"}]))]


def paths(found: list[str]) -> list[str]:
    return [fault.split(": ")[0] for fault in found]


def test_a_full_pod_of_what_is_supported_passes() -> None:
    full = pod(
        {
            "command": ["sh"],
            "args": ["-c", "true"],
            "workingDir": "/",
            "stdin": False,
            "tty": False,
            "securityContext": {},
            "ports": [{"containerPort": 80, "name": "http"}],
            "env": [
                {"name": "A", "value": "x"},
                {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k", "optional": True}}},
                {"name": "C", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                {"name": "D", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['example.com/app']"}}},
                {"name": "E", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "F", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['Note']"}}},
            ],
            "envFrom": [{"prefix": "P_", "configMapRef": {"name": "c"}}, {"secretRef": {"name": "s"}}],
            "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}},
            "volumeMounts": [
                {"name": "c", "mountPath": "/etc/c", "readOnly": True},
                {"name": "tmp", "mountPath": "/tmp"},
            ],
            "livenessProbe": {"httpGet": {"port": "http", "httpHeaders": [{"name": "X-A", "value": "b"}]}},
            "readinessProbe": {"tcpSocket": {"port": 80}, "initialDelaySeconds": 1, "successThreshold": 2},
        },
        volumes=[
            {"name": "c", "configMap": {"name": "c", "items": [{"key": "k", "path": "a/b"}], "optional": True}},
            {"name": "s", "secret": {"secretName": "s", "defaultMode": 0o400}},
            {"name": "tmp", "emptyDir": {"medium": "Memory"}},
        ],
        tolerations=[{"operator": "Exists"}, {"key": "k", "value": "v", "effect": "NoExecute", "tolerationSeconds": 5}],
        nodeSelector={"disk": "ssd"},
        nodeName="n1",
        schedulerName="mine",
        serviceAccountName="default",
        automountServiceAccountToken=False,
        hostNetwork=False,
        priority=0,
        restartPolicy="OnFailure",
    )
    assert faults(full) == []


def test_every_fault_is_listed_with_its_whole_path() -> None:
    bad = pod(restartPolicy="Sometimes", nodeName="N1", terminationGracePeriodSeconds=-1, hostUsers=False)
    bad.spec.containers[0].name = ""
    bad.spec.containers[0].image = ""
    found = faults(bad)
    assert [fault for fault in found if "nodeName" not in fault] == [
        "spec.containers[0].name: Required value",
        "spec.containers[0].image: Required value",
        'spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"',
        "spec.terminationGracePeriodSeconds: Invalid value: -1: must be greater than or equal to 0",
        f"spec.hostUsers: {UNSUPPORTED}",
    ]
    assert len(found) == 6
    assert faults(pod(containers=[])) == ["spec.containers: Required value"]


def test_a_field_that_is_wrong_and_unsupported_is_named_once() -> None:
    assert faults(pod(hostname="Web")) == [
        'spec.hostname: Invalid value: "Web": a lowercase RFC 1123 label must consist of lower case alphanumeric '
        "characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', "
        "regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
    ]


def test_a_new_pod_has_no_debuggers() -> None:
    debugged = pod(ephemeralContainers=[{"name": "debug", "image": "busybox:1"}])
    assert "spec.ephemeralContainers: Forbidden: cannot be set on create" in faults(debugged)
    assert "cannot be set on create" not in str(validate_update(debugged, debugged))


# --- what is refused


@pytest.mark.parametrize(
    "spec",
    [
        {"hostUsers": False},
        {"os": {"name": "linux"}},
        {"overhead": {"cpu": "1"}},
        {"runtimeClassName": "kata"},
        {"topologySpreadConstraints": [{"topologyKey": "x", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}]},
    ],
    ids=lambda spec: next(iter(spec)),
)
def test_pod_fields_without_behaviour_are_refused(spec: dict[str, Any]) -> None:
    assert faults(pod(**spec)) == [f"spec.{next(iter(spec))}: {UNSUPPORTED}"]


def test_what_the_scheduler_heeds_is_accepted() -> None:
    term = {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}
    affinity = {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]},
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 5, "preference": term}],
        }
    }
    asks = {"requests": {"ephemeral-storage": "1Gi"}}
    critical = {"priorityClassName": "system-node-critical", "priority": 2_000_001_000}
    assert faults(pod({"resources": asks}, affinity=affinity, schedulingGates=[{"name": "x"}], **critical)) == []
    beside = {"podAffinityTerm": {"topologyKey": "zone", "labelSelector": {}}, "weight": 1}
    pods = {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [beside]}}
    assert faults(pod(affinity=pods)) == [f"spec.affinity.podAffinity: {UNSUPPORTED}"]
    assert paths(faults(pod(priority=5, priorityClassName="high"))) == ["spec.priority", "spec.priorityClassName"]


@pytest.mark.parametrize(
    ("container", "path"),
    [
        ({"securityContext": {"seLinuxOptions": {"level": "s0"}}}, "securityContext.seLinuxOptions"),
        ({"securityContext": {"appArmorProfile": {"type": "Unconfined"}}}, "securityContext.appArmorProfile"),
        (
            {"volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": True, "recursiveReadOnly": "Enabled"}]},
            "volumeMounts[0].recursiveReadOnly",
        ),
        ({"volumeDevices": [{"name": "v", "devicePath": "/v"}]}, "volumeDevices"),
        ({"resources": {"claims": [{"name": "x"}]}}, "resources.claims"),
    ],
)
def test_container_fields_without_behaviour_are_refused(container: dict[str, Any], path: str) -> None:
    assert [fault for fault in container_faults(**container) if UNSUPPORTED in fault] == [f"{path}: {UNSUPPORTED}"]


def test_values_without_behaviour_are_refused() -> None:
    strict = pod(securityContext={"supplementalGroupsPolicy": "Strict"})
    assert faults(strict) == [
        "spec.securityContext.supplementalGroupsPolicy: Forbidden: barque supports only Merge here yet"
    ]
    volumes = [
        {"name": "a", "hostPath": {"path": "/"}},
        {"name": "b", "projected": {"sources": [{"clusterTrustBundle": {"name": "t", "path": "t"}}]}},
        {"name": "c", "emptyDir": {"medium": "HugePages"}},
        {"name": "d", "csi": {"driver": "example.com"}},
    ]
    assert paths(faults(pod(volumes=volumes))) == [
        "spec.volumes[1].projected.sources[0].clusterTrustBundle",
        "spec.volumes[2].emptyDir.medium",
        "spec.volumes[3].csi",
    ]


def test_refusals_reach_into_templates() -> None:
    deployment = a_deployment().build()
    assert deployment.spec.template is not None
    assert deployment.spec.template.spec is not None
    deployment.spec.template.spec.runtimeClassName = "kata"
    assert faults(deployment) == [f"spec.template.spec.runtimeClassName: {UNSUPPORTED}"]


def test_a_status_is_never_refused() -> None:
    assert faults(a_pod().ready().with_status(nominatedNodeName="n2", resize="x").build()) == []


def test_the_table_of_supported_fields_names_real_fields() -> None:
    for struct, names in SUPPORTED.items():
        assert names <= set(shape_of(struct)), struct
    for struct, name in ONLY:
        assert name in shape_of(struct), (struct, name)


# --- updates


def test_a_pods_spec_is_fixed_but_for_a_few_fields() -> None:
    old = pod()
    new = copy.deepcopy(old)
    new.spec.containers[0].image = "web:2"
    new.spec.tolerations = [Toleration(key="k", operator="Exists")]
    new.metadata.labels = {"a": "b"}
    assert validate_update(new, old) == []
    moved = copy.deepcopy(old)
    moved.spec.nodeName = "n1"
    assert [str(fault) for fault in validate_update(moved, old)] == [
        "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
        "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing "
        "tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
        '\n+ nodeName: "n1"'
    ]
    fewer = copy.deepcopy(new)
    fewer.spec.tolerations = []
    assert [fault.path for fault in validate_update(fewer, new)] == ["spec.tolerations"]
    more = copy.deepcopy(old)
    more.spec.containers.append(copy.copy(more.spec.containers[0]))
    more.spec.containers[1].name = "b"
    assert [str(fault) for fault in validate_update(more, old)] == [
        "spec.containers: Forbidden: pod updates may not add or remove containers"
    ]


def test_a_pods_status_is_judged() -> None:
    good = a_pod().ready().build()
    assert validate_status_update(good, good) == []
    bad = a_pod().ready().phase("Dancing").build()
    bad.status.containerStatuses[0].restartCount = -1
    assert [fault.path for fault in validate_status_update(bad, good)] == [
        "status.phase",
        "status.containerStatuses[0].restartCount",
    ]


# --- workloads


def test_a_deployments_selector_matches_its_template() -> None:
    assert faults(a_deployment("web").with_spec(selector=LabelSelector(matchLabels={"app": "db"})).build()) == [
        'spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`'
    ]
    assert faults(a_deployment().with_spec(selector=None).build()) == ["spec.selector: Required value"]
    assert faults(a_deployment().with_spec(selector=LabelSelector()).build()) == [
        "spec.selector: Invalid value: {}: empty selector is invalid for deployment"
    ]
    expressions = [
        LabelSelectorRequirement(key="a", operator="In"),
        LabelSelectorRequirement(key="a", operator="Exists", values=["x"]),
        LabelSelectorRequirement(key="a b", operator="Near"),
    ]
    assert paths(faults(a_replica_set().with_spec(selector=LabelSelector(matchExpressions=expressions)).build())) == [
        "spec.selector.matchExpressions[0].values",
        "spec.selector.matchExpressions[1].values",
        "spec.selector.matchExpressions[2].key",
        "spec.selector.matchExpressions[2].operator",
    ]


def test_a_template_is_validated_as_a_pod() -> None:
    bad = a_deployment().image("").template_labels(x="not ok").build()
    assert bad.spec.template is not None
    assert bad.spec.template.spec is not None
    bad.spec.template.spec.restartPolicy = "Never"
    assert [fault for fault in faults(bad) if "labels" not in fault] == [
        "spec.template.spec.containers[0].image: Required value",
        'spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"',
    ]
    assert "spec.template.metadata.labels" in paths(faults(bad))


def test_an_empty_deployment_says_all_it_lacks() -> None:
    assert faults(a_deployment().with_spec(selector=None, template=None).build()) == [
        "spec.selector: Required value",
        "spec.template.spec.containers: Required value",
    ]


def test_counts_are_not_negative_and_deadlines_longer_than_patience() -> None:
    bad = a_deployment().replicas(-1).min_ready(-1).with_spec(revisionHistoryLimit=2**31).build()
    assert paths(faults(bad)) == ["spec.replicas", "spec.minReadySeconds", "spec.revisionHistoryLimit"]
    assert faults(a_deployment().min_ready(600).build()) == [
        "spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds"
    ]


@pytest.mark.parametrize(
    ("surge", "unavailable", "fault"),
    [
        (0, 0, "maxUnavailable"),
        ("0%", 0, "maxUnavailable"),
        (1, "101%", "maxUnavailable"),
        ("a lot", 1, "maxSurge"),
        ("5", 1, "maxSurge"),
        (-1, 1, "maxSurge"),
        ("200%", 0, ""),
        (0, "100%", ""),
    ],
)
def test_rolling_updates(surge: int | str, unavailable: int | str, fault: str) -> None:
    found = faults(a_deployment().rolling(surge, unavailable).build())
    assert paths(found) == ([f"spec.strategy.rollingUpdate.{fault}"] if fault else [])


def test_strategies() -> None:
    assert faults(a_deployment().recreating().build()) == []
    assert paths(faults(a_deployment().with_spec(strategy=DeploymentStrategy(type="Big")).build())) == [
        "spec.strategy.type"
    ]
    mixed = a_deployment().rolling().build()
    assert mixed.spec.strategy is not None
    mixed.spec.strategy.type = "Recreate"
    assert faults(mixed) == [
        "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"
    ]


def test_a_workload_keeps_its_selector() -> None:
    for builder in (a_deployment, a_replica_set):
        old = builder("web").build()
        new = builder("web").selecting(app="other").build()
        assert [str(fault) for fault in validate_update(new, old)] == [
            'spec.selector: Invalid value: {"matchLabels":{"app":"other"}}: field is immutable'
        ]


def test_a_workloads_status_counts() -> None:
    bad = a_deployment().has(-1).build()
    assert [fault.path for fault in validate_status_update(bad, a_deployment().build())] == ["status.replicas"]
