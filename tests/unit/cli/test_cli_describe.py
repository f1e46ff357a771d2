"""`barque describe`: whole pages, in kubectl's layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from barque.api.errors import unavailable
from barque.api.resources import RESOURCES
from barque.api.types import core_v1, discovery_v1, meta_v1
from barque.cli.describe_any import title
from barque.cli.description import align
from barque.client.verbs import Target
from tests.support.builders import DeploymentBuilder, NodeBuilder, PodBuilder, ReplicaSetBuilder, ServiceBuilder
from tests.support.registry_cluster import RegistryCluster, run

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
  Normal   Scheduled  5m                worker  Successfully assigned default/web-1 to n1
  Warning  Unhealthy  10s (x3 over 5m)  worker  Readiness probe failed
"""


def test_a_pod_with_its_events() -> None:
    pod = a_pod()
    cluster = RegistryCluster(
        pod,
        an_event("e1", pod, "Scheduled", "Successfully assigned default/web-1 to n1"),
        an_event("e2", pod, "Unhealthy", "Readiness probe failed", count=3, type="Warning"),
        an_event("e3", PodBuilder("web-2", "default").build(), "Other", "of another pod"),
        an_event("e4", PodBuilder("web-1", "default").uid("older").build(), "Killing", "of an older pod of this name"),
    )
    result = run(cluster, "describe", "pod", "web-1")
    assert result.stdout == POD_PAGE


def test_every_kind_of_volume_says_what_is_in_it() -> None:
    some = [core_v1.KeyToPath(key="a", path="b/c")]
    labels = core_v1.ObjectFieldSelector(fieldPath="metadata.labels")
    downward = [core_v1.DownwardAPIVolumeFile(path="labels", fieldRef=labels)]
    sources = [
        core_v1.VolumeProjection(secret=core_v1.SecretProjection(name="s", items=some)),
        core_v1.VolumeProjection(configMap=core_v1.ConfigMapProjection(name="c", optional=True)),
        core_v1.VolumeProjection(serviceAccountToken=core_v1.ServiceAccountTokenProjection(path="token")),
    ]
    pod = (
        PodBuilder("web-1", "default")
        .volume("one", secret=core_v1.SecretVolumeSource(secretName="s", items=some))
        .volume("two", persistentVolumeClaim=core_v1.PersistentVolumeClaimVolumeSource(claimName="data"))
        .volume("three", downwardAPI=core_v1.DownwardAPIVolumeSource(items=downward))
        .volume("four", projected=core_v1.ProjectedVolumeSource(sources=sources))
        .build()
    )
    page = run(RegistryCluster(pod), "describe", "pod/web-1").stdout
    shown = page[page.index("Volumes:") : page.index("QoS")] if "QoS" in page else page[page.index("Volumes:") :]
    words = [line.split(":")[0].strip() for line in shown.splitlines()]
    assert "    Items:\n      a -> b/c\n" in shown
    assert "      metadata.labels -> labels\n" in shown
    for word in ("ClaimName", "ReadOnly", "SecretName", "ConfigMapName", "TokenExpirationSeconds"):
        assert word in words


def test_a_pod_that_does_not_run_says_why() -> None:
    cluster = RegistryCluster(PodBuilder("web-1", "default").waiting("ImagePullBackOff", "no image web:9").build())
    page = run(cluster, "describe", "pod/web-1").stdout
    assert (
        "    State:          Waiting\n      Reason:       ImagePullBackOff\n      Message:      no image web:9\n"
        in page
    )
    assert page.endswith("Events:             <none>\n")


