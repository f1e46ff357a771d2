"""`barque describe`: whole pages, in kubectl's layout."""

from __future__ import annotations

from typing import Any

from barque.api.errors import unavailable
from barque.api.types import core_v1, discovery_v1, meta_v1
from barque.cli.description import align
from barque.client.verbs import Target
from tests.support.builders import DeploymentBuilder, NodeBuilder, PodBuilder, ReplicaSetBuilder, ServiceBuilder
from tests.unit.cli.fake_cluster import FakeCluster, run

REVISION = "deployment.kubernetes.io/revision"


def an_event(name: str, about: Any, reason: str, message: str, count: int = 1, type: str = "Normal") -> core_v1.Event:
    return core_v1.Event(
        metadata=meta_v1.ObjectMeta(name=name, namespace="default"),
        involvedObject=core_v1.ObjectReference(
            kind=about.kind, name=about.metadata.name, namespace="default", uid=about.metadata.uid
        ),
        reason=reason,
        message=message,
        count=count,
        firstTimestamp="2025-12-31T23:55:00Z",
        lastTimestamp="2025-12-31T23:59:50Z",
        type=type,
        source=core_v1.EventSource(component="worker"),
    )


def a_pod() -> core_v1.Pod:
    secret = core_v1.EnvVarSource(secretKeyRef=core_v1.SecretKeySelector(name="db", key="password"))
    return (
        PodBuilder("web-1", "default").labelled(app="web", tier="front").on("n1")
        .container(
            "main", "web:1", command=["httpd", "-f"],
            env=[core_v1.EnvVar(name="SIZE", value="big"), core_v1.EnvVar(name="PASSWORD", valueFrom=secret)],
            readinessProbe=core_v1.Probe(httpGet=core_v1.HTTPGetAction(path="/ok", port=80), periodSeconds=5),
            volumeMounts=[core_v1.VolumeMount(name="conf", mountPath="/etc/web", readOnly=True)],
        )
        .port(80).requesting(cpu="100m").volume("conf", configMap=core_v1.ConfigMapVolumeSource(name="web"))
        .ready().ip("10.244.0.5").with_status(hostIP="10.0.0.1", qosClass="Burstable").build()
    )  # fmt: skip


POD_PAGE = """\
Name:             web-1
Namespace:        default
Priority:         0
Service Account:  <none>
Node:             n1/10.0.0.1
Start Time:       Thu, 01 Jan 2026 00:00:00 +0000
Labels:           app=web
                  tier=front
Annotations:      <none>
Status:           Running
IP:               10.244.0.5
IPs:
  IP:  10.244.0.5
Containers:
  main:
    Container ID:  docker://uid-web-1-main-0
    Image:         web:1
    Image ID:      sha256:web:1
    Port:          80/TCP
    Host Port:     0/TCP
    Command:
      httpd
      -f
    State:          Running
      Started:      Thu, 01 Jan 2026 00:00:00 +0000
    Ready:          True
    Restart Count:  0
    Requests:
      cpu:      100m
    Readiness:  http-get http://:80/ok delay=0s timeout=1s period=5s #success=1 #failure=3
    Environment:
      SIZE:      big
      PASSWORD:  <set to the key 'password' in secret 'db'>  Optional: false
    Mounts:
      /etc/web from conf (ro)
Conditions:
  Type             Status
  PodScheduled     True
  Initialized      True
  ContainersReady  True
  Ready            True
Volumes:
  conf:
    Type:        ConfigMap (a volume populated by a ConfigMap)
    Name:        web
    Optional:    false
QoS Class:       Burstable
Node-Selectors:  <none>
Tolerations:     <none>
Events:
  Type     Reason     Age               From    Message
  ----     ------     ----              ----    -------
  Normal   Scheduled  10s               worker  Successfully assigned default/web-1 to n1
  Warning  Unhealthy  10s (x3 over 5m)  worker  Readiness probe failed
"""


