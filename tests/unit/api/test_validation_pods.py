"""Validation of pods and workloads, and what this version refuses."""

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
    bad = pod(restartPolicy="Sometimes", nodeName="N1", terminationGracePeriodSeconds=-1)
    bad.spec.containers[0].name = ""
    bad.spec.containers[0].image = ""
    assert faults(bad) == [
        "spec.containers[0].name: Required value",
        "spec.containers[0].image: Required value",
        'spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "Never", "OnFailure"',
        "spec.terminationGracePeriodSeconds: Invalid value: -1: must be greater than or equal to 0",
        *[fault for fault in faults(bad) if fault.startswith("spec.nodeName: Invalid value")],
    ]
    assert faults(pod(containers=[])) == ["spec.containers: Required value"]


def test_names_within_a_pod_are_unique() -> None:
    twice = pod(
        containers=[
            {"name": "a", "image": "x", "ports": [{"containerPort": 80, "name": "http"}]},
            {"name": "a", "image": "x", "ports": [{"containerPort": 81, "name": "http"}]},
        ],
        volumes=[{"name": "v"}, {"name": "v"}],
    )
    assert faults(twice) == [
        'spec.volumes[1].name: Duplicate value: "v"',
        'spec.containers[1].name: Duplicate value: "a"',
        'spec.containers[1].ports[0].name: Duplicate value: "http"',
    ]


def test_ports_and_environment() -> None:
    assert container_faults(ports=[{"containerPort": 70000, "name": "HTTP", "protocol": "ICMP"}]) == [
        'ports[0].name: Invalid value: "HTTP": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)',
        'ports[0].name: Invalid value: "HTTP": must contain at least one letter (a-z)',
        "ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        'ports[0].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"',
    ]
    env = [
        {"name": ""},
        {"name": "A=B"},
        {"name": "C", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "spec.hostname"}}},
        {"name": "D", "valueFrom": {}},
        {"name": "E", "valueFrom": {"configMapKeyRef": {"name": "c"}, "secretKeyRef": {"key": "k"}}},
    ]
    assert paths(container_faults(env=env)) == [
        "env[0].name",
        "env[1].name",
        "env[2].valueFrom.fieldRef.fieldPath",
        "env[2].valueFrom",
        "env[3].valueFrom",
        "env[4].valueFrom",
        "env[4].valueFrom.configMapKeyRef.key",
        "env[4].valueFrom.secretKeyRef.name",
    ]
    sources = [{}, {"configMapRef": {"name": "c"}, "secretRef": {"name": "s"}}, {"configMapRef": {}}]
    assert paths(container_faults(envFrom=sources)) == ["envFrom[0]", "envFrom[1]", "envFrom[2].configMapRef.name"]


def test_resources() -> None:
    assert container_faults(resources={"limits": {"cpu": "lots"}}) == [
        'resources.limits[cpu]: Invalid value: "lots": quantities must match the regular expression '
        "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        'resources.requests[cpu]: Invalid value: "lots": quantities must match the regular expression '
        "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
    ]
    assert container_faults(resources={"limits": {"cpu": "1"}, "requests": {"cpu": "1500m", "memory": "-1"}}) == [
        'resources.requests[memory]: Invalid value: "-1": must be greater than or equal to 0'
    ]
    assert container_faults(resources={"limits": {"cpu": "1"}, "requests": {"cpu": "1500m", "memory": "1"}}) == [
        'resources.requests: Invalid value: "1500m": must be less than or equal to cpu limit of 1'
    ]
    assert container_faults(resources={"requests": {"ephemeral-storage": "1Gi"}}) == [
        "resources.requests[ephemeral-storage]: Forbidden: barque supports only cpu and memory here yet"
    ]


