"""Every rule of containers: a pod right but for one planted fault has that fault alone, in Kubernetes' words."""

from __future__ import annotations

from typing import Any

import pytest

from barque.api.validation import pods
from tests.support.full_pod import REMOVED, planted
from tests.support.name_words import LABEL, QUALIFIED, SUBDOMAIN

C, M = "containers/0", "spec.containers[0]"
ONE_HANDLER = "Forbidden: may not specify more than 1 handler type"

# Where the fault is planted, what it is, and all that is said of it.
Plant = tuple[str, Any, str | list[str]]

CONTAINERS: list[Plant] = [
    ("containers", [], "spec.containers: Required value"),
    (f"{C}/name", "", f"{M}.name: Required value"),
    (f"{C}/name", "Main", f'{M}.name: Invalid value: "Main": {LABEL}'),
    (f"{C}/name", "a" * 64, f'{M}.name: Invalid value: "{"a" * 64}": must be no more than 63 characters'),
    ("containers/1/name", "main", 'spec.containers[1].name: Duplicate value: "main"'),
    ("initContainers/0/name", "main", 'spec.initContainers[0].name: Duplicate value: "main"'),
    ("initContainers/1/name", "prepare", 'spec.initContainers[1].name: Duplicate value: "prepare"'),
    (f"{C}/image", "", f"{M}.image: Required value"),
    (f"{C}/image", " web", f'{M}.image: Invalid value: " web": must not have leading or trailing whitespace'),
    (
        f"{C}/imagePullPolicy",
        "Often",
        f'{M}.imagePullPolicy: Unsupported value: "Often": supported values: "Always", "IfNotPresent", "Never"',
    ),
    (
        f"{C}/terminationMessagePolicy",
        "Log",
        f'{M}.terminationMessagePolicy: Unsupported value: "Log": supported values: "File", "FallbackToLogsOnError"',
    ),
    (f"{C}/ports/0/containerPort", 0, f"{M}.ports[0].containerPort: Required value"),
    (
        f"{C}/ports/0/containerPort",
        65536,
        f"{M}.ports[0].containerPort: Invalid value: 65536: must be between 1 and 65535, inclusive",
    ),
    (
        f"{C}/ports/0/hostPort",
        -1,
        f"{M}.ports[0].hostPort: Invalid value: -1: must be between 1 and 65535, inclusive",
    ),
    (
        f"{C}/ports/0/protocol",
        "ICMP",
        f'{M}.ports[0].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"',
    ),
    (
        f"{C}/ports/0/name",
        "a-name-much-too-long",
        f'{M}.ports[0].name: Invalid value: "a-name-much-too-long": must be no more than 15 characters',
    ),
    (f"{C}/ports/1/name", "http", f'{M}.ports[1].name: Duplicate value: "http"'),
    (f"{C}/ports/1/hostPort", 8080, f'{M}.ports[1].hostPort: Duplicate value: "TCP//8080"'),
    (
        "containers/1/ports",
        [{"containerPort": 1, "hostPort": 8080}],
        'spec.containers[1].ports[0].hostPort: Duplicate value: "TCP//8080"',
    ),
    (
        f"{C}/resizePolicy/1",
        {"resourceName": "cpu", "restartPolicy": "NotRequired"},
        f'{M}.resizePolicy[1]: Duplicate value: "cpu"',
    ),
    (
        f"{C}/resizePolicy/0/resourceName",
        "disk",
        f'{M}.resizePolicy[0].resourceName: Unsupported value: "disk": supported values: "cpu", "memory"',
    ),
    (f"{C}/resizePolicy/0/restartPolicy", "", f"{M}.resizePolicy[0].restartPolicy: Required value"),
    (
        f"{C}/restartPolicy",
        "",
        f"{M}.restartPolicy: Required value: must specify restartPolicy when restart rules are used",
    ),
    (
        f"{C}/restartPolicy",
        "Maybe",
        f'{M}.restartPolicy: Unsupported value: "Maybe": supported values: "Always", "Never", "OnFailure"',
    ),
    (
        f"{C}/restartPolicyRules/0/action",
        "Stop",
        f'{M}.restartPolicyRules[0].action: Unsupported value: "Stop": supported values: "Restart"',
    ),
    (
        f"{C}/restartPolicyRules/0/exitCodes",
        REMOVED,
        f"{M}.restartPolicyRules[0].exitCodes: Required value: must be specified",
    ),
    (
        f"{C}/restartPolicyRules/0/exitCodes/operator",
        "Is",
        f'{M}.restartPolicyRules[0].exitCodes.operator: Unsupported value: "Is": supported values: "In", "NotIn"',
    ),
    (
        f"{C}/restartPolicyRules/0/exitCodes/values",
        list(range(256)),
        f"{M}.restartPolicyRules[0].exitCodes.values: Too many: 256: must have at most 255 items",
    ),
    (
        f"{C}/restartPolicyRules",
        [{"action": "Restart", "exitCodes": {"operator": "In", "values": [1]}}] * 21,
        f"{M}.restartPolicyRules: Too many: 21: must have at most 20 items",
    ),
    (
        "initContainers/1/restartPolicyRules",
        [{"action": "Restart", "exitCodes": {"operator": "In", "values": [1]}}],
        "spec.initContainers[1].restartPolicyRules: Forbidden: restartPolicyRules are not allowed for init containers "
        "with restart policy Always",
    ),
    (
        "initContainers/0/livenessProbe",
        {"exec": {"command": ["x"]}},
        "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without "
        "restartPolicy=Always",
    ),
    (
        "initContainers/0/lifecycle",
        {"preStop": {"exec": {"command": ["x"]}}},
        "spec.initContainers[0].lifecycle: Forbidden: may not be set for init containers without restartPolicy=Always",
    ),
    (
        "initContainers/0/resizePolicy",
        [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}],
        'spec.initContainers[0].resizePolicy[0].restartPolicy: Invalid value: "RestartContainer": must not be set to '
        "'RestartContainer' for non-sidecar initContainers",
    ),
]

