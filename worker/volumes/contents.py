"""`VolumeContents`: fetches what a pod's volumes show of the cluster, and says when to look again.

`fetch` gives objects and tokens to `PodVolumes.prepare`; `due_s` is the moment at which to prepare the volumes again,
so that a changed ConfigMap, Secret or label reaches a running pod within `REFRESH_S`, and no token ends in it.
"""

from __future__ import annotations

import asyncio

from barque.api.types import core_v1
from barque.client.clock import Clock
from barque.worker.pods.env import Sources
from barque.worker.references import References
from barque.worker.volumes import payloads
from barque.worker.volumes.payloads import Held
from barque.worker.volumes.tokens import PodTokens

# One request per object of a node's pods, each so often. Kubernetes' own figure is about a minute.
REFRESH_S = 10.0


class VolumeContents:
    """Shared by all pods of the node."""

    def __init__(self, references: References, tokens: PodTokens, clock: Clock) -> None:
        self._references = references
        self._tokens = tokens
        self._clock = clock

    async def fetch(self, pod: core_v1.Pod, sources: Sources) -> Held:
        """`sources` with the ConfigMaps and Secrets filled in, and tokens. Raises `ApiError`, `ConfigError`."""
        wanted, namespace = payloads.references(pod), pod.metadata.namespace
        config_maps, secrets = await asyncio.gather(
            self._references.config_maps(namespace, wanted.config_maps),
            self._references.secrets(namespace, wanted.secrets),
        )
        tokens = {key: await self._tokens.token(pod, key) for key in payloads.tokens(pod)}
        return Held(sources._replace(config_maps=config_maps, secrets=secrets), tokens)

    def due_s(self, pod: core_v1.Pod) -> float:
        """When to prepare the volumes again, in monotonic seconds; infinity where nothing in them changes."""
        if not any(payloads.changes_by_itself(volume) for volume in pod.spec.volumes):
            return float("inf")
        return min(self._clock.monotonic() + REFRESH_S, self._tokens.due_s(pod.metadata.uid))

    def forget(self, uid: str) -> None:
        """The pod is gone."""
        self._tokens.forget(uid)