def test_a_pod_with_its_events() -> None:
    pod = a_pod()
    cluster = FakeCluster(
        pod,
        an_event("e1", pod, "Scheduled", "Successfully assigned default/web-1 to n1"),
        an_event("e2", pod, "Unhealthy", "Readiness probe failed", count=3, type="Warning"),
        an_event("e3", PodBuilder("web-2", "default").build(), "Other", "of another pod"),
        an_event("e4", PodBuilder("web-1", "default").uid("older").build(), "Killing", "of an older pod of this name"),
    )
    result = run(cluster, "describe", "pod", "web-1")
    assert result.stdout == POD_PAGE


def test_a_pod_that_does_not_run_says_why() -> None:
    cluster = FakeCluster(PodBuilder("web-1", "default").waiting("ImagePullBackOff", "no image web:9").build())
    page = run(cluster, "describe", "pod/web-1").stdout
    assert (
        "    State:          Waiting\n      Reason:       ImagePullBackOff\n      Message:      no image web:9\n"
        in page
    )
    assert page.endswith("Events:             <none>\n")


def test_events_that_cannot_be_had_do_not_spoil_the_page() -> None:
    cluster = FakeCluster(a_pod())

    def on_call(verb: str, target: Target) -> None:
        if target.resource.kind == "Event":
            raise unavailable("the event bus does not answer")

    cluster.on_call = on_call
    page = run(cluster, "describe", "pod/web-1").stdout
    assert page.endswith("Events:          <not available: the event bus does not answer>\n")


def test_a_deployment_with_its_replica_sets() -> None:
    web = (
        DeploymentBuilder("web", "default").replicas(3).rolling().annotated({REVISION: "2"})
        .has(4, ready=3, available=3).with_status(updatedReplicas=1, unavailableReplicas=1)
        .condition("Available", "True", "MinimumReplicasAvailable").build()
    )  # fmt: skip
    old = ReplicaSetBuilder("web-1a", "default").replicas(3).has(3).owned_by(web).annotated({REVISION: "1"})
    new = ReplicaSetBuilder("web-2b", "default").replicas(1).has(1).owned_by(web).annotated({REVISION: "2"})
    done = ReplicaSetBuilder("web-0c", "default").replicas(0).owned_by(web).annotated({REVISION: "0"})
    cluster = FakeCluster(web, old.build(), new.build(), done.build(), ReplicaSetBuilder("other", "default").build())
    page = run(cluster, "describe", "deploy", "web").stdout
    assert "Replicas:               3 desired | 1 updated | 4 total | 3 available | 1 unavailable\n" in page
    assert "RollingUpdateStrategy:  25% max unavailable, 25% max surge\n" in page
    assert "Conditions:\n  Type           Status  Reason\n  ----           ------  ------\n" in page
    assert page.endswith(
        "OldReplicaSets:  web-1a (3/3 replicas created)\n"
        "NewReplicaSet:   web-2b (1/1 replicas created)\n"
        "Events:          <none>\n"
    )


def test_a_service_with_its_endpoints() -> None:
    ready = discovery_v1.EndpointConditions(ready=True)
    endpoints = [discovery_v1.Endpoint(addresses=[f"10.244.0.{n}"], conditions=ready) for n in range(2, 7)]
    endpoints[0].conditions = discovery_v1.EndpointConditions(ready=False)
    endpoint_slice = discovery_v1.EndpointSlice(
        metadata=meta_v1.ObjectMeta(name="web-x", namespace="default", labels={"kubernetes.io/service-name": "web"}),
        addressType="IPv4",
        ports=[discovery_v1.EndpointPort(name="http", port=8080, protocol="TCP")],
        endpoints=endpoints,
    )
    web = ServiceBuilder("web", "default").cluster_ip("10.96.0.7").port(80, 8080, name="http", node_port=30080)
    page = run(FakeCluster(web.build(), endpoint_slice), "describe", "svc", "web").stdout
    assert (
        "Port:                     http  80/TCP\n"
        "TargetPort:               8080/TCP\n"
        "NodePort:                 http  30080/TCP\n"
        "Endpoints:                10.244.0.3:8080,10.244.0.4:8080,10.244.0.5:8080 + 1 more...\n"
    ) in page
    shown = run(FakeCluster(endpoint_slice), "describe", "endpointslice", "web-x").stdout
    assert "  - Addresses:  10.244.0.2\n    Conditions:\n      Ready:    false\n    Hostname:   <unset>\n" in shown


