"""Objects for tests, in one line: `a_pod("web").on("n1").ready().build()`.

What comes out looks as if the masters had stored it: defaulted, with a uid and a creation time. Every method returns
the builder; `build()` returns a new object each time.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Generic, Self, TypeVar

from barque.api.conditions import set_condition
from barque.api.defaults import apply_defaults
from barque.api.defaults.networking import default_address
from barque.api.types import apps_v1, core_v1, discovery_v1, meta_v1
from barque.api.types.base import Object, Quantity

T = TypeVar("T", bound=Object)

# The moment at which tests.support.clock.FakeClock starts.
START = "2026-01-01T00:00:00Z"


class Builder(Generic[T]):
    """What every kind's builder can do: metadata, and `build()`."""

    def __init__(self, obj: Any, name: str, namespace: str) -> None:
        self._obj = obj
        obj.metadata.name = name
        obj.metadata.namespace = namespace
        obj.metadata.uid = f"uid-{name}"
        obj.metadata.creationTimestamp = START

    def build(self) -> T:
        built: T = copy.deepcopy(self._obj)
        apply_defaults(built)
        return built

    def in_namespace(self, namespace: str) -> Self:
        self._obj.metadata.namespace = namespace
        return self

    def uid(self, uid: str) -> Self:
        self._obj.metadata.uid = uid
        return self

    def labelled(self, labels: Mapping[str, str] | None = None, **more: str) -> Self:
        self._obj.metadata.labels |= {**(labels or {}), **more}
        return self

    def annotated(self, annotations: Mapping[str, str]) -> Self:
        self._obj.metadata.annotations |= annotations
        return self

    def at_revision(self, revision: int | str) -> Self:
        self._obj.metadata.resourceVersion = str(revision)
        return self

    def generation(self, generation: int) -> Self:
        self._obj.metadata.generation = generation
        return self

    def created(self, timestamp: str) -> Self:
        self._obj.metadata.creationTimestamp = timestamp
        return self

    def deleting(self, since: str = START, grace_s: int | None = None) -> Self:
        self._obj.metadata.deletionTimestamp = since
        self._obj.metadata.deletionGracePeriodSeconds = grace_s
        return self

    def finalizers(self, *names: str) -> Self:
        self._obj.metadata.finalizers = list(names)
        return self

    def owned_by(self, owner: Any) -> Self:
        """Make `owner` the managing controller."""
        self._obj.metadata.ownerReferences = [
            meta_v1.OwnerReference(
                apiVersion=owner.apiVersion,
                kind=owner.kind,
                name=owner.metadata.name,
                uid=owner.metadata.uid,
                controller=True,
                blockOwnerDeletion=True,
            )
        ]
        return self

    def with_metadata(self, **values: Any) -> Self:
        for name, value in values.items():
            setattr(self._obj.metadata, name, value)
        return self

    def with_spec(self, **values: Any) -> Self:
        for name, value in values.items():
            setattr(self._obj.spec, name, value)
        return self

    def with_status(self, **values: Any) -> Self:
        for name, value in values.items():
            setattr(self._obj.status, name, value)
        return self


