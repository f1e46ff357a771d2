"""What must be there before anything else: the namespaces that every cluster has, each with its default account."""

from __future__ import annotations

from barque.api.errors import ApiError
from barque.api.types.base import Object
from barque.api.types.core_v1 import Namespace, ServiceAccount
from barque.api.types.meta_v1 import ObjectMeta
from barque.client.client import Client

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")


async def ensure_namespaces(client: Client) -> None:
    """Create those that are missing; any number of masters may do so at once. Raises `ApiError`."""
    for name in NAMESPACES:
        labels = {"kubernetes.io/metadata.name": name}
        await _ensure(client, Namespace(metadata=ObjectMeta(name=name, labels=labels)))
        # Later namespaces get theirs from a controller; pods of the first ones need not wait for that.
        await _ensure(client, ServiceAccount(metadata=ObjectMeta(name="default", namespace=name)))


async def _ensure(client: Client, obj: Object) -> None:
    try:
        await client.create(obj)
    except ApiError as refused:
        if refused.reason != "AlreadyExists":
            raise
