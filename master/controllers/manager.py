"""`ControllerManager`: wires the controllers to shared informers and runs them on the leader.

In: a client, informers that whoever made them runs, the heartbeats of nodes, a clock, settings, where the masters
answer, the host's name. Out: `run()`, which ends only by cancellation or with `UnexpectedEndError` naming the
controller that failed. Refused writes are retried by the work queues and logged.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from barque.client.client import Client
from barque.client.clock import Clock
from barque.client.informers import Informers
from barque.client.queue import QueueObserver, WorkQueue, run_workers
from barque.client.recorder import EventRecorder
from barque.client.supervise import run_all
from barque.master.controllers.accounttokens import AccountTokenController
from barque.master.controllers.certificates import CertificateApproving, CertificateCleaning, CertificateSigning
from barque.master.controllers.clusterroleaggregation import ClusterRoleAggregationController
from barque.master.controllers.deployment import DeploymentController
from barque.master.controllers.endpoints import EndpointsController
from barque.master.controllers.endpointslice import EndpointSliceController
from barque.master.controllers.endpointslicemirroring import EndpointSliceMirroringController
from barque.master.controllers.garbage import WORKERS, GarbageController
from barque.master.controllers.kubernetesservice import Doors, KubernetesServiceController
from barque.master.controllers.namespace import NamespaceController
from barque.master.controllers.node import NodeController
from barque.master.controllers.nodelease import NodeLeaseController
from barque.master.controllers.nodetaints import NodeTaintController
from barque.master.controllers.podgc import PodGarbageController
from barque.master.controllers.replicaset import ReplicaSetController
from barque.master.controllers.service_pods import ServicePods
from barque.master.controllers.serviceaccounts import RootCaPublisher, ServiceAccountController
from barque.master.controllers.settings import ControllerSettings
from barque.master.controllers.shared import add_indexes
from barque.master.controllers.tainteviction import TaintEvictionController

# Controllers that say what they do, as the Events' source names them before "-controller".
_RECORDERS = (
    "deployment",
    "replicaset",
    "endpoint-slice",
    "endpoint",
    "endpoint-slice-mirroring",
    "node",
    "taint-eviction",
    "pod-garbage-collector",
    "garbage-collector",
)


class Keyed(Protocol):
    """A controller that reconciles keys from its queue."""

    name: str
    queue: WorkQueue

    async def reconcile(self, key: str) -> float | None: ...


class ControllerManager:
    """One term of leadership: made anew, with empty caches, by each new leader. `observe(name, depth)` makes whoever is
    told what the queue of a controller does.
    """

    def __init__(
        self,
        client: Client,
        informers: Informers,
        heartbeats: Callable[[str], float | None],
        clock: Clock,
        settings: ControllerSettings = ControllerSettings(),
        doors: Doors | None = None,
        host: str = "",
        observe: Callable[[str, Callable[[], int]], QueueObserver] | None = None,
    ) -> None:
        self._settings = settings
        self._observe = observe
        self._informers = informers
        add_indexes(informers)
        self._recorders = {name: EventRecorder(client, f"{name}-controller", host, clock) for name in _RECORDERS}
        recorders = self._recorders
        service_pods = ServicePods(informers, clock)
        # Without doors to lead to, nobody keeps the services of the cluster itself.
        own_services = (KubernetesServiceController(client, informers, clock, doors),) if doors else ()
        authority = settings.authority
        signing = (CertificateSigning(client, informers, clock, authority),) if authority else ()
        self.keyed: tuple[Keyed, ...] = (
            DeploymentController(client, informers, recorders["deployment"], clock),
            ReplicaSetController(client, informers, recorders["replicaset"], clock),
            EndpointSliceController(client, informers, service_pods, recorders["endpoint-slice"], clock),
            NamespaceController(client, informers, clock),
            ServiceAccountController(client, informers, clock),
            TaintEvictionController(client, informers, recorders["taint-eviction"], clock),
            taints := NodeTaintController(client, informers, clock, lambda: self.node.disruption),
            EndpointsController(client, informers, service_pods, recorders["endpoint"], clock),
            EndpointSliceMirroringController(client, informers, recorders["endpoint-slice-mirroring"], clock),
            ClusterRoleAggregationController(client, informers, clock),
            CertificateApproving(client, informers, clock),
            CertificateCleaning(client, informers, clock),
            *signing,
            *own_services,
        )
        self.garbage = GarbageController(client, recorders["garbage-collector"], clock)
        ca = settings.root_ca
        self.rootca = RootCaPublisher(client, informers, clock, ca) if ca else None
        self.tokens = AccountTokenController(client, informers, clock, ca) if ca else None
        self.node = NodeController(
            client, informers, recorders["node"], clock, heartbeats, settings, note=taints.look_again
        )
        self.leases = NodeLeaseController(client, informers, clock, heartbeats)
        self.podgc = PodGarbageController(client, informers, recorders["pod-garbage-collector"], clock, settings)

    async def run(self) -> None:
        """Run every controller; each begins once all caches hold their first complete list."""
        tasks = {f"events of {name}": recorder.run() for name, recorder in self._recorders.items()}
        for controller in self.keyed:
            tasks[controller.name] = self._when_synced(self._work(controller, self._settings.workers))
        tasks["metadata"] = self.garbage.follow()
        tasks[self.garbage.name] = self._collect()
        tasks["node"] = self._when_synced(self.node.run)
        tasks["podgc"] = self._when_synced(self.podgc.run)
        tasks[self.leases.name] = self._when_synced(self.leases.run)
        for following in (self.rootca, self.tokens):
            if following is not None:
                tasks[f"cache of {following.name}"] = following.follow()
                tasks[following.name] = self._when_synced(partial(self._follow, following))
        await run_all(tasks)

    def _work(self, controller: Keyed, workers: int) -> Callable[[], Awaitable[None]]:
        if self._observe is not None:
            controller.queue.observer = self._observe(controller.name, controller.queue.__len__)

        def start() -> Awaitable[None]:
            return run_workers(controller.queue, controller.reconcile, workers=workers, name=controller.name)

        return start

    async def _follow(self, controller: RootCaPublisher | AccountTokenController) -> None:
        await controller.wait_synced()
        await self._work(controller, self._settings.workers)()

    async def _collect(self) -> None:
        await self.garbage.wait_synced()
        await self._work(self.garbage, WORKERS)()

    async def _when_synced(self, start: Callable[[], Awaitable[None]]) -> None:
        await self._informers.wait_synced()
        await start()