def test_mounts_and_volumes() -> None:
    mounts = [
        {"name": "v", "mountPath": "/a"},
        {"name": "w", "mountPath": "/a"},
        {"name": "v", "mountPath": "relative"},
        {"name": "", "mountPath": ""},
        {"name": "v", "mountPath": "/a:b"},
    ]
    assert container_faults(volumeMounts=mounts) == [
        'volumeMounts[1].name: Not found: "w"',
        'volumeMounts[1].mountPath: Invalid value: "/a": must be unique',
        'volumeMounts[2].mountPath: Invalid value: "relative": must be an absolute path',
        "volumeMounts[3].name: Required value",
        "volumeMounts[3].mountPath: Required value",
        "volumeMounts[4].mountPath: Invalid value: \"/a:b\": must not contain ':'",
    ]
    volumes = [
        {"name": "a", "configMap": {}, "secret": {"secretName": "s"}},
        {"name": "B", "secret": {"defaultMode": 512}},
        {"name": "c", "configMap": {"name": "c", "items": [{"key": "k", "path": "../x"}, {"path": "/y", "mode": -1}]}},
        {"name": "d", "secret": {"secretName": "s", "items": [{"key": "k", "path": "..data"}, {"key": "k"}]}},
    ]
    assert paths(faults(pod(volumes=volumes))) == [
        "spec.volumes[0].secret",
        "spec.volumes[0].configMap.name",
        "spec.volumes[1].name",
        "spec.volumes[1].secret.secretName",
        "spec.volumes[1].secret.defaultMode",
        "spec.volumes[2].configMap.items[0].path",
        "spec.volumes[2].configMap.items[1].key",
        "spec.volumes[2].configMap.items[1].path",
        "spec.volumes[2].configMap.items[1].mode",
        "spec.volumes[3].secret.items[0].path",
        "spec.volumes[3].secret.items[1].path",
    ]


def test_probes() -> None:
    assert container_faults(livenessProbe={}) == ["livenessProbe: Required value: must specify a handler type"]
    assert container_faults(livenessProbe={"tcpSocket": {"port": 80}, "successThreshold": 2}) == [
        "livenessProbe.successThreshold: Invalid value: 2: must be 1"
    ]
    bad = {"exec": {}, "httpGet": {"scheme": "FTP", "httpHeaders": [{"name": "a b", "value": ""}]}, "periodSeconds": -1}
    assert paths(container_faults(readinessProbe=bad)) == [
        "readinessProbe.httpGet",
        "readinessProbe.periodSeconds",
        "readinessProbe.exec.command",
        "readinessProbe.httpGet.port",
        "readinessProbe.httpGet.scheme",
        "readinessProbe.httpGet.httpHeaders[0].name",
    ]


def test_tolerations() -> None:
    tolerations = [
        {"operator": "Equal"},
        {"key": "k", "operator": "Exists", "value": "v"},
        {"key": "k", "operator": "Near", "effect": "Never"},
        {"key": "k", "effect": "NoSchedule", "tolerationSeconds": 1},
    ]
    assert paths(faults(pod(tolerations=tolerations))) == [
        "spec.tolerations[0].operator",
        "spec.tolerations[1].value",
        "spec.tolerations[2].operator",
        "spec.tolerations[2].effect",
        "spec.tolerations[3].effect",
    ]


# --- what is refused


@pytest.mark.parametrize(
    "spec",
    [
        {"initContainers": [{"name": "i", "image": "x"}]},
        {"hostNetwork": True},
        {"hostPID": True},
        {"hostUsers": False},
        {"affinity": {"nodeAffinity": {}}},
        {"topologySpreadConstraints": [{"topologyKey": "x", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}]},
        {"imagePullSecrets": [{"name": "s"}]},
        {"hostname": "h"},
        {"subdomain": "s"},
        {"dnsConfig": {"nameservers": ["1.1.1.1"]}},
        {"priority": 5},
        {"priorityClassName": "high"},
        {"runtimeClassName": "kata"},
        {"activeDeadlineSeconds": 5},
        {"readinessGates": [{"conditionType": "x"}]},
        {"schedulingGates": [{"name": "x"}]},
        {"shareProcessNamespace": True},
        {"hostAliases": [{"ip": "1.1.1.1"}]},
    ],
    ids=lambda spec: next(iter(spec)),
)
def test_pod_fields_without_behaviour_are_refused(spec: dict[str, Any]) -> None:
    assert faults(pod(**spec)) == [f"spec.{next(iter(spec))}: {UNSUPPORTED}"]


