"""The EndpointSlice controller: keeps the addresses of each service's pods, ready or not, in slices.

In: informers of Services, Pods and EndpointSlices. Out: EndpointSlices, all changes of one service in one batch. A
service that is gone takes its slices with it through the garbage collector.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from barque.api import codec
from barque.api.errors import ApiError
from barque.api.types.core_v1 import Service
from barque.api.types.discovery_v1 import EndpointSlice
from barque.api.views import PodView
from barque.client.client import Client, target_of_object
from barque.client.clock import Clock
from barque.client.informers import Informers
from barque.client.queue import WorkQueue
from barque.client.recorder import EventRecorder
from barque.client.verbs import Create, Delete, Update, Write
from barque.master.controllers import endpoints
from barque.master.controllers.owners import key_of, split_key
from barque.master.controllers.shared import BY_NAMESPACE, BY_SERVICE, SERVICE_NAME_LABEL


class EndpointSliceController:
    """Reconciles Services by their key."""

    name = "endpointslice"

    def __init__(self, client: Client, informers: Informers, recorder: EventRecorder, clock: Clock) -> None:
        self.queue = WorkQueue(clock)
        self._client = client
        self._recorder = recorder
        self._services = informers.of(Service)
        self._pods = informers.of(PodView)
        self._slices = informers.of(EndpointSlice)
        self._services.add_handler(self._handle_service)
        self._pods.add_handler(self._handle_pod)
        self._slices.add_handler(self._handle_slice)

    def _handle_service(self, old: Service | None, new: Service | None) -> None:
        service = new or old
        assert service is not None
        self.queue.add(key_of(service))

    def _handle_pod(self, old: PodView | None, new: PodView | None) -> None:
        if old is not None and new is not None and _visible(old) == _visible(new):
            return
        pod = new or old
        assert pod is not None
        for service in self._services.by_index(BY_NAMESPACE, pod.metadata.namespace):
            if any(_selects(service, p) for p in (old, new) if p is not None):
                self.queue.add(key_of(service))

    def _handle_slice(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        for held in (old, new):
            service = held.metadata.labels.get(SERVICE_NAME_LABEL) if held else None
            if held is not None and service:
                self.queue.add(f"{held.metadata.namespace}/{service}")

    async def reconcile(self, key: str) -> float | None:
        namespace, name = split_key(key)
        service = self._services.get(name, namespace)
        if service is None or service.metadata.deletionTimestamp or not service.spec.selector:
            return None
        existing = [s for s in self._slices.by_index(BY_SERVICE, key) if _is_managed(s, service)]
        pods: Iterable[PodView] = ()
        if endpoints.has_endpoints(service):
            pods = [p for p in self._pods.by_index(BY_NAMESPACE, namespace) if _selects(service, p)]
            plan = endpoints.plan_slices(
                service, pods, existing, lambda taken: self._slices.get(taken, namespace) is not None
            )
        else:
            plan = endpoints.SlicePlan([], [], existing)
        await self._write(service, plan)
        return None

    async def _write(self, service: Service, plan: endpoints.SlicePlan) -> None:
        writes: list[Write] = [Create(target_of_object(s, named=False), codec.encode(s)) for s in plan.create]
        writes += [Update(target_of_object(s), codec.encode(s)) for s in plan.update]
        for held in plan.delete:
            options = msgspec.json.encode({"preconditions": {"uid": held.metadata.uid}})
            writes.append(Delete(target_of_object(held), options))
        if not writes:
            return
        for write, answer in zip(writes, await self._client.batch(writes), strict=True):
            if not isinstance(answer, ApiError) or (isinstance(write, Delete) and answer.reason == "NotFound"):
                continue
            if answer.reason not in ("Conflict", "AlreadyExists") and answer.code < 500:
                said = f"Error updating Endpoint Slices for Service {key_of(service)}: {answer.message}"
                self._recorder.event(service, "Warning", "FailedToUpdateEndpointSlices", said)
            raise answer


def _selects(service: Service, pod: PodView) -> bool:
    selector = service.spec.selector
    return bool(selector) and selector.items() <= pod.metadata.labels.items()


def _is_managed(held: EndpointSlice, service: Service) -> bool:
    is_ours = held.metadata.labels.get(endpoints.MANAGED_BY_LABEL) == endpoints.MANAGER
    # Slices of an earlier service of the same name are the garbage collector's.
    return is_ours and any(r.uid == service.metadata.uid for r in held.metadata.ownerReferences)


def _visible(pod: PodView) -> tuple[object, ...]:
    """All of a pod that an endpoint shows, or that decides whether there is one."""
    ready = next((c.status for c in pod.status.conditions if c.type == "Ready"), "")
    meta, spec, status = pod.metadata, pod.spec, pod.status
    return (
        meta.labels,
        bool(meta.deletionTimestamp),
        spec.nodeName,
        status.phase in ("Succeeded", "Failed"),
        status.podIP,
        ready,
    )
