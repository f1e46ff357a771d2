"""The tables of `get`."""

from __future__ import annotations

import datetime
from typing import Any, cast

import msgspec
import pytest

from barque.api import columns
from barque.api.resources import Resource
from barque.api.types import apps_v1, batch_v1, coordination_v1, scheduling_v1
from barque.api.types.base import Object
from barque.api.types.core_v1 import (
    Container,
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    EndpointAddress,
    EndpointPort,
    Endpoints,
    EndpointSubset,
    Event,
    EventSeries,
    LoadBalancerIngress,
    LoadBalancerStatus,
    ObjectReference,
    PersistentVolume,
    PodCondition,
    PodReadinessGate,
    PodTemplate,
)
from barque.api.types.meta_v1 import ObjectMeta
from barque.api.validation import RULES
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


def row(obj: Any, *, wide: bool = False) -> dict[str, columns.Cell]:
    """The object's cells by column name."""
    resource = resource_of(type(obj))
    table = columns.table_columns(resource)
    cells = columns.cells(resource, obj, NOW)
    return {c.name: cell for c, cell in zip(table, cells, strict=True) if wide or not c.priority}


def resource_of(kind: type[Object]) -> Resource:
    """A row of the registry for a kind, served or not."""
    group, _, version = cast("Any", kind()).apiVersion.rpartition("/")
    return Resource(group, version, kind.__name__, kind.__name__.lower(), kind.__name__.lower())


JSON_TYPES = {"date": str, "string": (str, int), "integer": int, "boolean": (bool, str)}


@pytest.mark.parametrize("kind", RULES, ids=lambda kind: f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}")
def test_every_kind_has_a_table_whose_cells_are_of_its_columns_types(kind: type[Object]) -> None:
    resource = resource_of(kind)
    definitions = columns.table_columns(resource)
    cells = columns.cells(resource, kind(), NOW)
    assert len(cells) == len(definitions) > 1
    assert [c.format for c in definitions].count("name") == 1
    for definition, cell in zip(definitions, cells, strict=True):
        assert isinstance(cell, JSON_TYPES[definition.type])
        assert set(msgspec.to_builtins(definition)) == {"name", "type", "format", "description", "priority"}


def test_a_kind_without_a_table_of_its_own_shows_name_and_age() -> None:
    assert [c.name for c in columns.table_columns(resource_of(PersistentVolume))] == ["Name", "Age"]
    assert row(PersistentVolume(metadata=ObjectMeta(name="v"))) == {"Name": "v", "Age": "<unknown>"}