@pytest.mark.parametrize(
    ("container", "path"),
    [
        ({"startupProbe": {"tcpSocket": {"port": 1}}}, "startupProbe"),
        ({"lifecycle": {"preStop": {"exec": {"command": ["x"]}}}}, "lifecycle"),
        ({"securityContext": {"privileged": True}}, "securityContext.privileged"),
        ({"securityContext": {"allowPrivilegeEscalation": False}}, "securityContext.allowPrivilegeEscalation"),
        ({"tty": True}, "tty"),
        ({"stdin": True}, "stdin"),
        ({"ports": [{"containerPort": 80, "hostPort": 80}]}, "ports[0].hostPort"),
        ({"ports": [{"containerPort": 80, "hostIP": "1.1.1.1"}]}, "ports[0].hostIP"),
        (
            {"env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}]},
            "env[0].valueFrom.resourceFieldRef",
        ),
        ({"livenessProbe": {"grpc": {"port": 1}}}, "livenessProbe.grpc"),
        (
            {"livenessProbe": {"exec": {"command": ["x"]}, "terminationGracePeriodSeconds": 1}},
            "livenessProbe.terminationGracePeriodSeconds",
        ),
        ({"volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "x"}]}, "volumeMounts[0].subPath"),
        ({"volumeDevices": [{"name": "v", "devicePath": "/v"}]}, "volumeDevices"),
        ({"restartPolicy": "Always"}, "restartPolicy"),
        ({"resources": {"claims": [{"name": "x"}]}}, "resources.claims"),
    ],
)
def test_container_fields_without_behaviour_are_refused(container: dict[str, Any], path: str) -> None:
    assert container_faults(**container) == [f"{path}: {UNSUPPORTED}"]


def test_values_without_behaviour_are_refused() -> None:
    assert faults(pod(dnsPolicy="Default")) == ["spec.dnsPolicy: Forbidden: barque supports only ClusterFirst here yet"]
    assert faults(pod(securityContext={"runAsUser": 1})) == [f"spec.securityContext.runAsUser: {UNSUPPORTED}"]
    assert container_faults(terminationMessagePath="/x") == [
        "terminationMessagePath: Forbidden: barque supports only /dev/termination-log here yet"
    ]
    assert paths(faults(pod(serviceAccountName="robot"))) == ["spec.serviceAccount", "spec.serviceAccountName"]
    volumes = [
        {"name": "a", "hostPath": {"path": "/"}},
        {"name": "b", "emptyDir": {"sizeLimit": "1Gi"}},
        {"name": "c", "emptyDir": {"medium": "HugePages"}},
        {"name": "d", "csi": {"driver": ""}},
    ]
    assert paths(faults(pod(volumes=volumes))) == [
        "spec.volumes[0].hostPath",
        "spec.volumes[1].emptyDir.sizeLimit",
        "spec.volumes[2].emptyDir.medium",
        "spec.volumes[3].csi",
    ]


def test_refusals_reach_into_templates() -> None:
    deployment = a_deployment().build()
    assert deployment.spec.template is not None
    assert deployment.spec.template.spec is not None
    deployment.spec.template.spec.hostNetwork = True
    assert faults(deployment) == [f"spec.template.spec.hostNetwork: {UNSUPPORTED}"]


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


def test_a_pods_status_names_its_own_containers() -> None:
    good = a_pod().ready().build()
    assert validate_status_update(good, good) == []
    bad = a_pod().ready().phase("Dancing").build()
    bad.status.containerStatuses[0].name = "other"
    assert [fault.path for fault in validate_status_update(bad, good)] == [
        "status.phase",
        "status.containerStatuses[0].name",
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