ENVIRONMENT: list[Plant] = [
    (f"{C}/env/0/name", "", f"{M}.env[0].name: Required value"),
    (
        f"{C}/env/0/name",
        "A=B",
        f'{M}.env[0].name: Invalid value: "A=B": a valid environment variable name must consist only of printable '
        "ASCII characters other than '='",
    ),
    (
        f"{C}/env/1/value",
        "x",
        f'{M}.env[1].valueFrom: Invalid value: "": may not be specified when `value` is not empty',
    ),
    (
        f"{C}/env/0/valueFrom",
        {},
        f'{M}.env[0].valueFrom: Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, '
        "`configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
    ),
    (
        f"{C}/env/3/valueFrom/secretKeyRef",
        {"name": "s", "key": "k"},
        f'{M}.env[3].valueFrom: Invalid value: "": may not have more than one field specified at a time',
    ),
    (
        f"{C}/env/1/valueFrom/fieldRef/fieldPath",
        "spec.hostname",
        f'{M}.env[1].valueFrom.fieldRef.fieldPath: Invalid value: "spec.hostname": error converting fieldPath: field '
        "label not supported: spec.hostname",
    ),
    (
        f"{C}/env/1/valueFrom/fieldRef/fieldPath",
        "status.phase",
        f'{M}.env[1].valueFrom.fieldRef.fieldPath: Unsupported value: "status.phase": supported values: '
        '"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", '
        '"status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"',
    ),
    (f"{C}/env/1/valueFrom/fieldRef/fieldPath", "", f"{M}.env[1].valueFrom.fieldRef.fieldPath: Required value"),
    (
        f"{C}/env/1/valueFrom/fieldRef/apiVersion",
        "v2",
        f"{M}.env[1].valueFrom.fieldRef.fieldPath: Invalid value: \"metadata.labels['example.com/app']\": error "
        "converting fieldPath: unsupported pod version: v2",
    ),
    (
        f"{C}/env/1/valueFrom/fieldRef/fieldPath",
        "spec.nodeName['a']",
        f"{M}.env[1].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.nodeName['a']\": error converting fieldPath: "
        "field label does not support subscript: spec.nodeName['a']",
    ),
    (
        f"{C}/env/1/valueFrom/fieldRef/fieldPath",
        "metadata.labels['-']",
        f'{M}.env[1].valueFrom.fieldRef: Invalid value: "-": {QUALIFIED}',
    ),
    (
        f"{C}/env/2/valueFrom/resourceFieldRef/resource",
        "",
        f"{M}.env[2].valueFrom.resourceFieldRef.resource: Required value",
    ),
    (
        f"{C}/env/2/valueFrom/resourceFieldRef/resource",
        "limits.disk",
        f'{M}.env[2].valueFrom.resourceFieldRef.resource: Unsupported value: "limits.disk": supported values: '
        '"limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", '
        '"requests.memory"',
    ),
    (
        f"{C}/env/2/valueFrom/resourceFieldRef/divisor",
        "3Mi",
        f'{M}.env[2].valueFrom.resourceFieldRef.divisor: Invalid value: "limits.memory": only divisor\'s values 1, 1k, '
        "1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the memory resource",
    ),
    (f"{C}/env/3/valueFrom/configMapKeyRef/key", "", f"{M}.env[3].valueFrom.configMapKeyRef.key: Required value"),
    (
        f"{C}/env/3/valueFrom/configMapKeyRef/key",
        "..",
        f"{M}.env[3].valueFrom.configMapKeyRef.key: Invalid value: \"..\": must not be '..'",
    ),
    (
        f"{C}/env/4/valueFrom/secretKeyRef/name",
        "S",
        f'{M}.env[4].valueFrom.secretKeyRef.name: Invalid value: "S": {SUBDOMAIN}',
    ),
    (f"{C}/env/5/valueFrom/fileKeyRef/key", "", f"{M}.env[5].valueFrom.fileKeyRef.key: Required value"),
    (f"{C}/env/5/valueFrom/fileKeyRef/path", "", f"{M}.env[5].valueFrom.fileKeyRef.path: Required value"),
    (
        f"{C}/env/5/valueFrom/fileKeyRef/path",
        "a/../b",
        f"{M}.env[5].valueFrom.fileKeyRef.path: Invalid value: \"a/../b\": must not contain '..'",
    ),
    (
        f"{C}/env/5/valueFrom/fileKeyRef/volumeName",
        "config",
        f'{M}.env[5].valueFrom.fileKeyRef.volumeName: Invalid value: "config": referenced volume must be of type '
        "emptyDir",
    ),
    (
        f"{C}/env/5/valueFrom/fileKeyRef/volumeName",
        "nowhere",
        f'{M}.env[5].valueFrom.fileKeyRef.volumeName: Not found: "nowhere"',
    ),
    (f"{C}/envFrom/0/configMapRef/name", "", f"{M}.envFrom[0].configMapRef.name: Required value"),
    (
        f"{C}/envFrom/2",
        {},
        f'{M}.envFrom[2]: Invalid value: "": must specify one of: `configMapRef` or `secretRef`',
    ),
    (
        f"{C}/envFrom/0/secretRef",
        {"name": "s"},
        f'{M}.envFrom[0]: Invalid value: "": may not have more than one field specified at a time',
    ),
]

