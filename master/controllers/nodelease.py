"""The node leases: for those who look into `kube-node-lease` to see which nodes are alive.

In: the heartbeats of nodes, informer of Nodes. Out: for each node a Lease of its name, owned by it and renewed while
beats come. Nothing in Barque reads them: whether a node is lost is judged by its heartbeats alone. They are renewed as
seldom as their length allows, for each renewal is a write; it says when the node was heard, so a late one does no harm.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from barque.api import codec
from barque.api.errors import ApiError
from barque.api.types.coordination_v1 import Lease
from barque.api.types.core_v1 import Node
from barque.client.client import Client, target_of
from barque.client.clock import Clock, micro_timestamp
from barque.client.informers import Informers
from barque.client.verbs import MERGE_PATCH, Create, Patch, Write

log = logging.getLogger(__name__)

NAMESPACE = "kube-node-lease"
# Kubernetes' figure; its nodes renew four times in that span, ours twice.
DURATION_S = 40
RENEW_S = 20.0
LOOK_S = 2.0
BATCH = 200


class NodeLeaseController:
    """Looks regularly."""

    name = "nodelease"

    def __init__(
        self, client: Client, informers: Informers, clock: Clock, heartbeats: Callable[[str], float | None]
    ) -> None:
        self._client = client
        self._clock = clock
        self._heartbeats = heartbeats
        self._nodes = informers.of(Node)
        # By node: the beat that its lease was last renewed for.
        self._renewed: dict[str, float] = {}

    async def run(self) -> None:
        while True:
            try:
                await self.look()
            except ApiError as error:
                log.info("node leases are not renewed yet: %s", error.message)
            await self._clock.sleep(LOOK_S)

    async def look(self) -> None:
        """Renew the leases that are due. Raises `ApiError`."""
        nodes = {node.metadata.name: node for node in self._nodes.list()}
        self._renewed = {name: beat for name, beat in self._renewed.items() if name in nodes}
        due = [
            (node, beat)
            for name, node in nodes.items()
            if (beat := self._heartbeats(name)) is not None and beat >= self._renewed.get(name, -RENEW_S) + RENEW_S
        ]
        for start in range(0, len(due), BATCH):
            await self._renew(due[start : start + BATCH])

    async def _renew(self, due: Iterable[tuple[Node, float]]) -> None:
        now, wall = self._clock.monotonic(), self._clock.wall()
        wanted = [(node, beat, _lease(node, wall - datetime.timedelta(seconds=now - beat))) for node, beat in due]
        patches: list[Write] = [_patch(lease) for _, _, lease in wanted]
        absent = []
        for (node, beat, lease), answer in zip(wanted, await self._client.batch(patches), strict=True):
            if not isinstance(answer, ApiError):
                self._renewed[node.metadata.name] = beat
            elif answer.reason == "NotFound":
                absent.append(lease)
            else:
                raise answer
        creates: list[Write] = [Create(target_of(Lease, "", NAMESPACE), codec.encode(lease)) for lease in absent]
        # A node that has just been registered: its lease is renewed with the next look, whoever made it.
        for answer in await self._client.batch(creates) if creates else ():
            if isinstance(answer, ApiError) and answer.reason != "AlreadyExists":
                raise answer


def _lease(node: Node, heard: datetime.datetime) -> Lease:
    meta = node.metadata
    owner = {"apiVersion": "v1", "kind": "Node", "name": meta.name, "uid": meta.uid}
    moment = micro_timestamp(heard.astimezone(datetime.UTC))
    document: dict[str, Any] = {
        "metadata": {"name": meta.name, "namespace": NAMESPACE, "ownerReferences": [owner]},
        "spec": {"holderIdentity": meta.name, "leaseDurationSeconds": DURATION_S, "renewTime": moment},
    }
    return msgspec.convert(document, Lease)


def _patch(lease: Lease) -> Patch:
    document = {
        "metadata": {"ownerReferences": msgspec.to_builtins(lease.metadata.ownerReferences)},
        "spec": msgspec.to_builtins(lease.spec),
    }
    target = target_of(Lease, lease.metadata.name, lease.metadata.namespace)
    return Patch(target, MERGE_PATCH, msgspec.json.encode(document))
