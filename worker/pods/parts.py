"""What the pods of one node share: the services that each pod's runner is handed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from barque.api.types import core_v1
from barque.api.types.base import Object, Quantity
from barque.client.client import Client
from barque.client.clock import Clock
from barque.worker.images.images import Images
from barque.worker.images.pull_secrets import PullSecrets
from barque.worker.network_port import PodNetwork
from barque.worker.pods.config import NodeFacts
from barque.worker.probes import Prober
from barque.worker.references import References
from barque.worker.runtime.port import Runtime
from barque.worker.status_writer import StatusWriter
from barque.worker.volumes.contents import VolumeContents
from barque.worker.volumes.volumes import PodVolumes

# Docker starts no more at a time usefully; a pod that has begun is finished before the next one begins.
PODS_STARTING = 8


class Recorder(Protocol):
    """`client.recorder.EventRecorder`, as far as pods need it."""

    def event(
        self, obj: Object, type: Literal["Normal", "Warning"], reason: str, message: str, field_path: str = ""
    ) -> None: ...


@dataclass
class Parts:
    """Made once by the daemon; `node.uid` and `allocatable` are filled in once the node is registered and described."""

    client: Client
    runtime: Runtime
    network: PodNetwork
    volumes: PodVolumes
    volume_contents: VolumeContents
    images: Images
    pull_secrets: PullSecrets
    references: References
    services: Callable[[], Sequence[core_v1.Service]]
    prober: Prober
    recorder: Recorder
    statuses: StatusWriter
    clock: Clock
    node: NodeFacts
    host_ip: str
    allocatable: dict[str, Quantity] = field(default_factory=dict)
    starting: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PODS_STARTING))
    # Why a pod may not start on this node at present; "" where it may.
    admit: Callable[[core_v1.Pod], str] = lambda pod: ""
    # All pods of this node.
    neighbours: Callable[[], Iterable[core_v1.Pod]] = tuple
    # Called when what the runtime says and what is remembered have come apart.
    resync: Callable[[], None] = lambda: None
    # Runs what blocks; tests run it in place.
    blocking: Callable[..., Awaitable[Any]] = asyncio.to_thread