MOUNTS: list[Plant] = [
    (f"{C}/volumeMounts/0/name", "", f"{M}.volumeMounts[0].name: Required value"),
    (f"{C}/volumeMounts/0/name", "nowhere", f'{M}.volumeMounts[0].name: Not found: "nowhere"'),
    (f"{C}/volumeMounts/0/mountPath", "", f"{M}.volumeMounts[0].mountPath: Required value"),
    (
        f"{C}/volumeMounts/0/mountPath",
        "/config",
        f'{M}.volumeMounts[1].mountPath: Invalid value: "/config": must be unique',
    ),
    (
        f"{C}/volumeMounts/0/mountPath",
        "scratch",
        f'{M}.volumeMounts[0].mountPath: Invalid value: "scratch": must be an absolute path',
    ),
    (
        f"{C}/volumeMounts/0/mountPath",
        "/a:b",
        f"{M}.volumeMounts[0].mountPath: Invalid value: \"/a:b\": must not contain ':'",
    ),
    (
        f"{C}/volumeMounts/0/subPath",
        "/a",
        f'{M}.volumeMounts[0].subPath: Invalid value: "/a": must be a relative path',
    ),
    (
        f"{C}/volumeMounts/0/subPath",
        "a/..",
        f"{M}.volumeMounts[0].subPath: Invalid value: \"a/..\": must not contain '..'",
    ),
    (
        f"{C}/volumeMounts/0/subPathExpr",
        "b",
        f'{M}.volumeMounts[0].subPathExpr: Invalid value: "b": subPathExpr and subPath are mutually exclusive',
    ),
    (
        f"{C}/volumeMounts/2/mountPropagation",
        "Bidirectional",
        f"{M}.volumeMounts[2].mountPropagation: Forbidden: Bidirectional mount propagation is available only to "
        "privileged containers",
    ),
    (
        f"{C}/volumeMounts/2/mountPropagation",
        "Up",
        f'{M}.volumeMounts[2].mountPropagation: Unsupported value: "Up": supported values: "Bidirectional", '
        '"HostToContainer", "None"',
    ),
    (
        f"{C}/volumeMounts/1/readOnly",
        False,
        f"{M}.volumeMounts[1].recursiveReadOnly: Forbidden: may only be specified when readOnly is true",
    ),
    (
        f"{C}/volumeMounts/1/mountPropagation",
        "HostToContainer",
        f"{M}.volumeMounts[1].recursiveReadOnly: Forbidden: may only be specified when mountPropagation is None or not "
        "specified",
    ),
    (
        f"{C}/volumeMounts/1/recursiveReadOnly",
        "Deep",
        f'{M}.volumeMounts[1].recursiveReadOnly: Unsupported value: "Deep": supported values: "Disabled", "Enabled", '
        '"IfPossible"',
    ),
    (f"{C}/volumeDevices/0/devicePath", "", f"{M}.volumeDevices[0].devicePath: Required value"),
    (
        f"{C}/volumeDevices/0/devicePath",
        "/dev/../x",
        f"{M}.volumeDevices[0].devicePath: Invalid value: \"/dev/../x\": can not contain backsteps ('..')",
    ),
    (
        f"{C}/volumeDevices/0/name",
        "host",
        f'{M}.volumeDevices[0].name: Invalid value: "host": can only use volume source type of PersistentVolumeClaim '
        "or Ephemeral for block mode",
    ),
    (f"{C}/volumeDevices/0/name", "nowhere", f'{M}.volumeDevices[0].name: Not found: "nowhere"'),
    (
        f"{C}/volumeDevices/1",
        {"name": "claim", "devicePath": "/dev/y"},
        f'{M}.volumeDevices[1].name: Invalid value: "claim": must be unique',
    ),
]