def test_a_node_with_what_runs_on_it() -> None:
    node = NodeBuilder("n1").ready().address("10.0.0.1").pod_cidr("10.244.0.0/24").build()
    done = PodBuilder("done", "default").on("n1").requesting(cpu="1").succeeded().build()
    page = run(
        FakeCluster(node, a_pod(), done, PodBuilder("elsewhere", "default").on("n2").build()), "describe", "no", "n1"
    )
    assert (
        "Non-terminated Pods:  (1 in total)\n"
        "  Namespace  Name   CPU Requests  Memory Requests  Age\n"
        "  ---------  ----   ------------  ---------------  ---\n"
        "  default    web-1  100m (2%)     0 (0%)           0s\n"
        "Allocated resources:\n"
        "  Resource  Requests\n"
        "  --------  --------\n"
        "  cpu       100m (2%)\n"
        "  memory    0 (0%)\n"
    ) in page.stdout


def test_a_secrets_values_are_never_shown() -> None:
    secret = core_v1.Secret(
        metadata=meta_v1.ObjectMeta(name="db", namespace="default"), type="Opaque", data={"password": "c2VjcmV0"}
    )
    assert run(FakeCluster(secret), "describe", "secret", "db").stdout == (
        "Name:         db\nNamespace:    default\nLabels:       <none>\nAnnotations:  <none>\n\n"
        "Type:  Opaque\n\nData\n====\npassword:  6 bytes\n"
    )


def test_a_config_map() -> None:
    config = core_v1.ConfigMap(metadata=meta_v1.ObjectMeta(name="web", namespace="default"), data={"a": "x\ny\n"})
    assert run(FakeCluster(config), "describe", "cm/web").stdout == (
        "Name:         web\nNamespace:    default\nLabels:       <none>\nAnnotations:  <none>\n\n"
        "Data\n====\na:\n----\nx\ny\n\n\nBinaryData\n====\n\nEvents:  <none>\n"
    )


def test_names_may_be_cut_short_and_pages_are_apart() -> None:
    pods = FakeCluster(*(PodBuilder(name, "default").build() for name in ("web-1", "web-2", "api-1")))
    result = run(pods, "describe", "pods", "web")
    assert [line for line in result.stdout.splitlines() if line.startswith("Name:")] == [
        "Name:             web-1",
        "Name:             web-2",
    ]
    assert "\n\n\nName:" in result.stdout
    missing = run(pods, "describe", "pods", "db")
    assert (missing.stderr, missing.exit_code) == ('Error from server (NotFound): pods "db" not found\n', 1)
    assert run(FakeCluster(), "describe", "pods").stderr == "No resources found in default namespace.\n"


def test_last_applied_is_not_shown_and_long_annotations_are_cut() -> None:
    pod = PodBuilder("web-1", "default").annotated(
        {"kubectl.kubernetes.io/last-applied-configuration": "{}", "note": "x" * 200, "a": "b"}
    )
    page = run(FakeCluster(pod.build()), "describe", "pod/web-1").stdout
    assert f"Annotations:      a: b\n                  note:\n                    {'x' * 139}...\n" in page
    assert "last-applied" not in page


def test_columns_are_as_wide_as_their_neighbours_need() -> None:
    assert align([["a", "b", "c"], ["long", "bb", "c"], ["one"], ["x", "y"]]) == [
        "a     b   c",
        "long  bb  c",
        "one",
        "x  y",
    ]