def test_events_of_either_kind_the_newest_last() -> None:
    pod = a_pod()
    goes_on = an_event("e1", pod, "Unhealthy", "Readiness probe failed", type="Warning")
    goes_on.firstTimestamp = goes_on.lastTimestamp = ""
    goes_on.source, goes_on.count = None, None
    goes_on.eventTime, goes_on.reportingComponent = "2025-12-31T23:50:00.000000Z", "barque.io/worker"
    goes_on.series = core_v1.EventSeries(count=7, lastObservedTime="2025-12-31T23:59:58.500000Z")
    cluster = RegistryCluster(pod, goes_on, an_event("e2", pod, "Pulled", "pulled it", count=2))
    page = run(cluster, "describe", "pod", "web-1").stdout
    assert page[page.index("Events:") :].splitlines()[3:] == [
        "  Normal   Pulled     10s (x2 over 5m)  worker            pulled it",
        "  Warning  Unhealthy  1s (x7 over 10m)  barque.io/worker  Readiness probe failed",
    ]


def test_within_a_second_a_pod_is_placed_before_its_node_does_anything() -> None:
    pod = a_pod()
    placed = an_event("e2", pod, "Scheduled", "to n1")
    placed.firstTimestamp = placed.lastTimestamp = ""
    placed.count, placed.eventTime = None, "2025-12-31T23:59:50.700000Z"
    cluster = RegistryCluster(pod, an_event("e1", pod, "Pulled", "pulled it"), placed)
    page = run(cluster, "describe", "pod", "web-1").stdout
    assert [line.split()[1] for line in page[page.index("Events:") :].splitlines()[3:]] == ["Scheduled", "Pulled"]


def test_a_nodes_events_are_found_by_its_uid_and_by_its_name() -> None:
    node = NodeBuilder("n1").build()
    node.metadata.uid = "uid-n1"
    of_uid, of_name, of_older = (an_event(f"e{at}", node, f"Reason{at}", "it happened") for at in range(3))
    for event, uid in ((of_uid, "uid-n1"), (of_name, "n1"), (of_older, "uid-of-an-older-one")):
        event.involvedObject = core_v1.ObjectReference(kind="Node", name="n1", uid=uid)
    page = run(RegistryCluster(node, of_uid, of_name, of_older), "describe", "node", "n1").stdout
    assert [line.split()[1] for line in page[page.index("Events:") :].splitlines()[3:]] == ["Reason0", "Reason1"]


def test_events_that_cannot_be_had_do_not_spoil_the_page() -> None:
    cluster = RegistryCluster(a_pod())

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
    cluster = RegistryCluster(
        web, old.build(), new.build(), done.build(), ReplicaSetBuilder("other", "default").build()
    )
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
    page = run(RegistryCluster(web.build(), endpoint_slice), "describe", "svc", "web").stdout
    assert (
        "Port:                     http  80/TCP\n"
        "TargetPort:               8080/TCP\n"
        "NodePort:                 http  30080/TCP\n"
        "Endpoints:                10.244.0.3:8080,10.244.0.4:8080,10.244.0.5:8080 + 1 more...\n"
    ) in page
    shown = run(RegistryCluster(endpoint_slice), "describe", "endpointslice", "web-x").stdout
    assert "  - Addresses:  10.244.0.2\n    Conditions:\n      Ready:    false\n    Hostname:   <unset>\n" in shown


def test_a_service_says_how_it_is_reached_from_outside() -> None:
    web = ServiceBuilder("web", "default").cluster_ip("10.96.0.7").type("LoadBalancer").port(80, 8080).build()
    web.spec.externalTrafficPolicy, web.spec.healthCheckNodePort = "Local", 30100
    web.spec.trafficDistribution, web.spec.loadBalancerIP = "PreferSameZone", "192.0.2.9"
    page = run(RegistryCluster(web), "describe", "svc", "web").stdout
    assert "Desired LoadBalancer IP:  192.0.2.9\n" in page
    assert page.index("Traffic Distribution:     PreferSameZone\nHealthCheck NodePort:     30100\n") > 0


