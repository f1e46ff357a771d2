"""The EndpointSliceMirroring controller: Endpoints that users keep for services without a selector, as slices.

In: informers of Services, Endpoints and EndpointSlices. Out: EndpointSlices owned by the Endpoints, one for the
addresses of each set of ports, up to 1,000 of them; what is left out is said in an event. Endpoints that ask not to be
mirrored are not. Follows Kubernetes' controller (KEP-0752).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from barque.api.addresses import is_ipv4
from barque.api.types.core_v1 import EndpointAddress, Endpoints, EndpointSubset, Service
from barque.api.types.discovery_v1 import Endpoint, EndpointConditions, EndpointPort, EndpointSlice
from barque.client.client import Client
from barque.client.clock import Clock
from barque.client.informers import Informers
from barque.client.queue import WorkQueue
from barque.client.recorder import EventRecorder
from barque.master.controllers.owners import controller_reference, key_of, split_key
from barque.master.controllers.shared import BY_SERVICE, SERVICE_NAME_LABEL
from barque.master.controllers.slices import (
    MANAGED_BY_LABEL,
    Frame,
    Group,
    identity,
    plan_slices,
    ports_key,
    write_plan,
)

MANAGER = "endpointslicemirroring-controller.k8s.io"
SKIP_LABEL = "endpointslice.kubernetes.io/skip-mirror"
# Old clients elect their leaders by this annotation on an Endpoints object, which leads nowhere.
_LEADER_ANNOTATION = "control-plane.alpha.kubernetes.io/leader"
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_LAST_CHANGE = "endpoints.kubernetes.io/last-change-trigger-time"
# Kubernetes' default.
MAX_ADDRESSES = 1000


class EndpointSliceMirroringController:
    """Reconciles Endpoints by their key."""

    name = "endpointslicemirroring"

    def __init__(self, client: Client, informers: Informers, recorder: EventRecorder, clock: Clock) -> None:
        self.queue = WorkQueue(clock)
        self._client = client
        self._recorder = recorder
        self._services = informers.of(Service)
        self._endpoints = informers.of(Endpoints)
        self._slices = informers.of(EndpointSlice)
        self._services.add_handler(self._handle)
        self._endpoints.add_handler(self._handle)
        self._slices.add_handler(self._handle_slice)

    def _handle(self, old: Service | Endpoints | None, new: Service | Endpoints | None) -> None:
        held = new or old
        assert held is not None
        self.queue.add(key_of(held))

    def _handle_slice(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        for held in (old, new):
            if held is not None and held.metadata.labels.get(MANAGED_BY_LABEL) == MANAGER:
                self.queue.add(f"{held.metadata.namespace}/{held.metadata.labels.get(SERVICE_NAME_LABEL, '')}")

    async def reconcile(self, key: str) -> float | None:
        namespace, name = split_key(key)
        endpoints, service = self._endpoints.get(name, namespace), self._services.get(name, namespace)
        ours = [s for s in self._slices.by_index(BY_SERVICE, key) if s.metadata.labels.get(MANAGED_BY_LABEL) == MANAGER]
        if endpoints is None:
            # The garbage collector follows the owner reference.
            return None
        is_wanted = service is not None and not service.spec.selector and _is_mirrored(endpoints)
        mirrored = mirror(endpoints) if is_wanted else Mirrored({}, 0, 0)
        plan = plan_slices(
            _frame(endpoints), mirrored.groups, ours, lambda taken: self._slices.get(taken, namespace) is not None
        )
        if any(plan):
            self._say(endpoints, mirrored)
            refused = await write_plan(self._client, plan)
            if refused is not None:
                if refused.reason not in ("Conflict", "AlreadyExists") and refused.code < 500:
                    said = f"Error updating EndpointSlices for Endpoints {key}: {refused.message}"
                    self._recorder.event(endpoints, "Warning", "FailedToUpdateEndpointSlices", said)
                raise refused
        return None

    def _say(self, endpoints: Endpoints, mirrored: Mirrored) -> None:
        if mirrored.invalid:
            said = f"Skipped {mirrored.invalid} invalid IP addresses when mirroring to EndpointSlices"
            self._recorder.event(endpoints, "Warning", "InvalidIPAddress", said)
        if mirrored.beyond:
            said = (
                f"A max of {MAX_ADDRESSES} addresses can be mirrored to EndpointSlices per Endpoints subset. "
                f"{mirrored.beyond} addresses were skipped"
            )
            self._recorder.event(endpoints, "Warning", "TooManyAddressesToMirror", said)


class Mirrored(NamedTuple):
    """What the slices are to hold, and how many addresses are left out because of what they are or how many."""

    groups: dict[bytes, Group]
    invalid: int
    beyond: int


def mirror(endpoints: Endpoints) -> Mirrored:
    """The addresses of an Endpoints object by their ports."""
    groups: dict[bytes, Group] = {}
    invalid = beyond = 0
    for subset in endpoints.subsets:
        ports = [
            EndpointPort(name=p.name or "", port=p.port, protocol=p.protocol or "TCP", appProtocol=p.appProtocol)
            for p in subset.ports
        ]
        group = groups.setdefault(ports_key(ports), Group(ports, {}))
        for address, ready in _addresses(subset):
            endpoint = Endpoint(
                addresses=[address.ip],
                conditions=EndpointConditions(ready=ready),
                hostname=address.hostname,
                nodeName=address.nodeName,
                targetRef=address.targetRef,
            )
            if not is_ipv4(address.ip):
                invalid += 1
            elif len(group.endpoints) >= MAX_ADDRESSES:
                beyond += 1
            else:
                group.endpoints.setdefault(identity(endpoint), endpoint)
    return Mirrored({key: group for key, group in groups.items() if group.endpoints}, invalid, beyond)


def _addresses(subset: EndpointSubset) -> Iterator[tuple[EndpointAddress, bool]]:
    for address in subset.addresses:
        yield address, True
    for address in subset.notReadyAddresses:
        yield address, False


def _is_mirrored(endpoints: Endpoints) -> bool:
    meta = endpoints.metadata
    return meta.labels.get(SKIP_LABEL) != "true" and _LEADER_ANNOTATION not in meta.annotations


def _frame(endpoints: Endpoints) -> Frame:
    meta = endpoints.metadata
    labels = {**meta.labels, SERVICE_NAME_LABEL: meta.name, MANAGED_BY_LABEL: MANAGER}
    annotations = {k: v for k, v in meta.annotations.items() if k not in (_LAST_APPLIED, _LAST_CHANGE)}
    owner = controller_reference(endpoints)
    return Frame(meta.name, meta.namespace, labels, annotations, owner, MAX_ADDRESSES)