def test_a_running_pod() -> None:
    pod = a_pod("web").on("n1").ready().ip("10.244.1.2").build()
    assert row(pod, wide=True) == {
        "Name": "web",
        "Ready": "1/1",
        "Status": "Running",
        "Restarts": "0",
        "Age": "5m",
        "IP": "10.244.1.2",
        "Node": "n1",
        "Nominated Node": "<none>",
        "Readiness Gates": "<none>",
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
    assert (cells["Ready"], cells["Status"]) == (ready, status)


def test_the_first_container_with_a_reason_gives_the_word() -> None:
    pod = a_pod().container("a").container("b").waiting("ContainerCreating").build()
    pod.status.containerStatuses[0].state = ContainerState(waiting=ContainerStateWaiting(reason="ErrImagePull"))
    assert row(pod)["Status"] == "ErrImagePull"


def test_an_end_without_a_reason_shows_signal_or_code() -> None:
    pod = a_pod().terminated(137).phase("Running").build()
    ended = pod.status.containerStatuses[0]
    ended.state = ContainerState(terminated=ContainerStateTerminated(exitCode=137))
    assert row(pod)["Status"] == "ExitCode:137"
    ended.state = ContainerState(terminated=ContainerStateTerminated(exitCode=137, signal=9))
    assert row(pod)["Status"] == "Signal:9"


def test_a_pod_with_one_container_done_still_runs() -> None:
    pod = a_pod().container("a").container("b").ready().build()
    done = ContainerStateTerminated(exitCode=0, reason="Completed")
    pod.status.containerStatuses[0].state = ContainerState(terminated=done)
    assert (row(pod)["Ready"], row(pod)["Status"]) == ("1/2", "Running")
    pod.status.conditions = []
    assert row(pod)["Status"] == "NotReady"


def test_restarts_tell_when_the_last_one_was() -> None:
    pod = a_pod().running(restarts=2).build()
    assert row(pod)["Restarts"] == "2"
    ended = ContainerStateTerminated(exitCode=1, finishedAt="2026-01-01T00:04:30Z")
    pod.status.containerStatuses[0].lastState = ContainerState(terminated=ended)
    assert row(pod)["Restarts"] == "2 (30s ago)"


def test_nodes() -> None:
    node = a_node("n1").ready().address("192.168.1.5").labelled({"node-role.kubernetes.io/worker": ""}).build()
    assert row(node, wide=True) == {
        "Name": "n1",
        "Status": "Ready",
        "Roles": "worker",
        "Age": "5m",
        "Version": "v0.1.0",
        "Internal-IP": "192.168.1.5",
        "External-IP": "<none>",
        "OS-Image": "Debian GNU/Linux 12 (bookworm)",
        "Kernel-Version": "6.1.0",
        "Container-Runtime": "docker://20.10.24",
    }
    assert row(a_node().unknown().unschedulable().build())["Status"] == "NotReady,SchedulingDisabled"
    assert row(a_node().build())["Status"] == "Unknown"
    assert row(a_node().build())["Roles"] == "<none>"


def test_services() -> None:
    service = a_service("web").cluster_ip("10.96.0.7").port(80, 8080).port(443, name="tls", node_port=30443).build()
    assert row(service, wide=True) == {
        "Name": "web",
        "Type": "NodePort",
        "Cluster-IP": "10.96.0.7",
        "External-IP": "<none>",
        "Port(s)": "80/TCP,443:30443/TCP",
        "Age": "5m",
        "Selector": "app=web",
    }
    headless = row(a_service().headless().build())
    assert (headless["Type"], headless["Cluster-IP"], headless["Port(s)"]) == ("ClusterIP", "None", "<none>")
    balanced = a_service().type("LoadBalancer").port(80).build()
    assert row(balanced)["External-IP"] == "<pending>"
    balanced.status.loadBalancer = LoadBalancerStatus(ingress=[LoadBalancerIngress(ip="1.2.3.4")])
    assert row(balanced)["External-IP"] == "1.2.3.4"


def test_endpoint_slices_show_the_first_few() -> None:
    slice = an_endpoint_slice("web-1").port(8080)
    assert row(slice.build())["Endpoints"] == "<unset>"
    for last in range(1, 6):
        slice = slice.endpoint(f"10.244.1.{last}")
    shown = row(slice.build())
    assert (shown["AddressType"], shown["Ports"]) == ("IPv4", "8080")
    assert shown["Endpoints"] == "10.244.1.1,10.244.1.2,10.244.1.3 + 2 more..."


def test_workloads() -> None:
    deployment = a_deployment("web").replicas(3).has(3, ready=2, available=1).with_status(updatedReplicas=3).build()
    assert row(deployment, wide=True) == {
        "Name": "web",
        "Ready": "2/3",
        "Up-to-date": 3,
        "Available": 1,
        "Age": "5m",
        "Containers": "main",
        "Images": "web:1",
        "Selector": "app=web",
    }
    assert row(a_replica_set("web").replicas(3).has(2, ready=1).build()) == {
        "Name": "web",
        "Desired": 3,
        "Current": 2,
        "Ready": 1,
        "Age": "5m",
    }


def test_namespaces_and_configuration() -> None:
    assert row(a_namespace("lab").build()) == {"Name": "lab", "Status": "Active", "Age": "5m"}
    assert row(a_config_map("c", a="1", b="2").build()) == {"Name": "c", "Data": 2, "Age": "5m"}
    assert row(a_secret("s", a="1").build()) == {"Name": "s", "Type": "Opaque", "Data": 1, "Age": "5m"}


def test_events() -> None:
    event = (
        an_event(a_pod("web").build())
        .says("Warning", "BackOff", " again ")
        .seen(3, last="2026-01-01T00:04:50Z")
        .build()
    )
    assert row(event) == {
        "Last Seen": "10s",
        "Type": "Warning",
        "Reason": "BackOff",
        "Object": "pod/web",
        "Message": "again",
    }
    wide = row(event, wide=True)
    assert (wide["First Seen"], wide["Count"], wide["Name"]) == ("5m", 3, "event")
    newer = Event(
        metadata=ObjectMeta(name="event"),
        involvedObject=ObjectReference(kind="Pod", name="web"),
        type="Normal",
        reason="Scheduled",
        message="placed",
        eventTime="2026-01-01T00:04:00.000000Z",
        reportingComponent="barque.io/scheduler",
        series=EventSeries(count=4, lastObservedTime="2026-01-01T00:04:50.000000Z"),
    )
    shown = row(newer, wide=True)
    assert (shown["Last Seen"], shown["First Seen"], shown["Count"]) == ("10s", "60s", 4)
    assert (shown["Object"], shown["Source"], shown["Message"]) == ("pod/web", "barque.io/scheduler", "placed")


def test_a_pod_that_initialises_says_how_far_it_is() -> None:
    pod = a_pod().container("main").build()
    pod.spec.initContainers = [
        Container(name="a"),
        Container(name="proxy", restartPolicy="Always"),
        Container(name="b"),
    ]
    done = ContainerState(terminated=ContainerStateTerminated(exitCode=0, reason="Completed"))
    running = ContainerState(running=ContainerStateRunning())
    waiting = ContainerState(waiting=ContainerStateWaiting(reason="PodInitializing"))
    pod.status.initContainerStatuses = [
        ContainerStatus(name="a", state=done, restartCount=2),
        ContainerStatus(name="proxy", state=running, started=True, ready=True, restartCount=1),
        ContainerStatus(name="b", state=waiting),
    ]
    assert (row(pod)["Ready"], row(pod)["Status"], row(pod)["Restarts"]) == ("1/2", "Init:2/3", "3")
    pod.status.initContainerStatuses[2].state = ContainerState(terminated=ContainerStateTerminated(exitCode=3))
    assert row(pod)["Status"] == "Init:ExitCode:3"
    pod.status.initContainerStatuses[2].state = done
    pod.status.containerStatuses = [ContainerStatus(name="main", state=running, ready=True, restartCount=4)]
    pod.status.phase = "Running"
    assert (row(pod)["Ready"], row(pod)["Status"], row(pod)["Restarts"]) == ("2/2", "Running", "5")


def test_a_pod_that_is_held_back_says_so() -> None:
    pod = a_pod().build()
    pod.status.conditions = [PodCondition(type="PodScheduled", status="False", reason="SchedulingGated")]
    assert row(pod)["Status"] == "SchedulingGated"


def test_readiness_gates_are_counted() -> None:
    pod = a_pod().with_spec(readinessGates=[PodReadinessGate(conditionType=f"x/{n}") for n in "ab"]).build()
    pod.status.conditions = [PodCondition(type="x/a", status="True")]
    assert row(pod, wide=True)["Readiness Gates"] == "1/2"


def test_a_failure_outweighs_what_is_completed() -> None:
    pod = a_pod().container("a").container("b").terminated(0).phase("Running").build()
    pod.status.containerStatuses[1].state = ContainerState(
        terminated=ContainerStateTerminated(exitCode=1, reason="Error")
    )
    assert row(pod)["Status"] == "Error"


def test_pod_templates_and_endpoints() -> None:
    template = a_deployment("web").build().spec.template
    assert row(PodTemplate(metadata=ObjectMeta(name="t"), template=template)) == {
        "Name": "t",
        "Containers": "main",
        "Images": "web:1",
        "Pod Labels": "app=web",
    }
    subset = EndpointSubset(
        addresses=[EndpointAddress(ip="10.0.0.1"), EndpointAddress(ip="10.0.0.2")],
        ports=[EndpointPort(port=80), EndpointPort(port=443)],
    )
    assert row(Endpoints(subsets=[subset]))["Endpoints"] == "10.0.0.1:80,10.0.0.2:80,10.0.0.1:443 + 1 more..."
    assert row(Endpoints())["Endpoints"] == "<none>"


def test_workloads_that_come_later() -> None:
    template = a_deployment("web").build().spec.template
    daemons = apps_v1.DaemonSet(metadata=ObjectMeta(name="d"), spec=apps_v1.DaemonSetSpec(template=template))
    daemons.status = apps_v1.DaemonSetStatus(desiredNumberScheduled=3, currentNumberScheduled=2, numberReady=1)
    assert row(daemons) == {
        "Name": "d",
        "Desired": 3,
        "Current": 2,
        "Ready": 1,
        "Up-to-date": 0,
        "Available": 0,
        "Node Selector": "<none>",
        "Age": "<unknown>",
    }
    stateful = apps_v1.StatefulSet(metadata=ObjectMeta(name="s"), spec=apps_v1.StatefulSetSpec(replicas=3))
    assert row(stateful) == {"Name": "s", "Ready": "0/3", "Age": "<unknown>"}


@pytest.mark.parametrize(
    ("conditions", "status"),
    [
        ([], "Running"),
        (["Complete", "SuccessCriteriaMet"], "Complete"),
        (["FailureTarget", "Failed"], "Failed"),
        (["FailureTarget"], "FailureTarget"),
        (["SuccessCriteriaMet"], "SuccessCriteriaMet"),
        (["Suspended"], "Suspended"),
    ],
)
def test_jobs(conditions: list[str], status: str) -> None:
    job = batch_v1.Job(metadata=ObjectMeta(name="j"), spec=batch_v1.JobSpec(completions=3, parallelism=1))
    job.status = batch_v1.JobStatus(
        succeeded=1,
        startTime="2026-01-01T00:03:00Z",
        conditions=[batch_v1.JobCondition(type=type, status="True") for type in conditions],
    )
    shown = row(job)
    assert (shown["Status"], shown["Completions"], shown["Duration"]) == (status, "1/3", "2m")
    job.status.completionTime = "2026-01-01T00:03:07Z"
    job.spec.completions, job.spec.parallelism = None, 4
    assert (row(job)["Completions"], row(job)["Duration"]) == ("1/1 of 4", "7s")


def test_cron_jobs_leases_and_priority_classes() -> None:
    cron_job = batch_v1.CronJob(metadata=ObjectMeta(name="c"))
    cron_job.spec.schedule, cron_job.spec.suspend = "@daily", False
    cron_job.status.active = [ObjectReference(name="c-1")]
    assert row(cron_job) == {
        "Name": "c",
        "Schedule": "@daily",
        "Timezone": "<none>",
        "Suspend": "False",
        "Active": 1,
        "Last Schedule": "<none>",
        "Age": "<unknown>",
    }
    lease = coordination_v1.Lease(spec=coordination_v1.LeaseSpec(holderIdentity="n1"))
    assert row(lease)["Holder"] == "n1"
    assert row(scheduling_v1.PriorityClass(value=7, globalDefault=True)) == {
        "Name": "",
        "Value": 7,
        "Global-Default": True,
        "Age": "<unknown>",
        "PreemptionPolicy": "PreemptLowerPriority",
    }


def test_external_addresses_of_services() -> None:
    named = a_service().type("ExternalName").with_spec(externalName="example.com").build()
    assert row(named)["External-IP"] == "example.com"
    reached = a_service().port(80).with_spec(externalIPs=["192.0.2.1"]).build()
    assert row(reached)["External-IP"] == "192.0.2.1"
