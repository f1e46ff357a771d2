"""Builders of objects for tests: each reads as a sentence and ends in `.build()`, or is given to `FakeVerbs.put`."""

from __future__ import annotations

from barque.api.types.apps_v1 import (
    Deployment,
    DeploymentSpec,
    DeploymentStrategy,
    ReplicaSet,
    ReplicaSetSpec,
    RollingUpdateDeployment,
)
from barque.api.types.base import IntOrString
from barque.api.types.core_v1 import (
    Container,
    ContainerPort,
    Node,
    NodeCondition,
    Pod,
    PodCondition,
    PodSpec,
    PodTemplateSpec,
    ResourceRequirements,
    Service,
    ServicePort,
    ServiceSpec,
)
from barque.api.types.meta_v1 import LabelSelector, ObjectMeta, OwnerReference

LONG_AGO = "2025-01-01T00:00:00Z"


def a_pod(
    name: str = "web-1",
    *,
    namespace: str = "default",
    app: str = "web",
    node: str = "",
    phase: str = "Pending",
    ready: bool = False,
    since: str = LONG_AGO,
    cpu: str = "",
    memory: str = "",
    ip: str = "",
    owner: OwnerReference | None = None,
    labels: dict[str, str] | None = None,
) -> Pod:
    """A pod; `ready` makes it Running and Ready since `since`."""
    requests = {k: v for k, v in (("cpu", cpu), ("memory", memory)) if v}
    container = Container(name="main", image="bb:1", resources=ResourceRequirements(requests=dict(requests)))
    container.ports = [ContainerPort(name="http", containerPort=8080, protocol="TCP")]
    pod = Pod(
        metadata=ObjectMeta(name=name, namespace=namespace, uid=f"uid-{name}", creationTimestamp=LONG_AGO),
        spec=PodSpec(containers=[container], nodeName=node, schedulerName="default-scheduler"),
    )
    pod.metadata.labels = dict(labels) if labels is not None else {"app": app}
    if owner is not None:
        pod.metadata.ownerReferences = [owner]
    pod.status.phase = "Running" if ready else phase
    pod.status.podIP = ip
    if ready:
        make_ready(pod, since)
    return pod


def make_ready(pod: Pod, since: str = LONG_AGO) -> Pod:
    pod.status.phase = "Running"
    pod.status.conditions = [PodCondition(type="Ready", status="True", lastTransitionTime=since)]
    return pod


def a_template(app: str = "web", image: str = "bb:1") -> PodTemplateSpec:
    container = Container(name="main", image=image)
    return PodTemplateSpec(
        metadata=ObjectMeta(labels={"app": app}),
        spec=PodSpec(containers=[container], schedulerName="default-scheduler"),
    )


def a_replica_set(name: str = "web", replicas: int = 3, *, app: str = "web", min_ready_s: int = 0) -> ReplicaSet:
    return ReplicaSet(
        metadata=ObjectMeta(name=name, namespace="default", uid=f"uid-{name}", generation=1),
        spec=ReplicaSetSpec(
            replicas=replicas,
            minReadySeconds=min_ready_s or None,
            selector=LabelSelector(matchLabels={"app": app}),
            template=a_template(app),
        ),
    )


def a_deployment(
    name: str = "web",
    replicas: int = 3,
    *,
    image: str = "bb:1",
    surge: IntOrString = "25%",
    unavailable: IntOrString = "25%",
    recreate: bool = False,
    paused: bool = False,
    deadline_s: int | None = 600,
    history: int = 10,
) -> Deployment:
    strategy = DeploymentStrategy(
        type="RollingUpdate", rollingUpdate=RollingUpdateDeployment(maxSurge=surge, maxUnavailable=unavailable)
    )
    return Deployment(
        metadata=ObjectMeta(name=name, namespace="default", uid=f"uid-{name}", generation=1),
        spec=DeploymentSpec(
            replicas=replicas,
            selector=LabelSelector(matchLabels={"app": name}),
            template=a_template(name, image),
            strategy=DeploymentStrategy(type="Recreate") if recreate else strategy,
            paused=paused or None,
            progressDeadlineSeconds=deadline_s,
            revisionHistoryLimit=history,
        ),
    )


def a_node(
    name: str = "n1",
    *,
    cpu: str = "4",
    memory: str = "8Gi",
    pods: str = "110",
    ready: bool = True,
    labels: dict[str, str] | None = None,
) -> Node:
    node = Node(metadata=ObjectMeta(name=name, uid=f"uid-{name}", labels=labels or {}))
    node.status.allocatable = {"cpu": cpu, "memory": memory, "pods": pods}
    node.status.conditions = [
        NodeCondition(type="Ready", status="True" if ready else "False", lastTransitionTime=LONG_AGO)
    ]
    return node


def a_service(name: str = "web", *, target: IntOrString = 8080, publish_not_ready: bool = False) -> Service:
    port = ServicePort(name="http", port=80, targetPort=target, protocol="TCP")
    return Service(
        metadata=ObjectMeta(name=name, namespace="default", uid=f"uid-svc-{name}"),
        spec=ServiceSpec(
            selector={"app": name},
            ports=[port],
            type="ClusterIP",
            clusterIP="10.96.0.7",
            publishNotReadyAddresses=publish_not_ready or None,
        ),
    )
