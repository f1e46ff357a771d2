"""What is remarked about objects that are accepted, in Kubernetes' words."""

from __future__ import annotations

from typing import Any

import pytest

from barque.api import codec, resources
from barque.api.defaults import apply_defaults
from barque.api.types import apps_v1, core_v1, discovery_v1
from barque.api.types.base import Object
from barque.api.warnings import about_changed, about_new, about_resource
from tests.support.builders import a_deployment, a_pod, a_service


def made(kind: type[Object], **fields: Any) -> Any:
    obj = codec.from_document(kind, {"metadata": {"name": "web"}, **fields})
    apply_defaults(obj)
    return obj


def about_spec(*, metadata: dict[str, Any] | None = None, **spec: Any) -> list[str]:
    """Of a pod with this spec."""
    spec = {"containers": [{"name": "main", "image": "web:1"}], **spec}
    return about_new(made(core_v1.Pod, metadata={"name": "web", **(metadata or {})}, spec=spec))


def about_container(**container: Any) -> list[str]:
    return about_spec(containers=[{"name": "main", "image": "web:1", **container}])


def about_service(**spec: Any) -> list[str]:
    return about_new(made(core_v1.Service, spec={"ports": [{"port": 80}], **spec}))


def test_of_plain_objects_nothing_is_said() -> None:
    for obj in (a_pod().build(), a_deployment().build(), a_service().port(80).build(), core_v1.ConfigMap()):
        assert about_new(obj) == []


@pytest.mark.parametrize(
    ("second", "warned"),
    [
        ({"name": "X", "value": "b"}, True),
        ({"name": "X", "value": "$(X)"}, True),
        ({"name": "X", "value": "$(X)/bin"}, False),
        ({"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}, True),
        ({"name": "Y", "value": "b"}, False),
    ],
)
def test_a_variable_that_hides_another(second: dict[str, Any], warned: bool) -> None:
    words = 'spec.containers[0].env[1]: hides previous definition of "X", which may be dropped when using apply'
    assert about_container(env=[{"name": "X", "value": "a"}, second]) == ([words] if warned else [])


@pytest.mark.parametrize(
    ("first", "second", "how"),
    [
        ({}, {}, "duplicate"),
        ({"name": "a"}, {"name": "b"}, "duplicate"),
        ({"hostPort": 80}, {}, "overlapping"),
        ({"hostPort": 80}, {"hostPort": 80, "hostIP": "10.0.0.1"}, "dangerously ambiguous"),
        ({"hostPort": 80, "hostIP": "10.0.0.2"}, {"hostPort": 80, "hostIP": "10.0.0.1"}, ""),
        ({"hostPort": 80}, {"hostPort": 81}, ""),
        ({}, {"protocol": "UDP"}, ""),
    ],
)
def test_ports_that_get_in_each_other_s_way(first: dict[str, Any], second: dict[str, Any], how: str) -> None:
    containers = [
        {"name": name, "image": "web:1", "ports": [{"containerPort": 80, **port}]}
        for name, port in (("a", first), ("b", second))
    ]
    words = f"spec.containers[1].ports[0]: {how} port definition with spec.containers[0].ports[0]"
    assert about_spec(containers=containers) == ([words] if how else [])


def test_an_address_of_the_host_without_its_port() -> None:
    assert about_container(ports=[{"name": "http", "containerPort": 80, "hostIP": "10.0.0.1"}]) == [
        "spec.containers[0].ports[0]: hostIP set without hostPort: "
        "{Name:http HostPort:0 ContainerPort:80 Protocol:TCP HostIP:10.0.0.1}"
    ]


OS = {"key": "beta.kubernetes.io/os", "operator": "In", "values": ["-"]}
OLD_OS = 'deprecated since v1.14; use "kubernetes.io/os" instead'
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


@pytest.mark.parametrize(
    ("spec", "warnings"),
    [
        ({"nodeSelector": {"a": "b", "beta.kubernetes.io/os": "linux"}}, [f"spec.nodeSelector[{OS['key']}]: {OLD_OS}"]),
        (
            {"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": [OS]}]}}}},
            [
                f"spec.affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms[0].matchExpressions[0].key: {OS['key']} is "
                f"{OLD_OS}"
            ],
        ),
        (
            {"topologySpreadConstraints": [{"topologyKey": "failure-domain.beta.kubernetes.io/zone"}]},
            [
                "spec.topologySpreadConstraints[0].topologyKey: failure-domain.beta.kubernetes.io/zone is deprecated "
                'since v1.17; use "topology.kubernetes.io/zone" instead',
                "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
            ],
        ),
        (
            {"affinity": {"podAntiAffinity": {PREFERRED: [{"weight": 1, "podAffinityTerm": {"topologyKey": "a"}}]}}},
            [
                f"spec.affinity.podAntiAffinity.{PREFERRED}[0].podAffinityTerm.labelSelector: a null labelSelector "
                "results in matching no pod"
            ],
        ),
        (
            {"terminationGracePeriodSeconds": -1},
            ["spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"],
        ),
        (
            {"imagePullSecrets": [{"name": "a"}, {"name": "a"}, {}]},
            [
                'spec.imagePullSecrets[1].name: duplicate name "a"',
                'spec.imagePullSecrets[2].name: invalid empty name ""',
            ],
        ),
        (
            {"hostAliases": [{"ip": "fd00::0:1"}, {"ip": "fd00::0:1"}]},
            [
                'spec.hostAliases[1].ip: duplicate ip "fd00::0:1"',
                *(
                    f'spec.hostAliases[{i}].ip: IPv6 address "fd00::0:1" should be in RFC 5952 canonical format '
                    '("fd00::1")'
                    for i in range(2)
                ),
            ],
        ),
    ],
)
def test_parts_of_a_pod(spec: dict[str, Any], warnings: list[str]) -> None:
    assert about_spec(**spec) == warnings