def test_endpoints() -> None:
    subset = core_v1.EndpointSubset(
        addresses=[core_v1.EndpointAddress(ip="10.244.0.2"), core_v1.EndpointAddress(ip="10.244.0.3")],
        ports=[core_v1.EndpointPort(name="http", port=8080, protocol="TCP")],
    )
    endpoints = core_v1.Endpoints(metadata=meta_v1.ObjectMeta(name="web", namespace="default"), subsets=[subset])
    assert run(RegistryCluster(endpoints), "describe", "ep", "web").stdout == (
        "Name:         web\nNamespace:    default\nLabels:       <none>\nAnnotations:  <none>\n"
        "Subsets:\n"
        "  Addresses:          10.244.0.2,10.244.0.3\n"
        "  NotReadyAddresses:  <none>\n"
        "  Ports:\n"
        "    Name  Port  Protocol\n"
        "    ----  ----  --------\n"
        "    http  8080  TCP\n"
        "\n"
        "Events:  <none>\n"
    )


def test_a_node_with_what_runs_on_it() -> None:
    node = NodeBuilder("n1").ready().address("10.0.0.1").pod_cidr("10.244.0.0/24").build()
    done = PodBuilder("done", "default").on("n1").requesting(cpu="1").succeeded().build()
    page = run(
        RegistryCluster(node, a_pod(), done, PodBuilder("elsewhere", "default").on("n2").build()),
        "describe",
        "no",
        "n1",
    )
    assert (
        "Non-terminated Pods:  (1 in total)\n"
        "  Namespace  Name   CPU Requests  CPU Limits  Memory Requests  Memory Limits  Age\n"
        "  ---------  ----   ------------  ----------  ---------------  -------------  ---\n"
        "  default    web-1  100m (2%)     0 (0%)      0 (0%)           0 (0%)         0s\n"
        "Allocated resources:\n"
        "  Resource  Requests   Limits\n"
        "  --------  --------   ------\n"
        "  cpu       100m (2%)  0 (0%)\n"
        "  memory    0 (0%)     0 (0%)\n"
    ) in page.stdout


def test_a_secrets_values_are_never_shown() -> None:
    secret = core_v1.Secret(
        metadata=meta_v1.ObjectMeta(name="db", namespace="default"), type="Opaque", data={"password": "c2VjcmV0"}
    )
    assert run(RegistryCluster(secret), "describe", "secret", "db").stdout == (
        "Name:         db\nNamespace:    default\nLabels:       <none>\nAnnotations:  <none>\n\n"
        "Type:  Opaque\n\nData\n====\npassword:  6 bytes\n"
    )


def test_a_config_map() -> None:
    config = core_v1.ConfigMap(metadata=meta_v1.ObjectMeta(name="web", namespace="default"), data={"a": "x\ny\n"})
    assert run(RegistryCluster(config), "describe", "cm/web").stdout == (
        "Name:         web\nNamespace:    default\nLabels:       <none>\nAnnotations:  <none>\n\n"
        "Data\n====\na:\n----\nx\ny\n\n\nBinaryData\n====\n\nEvents:  <none>\n"
    )


def test_names_may_be_cut_short_and_pages_are_apart() -> None:
    pods = RegistryCluster(*(PodBuilder(name, "default").build() for name in ("web-1", "web-2", "api-1")))
    result = run(pods, "describe", "pods", "web")
    assert [line for line in result.stdout.splitlines() if line.startswith("Name:")] == [
        "Name:             web-1",
        "Name:             web-2",
    ]
    assert "\n\n\nName:" in result.stdout
    missing = run(pods, "describe", "pods", "db")
    assert (missing.stderr, missing.exit_code) == ('Error from server (NotFound): pods "db" not found\n', 1)
    assert run(RegistryCluster(), "describe", "pods").stderr == "No resources found in default namespace.\n"


def test_last_applied_is_not_shown_and_long_annotations_are_cut() -> None:
    pod = PodBuilder("web-1", "default").annotated(
        {"kubectl.kubernetes.io/last-applied-configuration": "{}", "note": "x" * 200, "a": "b"}
    )
    page = run(RegistryCluster(pod.build()), "describe", "pod/web-1").stdout
    assert f"Annotations:      a: b\n                  note:\n                    {'x' * 139}...\n" in page
    assert "last-applied" not in page