class PodBuilder(Builder[core_v1.Pod]):
    """A pending pod with one container `main` of image `web:1`."""

    def __init__(self, name: str, namespace: str) -> None:
        super().__init__(core_v1.Pod(), name, namespace)
        self._obj.spec.containers = [core_v1.Container(name="main", image="web:1")]

    def container(self, name: str, image: str = "web:1", **values: Any) -> Self:
        """Describe the first container, or add another where a described one is there already."""
        described = core_v1.Container(name=name, image=image, **values)
        containers = self._obj.spec.containers
        if containers[0].name == "main" and len(containers) == 1:
            containers[0] = described
        else:
            containers.append(described)
        return self

    def on(self, node: str) -> Self:
        self._obj.spec.nodeName = node
        return self

    def requesting(self, **amounts: Quantity) -> Self:
        """What the first container requests: `requesting(cpu="500m", memory="64Mi")`."""
        resources = self._obj.spec.containers[0].resources or core_v1.ResourceRequirements()
        resources.requests = dict(amounts)
        self._obj.spec.containers[0].resources = resources
        return self

    def port(self, number: int, name: str = "", protocol: str = "TCP") -> Self:
        port = core_v1.ContainerPort(containerPort=number, name=name, protocol=protocol)
        self._obj.spec.containers[0].ports.append(port)
        return self

    def volume(self, name: str, **source: Any) -> Self:
        self._obj.spec.volumes.append(core_v1.Volume(name=name, **source))
        return self

    def phase(self, phase: str) -> Self:
        self._obj.status.phase = phase
        return self

    def ip(self, address: str) -> Self:
        self._obj.status.podIP = address
        self._obj.status.podIPs = [core_v1.PodIP(ip=address)]
        return self

    def condition(self, type: str, status: str, since: str = START, reason: str = "", message: str = "") -> Self:
        condition = core_v1.PodCondition(
            type=type, status=status, lastTransitionTime=since, reason=reason, message=message
        )
        set_condition(self._obj.status.conditions, condition)
        return self

    def running(self, restarts: int = 0, since: str = START) -> Self:
        """Phase Running, every container running but not ready."""
        self._obj.status.startTime = self._obj.status.startTime or since
        self._obj.status.containerStatuses = [
            core_v1.ContainerStatus(
                name=container.name,
                image=container.image,
                imageID=f"sha256:{container.image}",
                containerID=f"docker://{self._obj.metadata.uid}-{container.name}-{restarts}",
                restartCount=restarts,
                started=True,
                state=core_v1.ContainerState(running=core_v1.ContainerStateRunning(startedAt=since)),
            )
            for container in self._obj.spec.containers
        ]
        return self.phase("Running")

    def ready(self, since: str = START) -> Self:
        """Running, and Ready since then."""
        self.running(since=since)
        for status in self._obj.status.containerStatuses:
            status.ready = True
        for type in ("PodScheduled", "Initialized", "ContainersReady", "Ready"):
            self.condition(type, "True", since)
        return self

    def not_ready(self, since: str = START, reason: str = "ContainersNotReady") -> Self:
        self.running(since=since)
        return self.condition("ContainersReady", "False", since, reason).condition("Ready", "False", since, reason)

    def waiting(self, reason: str, message: str = "", restarts: int = 0) -> Self:
        """Every container waiting: "CrashLoopBackOff", "ImagePullBackOff", "ContainerCreating"…"""
        self._obj.status.containerStatuses = [
            core_v1.ContainerStatus(
                name=container.name,
                image=container.image,
                restartCount=restarts,
                state=core_v1.ContainerState(waiting=core_v1.ContainerStateWaiting(reason=reason, message=message)),
            )
            for container in self._obj.spec.containers
        ]
        return self

    def terminated(self, exit_code: int, reason: str = "", at: str = START, restarts: int = 0) -> Self:
        """Every container ended; sets no phase."""
        ended = core_v1.ContainerStateTerminated(
            exitCode=exit_code, reason=reason or ("Error" if exit_code else "Completed"), startedAt=START, finishedAt=at
        )
        self._obj.status.containerStatuses = [
            core_v1.ContainerStatus(
                name=container.name,
                image=container.image,
                restartCount=restarts,
                state=core_v1.ContainerState(terminated=copy.copy(ended)),
            )
            for container in self._obj.spec.containers
        ]
        return self

    def succeeded(self) -> Self:
        return self.terminated(0).phase("Succeeded")

    def failed(self) -> Self:
        return self.terminated(1).phase("Failed")


class NodeBuilder(Builder[core_v1.Node]):
    """A node with 4 CPUs, 8Gi and room for 110 pods; not ready until `.ready()`."""

    def __init__(self, name: str) -> None:
        super().__init__(core_v1.Node(), name, "")
        self._obj.metadata.labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
        self._obj.status.nodeInfo = core_v1.NodeSystemInfo(
            kubeletVersion="v0.1.0",
            osImage="Debian GNU/Linux 12 (bookworm)",
            kernelVersion="6.1.0",
            containerRuntimeVersion="docker://20.10.24",
            operatingSystem="linux",
            architecture="amd64",
        )
        self.capacity(cpu="4", memory="8Gi", pods="110")

    def capacity(self, **amounts: Quantity) -> Self:
        self._obj.status.capacity = dict(amounts)
        self._obj.status.allocatable = dict(amounts)
        return self

    def condition(self, type: str, status: str, since: str = START, reason: str = "", message: str = "") -> Self:
        condition = core_v1.NodeCondition(
            type=type, status=status, lastTransitionTime=since, lastHeartbeatTime=since, reason=reason, message=message
        )
        set_condition(self._obj.status.conditions, condition)
        return self

    def ready(self, since: str = START) -> Self:
        return self.condition("Ready", "True", since, "WorkerReady")

    def not_ready(self, since: str = START) -> Self:
        return self.condition("Ready", "False", since, "WorkerNotReady")

    def unknown(self, since: str = START) -> Self:
        return self.condition("Ready", "Unknown", since, "NodeStatusUnknown")

    def unschedulable(self) -> Self:
        self._obj.spec.unschedulable = True
        return self

    def pod_cidr(self, cidr: str) -> Self:
        self._obj.spec.podCIDR = cidr
        self._obj.spec.podCIDRs = [cidr]
        return self

    def address(self, ip: str) -> Self:
        self._obj.status.addresses = [
            core_v1.NodeAddress(type="InternalIP", address=ip),
            core_v1.NodeAddress(type="Hostname", address=self._obj.metadata.name),
        ]
        return self


