"""The tables of `get`."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from barque.api import columns, resources
from barque.api.types.core_v1 import (
    ContainerState,
    ContainerStateTerminated,
    ContainerStateWaiting,
    LoadBalancerIngress,
    LoadBalancerStatus,
)
from tests.support.builders import (
    a_config_map,
    a_deployment,
    a_namespace,
    a_node,
    a_pod,
    a_replica_set,
    a_secret,
    a_service,
    an_endpoint_slice,
    an_event,
)

NOW = datetime.datetime(2026, 1, 1, 0, 5, tzinfo=datetime.UTC)
S, M, H, D = 1, 60, 3600, 86400


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "<invalid>"),
        (-1.5, "0s"),
        (0, "0s"),
        (0.9, "0s"),
        (119, "119s"),
        (120, "2m"),
        (200, "3m20s"),
        (9 * M + 59, "9m59s"),
        (10 * M + 5, "10m"),
        (3 * H - 1, "179m"),
        (3 * H, "3h"),
        (4 * H + 3 * M, "4h3m"),
        (8 * H + 59 * M, "8h"),
        (47 * H, "47h"),
        (2 * D, "2d"),
        (2 * D + 5 * H, "2d5h"),
        (8 * D + 5 * H, "8d"),
        (700 * D, "700d"),
        (2 * 365 * D, "2y"),
        (2 * 365 * D + 3 * D, "2y3d"),
        (9 * 365 * D + 40 * D, "9y"),
    ],
)
def test_a_duration_is_shown_as_kubectl_shows_it(seconds: float, shown: str) -> None:
    assert columns.human_duration(seconds) == shown


def test_age_of_a_timestamp() -> None:
    assert columns.age("2026-01-01T00:01:40Z", NOW) == "3m20s"
    assert columns.age("2026-01-01T00:04:59.500000Z", NOW) == "0s"
    assert columns.age("", NOW) == "<unknown>"
    assert columns.age("yesterday", NOW) == "<unknown>"


def row(obj: Any, *, wide: bool = False) -> dict[str, str]:
    """The object's cells by column name."""
    table = columns.columns(resources.by_type(type(obj)))
    cells = columns.cells(obj, NOW)
    assert len(cells) == len(table)
    return {column.name: cell for column, cell in zip(table, cells, strict=True) if wide or not column.wide}


def test_every_served_resource_has_a_table() -> None:
    for resource in resources.RESOURCES:
        assert columns.columns(resource)
        assert len(columns.cells(resource.type(), NOW)) == len(columns.columns(resource))


def test_a_running_pod() -> None:
    pod = a_pod("web").on("n1").ready().ip("10.244.1.2").build()
    assert row(pod, wide=True) == {
        "NAME": "web",
        "READY": "1/1",
        "STATUS": "Running",
        "RESTARTS": "0",
        "AGE": "5m",
        "IP": "10.244.1.2",
        "NODE": "n1",
        "NOMINATED NODE": "<none>",
        "READINESS GATES": "<none>",
    }


@pytest.mark.parametrize(
    ("pod", "ready", "status"),
    [
        (a_pod(), "0/1", "Pending"),
        (a_pod().waiting("ContainerCreating"), "0/1", "ContainerCreating"),
        (a_pod().waiting("CrashLoopBackOff").phase("Running"), "0/1", "CrashLoopBackOff"),
        (a_pod().waiting("ImagePullBackOff"), "0/1", "ImagePullBackOff"),
        (a_pod().not_ready(), "0/1", "Running"),
        (a_pod().succeeded(), "0/1", "Completed"),
        (a_pod().failed(), "0/1", "Error"),
        (a_pod().ready().deleting(), "1/1", "Terminating"),
        (a_pod().failed().deleting(), "0/1", "Error"),
        (a_pod().phase("Failed").with_status(reason="Evicted"), "0/1", "Evicted"),
        (a_pod().ready().deleting().with_status(reason="NodeLost"), "1/1", "Unknown"),
        (a_pod().container("a").container("b").ready(), "2/2", "Running"),
    ],
)
def test_a_pods_status_in_one_word(pod: Any, ready: str, status: str) -> None:
    cells = row(pod.build())
    assert (cells["READY"], cells["STATUS"]) == (ready, status)


def test_the_first_container_with_a_reason_gives_the_word() -> None:
    pod = a_pod().container("a").container("b").waiting("ContainerCreating").build()
    pod.status.containerStatuses[0].state = ContainerState(waiting=ContainerStateWaiting(reason="ErrImagePull"))
    assert row(pod)["STATUS"] == "ErrImagePull"


def test_an_end_without_a_reason_shows_signal_or_code() -> None:
    pod = a_pod().terminated(137).phase("Running").build()
    ended = pod.status.containerStatuses[0]
    ended.state = ContainerState(terminated=ContainerStateTerminated(exitCode=137))
    assert row(pod)["STATUS"] == "ExitCode:137"
    ended.state = ContainerState(terminated=ContainerStateTerminated(exitCode=137, signal=9))
    assert row(pod)["STATUS"] == "Signal:9"


