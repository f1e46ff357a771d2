"""Defaults of the whole pod spec; pods of real API servers are in test_defaults_published."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest

from barque.api import resources
from barque.api.decode import convert
from barque.api.defaults import apply_defaults
from barque.api.defaults.pods import default_template
from barque.api.types.core_v1 import Pod, PodTemplateSpec

PODS = resources.by_plural("", "pods")


def defaulted(spec: dict[str, Any], metadata: dict[str, Any] | None = None) -> dict[str, Any]:
    """The pod with its defaults, as JSON; settles at the first go."""
    pod = convert({"metadata": metadata or {"name": "web"}, "spec": copy.deepcopy(spec)}, PODS)
    apply_defaults(pod)
    again = copy.deepcopy(pod)
    apply_defaults(again)
    assert again == pod
    document: dict[str, Any] = msgspec.to_builtins(pod)
    return document


def container(**fields: Any) -> dict[str, Any]:
    """The only container of a pod, defaulted."""
    spec = {"containers": [{"name": "main", "image": "web:1", **fields}]}
    found: dict[str, Any] = defaulted(spec)["spec"]["containers"][0]
    return found


def volume(**source: Any) -> dict[str, Any]:
    spec = {"containers": [], "volumes": [{"name": "v", **source}]}
    found: dict[str, Any] = defaulted(spec)["spec"]["volumes"][0]
    return {name: value for name, value in found.items() if name != "name"}


def test_all_three_lists_of_containers_have_defaults() -> None:
    named = {"name": "c", "image": "web"}
    spec = defaulted({"containers": [named], "initContainers": [named], "ephemeralContainers": [named]})["spec"]
    for found in (*spec["containers"], *spec["initContainers"], *spec["ephemeralContainers"]):
        assert found == {
            **named,
            "imagePullPolicy": "Always",
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
        }


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("web", "Always"),
        ("web:latest", "Always"),
        ("registry:5000/web", "Always"),
        ("web:1", "IfNotPresent"),
        ("registry:5000/team/web:1", "IfNotPresent"),
        ("web@sha256:0123", "IfNotPresent"),
        ("web:latest@sha256:0123", "Always"),
        ("", "IfNotPresent"),
    ],
)
def test_pull_policies_follow_from_the_image(image: str, policy: str) -> None:
    assert container(image=image)["imagePullPolicy"] == policy
    assert volume(image={"reference": image})["image"]["pullPolicy"] == policy


def test_probes_and_hooks() -> None:
    found = container(
        livenessProbe={"httpGet": {"port": 80}},
        readinessProbe={"tcpSocket": {"port": 80}, "periodSeconds": 3},
        startupProbe={"exec": {"command": ["true"]}, "failureThreshold": 30},
        lifecycle={"preStop": {"httpGet": {"port": 80}}, "postStart": {"exec": {"command": ["true"]}}},
    )
    numbers = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
    http = {"port": 80, "path": "/", "scheme": "HTTP"}
    assert found["livenessProbe"] == {"httpGet": http, **numbers}
    assert found["readinessProbe"] == {"tcpSocket": {"port": 80}, **numbers, "periodSeconds": 3}
    assert found["startupProbe"] == {"exec": {"command": ["true"]}, **numbers, "failureThreshold": 30}
    assert found["lifecycle"]["preStop"] == {"httpGet": http}


def test_the_downward_api() -> None:
    env = [
        {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "B", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
        {"name": "C", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1000m"}}},
    ]
    assert [variable["valueFrom"] for variable in container(env=env)["env"]] == [
        {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}},
        {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "0"}},
        {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1"}},
    ]


def test_file_modes_and_tokens() -> None:
    items = [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]
    shown = [{"path": "n", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}]
    assert volume(secret={"secretName": "s"}) == {"secret": {"secretName": "s", "defaultMode": 0o644}}
    assert volume(configMap={"name": "c"}) == {"configMap": {"name": "c", "defaultMode": 0o644}}
    assert volume(configMap={"name": "c", "defaultMode": 0}) == {"configMap": {"name": "c", "defaultMode": 0}}
    assert volume(downwardAPI={"items": items}) == {"downwardAPI": {"items": shown, "defaultMode": 0o644}}
    sources = [{"serviceAccountToken": {"path": "t"}}, {"downwardAPI": {"items": items}}]
    assert volume(projected={"sources": sources}) == {
        "projected": {
            "defaultMode": 0o644,
            "sources": [
                {"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}},
                {"downwardAPI": {"items": shown}},
            ],
        }
    }


def test_volume_sources() -> None:
    assert volume() == {"emptyDir": {}}
    assert volume(emptyDir={"sizeLimit": "1024Mi"}) == {"emptyDir": {"sizeLimit": "1Gi"}}
    assert volume(hostPath={"path": "/"}) == {"hostPath": {"path": "/", "type": ""}}
    claim = {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1024Mi"}}}}
    spec = volume(ephemeral={"volumeClaimTemplate": claim})["ephemeral"]["volumeClaimTemplate"]["spec"]
    assert spec["volumeMode"] == "Filesystem"
    assert spec["resources"] == {"requests": {"storage": "1Gi"}}
    target = {"targetPortal": "10.0.0.1", "iqn": "iqn.2001-04.com.example:a", "lun": 0}
    assert volume(iscsi=target) == {"iscsi": {**target, "iscsiInterface": "default"}}
    assert volume(rbd={"monitors": ["m"], "image": "i"})["rbd"] == {
        "monitors": ["m"],
        "image": "i",
        "pool": "rbd",
        "user": "admin",
        "keyring": "/etc/ceph/keyring",
    }
    scale_io = volume(scaleIO={"gateway": "g", "system": "s"})["scaleIO"]
    assert scale_io == {"gateway": "g", "system": "s", "storageMode": "ThinProvisioned", "fsType": "xfs"}
    assert volume(azureDisk={"diskName": "d", "diskURI": "https://d"})["azureDisk"] == {
        "diskName": "d",
        "diskURI": "https://d",
        "cachingMode": "ReadWrite",
        "kind": "Shared",
        "fsType": "ext4",
        "readOnly": False,
    }


def test_amounts_are_canonical_and_no_finer_than_a_thousandth() -> None:
    found = container(resources={"limits": {"cpu": "0.0001", "memory": "1024Mi"}, "requests": {"cpu": 0.5}})
    assert found["resources"]["limits"] == {"cpu": "1m", "memory": "1Gi"}
    assert defaulted({"containers": [], "overhead": {"cpu": "1000u"}})["spec"]["overhead"] == {"cpu": "1m"}


def test_requests_follow_limits_in_pods_alone() -> None:
    limited = {"name": "c", "image": "web:1", "resources": {"limits": {"cpu": "1"}}}
    spec = {"containers": [limited], "initContainers": [limited]}
    found = defaulted(spec)["spec"]
    for name in ("containers", "initContainers"):
        assert found[name][0]["resources"] == {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}
    template = msgspec.to_builtins(default_template(msgspec.convert({"spec": spec}, PodTemplateSpec)))
    assert template["spec"]["containers"][0]["resources"] == {"limits": {"cpu": "1"}}
    assert "enableServiceLinks" not in template["spec"]


def test_ports_of_the_hosts_network() -> None:
    ports = [{"containerPort": 80}, {"containerPort": 81, "hostPort": 82}]
    spec = {"hostNetwork": True, "containers": [{"name": "c", "image": "web:1", "ports": ports}]}
    found = defaulted(spec)["spec"]["containers"][0]["ports"]
    assert [port["hostPort"] for port in found] == [80, 82]
    assert "hostPort" not in defaulted({**spec, "hostNetwork": False})["spec"]["containers"][0]["ports"][0]


def test_what_admission_gives_is_not_given_here() -> None:
    found = defaulted({"containers": [], "topologySpreadConstraints": [{"topologyKey": "k", "maxSkew": 1}]})["spec"]
    for name in ("priority", "preemptionPolicy", "tolerations", "serviceAccountName"):
        assert name not in found
    assert set(found["topologySpreadConstraints"][0]) == {"topologyKey", "maxSkew", "whenUnsatisfiable"}


@pytest.mark.parametrize(
    ("whole", "containers", "requests", "limits"),
    [
        # Limits of the pod alone: the containers' requests, else the limit itself.
        (
            {"limits": {"cpu": "2", "memory": "1Gi"}},
            {"requests": {"cpu": "500m"}},
            {"cpu": "500m", "memory": "1Gi"},
            {},
        ),
        # Requests of the pod alone: limited by what its containers are.
        ({"requests": {"cpu": "2"}}, {"limits": {"cpu": "3"}}, {"cpu": "2"}, {"cpu": "3"}),
        ({"requests": {"cpu": "2"}}, {}, {"cpu": "2"}, {}),
        # Huge pages are limited where they are asked for.
        (
            {"limits": {"cpu": "1"}},
            {"limits": {"hugepages-2Mi": "4Mi"}},
            {"cpu": "1", "hugepages-2Mi": "4Mi"},
            {"hugepages-2Mi": "4Mi"},
        ),
        ({}, {"limits": {"cpu": "3"}}, {}, {}),
        ({"limits": {"cpu": "lots"}}, {}, {"cpu": "lots"}, {}),
    ],
)
def test_pod_level_resources(
    whole: dict[str, Any], containers: dict[str, Any], requests: dict[str, str], limits: dict[str, str]
) -> None:
    only = {"name": "c", "image": "web:1", "resources": containers}
    found = defaulted({"containers": [only], "resources": whole})["spec"]["resources"]
    assert found.get("requests", {}) == requests
    assert found.get("limits", {}) == {**whole.get("limits", {}), **limits}


def test_nonsense_is_left_for_validation() -> None:
    pod = msgspec.convert({"spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "lots"}}}]}}, Pod)
    apply_defaults(pod)
    assert pod.spec.containers[0].resources is not None
    assert pod.spec.containers[0].resources.limits == {"cpu": "lots"}
    assert pod.status.qosClass == ""
