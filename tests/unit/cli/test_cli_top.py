"""`barque top` against the real registry: kubectl's tables to the letter, and what is said where there is nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from barque.api.errors import ApiError
from barque.cli.commands import top
from barque.client.usage import ContainerUsage, NodeUsage, PodUsage, encode
from tests.support.registry_cluster import RegistryCluster, run

MI = 1024 * 1024


def a_cluster() -> RegistryCluster:
    """Two nodes and three pods, all of n1; n2 has never been measured."""
    status = {"allocatable": {"cpu": "2", "memory": "4Gi"}, "capacity": {"cpu": "4", "memory": "8Gi"}}
    cluster = RegistryCluster(
        *(
            {"apiVersion": "v1", "kind": "Node", "metadata": {"name": n, "labels": {"disk": n}}, "status": status}
            for n in ("n1", "n2")
        ),
    )
    for name, namespace, labels in (
        ("web-1", "default", {"app": "web"}),
        ("web-2", "default", {"app": "web"}),
        ("dns", "kube-system", {"app": "dns"}),
    ):
        spec = {"nodeName": "n1", "containers": [{"name": "main", "image": "web:1"}]}
        meta = {"name": name, "namespace": namespace, "labels": labels, "uid": f"uid-{name}"}
        cluster.put({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
    return cluster


def measured(cluster: RegistryCluster) -> RegistryCluster:
    pods = [
        PodUsage("default", "web-1", "uid-web-1", [ContainerUsage("main", 2_500_001, 64 * MI)]),
        PodUsage(
            "default",
            "web-2",
            "uid-web-2",
            [ContainerUsage("side", 1_000_000, 300 * MI), ContainerUsage("main", 900_000_000, 10 * MI + 1)],
        ),
        PodUsage("kube-system", "dns", "uid-dns", [ContainerUsage("main", 0, 0)]),
    ]
    sample = NodeUsage(10.0, 1_250_000_000, 1024 * MI, 0, pods)
    assert cluster.bench.usage.take("n1", encode(sample))
    return cluster


def shown(*arguments: str) -> str:
    result = run(measured(a_cluster()), "top", *arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def test_nodes() -> None:
    assert shown("nodes") == (
        "NAME   CPU(cores)   CPU(%)      MEMORY(bytes)   MEMORY(%)\n"
        "n1     1250m        62%         1024Mi          25%\n"
        "n2     <unknown>    <unknown>   <unknown>       <unknown>\n"
    )


def test_one_node_of_its_whole_machine() -> None:
    assert shown("node", "n1", "--show-capacity", "--no-headers") == "n1    1250m   31%   1024Mi   12%\n"


def test_nodes_by_label() -> None:
    assert "n2" not in shown("no", "-l", "disk=n1")


def test_pods() -> None:
    assert shown("pods") == (
        "NAME    CPU(cores)   MEMORY(bytes)\n"
        "web-1   3m           64Mi\n"
        "web-2   901m         310Mi\n"
    )  # fmt: skip


def test_pods_of_all_namespaces_by_what_they_use() -> None:
    assert shown("pod", "-A", "--sort-by=cpu") == (
        "NAMESPACE     NAME    CPU(cores)   MEMORY(bytes)\n"
        "default       web-2   901m         310Mi\n"
        "default       web-1   3m           64Mi\n"
        "kube-system   dns     0m           0Mi\n"
    )


def test_containers() -> None:
    assert shown("po", "--containers", "-A", "--sort-by=memory") == (
        "NAMESPACE     POD     NAME   CPU(cores)   MEMORY(bytes)\n"
        "default       web-2   side   1m           300Mi\n"
        "default       web-1   main   3m           64Mi\n"
        "default       web-2   main   900m         10Mi\n"
        "kube-system   dns     main   0m           0Mi\n"
    )


def test_containers_of_one_pod_together() -> None:
    assert shown("pods", "web-2", "--containers", "--sum") == (
        "POD     NAME   CPU(cores)   MEMORY(bytes)\n"
        "web-2   main   900m         10Mi\n"
        "web-2   side   1m           300Mi\n"
        "               ________     ________\n"
        "               901m         310Mi\n"
    )


def test_some_pods() -> None:
    assert shown("pods", "-A", "-l", "app=dns", "--no-headers") == "kube-system   dns   0m    0Mi\n"
    assert shown("pods", "--field-selector=metadata.name!=web-1", "--no-headers") == "web-2   901m   310Mi\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("pods", "--sort-by=disk"), "error: --sort-by accepts only cpu or memory\n"),
        (("pods", "web-1", "-l", "app=web"), "error: only one of NAME or selector can be provided\n"),
        (("pods", "gone"), 'Error from server (NotFound): pods "gone" not found\n'),
        (
            ("pods", "web-1"),
            'Error from server (NotFound): podmetrics.metrics.k8s.io "default/web-1" not found\n',
        ),
        (("nodes", "n9"), 'Error from server (NotFound): nodes "n9" not found\n'),
        (("nodes", "n1"), 'Error from server (NotFound): nodemetrics.metrics.k8s.io "n1" not found\n'),
        (("nodes",), "error: metrics not available yet\n"),
        (("pods",), "error: metrics not available yet\n"),
    ],
)
def test_what_is_said_where_there_is_nothing(arguments: tuple[str, ...], said: str) -> None:
    result = run(a_cluster(), "top", *arguments)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", said)


def test_a_pod_that_should_long_have_been_measured_is_named() -> None:
    cluster = a_cluster()
    asyncio.run(cluster.clock.advance(155))
    result = run(cluster, "top", "pods")
    assert result.stderr == "error: Metrics not available for pod default/web-1, age: 2m35s\n"


def test_no_pods_at_all() -> None:
    cluster = measured(a_cluster())
    assert run(cluster, "top", "pods", "-n", "lab").stderr == "No resources found in lab namespace.\n"
    assert run(cluster, "top", "pods", "-A", "-l", "app=none").stderr == "No resources found\n"


def test_a_master_without_metrics() -> None:
    cluster = a_cluster()

    def refuse(verb: str, target: Any) -> None:
        if target.resource.group:
            raise ApiError(404, "NotFound", "barque does not serve resource pods.metrics.k8s.io")

    cluster.on_call = refuse
    assert run(cluster, "top", "pods").stderr == "error: Metrics API not available\n"


def test_live_pages_follow_one_another() -> None:
    cluster, asked = a_cluster(), 0

    def happen(verb: str, target: Any) -> None:
        nonlocal asked
        asked += target.resource.plural == "pods" and bool(target.resource.group)
        if asked == 2:
            measured(cluster)
        if asked == 4:
            raise KeyboardInterrupt

    cluster.on_call = happen
    result = run(cluster, "top", "pods", "-w")
    table = "NAME    CPU(cores)   MEMORY(bytes)\nweb-1   3m           64Mi\nweb-2   901m         310Mi\n"
    assert result.stdout == f"error: metrics not available yet\n\n{table}\n{table}"
    assert result.exit_code == 130


def test_a_terminal_gets_as_much_as_it_has_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINES", "3")
    assert top._fitted("NAME\na\nb\nc\n") == "NAME\na\n"
