"""A pod that uses every part of the spec and is right in all of them, and how to plant one change in it."""

from __future__ import annotations

import copy
from typing import Any

from barque.api import resources
from barque.api.decode import convert
from barque.api.defaults import apply_defaults
from barque.api.types.core_v1 import Pod

PODS = resources.by_plural("", "pods")
REMOVED = object()

_CONTAINER: dict[str, Any] = {
    "name": "main",
    "image": "web:1",
    "ports": [{"containerPort": 80, "name": "http", "hostPort": 8080}, {"containerPort": 81, "name": "admin"}],
    "env": [
        {"name": "PLAIN", "value": "x"},
        {"name": "FIELD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['example.com/app']"}}},
        {"name": "AMOUNT", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
        {"name": "KEY", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
        {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        {"name": "FILE", "valueFrom": {"fileKeyRef": {"volumeName": "scratch", "path": "a/env", "key": "K"}}},
    ],
    "envFrom": [{"prefix": "P_", "configMapRef": {"name": "c"}}, {"secretRef": {"name": "s"}}],
    "volumeMounts": [
        {"name": "scratch", "mountPath": "/scratch", "subPath": "a/b"},
        {"name": "config", "mountPath": "/config", "readOnly": True, "recursiveReadOnly": "Enabled"},
        {"name": "scratch", "mountPath": "/more", "subPathExpr": "$(PLAIN)", "mountPropagation": "HostToContainer"},
    ],
    "volumeDevices": [{"name": "claim", "devicePath": "/dev/x"}],
    "resources": {
        "requests": {"cpu": "500m", "memory": "64Mi", "example.com/gpu": "2"},
        "limits": {"cpu": "1", "memory": "64Mi", "example.com/gpu": "2", "hugepages-2Mi": "4Mi"},
        "claims": [{"name": "device", "request": "one"}],
    },
    "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"}],
    "livenessProbe": {"httpGet": {"port": "http", "httpHeaders": [{"name": "X-A", "value": "b"}]}},
    "readinessProbe": {"tcpSocket": {"port": 80}, "successThreshold": 2},
    "startupProbe": {"grpc": {"port": 81}, "terminationGracePeriodSeconds": 5},
    "lifecycle": {"postStart": {"exec": {"command": ["x"]}}, "preStop": {"sleep": {"seconds": 5}}},
    "securityContext": {
        "runAsUser": 1000,
        "runAsGroup": 1000,
        "allowPrivilegeEscalation": False,
        "capabilities": {"add": ["NET_ADMIN"]},
        "procMount": "Default",
        "seccompProfile": {"type": "Localhost", "localhostProfile": "profiles/a.json"},
        "appArmorProfile": {"type": "RuntimeDefault"},
    },
    "restartPolicy": "OnFailure",
    "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}],
}

_VOLUMES: list[dict[str, Any]] = [
    {"name": "scratch", "emptyDir": {"sizeLimit": "1Gi"}},
    {"name": "config", "configMap": {"name": "c", "items": [{"key": "k", "path": "a/b", "mode": 0o400}]}},
    {"name": "claim", "persistentVolumeClaim": {"claimName": "data"}},
    {"name": "secret", "secret": {"secretName": "s", "defaultMode": 0o400}},
    {"name": "host", "hostPath": {"path": "/var", "type": "Directory"}},
    {
        "name": "own",
        "ephemeral": {
            "volumeClaimTemplate": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            }
        },
    },
    {"name": "image", "image": {"reference": "data:1"}},
    {
        "name": "downward",
        "downwardAPI": {
            "items": [
                {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
                {"path": "cpu", "resourceFieldRef": {"containerName": "main", "resource": "limits.cpu"}},
            ]
        },
    },
    {
        "name": "projected",
        "projected": {
            "sources": [
                {"secret": {"name": "s", "items": [{"key": "k", "path": "s"}]}},
                {"configMap": {"name": "c", "items": [{"key": "k", "path": "c"}]}},
                {"downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}},
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 600}},
                {"clusterTrustBundle": {"signerName": "example.com/ca", "path": "ca", "labelSelector": {}}},
                {"podCertificate": {"signerName": "example.com/x", "keyType": "ED25519", "keyPath": "key"}},
            ]
        },
    },
    {"name": "nfs", "nfs": {"server": "nfs.example.com", "path": "/"}},
    {"name": "iscsi", "iscsi": {"targetPortal": "10.0.0.1:3260", "iqn": "iqn.2001-04.com.example:a", "lun": 0}},
    {"name": "csi", "csi": {"driver": "Driver.example.com", "nodePublishSecretRef": {"name": "s"}}},
    {"name": "fc", "fc": {"targetWWNs": ["50060e801049cfd1"], "lun": 0}},
    {"name": "flex", "flexVolume": {"driver": "example.com/lvm", "options": {"size": "1"}}},
    {"name": "azure", "azureDisk": {"diskName": "d", "diskURI": "https://d.blob", "kind": "Dedicated"}},
]