def test_a_preferred_node_that_cannot_be() -> None:
    affinity = {"nodeAffinity": {PREFERRED: [{"weight": 1, "preference": {"matchExpressions": [OS]}}]}}
    place = f"spec.affinity.nodeAffinity.{PREFERRED}[0].preference.matchExpressions[0]"
    old, bad = about_spec(affinity=affinity)
    assert old == f"{place}.key: beta.kubernetes.io/os is {OLD_OS}"
    assert bad.startswith(f"{place}.values[0]: - is invalid, a valid label must be")


def test_annotations_that_are_fields_by_now() -> None:
    seccomp, armor = "seccomp.security.alpha.kubernetes.io/pod", "container.apparmor.security.beta.kubernetes.io/main"
    annotations = {seccomp: "unconfined", armor: "unconfined", "security.alpha.kubernetes.io/sysctls": "a=b"}
    assert about_spec(metadata={"annotations": annotations}) == [
        'metadata.annotations[security.alpha.kubernetes.io/sysctls]: non-functional in v1.11+; use the "sysctls" field '
        "instead",
        f'metadata.annotations[{seccomp}]: non-functional in v1.27+; use the "seccompProfile" field instead',
        f'metadata.annotations[{armor}]: deprecated since v1.30; use the "appArmorProfile" field instead',
    ]
    context = {"seccompProfile": {"type": "Unconfined"}}
    assert about_spec(metadata={"annotations": {seccomp: "unconfined"}}, securityContext=context) == []


def test_a_part_of_a_byte() -> None:
    assert about_container(resources={"limits": {"memory": "1500m", "cpu": "1500m"}, "requests": {"memory": "2"}}) == [
        'spec.containers[0].resources.limits[memory]: fractional byte value "1500m" is invalid, must be an integer'
    ]


def test_files_of_volumes_in_each_other_s_place() -> None:
    items = [{"key": "c", "path": "etcetera"}, {"key": "a", "path": "etc"}, {"key": "b", "path": "etc/b"}]
    token = {"serviceAccountToken": {"path": "etc"}}
    volumes = [
        {"name": "v", "configMap": {"name": "c", "items": items}},
        {"name": "p", "projected": {"sources": [{"secret": {"name": "s", "items": items[2:]}}, token, {}]}},
    ]
    assert about_spec(volumes=volumes) == [
        'volume "v" (ConfigMap "c"): overlapping paths: "etc/b" with "etc"',
        'volume "p" (Projected ServiceAccountToken): overlapping paths: "etc/b" with "etc"',
        'volume "p" (Projected) has no sources provided',
    ]


@pytest.mark.parametrize(
    ("kind", "use"),
    [
        (core_v1.Pod, "the Pod's hostname"),
        (apps_v1.Deployment, "Pod names and hostnames"),
        (apps_v1.ReplicaSet, "Pod names and hostnames"),
    ],
)
def test_a_name_that_is_no_label(kind: type[Object], use: str) -> None:
    spec = {"containers": [{"name": "a", "image": "b"}]}
    if kind is not core_v1.Pod:
        spec = {"template": {"spec": spec}}
    (warning,) = about_new(made(kind, metadata={"name": "my.web"}, spec=spec))
    words = f"metadata.name: this is used in {use}, which can result in surprising behavior; a DNS label is recommended"
    assert warning.startswith(f"{words}: [a lowercase RFC 1123 label must consist of ")
    assert warning.endswith("]")


