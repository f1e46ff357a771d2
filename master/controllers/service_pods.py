"""The pods behind services, without I/O: which pods a service has, on which ports, and how often it may be written.

Shared by the controllers of EndpointSlices and of Endpoints. Follows Kubernetes' endpoint utilities: a pod that has
ended or has no address is nobody's endpoint, nor is one on a node that is no more, unless the service publishes pods
that are not ready. Beyond Kubernetes, a pod does not serve while its node is silent, or has said for a while that it is
not ready: a worker whose dockerd is dead says what it last knew of its pods, and nobody looks after them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

from barque.api import conditions, podstatus
from barque.api.addresses import is_ipv4
from barque.api.types.core_v1 import Node, Service, ServicePort
from barque.api.views import PodView
from barque.client.clock import Clock
from barque.client.informers import Informers
from barque.master.controllers.owners import key_of
from barque.master.controllers.shared import BY_LABEL, BY_NODE, label_key

ZONE_LABEL = "topology.kubernetes.io/zone"
HEADLESS_LABEL = "service.kubernetes.io/headless"
# A worker that starts says for a moment that its node is not ready, while its pods serve on.
_UNREADY_FOR_S = 2.0


def has_endpoints(service: Service) -> bool:
    """Whether the system finds the service's endpoints, rather than the user."""
    return bool(service.spec.selector) and service.spec.type != "ExternalName"


def selects(service: Service, pod: PodView) -> bool:
    selector = service.spec.selector
    return bool(selector) and selector.items() <= pod.metadata.labels.items()


def is_named(service: Service, pod: PodView) -> bool:
    """Whether the pod has a name of its own under the service's."""
    return bool(pod.spec.hostname) and pod.spec.subdomain == service.metadata.name


def target_port(port: ServicePort, pod: PodView) -> int | None:
    """The number of the pod's port that the service port leads to; None where the pod has no port of that name."""
    target = port.targetPort
    if isinstance(target, int) and target > 0:
        return target
    if not target:
        return port.port
    sidecars = (c for c in pod.spec.initContainers if c.restartPolicy == "Always")
    for container in (*pod.spec.containers, *sidecars):
        for offered in container.ports:
            if offered.name == target and (offered.protocol or "TCP") == (port.protocol or "TCP"):
                return offered.containerPort
    return None


class ServicePods:
    """What is known of the pods of all services; tells of changes that endpoints show, by the services' keys."""

    def __init__(self, informers: Informers, clock: Clock) -> None:
        self._clock = clock
        # Since when a node has not been ready; for ever where it is silent, or was unready before we looked.
        self._unready_since: dict[str, float] = {}
        self._wakers: list[Callable[[str], None]] = []
        self._services = informers.of(Service)
        self._pods = informers.of(PodView)
        self._nodes = informers.of(Node)
        self._pods.add_handler(self._handle_pod)
        self._nodes.add_handler(self._handle_node)

    def on_change(self, wake: Callable[[str], None]) -> None:
        """Have `wake` told the key of each service whose endpoints may have changed."""
        self._wakers.append(wake)

    def of(self, service: Service) -> Iterator[PodView]:
        """Those that are its endpoints, ready or not."""
        publishes = bool(service.spec.publishNotReadyAddresses)
        namespace, labels = service.metadata.namespace, service.spec.selector.items()
        found = [self._pods.by_index(BY_LABEL, label_key(namespace, *label)) for label in labels]
        for pod in min(found, key=len, default=[]):
            if not selects(service, pod) or podstatus.is_terminal(pod) or not is_ipv4(pod.status.podIP):
                continue
            if publishes or not pod.spec.nodeName or self._nodes.get(pod.spec.nodeName) is not None:
                yield pod

    def is_serving(self, pod: PodView) -> bool:
        """Whether the pod is ready, and somebody looks after it."""
        return podstatus.is_ready(pod) and self._patience_s(pod) > 0

    def settles_in_s(self, service: Service) -> float | None:
        """After how many seconds a pod of the service may cease to serve by time alone; None where none does."""
        if not self._unready_since:
            return None
        left = [self._patience_s(pod) for pod in self.of(service)]
        return min((seconds for seconds in left if 0 < seconds < math.inf), default=None)

    def _patience_s(self, pod: PodView) -> float:
        """How long the pod's node may still be unready."""
        since = self._unready_since.get(pod.spec.nodeName)
        return math.inf if since is None else since + _UNREADY_FOR_S - self._clock.monotonic()

    def zone(self, pod: PodView) -> str:
        """The zone of the pod's node; "" where it is not known."""
        return _zone(self._nodes.get(pod.spec.nodeName)) if pod.spec.nodeName else ""

    def _handle_pod(self, old: PodView | None, new: PodView | None) -> None:
        if old is None or new is None or _visible(old) != _visible(new):
            self._wake_services([p for p in (old, new) if p is not None])

    def _handle_node(self, old: Node | None, new: Node | None) -> None:
        node = new or old
        assert node is not None
        if new is None or _readiness(new) not in ("False", "Unknown"):
            self._unready_since.pop(node.metadata.name, None)
        elif _readiness(new) == "Unknown" or old is None:
            self._unready_since[node.metadata.name] = -math.inf
        else:
            self._unready_since.setdefault(node.metadata.name, self._clock.monotonic())
        if old is None or new is None or (_zone(old), _readiness(old)) != (_zone(new), _readiness(new)):
            for pod in self._pods.by_index(BY_NODE, node.metadata.name):
                self._wake_services([pod])

    def _wake_services(self, states: Iterable[PodView]) -> None:
        states = list(states)
        namespace = states[0].metadata.namespace
        for label in {label for state in states for label in state.metadata.labels.items()}:
            for service in self._services.by_index(BY_LABEL, label_key(namespace, *label)):
                if any(selects(service, state) for state in states):
                    for wake in self._wakers:
                        wake(key_of(service))


def _zone(node: Node | None) -> str:
    return node.metadata.labels.get(ZONE_LABEL, "") if node is not None else ""


def _readiness(node: Node) -> str:
    found = conditions.find(node.status.conditions, "Ready")
    return found.status if found is not None else ""


def _visible(pod: PodView) -> tuple[object, ...]:
    """All of a pod that an endpoint shows, or that decides whether there is one."""
    meta, spec = pod.metadata, pod.spec
    return (
        meta.labels,
        bool(meta.deletionTimestamp),
        spec.nodeName,
        podstatus.is_terminal(pod),
        pod.status.podIP,
        podstatus.is_ready(pod),
    )


class Pace:
    """How soon a service's endpoints may be written again: the more pods it has, the costlier, and the longer it rests.

    A change after a rest is written at once; under a rollout of thousands of pods several share a write.
    """

    def __init__(self, clock: Clock, rest_per_pod_s: float, longest_rest_s: float) -> None:
        self._clock = clock
        self._rest_per_pod_s = rest_per_pod_s
        self._longest_rest_s = longest_rest_s
        self._rests_until: dict[str, float] = {}

    def left_s(self, key: str) -> float:
        """How long the service still rests; 0 where it may be written."""
        left_s = self._rests_until.get(key, 0.0) - self._clock.monotonic()
        if left_s <= 0:
            self._rests_until.pop(key, None)
            return 0.0
        return left_s

    def note(self, key: str, pods: int) -> None:
        """It has just been written with so many pods."""
        rest_s = min(pods * self._rest_per_pod_s, self._longest_rest_s)
        self._rests_until[key] = self._clock.monotonic() + rest_s

    def forget(self, key: str) -> None:
        self._rests_until.pop(key, None)