class WorkloadBuilder(Builder[T]):
    """What Deployments and ReplicaSets share. Selector and template labels are `app: <name>`."""

    def __init__(self, obj: Any, name: str, namespace: str) -> None:
        super().__init__(obj, name, namespace)
        obj.metadata.generation = 1
        obj.spec.replicas = 1
        obj.spec.template = core_v1.PodTemplateSpec(
            metadata=meta_v1.ObjectMeta(),
            spec=core_v1.PodSpec(containers=[core_v1.Container(name="main", image="web:1")]),
        )
        self.selecting(app=name)

    def selecting(self, labels: Mapping[str, str] | None = None, **more: str) -> Self:
        wanted = {**(labels or {}), **more}
        self._obj.spec.selector = meta_v1.LabelSelector(matchLabels=wanted)
        self._obj.spec.template.metadata.labels = dict(wanted)
        return self

    def template_labels(self, **labels: str) -> Self:
        self._obj.spec.template.metadata.labels |= labels
        return self

    def replicas(self, count: int) -> Self:
        self._obj.spec.replicas = count
        return self

    def image(self, image: str) -> Self:
        self._obj.spec.template.spec.containers[0].image = image
        return self

    def template(self, template: core_v1.PodTemplateSpec) -> Self:
        self._obj.spec.template = copy.deepcopy(template)
        return self

    def min_ready(self, seconds: int) -> Self:
        self._obj.spec.minReadySeconds = seconds
        return self

    def observed(self) -> Self:
        """The status has seen the current generation."""
        self._obj.status.observedGeneration = self._obj.metadata.generation
        return self

    def has(self, replicas: int = 0, *, ready: int = 0, available: int = 0) -> Self:
        """The replica counts of the status."""
        self._obj.status.replicas = replicas
        self._obj.status.readyReplicas = ready
        self._obj.status.availableReplicas = available
        return self


class ReplicaSetBuilder(WorkloadBuilder[apps_v1.ReplicaSet]):
    def __init__(self, name: str, namespace: str) -> None:
        super().__init__(apps_v1.ReplicaSet(), name, namespace)


class DeploymentBuilder(WorkloadBuilder[apps_v1.Deployment]):
    def __init__(self, name: str, namespace: str) -> None:
        super().__init__(apps_v1.Deployment(), name, namespace)

    def rolling(self, max_surge: int | str = "25%", max_unavailable: int | str = "25%") -> Self:
        self._obj.spec.strategy = apps_v1.DeploymentStrategy(
            type="RollingUpdate",
            rollingUpdate=apps_v1.RollingUpdateDeployment(maxSurge=max_surge, maxUnavailable=max_unavailable),
        )
        return self

    def recreating(self) -> Self:
        self._obj.spec.strategy = apps_v1.DeploymentStrategy(type="Recreate")
        return self

    def paused(self) -> Self:
        self._obj.spec.paused = True
        return self

    def condition(self, type: str, status: str, reason: str = "", since: str = START, message: str = "") -> Self:
        condition = apps_v1.DeploymentCondition(
            type=type, status=status, reason=reason, message=message, lastTransitionTime=since, lastUpdateTime=since
        )
        set_condition(self._obj.status.conditions, condition)
        return self


class ServiceBuilder(Builder[core_v1.Service]):
    """A ClusterIP service without an address yet; selects `app: <name>` and has no port until `.port()`."""

    def __init__(self, name: str, namespace: str) -> None:
        super().__init__(core_v1.Service(), name, namespace)
        self._obj.spec.selector = {"app": name}

    def build(self) -> core_v1.Service:
        built = super().build()
        default_address(built)
        return built

    def selecting(self, **labels: str) -> Self:
        self._obj.spec.selector = dict(labels)
        return self

    def cluster_ip(self, address: str) -> Self:
        self._obj.spec.clusterIP = address
        return self

    def headless(self) -> Self:
        return self.cluster_ip("None")

    def type(self, type: str) -> Self:
        self._obj.spec.type = type
        return self

    def port(
        self,
        port: int,
        target: int | str | None = None,
        *,
        name: str = "",
        protocol: str = "TCP",
        node_port: int | None = None,
    ) -> Self:
        self._obj.spec.ports.append(
            core_v1.ServicePort(port=port, targetPort=target, name=name, protocol=protocol, nodePort=node_port)
        )
        if node_port is not None and not self._obj.spec.type:
            self._obj.spec.type = "NodePort"
        return self


