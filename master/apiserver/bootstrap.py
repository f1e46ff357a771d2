"""What must be there before anything else: the namespaces that every cluster has."""

from __future__ import annotations

from barque.api.errors import ApiError
from barque.api.types.core_v1 import Namespace
from barque.api.types.meta_v1 import ObjectMeta
from barque.client.client import Client

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")


async def ensure_namespaces(client: Client) -> None:
    """Create those that are missing; any number of masters may do so at once. Raises `ApiError`."""
    for name in NAMESPACES:
        try:
            await client.create(Namespace(metadata=ObjectMeta(name=name, labels={"kubernetes.io/metadata.name": name})))
        except ApiError as refused:
            if refused.reason != "AlreadyExists":
                raise