def test_a_template_is_looked_at_when_it_may_have_changed() -> None:
    template = {"spec": {"containers": [{"name": "a", "image": "b"}], "terminationGracePeriodSeconds": -1}}
    old = made(apps_v1.Deployment, metadata={"name": "my.web", "generation": 1}, spec={"template": template})
    same = made(apps_v1.Deployment, metadata={"name": "my.web", "generation": 1}, spec={"template": template})
    new = made(apps_v1.Deployment, metadata={"name": "my.web", "generation": 2}, spec={"template": template})
    assert about_changed(same, old) == []
    (warning,) = about_changed(new, old)
    assert warning.startswith("spec.template.spec.terminationGracePeriodSeconds: must be >= 0")


@pytest.mark.parametrize(
    ("spec", "warnings"),
    [
        (
            {"externalIPs": ["1.2.3.4"]},
            ["spec.externalIPs is deprecated and may no longer be implemented in some clusters"],
        ),
        (
            {
                "clusterIP": "None",
                "externalIPs": ["1.2.3.4"],
                "sessionAffinity": "ClientIP",
                "loadBalancerIP": "1.2.3.4",
            },
            [
                "spec.loadBalancerIP is ignored for headless services",
                "spec.externalIPs is ignored for headless services",
                "spec.SessionAffinity is ignored for headless services",
            ],
        ),
        (
            {"type": "ExternalName", "externalName": "a.b", "externalIPs": ["1.2.3.4"]},
            ['spec.externalIPs is ignored when spec.type is "ExternalName"'],
        ),
        ({"externalName": "a.b"}, ['spec.externalName is ignored when spec.type is not "ExternalName"']),
        (
            {"trafficDistribution": "PreferClose"},
            ['spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"'],
        ),
        (
            {"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.1/8", "10.0.0.0/8", "fd00:0::/8"]},
            [
                'spec.loadBalancerSourceRanges[0]: CIDR value "10.0.0.1/8" is ambiguous in this context '
                '(should be "10.0.0.0/8" or "10.0.0.1/32"?)',
                'spec.loadBalancerSourceRanges[2]: IPv6 CIDR value "fd00:0::/8" should be in RFC 5952 canonical format '
                '("fd00::/8")',
            ],
        ),
    ],
)
def test_services(spec: dict[str, Any], warnings: list[str]) -> None:
    assert about_service(**spec) == warnings
    new = made(core_v1.Service, spec={"ports": [{"port": 80}], **spec})
    assert about_changed(new, a_service().port(80).build()) == warnings


def test_addresses_of_endpoints_but_not_those_that_controllers_write() -> None:
    words = 'IPv6 address "FD00::1" should be in RFC 5952 canonical format ("fd00::1")'
    labels: dict[str, Any] = {"endpoints.kubernetes.io/managed-by": "endpoint-controller"}
    subsets = [{"addresses": [{"ip": "10.0.0.1"}], "notReadyAddresses": [{"ip": "FD00::1"}]}]
    assert about_new(made(core_v1.Endpoints, subsets=subsets)) == [f"subsets[0].notReadyAddresses[0].ip: {words}"]
    assert about_new(made(core_v1.Endpoints, metadata={"labels": labels}, subsets=subsets)) == []
    endpoints = [{"addresses": ["FD00::1"]}]
    slice_ = made(discovery_v1.EndpointSlice, addressType="IPv6", endpoints=endpoints)
    assert about_new(slice_) == [f"endpoints[0].addresses[0]: {words}"]
    named = made(discovery_v1.EndpointSlice, addressType="FQDN", endpoints=[{"addresses": ["a.b"]}])
    assert about_new(named) == ["spec.addressType: FQDN endpoints are deprecated"]


def test_an_account_that_says_which_secrets_may_be_mounted() -> None:
    key = "kubernetes.io/enforce-mountable-secrets"
    annotated = made(core_v1.ServiceAccount, metadata={"name": "a", "annotations": {key: "true"}})
    plain = made(core_v1.ServiceAccount)
    warnings = [
        f"metadata.annotations[{key}]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted "
        "secrets"
    ]
    assert about_new(annotated) == about_changed(annotated, plain) == warnings
    assert about_changed(annotated, annotated) == []


def test_apis_that_are_deprecated() -> None:
    said = {r.group_resource: about_resource(r) for r in resources.RESOURCES if about_resource(r)}
    assert said == {
        "componentstatuses": "v1 ComponentStatus is deprecated in v1.19+",
        "endpoints": "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
    }
