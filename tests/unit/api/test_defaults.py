"""Defaults are Kubernetes', fill only what is unset, and settle at once."""

from __future__ import annotations

import base64
import copy
from typing import Any

import msgspec
import pytest

from barque.api import resources
from barque.api.decode import convert
from barque.api.defaults import apply_defaults
from barque.api.types import apps_v1, core_v1
from tests.support.builders import a_node, a_replica_set, a_service, an_endpoint_slice


def defaulted(kind: str, document: dict[str, Any], api_version: str = "v1") -> dict[str, Any]:
    """The document with its defaults, as JSON; settles at the first go."""
    obj = convert(document, resources.by_kind(api_version, kind))
    apply_defaults(obj)
    again = copy.deepcopy(obj)
    apply_defaults(again)
    assert again == obj
    result: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(obj))
    return result


CONTAINER = {"name": "main", "image": "web:1"}
CONTAINER_DEFAULTS = {
    "imagePullPolicy": "IfNotPresent",
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
}
SPEC_DEFAULTS = {
    "restartPolicy": "Always",
    "dnsPolicy": "ClusterFirst",
    "schedulerName": "default-scheduler",
    "securityContext": {},
    "terminationGracePeriodSeconds": 30,
}


def test_a_pod() -> None:
    assert defaulted("Pod", {"spec": {"containers": [CONTAINER]}}) == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {},
        "spec": {"containers": [{**CONTAINER, **CONTAINER_DEFAULTS}], "enableServiceLinks": True, **SPEC_DEFAULTS},
        "status": {"phase": "Pending", "qosClass": "BestEffort"},
    }


def test_what_is_set_stays() -> None:
    spec = {
        "containers": [{**CONTAINER, "imagePullPolicy": "Never"}],
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "enableServiceLinks": False,
        "schedulerName": "mine",
    }
    result = defaulted("Pod", {"spec": spec})["spec"]
    assert {name: result[name] for name in spec if name != "containers"} == {
        k: v for k, v in spec.items() if k != "containers"
    }
    assert result["containers"][0]["imagePullPolicy"] == "Never"


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("web", "Always"),
        ("web:latest", "Always"),
        ("web:1", "IfNotPresent"),
        ("host:5000/web", "Always"),
        ("host:5000/web:1", "IfNotPresent"),
        ("web@sha256:0123", "IfNotPresent"),
        ("web:1@sha256:0123", "IfNotPresent"),
    ],
)
def test_images_without_a_fixed_version_are_always_pulled(image: str, policy: str) -> None:
    pod = defaulted("Pod", {"spec": {"containers": [{"name": "main", "image": image}]}})
    assert pod["spec"]["containers"][0]["imagePullPolicy"] == policy


def test_the_parts_of_a_container() -> None:
    container = {
        **CONTAINER,
        "ports": [{"containerPort": 80}],
        "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        "livenessProbe": {"httpGet": {"port": 80}},
        "readinessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 1},
        "resources": {"limits": {"cpu": 0.5, "memory": "1024Mi"}, "requests": {"cpu": "0.25"}},
    }
    result = defaulted("Pod", {"spec": {"containers": [container]}})["spec"]["containers"][0]
    timing = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
    assert result["ports"] == [{"containerPort": 80, "protocol": "TCP"}]
    assert result["env"][0]["valueFrom"]["fieldRef"] == {"apiVersion": "v1", "fieldPath": "status.podIP"}
    assert result["livenessProbe"] == {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, **timing}
    assert result["readinessProbe"] == {"exec": {"command": ["true"]}, **timing, "periodSeconds": 1}
    assert result["resources"] == {
        "limits": {"cpu": "500m", "memory": "1Gi"},
        "requests": {"cpu": "250m", "memory": "1Gi"},
    }


def test_volumes() -> None:
    volumes = [
        {"name": "a"},
        {"name": "b", "configMap": {"name": "c"}},
        {"name": "d", "secret": {"secretName": "s", "defaultMode": 256}},
    ]
    assert defaulted("Pod", {"spec": {"volumes": volumes}})["spec"]["volumes"] == [
        {"name": "a", "emptyDir": {}},
        {"name": "b", "configMap": {"name": "c", "defaultMode": 420}},
        {"name": "d", "secret": {"secretName": "s", "defaultMode": 256}},
    ]