PROBES: list[Plant] = [
    (f"{C}/livenessProbe", {}, f"{M}.livenessProbe: Required value: must specify a handler type"),
    (f"{C}/livenessProbe/exec", {"command": ["x"]}, f"{M}.livenessProbe.httpGet: {ONE_HANDLER}"),
    (f"{C}/livenessProbe/tcpSocket", {"port": 80}, f"{M}.livenessProbe.tcpSocket: {ONE_HANDLER}"),
    (f"{C}/livenessProbe/successThreshold", 2, f"{M}.livenessProbe.successThreshold: Invalid value: 2: must be 1"),
    (f"{C}/startupProbe/successThreshold", 2, f"{M}.startupProbe.successThreshold: Invalid value: 2: must be 1"),
    (
        f"{C}/readinessProbe/periodSeconds",
        -1,
        f"{M}.readinessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0",
    ),
    (
        f"{C}/readinessProbe/terminationGracePeriodSeconds",
        5,
        f"{M}.readinessProbe.terminationGracePeriodSeconds: Invalid value: 5: must not be set for readinessProbes",
    ),
    (
        f"{C}/startupProbe/terminationGracePeriodSeconds",
        0,
        f"{M}.startupProbe.terminationGracePeriodSeconds: Invalid value: 0: must be greater than 0",
    ),
    (
        f"{C}/startupProbe/grpc/port",
        0,
        f"{M}.startupProbe.grpc.port: Invalid value: 0: must be between 1 and 65535, inclusive",
    ),
    (f"{C}/livenessProbe/httpGet/port", REMOVED, f"{M}.livenessProbe.httpGet.port: Required value"),
    (
        f"{C}/livenessProbe/httpGet/port",
        "no--name",
        f'{M}.livenessProbe.httpGet.port: Invalid value: "no--name": must not contain consecutive hyphens',
    ),
    (
        f"{C}/livenessProbe/httpGet/scheme",
        "FTP",
        f'{M}.livenessProbe.httpGet.scheme: Unsupported value: "FTP": supported values: "HTTP", "HTTPS"',
    ),
    (
        f"{C}/livenessProbe/httpGet/httpHeaders/0/name",
        "a b",
        f'{M}.livenessProbe.httpGet.httpHeaders[0].name: Invalid value: "a b": a valid HTTP header must consist of '
        "alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')",
    ),
    (f"{C}/lifecycle/postStart/exec", {}, f"{M}.lifecycle.postStart.exec.command: Required value"),
    (f"{C}/lifecycle/preStop", {}, f"{M}.lifecycle.preStop: Required value: must specify a handler type"),
    (
        f"{C}/lifecycle/preStop/sleep/seconds",
        31,
        f"{M}.lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than "
        "terminationGracePeriodSeconds (30)",
    ),
    (
        f"{C}/lifecycle/stopSignal",
        "SIGUSR1",
        f"{M}.lifecycle.stopSignal: Forbidden: may not be set for containers with empty `spec.os.name`",
    ),
]

PLANTS = [*CONTAINERS, *ENVIRONMENT, *MOUNTS, *PROBES]


def said(changes: dict[str, Any]) -> list[str]:
    return [str(fault) for fault in pods.check(planted(changes))]


@pytest.mark.parametrize(("where", "value", "fault"), PLANTS, ids=[f"{w}-{i}" for i, (w, *_) in enumerate(PLANTS)])
def test_one_fault_is_named_alone_and_exactly(where: str, value: Any, fault: str | list[str]) -> None:
    assert said({where: value}) == ([fault] if isinstance(fault, str) else fault)
