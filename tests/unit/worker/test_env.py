"""A container's environment."""

from __future__ import annotations

from typing import Any

import pytest

from barque.api.types import core_v1
from barque.worker.pods.env import ConfigError, Names, Sources, environment, expand, references, service_variables
from tests.support.worker_world import a_container, a_pod


def sources(**fields: Any) -> Sources:
    config_map = core_v1.ConfigMap(data={"COLOUR": "red", "a=b": "never"})
    secret = core_v1.Secret(data={"password": "czNjcjN0"})
    given: dict[str, Any] = {"config_maps": {"settings": config_map, "gone": None}, "secrets": {"keys": secret}}
    return Sources(**(given | fields))


def a_variable(name: str, **source: Any) -> core_v1.EnvVar:
    return core_v1.EnvVar(name=name, valueFrom=core_v1.EnvVarSource(**source))


def composed(*variables: core_v1.EnvVar, given: Sources | None = None, **fields: Any) -> dict[str, str]:
    pod = a_pod("p", a_container(env=list(variables), **fields))
    pod.metadata.labels = {"app": "web"}
    return environment(pod, pod.spec.containers[0], given or sources())


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)-$(B)", "1-2"),
        ("$(MISSING)", "$(MISSING)"),
        ("$(A$(B))", "$(A$(B))"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A ${A} $", "$A ${A} $"),
        ("$(A", "$(A"),
        ("$()", "$()"),
    ],
)
def test_references_are_expanded(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == expanded


def test_later_variables_see_earlier_ones_only() -> None:
    found = composed(
        core_v1.EnvVar(name="A", value="$(B)"),
        core_v1.EnvVar(name="B", value="b"),
        core_v1.EnvVar(name="C", value="$(A)$(B)"),
    )
    assert found == {"A": "$(B)", "B": "b", "C": "$(B)b"}


def test_values_come_from_config_maps_secrets_and_fields() -> None:
    found = composed(
        a_variable("C", configMapKeyRef=core_v1.ConfigMapKeySelector(name="settings", key="COLOUR")),
        a_variable("S", secretKeyRef=core_v1.SecretKeySelector(name="keys", key="password")),
        a_variable("N", fieldRef=core_v1.ObjectFieldSelector(fieldPath="metadata.name")),
        a_variable("L", fieldRef=core_v1.ObjectFieldSelector(fieldPath="metadata.labels['app']")),
        a_variable("I", fieldRef=core_v1.ObjectFieldSelector(fieldPath="status.podIP")),
        a_variable("M", resourceFieldRef=core_v1.ResourceFieldSelector(resource="limits.memory", divisor="1Mi")),
        given=sources(pod_ip="10.0.0.2", allocatable={"memory": "2Gi"}),
    )
    assert found == {"C": "red", "S": "s3cr3t", "N": "p", "L": "web", "I": "10.0.0.2", "M": "2048"}


def test_what_is_missing_is_named_unless_optional() -> None:
    for reference, words in [
        (core_v1.ConfigMapKeySelector(name="gone", key="k"), 'configmap "gone" not found'),
        (core_v1.ConfigMapKeySelector(name="settings", key="k"), "couldn't find key k in ConfigMap default/settings"),
    ]:
        with pytest.raises(ConfigError, match=words):
            composed(a_variable("X", configMapKeyRef=reference))
        reference.optional = True
        assert composed(a_variable("X", configMapKeyRef=reference)) == {}
    whole = core_v1.EnvFromSource(secretRef=core_v1.SecretEnvSource(name="nowhere"))
    with pytest.raises(ConfigError, match='secret "nowhere" not found'):
        composed(envFrom=[whole])


def test_env_from_takes_all_keys_and_env_overrides_them() -> None:
    whole = core_v1.EnvFromSource(prefix="P_", configMapRef=core_v1.ConfigMapEnvSource(name="settings"))
    assert composed(envFrom=[whole]) == {"P_COLOUR": "red"}
    assert composed(core_v1.EnvVar(name="P_COLOUR", value="blue"), envFrom=[whole]) == {"P_COLOUR": "blue"}


def test_what_a_container_refers_to() -> None:
    container = a_container(
        env=[a_variable("S", secretKeyRef=core_v1.SecretKeySelector(name="keys", key="password"))],
        envFrom=[core_v1.EnvFromSource(configMapRef=core_v1.ConfigMapEnvSource(name="settings"))],
    )
    assert references(container) == Names(frozenset({"settings"}), frozenset({"keys"}))


def a_service(name: str, namespace: str = "default", ip: str = "10.96.0.7", **ports: int) -> core_v1.Service:
    service = core_v1.Service(
        spec=core_v1.ServiceSpec(clusterIP=ip, ports=[core_v1.ServicePort(name=n, port=p) for n, p in ports.items()])
    )
    service.metadata.name, service.metadata.namespace = name, namespace
    return service


def test_services_of_the_namespace_are_variables() -> None:
    found = service_variables(
        [a_service("my-db", sql=5432), a_service("other", "elsewhere", x=1), a_service("headless", ip="None", x=1)],
        "default",
    )
    assert found == {
        "MY_DB_SERVICE_HOST": "10.96.0.7",
        "MY_DB_SERVICE_PORT": "5432",
        "MY_DB_SERVICE_PORT_SQL": "5432",
        "MY_DB_PORT": "tcp://10.96.0.7:5432",
        "MY_DB_PORT_5432_TCP": "tcp://10.96.0.7:5432",
        "MY_DB_PORT_5432_TCP_PROTO": "tcp",
        "MY_DB_PORT_5432_TCP_PORT": "5432",
        "MY_DB_PORT_5432_TCP_ADDR": "10.96.0.7",
    }


def test_service_links_can_be_turned_off() -> None:
    given = sources(services=[a_service("db", sql=5432)])
    pod = a_pod(enableServiceLinks=False)
    assert environment(pod, pod.spec.containers[0], given) == {}
    assert "DB_SERVICE_HOST" in composed(given=given)


def test_every_pod_finds_the_masters() -> None:
    given = sources(services=[a_service("db", sql=5432), a_service("kubernetes", "default", "10.96.0.1", https=443)])
    for pod in (a_pod(enableServiceLinks=False), a_pod()):
        pod.metadata.namespace = "shop"
        found = environment(pod, pod.spec.containers[0], given)
        assert (found["KUBERNETES_SERVICE_HOST"], found["KUBERNETES_SERVICE_PORT"]) == ("10.96.0.1", "443")
        assert "DB_SERVICE_HOST" not in found
