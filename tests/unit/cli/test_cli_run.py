"""`barque run` and `barque expose`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from barque.api.types import core_v1
from barque.proto import pods_pb2
from tests.support.builders import a_deployment, a_pod, a_service
from tests.support.registry_cluster import RegistryCluster, run


def made(cluster: RegistryCluster, *words: str) -> dict[str, Any]:
    result = run(cluster, "run", *words)
    assert result.exit_code == 0, result.stderr
    return cluster.one("pods", words[0])


def test_a_pod_of_an_image() -> None:
    cluster = RegistryCluster()
    assert run(cluster, "run", "web", "--image=web:1").stdout == "pod/web created\n"
    pod = cluster.one("pods", "web")
    assert pod["metadata"]["labels"] == {"run": "web"}
    assert (pod["spec"]["restartPolicy"], pod["spec"]["containers"][0]["image"]) == ("Always", "web:1")
    assert run(cluster, "run", "web", "--image=web:1").stderr == (
        'Error from server (AlreadyExists): pods "web" already exists\n'
    )


def test_what_a_pod_may_be_given() -> None:
    cluster = RegistryCluster()
    options = ["--image=web:1", "--env=A=1", "--env", "B=2", "-l", "app=web,tier=front", "--port=80", "--expose"]
    pod = made(cluster, "web", *options, "--restart=Never", "--image-pull-policy=Never", "--", "-v", "serve")
    container = pod["spec"]["containers"][0]
    assert container["env"] == [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    assert (container["args"], container["imagePullPolicy"]) == (["-v", "serve"], "Never")
    assert pod["metadata"]["labels"] == {"app": "web", "tier": "front"}
    service = cluster.one("services", "web")["spec"]
    assert service["selector"] == {"app": "web", "tier": "front"}
    assert service["ports"][0]["port"] == 80
    assert made(cluster, "two", "--image=web:1", "--command", "--", "sleep", "1")["spec"]["containers"][0][
        "command"
    ] == ["sleep", "1"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rm"], "error: --rm should only be used for attached containers\n"),
        (["--expose"], "error: --port must be set when exposing a service\n"),
        (["-l", "app"], "error: --labels takes KEY=VALUE"),
        (["-i", "--dry-run=client"], "error: --dry-run=client makes no pod to attach to"),
    ],
)
def test_what_makes_no_sense(words: list[str], said: str) -> None:
    cluster = RegistryCluster()
    result = run(cluster, "run", "web", "--image=web:1", *words)
    assert result.stderr.startswith(said)
    assert cluster.names("pods") == []


class Attachable:
    """Answers for the master's Pods service."""

    def __init__(self) -> None:
        self.attached: list[Any] = []

    async def Attach(self, inputs: AsyncIterator[Any]) -> AsyncIterator[Any]:
        self.attached.append((await anext(inputs)).start)
        yield pods_pb2.ExecOutput(stdout=b"hello\n")

    async def Logs(self, request: Any) -> AsyncIterator[Any]:
        yield pods_pb2.LogsChunk(data=b"too fast\n")


def ended(cluster: RegistryCluster, code: int) -> None:
    pod = a_pod("shell").container("shell").with_spec(restartPolicy="Never").failed().terminated(code).phase("Failed")
    cluster.put(pod.build())


def test_a_pod_that_is_watched_is_removed_afterwards_and_its_exit_code_is_ours() -> None:
    cluster = RegistryCluster()
    cluster.pods = Attachable()
    running = a_pod("shell").container("shell").with_spec(restartPolicy="Never").running()
    cluster.on_idle = [lambda: cluster.put(running.build()), lambda: ended(cluster, 3)]
    result = run(cluster, "run", "shell", "--image=box", "--attach", "--rm", "--restart=Never", "--", "sh")
    assert result.stdout == "hello\n"
    assert result.stderr.endswith('pod "shell" deleted from default namespace\n')
    assert result.exit_code == 3
    assert cluster.pods.attached[0].pod == "shell"
    assert cluster.names("pods") == []


def test_a_pod_that_was_faster_than_we_has_its_output_shown() -> None:
    cluster = RegistryCluster()
    cluster.pods = Attachable()
    cluster.on_idle = [lambda: ended(cluster, 0)]
    result = run(cluster, "run", "shell", "--image=box", "--attach", "--restart=Never")
    assert result.stdout == "too fast\n"
    assert cluster.pods.attached == []


def test_a_deployment_is_exposed() -> None:
    cluster = RegistryCluster(a_deployment("web").labelled(team="blue").build())
    words = ["expose", "deployment", "web", "--port=80", "--target-port=8080"]
    assert run(cluster, *words).stdout == "service/web exposed\n"
    service = cluster.one("services", "web")
    assert service["spec"]["selector"] == {"app": "web"}
    assert service["metadata"]["labels"] == {"team": "blue"}
    port = service["spec"]["ports"][0]
    assert (port["port"], port["targetPort"], port["protocol"]) == (80, 8080, "TCP")
    outside = ["--name=out", "--type=NodePort", "--session-affinity=ClientIP", "--external-ip=203.0.113.9"]
    assert run(cluster, *words, *outside).exit_code == 0
    spec = cluster.one("services", "out")["spec"]
    assert (spec["type"], spec["sessionAffinity"], spec["externalIPs"]) == ("NodePort", "ClientIP", ["203.0.113.9"])


def test_ports_are_found_where_none_is_given() -> None:
    pod = a_pod("dns").labelled(app="dns").port(53, "dns", "UDP").port(9153, "metrics").build()
    cluster = RegistryCluster(pod, a_service("db").selecting(app="db").port(5432).build())
    assert run(cluster, "expose", "pod", "dns").exit_code == 0
    ports = cluster.one("services", "dns")["spec"]["ports"]
    assert [(p["name"], p["port"], p["protocol"]) for p in ports] == [("port-1", 53, "UDP"), ("port-2", 9153, "TCP")]
    assert run(cluster, "expose", "service", "db", "--name=db-too").exit_code == 0
    assert cluster.one("services", "db-too")["spec"]["selector"] == {"app": "db"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pod", "bare"], "error: the pod has no labels and cannot be exposed\n"),
        (["deployment", "web"], "error: couldn't find port via --port flag or introspection\n"),
        (["configmap", "x", "--port=80"], "error: cannot expose a ConfigMap\n"),
        (["deployment", "web", "--port=http"], "error: 'http' is not a port\n"),
    ],
)
def test_what_cannot_be_exposed(words: list[str], said: str) -> None:
    cluster = RegistryCluster(a_pod("bare").build(), a_deployment("web").build())
    result = run(cluster, "expose", *words)
    assert (result.stderr, result.exit_code) == (said, 1)


def test_a_selector_with_expressions_needs_another() -> None:
    deployment = a_deployment("web").build()
    deployment.spec.selector.matchExpressions = [core_v1.meta_v1.LabelSelectorRequirement(key="app", operator="Exists")]
    cluster = RegistryCluster(deployment)
    assert "give --selector" in run(cluster, "expose", "deploy/web", "--port=80").stderr