class EndpointSliceBuilder(Builder[discovery_v1.EndpointSlice]):
    """An IPv4 slice of the service."""

    def __init__(self, name: str, service: str, namespace: str) -> None:
        slice = discovery_v1.EndpointSlice(addressType="IPv4")
        super().__init__(slice, name, namespace)
        self._obj.metadata.labels = {"kubernetes.io/service-name": service}

    def port(self, number: int, name: str = "", protocol: str = "TCP") -> Self:
        self._obj.ports.append(discovery_v1.EndpointPort(port=number, name=name, protocol=protocol))
        return self

    def endpoint(self, address: str, *, ready: bool = True, node: str = "", pod: str = "") -> Self:
        reference = core_v1.ObjectReference(kind="Pod", name=pod, namespace=self._obj.metadata.namespace)
        self._obj.endpoints.append(
            discovery_v1.Endpoint(
                addresses=[address],
                conditions=discovery_v1.EndpointConditions(ready=ready, serving=ready, terminating=False),
                nodeName=node,
                targetRef=reference if pod else None,
            )
        )
        return self


class ConfigMapBuilder(Builder[core_v1.ConfigMap]):
    def __init__(self, name: str, namespace: str, data: Mapping[str, str]) -> None:
        super().__init__(core_v1.ConfigMap(data=dict(data)), name, namespace)

    def immutable(self) -> Self:
        self._obj.immutable = True
        return self


class SecretBuilder(Builder[core_v1.Secret]):
    def __init__(self, name: str, namespace: str, string_data: Mapping[str, str]) -> None:
        super().__init__(core_v1.Secret(stringData=dict(string_data)), name, namespace)

    def type(self, type: str) -> Self:
        self._obj.type = type
        return self


class NamespaceBuilder(Builder[core_v1.Namespace]):
    def __init__(self, name: str) -> None:
        super().__init__(core_v1.Namespace(), name, "")

    def terminating(self) -> Self:
        self._obj.status.phase = "Terminating"
        return self.deleting()


class EventBuilder(Builder[core_v1.Event]):
    """A Normal event about `about`."""

    def __init__(self, name: str, about: Any) -> None:
        super().__init__(core_v1.Event(), name, about.metadata.namespace or "default")
        self._obj.involvedObject = core_v1.ObjectReference(
            apiVersion=about.apiVersion,
            kind=about.kind,
            name=about.metadata.name,
            namespace=about.metadata.namespace,
            uid=about.metadata.uid,
        )
        self.says("Normal", "Started", "it started")

    def says(self, type: str, reason: str, message: str) -> Self:
        self._obj.type, self._obj.reason, self._obj.message = type, reason, message
        return self.seen()

    def seen(self, count: int = 1, *, first: str = START, last: str = START) -> Self:
        self._obj.count, self._obj.firstTimestamp, self._obj.lastTimestamp = count, first, last
        return self


def a_pod(name: str = "web", namespace: str = "default") -> PodBuilder:
    return PodBuilder(name, namespace)


def a_node(name: str = "n1") -> NodeBuilder:
    return NodeBuilder(name)


def a_replica_set(name: str = "web", namespace: str = "default") -> ReplicaSetBuilder:
    return ReplicaSetBuilder(name, namespace)


def a_deployment(name: str = "web", namespace: str = "default") -> DeploymentBuilder:
    return DeploymentBuilder(name, namespace)


def a_service(name: str = "web", namespace: str = "default") -> ServiceBuilder:
    return ServiceBuilder(name, namespace)


def an_endpoint_slice(name: str = "web-1", service: str = "web", namespace: str = "default") -> EndpointSliceBuilder:
    return EndpointSliceBuilder(name, service, namespace)


def a_config_map(name: str = "config", namespace: str = "default", **data: str) -> ConfigMapBuilder:
    return ConfigMapBuilder(name, namespace, data)


def a_secret(name: str = "secret", namespace: str = "default", **string_data: str) -> SecretBuilder:
    return SecretBuilder(name, namespace, string_data)


def a_namespace(name: str = "default") -> NamespaceBuilder:
    return NamespaceBuilder(name)


def an_event(about: Any, name: str = "event") -> EventBuilder:
    return EventBuilder(name, about)
