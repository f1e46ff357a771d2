"""The EndpointSlice controller: keeps the addresses of each service's pods, ready or not, in slices.

In: informers of Services, Pods, Nodes and EndpointSlices. Out: EndpointSlices of up to 100 endpoints, all changes of
one service in one batch, and the sooner the fewer pods it has (`Pace`). Pods that resolve the service's ports to other
numbers stand in slices of their own. Hints say near whom an endpoint is to be used (KEP-2433, KEP-4444). A service
that is gone takes its slices with it through the garbage collector.
"""

from __future__ import annotations

from barque.api.types.core_v1 import ObjectReference, Service
from barque.api.types.discovery_v1 import (
    Endpoint,
    EndpointConditions,
    EndpointHints,
    EndpointPort,
    EndpointSlice,
    ForNode,
    ForZone,
)
from barque.api.views import PodView
from barque.client.client import Client
from barque.client.clock import Clock
from barque.client.informers import Informers
from barque.client.queue import WorkQueue
from barque.client.recorder import EventRecorder
from barque.master.controllers.owners import controller_reference, key_of, split_key
from barque.master.controllers.service_pods import (
    HEADLESS_LABEL,
    Pace,
    ServicePods,
    has_endpoints,
    is_named,
    target_port,
)
from barque.master.controllers.shared import BY_SERVICE, SERVICE_NAME_LABEL
from barque.master.controllers.slices import (
    MANAGED_BY_LABEL,
    Frame,
    Group,
    SlicePlan,
    plan_slices,
    ports_key,
    write_plan,
)

MANAGER = "endpointslice-controller.k8s.io"
# Kubernetes' default; small enough that one change stays one small write.
SLICE_SIZE = 100
# A service of 100 pods is written up to 20 times a second, one of 1,000 twice.
_REST_PER_POD_S, _LONGEST_REST_S = 0.0005, 0.5
_NEAR = ("PreferClose", "PreferSameZone", "PreferSameNode")


class EndpointSliceController:
    """Reconciles Services by their key."""

    name = "endpointslice"

    def __init__(
        self, client: Client, informers: Informers, pods: ServicePods, recorder: EventRecorder, clock: Clock
    ) -> None:
        self.queue = WorkQueue(clock)
        self._client = client
        self._recorder = recorder
        self._pods = pods
        self._pace = Pace(clock, _REST_PER_POD_S, _LONGEST_REST_S)
        self._services = informers.of(Service)
        self._slices = informers.of(EndpointSlice)
        self._services.add_handler(self._handle_service)
        pods.on_change(self.queue.add)
        self._slices.add_handler(self._handle_slice)

    def _handle_service(self, old: Service | None, new: Service | None) -> None:
        service = new or old
        assert service is not None
        self.queue.add(key_of(service))

    def _handle_slice(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        for held in (old, new):
            service = held.metadata.labels.get(SERVICE_NAME_LABEL) if held else None
            if held is not None and service:
                self.queue.add(f"{held.metadata.namespace}/{service}")

    async def reconcile(self, key: str) -> float | None:
        namespace, name = split_key(key)
        service = self._services.get(name, namespace)
        if service is None:
            self._pace.forget(key)
            return None
        if service.metadata.deletionTimestamp or not service.spec.selector:
            return None
        rest_s = self._pace.left_s(key)
        if rest_s:
            return rest_s
        existing = [s for s in self._slices.by_index(BY_SERVICE, key) if _is_managed(s, service)]
        groups = group_endpoints(service, self._pods) if has_endpoints(service) else {}
        plan = plan_slices(
            _frame(service),
            groups,
            existing,
            lambda taken: self._slices.get(taken, namespace) is not None,
            keeps_empty=has_endpoints(service),
        )
        if any(plan):
            self._pace.note(key, sum(len(group.endpoints) for group in groups.values()))
            await self._write(service, plan)
        return self._pods.settles_in_s(service)

    async def _write(self, service: Service, plan: SlicePlan) -> None:
        refused = await write_plan(self._client, plan)
        if refused is None:
            return
        if refused.reason not in ("Conflict", "AlreadyExists") and refused.code < 500:
            said = f"Error updating Endpoint Slices for Service {key_of(service)}: {refused.message}"
            self._recorder.event(service, "Warning", "FailedToUpdateEndpointSlices", said)
        raise refused


def group_endpoints(service: Service, pods: ServicePods) -> dict[bytes, Group]:
    """The service's endpoints, by the ports that it resolves to on them."""
    groups: dict[bytes, Group] = {}
    for pod in pods.of(service):
        ports = _resolve_ports(service, pod)
        group = groups.setdefault(ports_key(ports), Group(ports, {}))
        group.endpoints[pod.metadata.uid] = _endpoint(service, pod, pods)
    return groups


def _resolve_ports(service: Service, pod: PodView) -> list[EndpointPort]:
    numbered = ((port, target_port(port, pod)) for port in service.spec.ports)
    return [
        EndpointPort(name=port.name, port=number, protocol=port.protocol or "TCP", appProtocol=port.appProtocol)
        for port, number in numbered
        if number is not None
    ]


def _endpoint(service: Service, pod: PodView, pods: ServicePods) -> Endpoint:
    serving, zone = pods.is_serving(pod), pods.zone(pod)
    terminating = bool(pod.metadata.deletionTimestamp)
    ready = bool(service.spec.publishNotReadyAddresses) or (serving and not terminating)
    return Endpoint(
        addresses=[pod.status.podIP],
        conditions=EndpointConditions(ready=ready, serving=serving, terminating=terminating),
        hints=_hints(service.spec.trafficDistribution or "", zone, pod.spec.nodeName) if ready else None,
        hostname=pod.spec.hostname if is_named(service, pod) else "",
        nodeName=pod.spec.nodeName,
        targetRef=ObjectReference(
            kind="Pod", namespace=pod.metadata.namespace, name=pod.metadata.name, uid=pod.metadata.uid
        ),
        zone=zone,
    )


def _hints(distribution: str, zone: str, node: str) -> EndpointHints | None:
    """For whom an endpoint is meant where the service prefers near ones: its own zone, and its own node."""
    if distribution not in _NEAR:
        return None
    zones = [ForZone(name=zone)] if zone else []
    nodes = [ForNode(name=node)] if node and distribution == "PreferSameNode" else []
    return EndpointHints(forZones=zones, forNodes=nodes) if zones or nodes else None


def _frame(service: Service) -> Frame:
    meta = service.metadata
    labels = {key: value for key, value in meta.labels.items() if key != HEADLESS_LABEL}
    labels |= {SERVICE_NAME_LABEL: meta.name, MANAGED_BY_LABEL: MANAGER}
    if service.spec.clusterIP == "None":
        labels[HEADLESS_LABEL] = ""
    return Frame(meta.name, meta.namespace, labels, None, controller_reference(service), SLICE_SIZE)


def _is_managed(held: EndpointSlice, service: Service) -> bool:
    is_ours = held.metadata.labels.get(MANAGED_BY_LABEL) == MANAGER
    # Slices of an earlier service of the same name are the garbage collector's.
    return is_ours and any(r.uid == service.metadata.uid for r in held.metadata.ownerReferences)