def test_columns_are_as_wide_as_their_neighbours_need() -> None:
    assert align([["a", "b", "c"], ["long", "bb", "c"], ["one"], ["x", "y"]]) == [
        "a     b   c",
        "long  bb  c",
        "one",
        "x  y",
    ]


def test_a_pod_template() -> None:
    made = {"name": "web", "namespace": "default", "labels": {"app": "web"}}
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "main", "image": "web:1"}]}}
    cluster = RegistryCluster({"apiVersion": "v1", "kind": "PodTemplate", "metadata": made, "template": template})
    page = run(cluster, "describe", "podtemplate", "web").stdout
    assert page.startswith("Name:         web\nNamespace:    default\nLabels:       app=web\nAnnotations:  <none>\n")
    assert "Pod Template:\n  Labels:  app=web\n  Containers:\n    main:\n" in page
    assert page.splitlines()[-1].split() == ["Events:", "<none>"]


def test_a_kind_without_a_page_of_its_own_is_shown_field_by_field() -> None:
    spec = {"holderIdentity": "n1", "leaseDurationSeconds": 40, "renewTime": "2026-01-01T00:00:00.000000Z"}
    made = {"name": "n1", "namespace": "default", "uid": "u-1", "creationTimestamp": "2026-01-01T00:00:00Z"}
    cluster = RegistryCluster({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": made, "spec": spec})
    page = run(cluster, "describe", "lease/n1").stdout
    assert page == (
        "Name:         n1\n"
        "Namespace:    default\n"
        "Labels:       <none>\n"
        "Annotations:  <none>\n"
        "API Version:  coordination.k8s.io/v1\n"
        "Kind:         Lease\n"
        "Metadata:\n"
        "  Creation Timestamp:  2026-01-01T00:00:00Z\n"
        f"  Resource Version:    {cluster.one('leases', 'n1')['metadata']['resourceVersion']}\n"
        "  UID:                 u-1\n"
        "Spec:\n"
        "  Holder Identity:         n1\n"
        "  Lease Duration Seconds:  40\n"
        "  Renew Time:              2026-01-01T00:00:00.000000Z\n"
        "Events:                    <none>\n"
    )


def test_every_served_kind_has_a_page() -> None:
    for resource in RESOURCES:
        if resource.storage != "store":
            continue
        name = {"name": "x", "namespace": "default"} if resource.namespaced else {"name": "x"}
        cluster = RegistryCluster({"apiVersion": resource.api_version, "kind": resource.kind, "metadata": name})
        page = run(cluster, "describe", resource.plural, "x")
        assert (page.exit_code, page.stdout.splitlines()[0].split()) == (0, ["Name:", "x"]), resource.kind


def test_some_are_missing_and_the_others_are_shown(tmp_path: Path) -> None:
    cluster = RegistryCluster(PodBuilder("web-1", "default").build())
    result = run(cluster, "describe", "pod/gone", "pod/web-1")
    assert result.stdout.startswith("Name:             web-1\n")
    assert (result.stderr, result.exit_code) == ('Error from server (NotFound): pods "gone" not found\n', 1)
    manifest = tmp_path / "web.yaml"
    manifest.write_text("{apiVersion: v1, kind: Pod, metadata: {name: web-1}}")
    assert run(cluster, "describe", "-f", str(manifest)).stdout == run(cluster, "describe", "po", "web-1").stdout


def test_field_names_in_words() -> None:
    names = ("holderIdentity", "podIP", "podIPs", "uid", "apiVersion", "clusterIPs", "x-y", "TTLSeconds", "name2")
    assert [title(name) for name in names] == [
        "Holder Identity", "Pod IP", "Pod I Ps", "UID", "API Version", "Cluster I Ps", "X Y", "TTL Seconds", "Name2",
    ]  # fmt: skip