def test_a_quantity_that_is_nonsense_is_left_for_validation() -> None:
    container = {**CONTAINER, "resources": {"limits": {"cpu": "lots"}}}
    pod = defaulted("Pod", {"spec": {"containers": [container]}})
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "lots"}


def test_a_deployment() -> None:
    result = defaulted("Deployment", {"spec": {"template": {"spec": {"containers": [CONTAINER]}}}}, "apps/v1")["spec"]
    assert result == {
        "replicas": 1,
        "revisionHistoryLimit": 10,
        "progressDeadlineSeconds": 600,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
        # enableServiceLinks is not a template's default: its pods get it.
        "template": {"metadata": {}, "spec": {"containers": [{**CONTAINER, **CONTAINER_DEFAULTS}], **SPEC_DEFAULTS}},
    }


def test_zero_is_a_value() -> None:
    spec = {
        "replicas": 0,
        "revisionHistoryLimit": 0,
        "strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
    }
    result = defaulted("Deployment", {"spec": spec}, "apps/v1")["spec"]
    assert (result["replicas"], result["revisionHistoryLimit"]) == (0, 0)
    assert result["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    recreate = defaulted("Deployment", {"spec": {"strategy": {"type": "Recreate"}}}, "apps/v1")["spec"]
    assert recreate["strategy"] == {"type": "Recreate"}


def test_a_replica_set() -> None:
    replica_set = apps_v1.ReplicaSet()
    apply_defaults(replica_set)
    assert replica_set.spec.replicas == 1
    assert a_replica_set().replicas(0).build().spec.replicas == 0
    assert replica_set.spec.template is not None
    assert replica_set.spec.template.spec is not None
    assert replica_set.spec.template.spec.restartPolicy == "Always"


def test_services() -> None:
    assert defaulted("Service", {"spec": {"ports": [{"port": 80}, {"port": 81, "targetPort": "http"}]}})["spec"] == {
        "type": "ClusterIP",
        "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster",
        "ports": [
            {"port": 80, "protocol": "TCP", "targetPort": 80},
            {"port": 81, "protocol": "TCP", "targetPort": "http"},
        ],
    }
    balancer = defaulted("Service", {"spec": {"type": "LoadBalancer"}})["spec"]
    assert (balancer["externalTrafficPolicy"], balancer["allocateLoadBalancerNodePorts"]) == ("Cluster", True)
    assert a_service().headless().build().spec.clusterIPs == ["None"]


def test_secrets_fold_string_data_in() -> None:
    result = defaulted("Secret", {"data": {"a": "b2xk", "b": "Yg=="}, "stringData": {"a": "new", "c": "ü"}})
    assert result["type"] == "Opaque"
    assert "stringData" not in result
    assert {key: base64.b64decode(value).decode() for key, value in result["data"].items()} == {
        "a": "new",
        "b": "b",
        "c": "ü",
    }


def test_namespaces() -> None:
    result = defaulted("Namespace", {"metadata": {"name": "lab"}})
    assert result["metadata"]["labels"] == {"kubernetes.io/metadata.name": "lab"}
    assert result["spec"] == {"finalizers": ["kubernetes"]}
    assert result["status"] == {"phase": "Active"}


def test_a_namespace_that_is_going_gets_no_finalizer_back() -> None:
    namespace = core_v1.Namespace()
    namespace.metadata.deletionTimestamp = "2026-01-01T00:00:00Z"
    apply_defaults(namespace)
    assert namespace.spec.finalizers == []


def test_nodes_and_endpoint_slices() -> None:
    node = a_node().capacity(cpu=4, memory="8192Mi").pod_cidr("10.244.1.0/24").build()
    assert node.status.allocatable == {"cpu": "4", "memory": "8Gi"}
    assert node.spec.podCIDRs == ["10.244.1.0/24"]
    assert an_endpoint_slice().port(80, protocol="").build().ports[0].protocol == "TCP"