_SPEC: dict[str, Any] = {
    "containers": [_CONTAINER, {"name": "helper", "image": "web:2"}],
    "initContainers": [
        {"name": "prepare", "image": "web:1", "command": ["true"]},
        {
            "name": "sidecar",
            "image": "web:1",
            "restartPolicy": "Always",
            "startupProbe": {"exec": {"command": ["x"]}},
            "lifecycle": {"preStop": {"exec": {"command": ["x"]}}},
        },
    ],
    "volumes": _VOLUMES,
    "resourceClaims": [{"name": "device", "resourceClaimName": "gpu"}],
    "resources": {"requests": {"cpu": "4"}, "limits": {"cpu": "4", "memory": "1Gi"}},
    "overhead": {"cpu": "10m"},
    "restartPolicy": "Always",
    "dnsPolicy": "None",
    "dnsConfig": {
        "nameservers": ["1.1.1.1", "2001:db8::1"],
        "searches": ["example.com", "_tcp.example.com.", "."],
        "options": [{"name": "ndots", "value": "2"}],
    },
    "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["db.example.com"]}],
    "hostname": "web-0",
    "subdomain": "web",
    "nodeSelector": {"disk": "ssd"},
    "securityContext": {
        "fsGroup": 2000,
        "fsGroupChangePolicy": "OnRootMismatch",
        "supplementalGroups": [3000],
        "supplementalGroupsPolicy": "Strict",
        "seLinuxChangePolicy": "Recursive",
        "sysctls": [{"name": "net.core.somaxconn", "value": "1024"}, {"name": "kernel/shm_rmid_forced", "value": "1"}],
        "seccompProfile": {"type": "RuntimeDefault"},
    },
    "imagePullSecrets": [{"name": "registry"}],
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {
                        "matchExpressions": [
                            {"key": "zone", "operator": "In", "values": ["a", "b"]},
                            {"key": "cores", "operator": "Gt", "values": ["4"]},
                        ],
                        "matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["n9"]}],
                    }
                ]
            },
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 1, "preference": {"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}}
            ],
        },
        "podAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {
                    "topologyKey": "zone",
                    "labelSelector": {"matchLabels": {"app": "db"}},
                    "namespaces": ["data"],
                    "namespaceSelector": {},
                    "matchLabelKeys": ["release"],
                    "mismatchLabelKeys": ["tenant"],
                }
            ]
        },
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 100, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname"}}
            ]
        },
    },
    "tolerations": [
        {"operator": "Exists"},
        {"key": "k", "value": "v", "effect": "NoExecute", "tolerationSeconds": 5},
    ],
    "topologySpreadConstraints": [
        {
            "topologyKey": "zone",
            "maxSkew": 1,
            "whenUnsatisfiable": "DoNotSchedule",
            "minDomains": 2,
            "nodeAffinityPolicy": "Honor",
            "labelSelector": {"matchLabels": {"app": "web"}},
            "matchLabelKeys": ["pod-template-hash"],
        }
    ],
    "readinessGates": [{"conditionType": "example.com/ready"}],
    "schedulingGates": [{"name": "example.com/quota"}],
    "serviceAccountName": "robot",
    "priorityClassName": "high",
    "runtimeClassName": "kata",
    "preemptionPolicy": "Never",
    "priority": 7,
    "activeDeadlineSeconds": 600,
}


def full_document() -> dict[str, Any]:
    return {"metadata": {"name": "web", "namespace": "default"}, "spec": copy.deepcopy(_SPEC)}


def build(document: dict[str, Any]) -> Pod:
    """The pod as the registry would judge it: decoded and defaulted."""
    pod = convert(document, PODS)
    assert isinstance(pod, Pod)
    apply_defaults(pod)
    return pod


def planted(changes: dict[str, Any]) -> Pod:
    """The full pod with these fields of its spec changed: `containers/0/image` leads to one; REMOVED takes one
    away, and `~` stands for a slash in a name."""
    document = full_document()
    for path, value in changes.items():
        *above, last = (part.replace("~", "/") for part in path.split("/"))
        holder: Any = document["spec"]
        for part in above:
            holder = holder[int(part)] if isinstance(holder, list) else holder.setdefault(part, {})
        if value is REMOVED:
            del holder[int(last) if isinstance(holder, list) else last]
        elif isinstance(holder, list):
            if int(last) == len(holder):
                holder.append(value)
            else:
                holder[int(last)] = value
        else:
            holder[last] = value
    return build(document)