def test_a_pod_with_one_container_done_still_runs() -> None:
    pod = a_pod().container("a").container("b").ready().build()
    done = ContainerStateTerminated(exitCode=0, reason="Completed")
    pod.status.containerStatuses[0].state = ContainerState(terminated=done)
    assert (row(pod)["READY"], row(pod)["STATUS"]) == ("1/2", "Running")
    pod.status.conditions = []
    assert row(pod)["STATUS"] == "NotReady"


def test_restarts_tell_when_the_last_one_was() -> None:
    pod = a_pod().running(restarts=2).build()
    assert row(pod)["RESTARTS"] == "2"
    ended = ContainerStateTerminated(exitCode=1, finishedAt="2026-01-01T00:04:30Z")
    pod.status.containerStatuses[0].lastState = ContainerState(terminated=ended)
    assert row(pod)["RESTARTS"] == "2 (30s ago)"


def test_nodes() -> None:
    node = a_node("n1").ready().address("192.168.1.5").labelled({"node-role.kubernetes.io/worker": ""}).build()
    assert row(node, wide=True) == {
        "NAME": "n1",
        "STATUS": "Ready",
        "ROLES": "worker",
        "AGE": "5m",
        "VERSION": "v0.1.0",
        "INTERNAL-IP": "192.168.1.5",
        "EXTERNAL-IP": "<none>",
        "OS-IMAGE": "Debian GNU/Linux 12 (bookworm)",
        "KERNEL-VERSION": "6.1.0",
        "CONTAINER-RUNTIME": "docker://20.10.24",
    }
    assert row(a_node().unknown().unschedulable().build())["STATUS"] == "NotReady,SchedulingDisabled"
    assert row(a_node().build())["STATUS"] == "Unknown"
    assert row(a_node().build())["ROLES"] == "<none>"


def test_services() -> None:
    service = a_service("web").cluster_ip("10.96.0.7").port(80, 8080).port(443, name="tls", node_port=30443).build()
    assert row(service, wide=True) == {
        "NAME": "web",
        "TYPE": "NodePort",
        "CLUSTER-IP": "10.96.0.7",
        "EXTERNAL-IP": "<none>",
        "PORT(S)": "80/TCP,443:30443/TCP",
        "AGE": "5m",
        "SELECTOR": "app=web",
    }
    headless = row(a_service().headless().build())
    assert (headless["TYPE"], headless["CLUSTER-IP"], headless["PORT(S)"]) == ("ClusterIP", "None", "<none>")
    balanced = a_service().type("LoadBalancer").port(80).build()
    assert row(balanced)["EXTERNAL-IP"] == "<pending>"
    balanced.status.loadBalancer = LoadBalancerStatus(ingress=[LoadBalancerIngress(ip="1.2.3.4")])
    assert row(balanced)["EXTERNAL-IP"] == "1.2.3.4"


def test_endpoint_slices_show_the_first_few() -> None:
    slice = an_endpoint_slice("web-1").port(8080)
    assert row(slice.build())["ENDPOINTS"] == "<unset>"
    for last in range(1, 6):
        slice = slice.endpoint(f"10.244.1.{last}")
    shown = row(slice.build())
    assert (shown["ADDRESSTYPE"], shown["PORTS"]) == ("IPv4", "8080")
    assert shown["ENDPOINTS"] == "10.244.1.1,10.244.1.2,10.244.1.3 + 2 more..."


def test_workloads() -> None:
    deployment = a_deployment("web").replicas(3).has(3, ready=2, available=1).with_status(updatedReplicas=3).build()
    assert row(deployment, wide=True) == {
        "NAME": "web",
        "READY": "2/3",
        "UP-TO-DATE": "3",
        "AVAILABLE": "1",
        "AGE": "5m",
        "CONTAINERS": "main",
        "IMAGES": "web:1",
        "SELECTOR": "app=web",
    }
    assert row(a_replica_set("web").replicas(3).has(2, ready=1).build()) == {
        "NAME": "web",
        "DESIRED": "3",
        "CURRENT": "2",
        "READY": "1",
        "AGE": "5m",
    }


def test_namespaces_and_configuration() -> None:
    assert row(a_namespace("lab").build()) == {"NAME": "lab", "STATUS": "Active", "AGE": "5m"}
    assert row(a_config_map("c", a="1", b="2").build()) == {"NAME": "c", "DATA": "2", "AGE": "5m"}
    assert row(a_secret("s", a="1").build()) == {"NAME": "s", "TYPE": "Opaque", "DATA": "1", "AGE": "5m"}


def test_events() -> None:
    event = (
        an_event(a_pod("web").build())
        .says("Warning", "BackOff", " again ")
        .seen(3, last="2026-01-01T00:04:50Z")
        .build()
    )
    assert row(event) == {
        "LAST SEEN": "10s",
        "TYPE": "Warning",
        "REASON": "BackOff",
        "OBJECT": "pod/web",
        "MESSAGE": "again",
    }
    wide = row(event, wide=True)
    assert (wide["FIRST SEEN"], wide["COUNT"], wide["NAME"]) == ("5m", "3", "event")
