"""What every namespace has: the account `default`, and the ConfigMap `kube-root-ca.crt` with the cluster's CA.

In: informers of Namespaces and ServiceAccounts, one of the ConfigMaps of that one name, the CA's certificate (PEM).
Out: both, made where they are missing; the ConfigMap also where somebody has changed what it says. A namespace that is
being deleted gets neither. Follows Kubernetes' serviceaccount and root-ca-cert-publisher controllers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from barque.api.errors import ApiError
from barque.api.types.core_v1 import ConfigMap, Namespace, ServiceAccount
from barque.api.types.meta_v1 import ObjectMeta
from barque.client.client import Client
from barque.client.clock import Clock
from barque.client.informer import Informer
from barque.client.informers import Informers
from barque.client.queue import WorkQueue

DEFAULT = "default"
ROOT_CA = "kube-root-ca.crt"
CA_KEY = "ca.crt"


class ServiceAccountController:
    """Reconciles Namespaces by name."""

    name = "serviceaccount"

    def __init__(self, client: Client, informers: Informers, clock: Clock) -> None:
        self.queue = WorkQueue(clock)
        self._client = client
        self._namespaces = informers.of(Namespace)
        self._accounts = informers.of(ServiceAccount)
        self._namespaces.add_handler(_of_namespaces(self.queue))
        self._accounts.add_handler(_of_losses(self.queue, DEFAULT))

    async def reconcile(self, key: str) -> float | None:
        if _is_live(self._namespaces.get(key)) and self._accounts.get(DEFAULT, key) is None:
            await _create(self._client, ServiceAccount(metadata=ObjectMeta(name=DEFAULT, namespace=key)))
        return None


class RootCaPublisher:
    """Reconciles Namespaces by name. `follow()` keeps the cache of its ConfigMaps: no others are held."""

    name = "rootca"

    def __init__(self, client: Client, informers: Informers, clock: Clock, ca_pem: str) -> None:
        self.queue = WorkQueue(clock)
        self._client = client
        self._data = {CA_KEY: ca_pem}
        self._namespaces = informers.of(Namespace)
        self._published = Informer(client, ConfigMap, fields=f"metadata.name={ROOT_CA}", clock=clock)
        self._namespaces.add_handler(_of_namespaces(self.queue))
        self._published.add_handler(self._handle_published)

    async def follow(self) -> None:
        await self._published.run()

    async def wait_synced(self) -> None:
        await self._published.wait_synced()

    def _handle_published(self, old: ConfigMap | None, new: ConfigMap | None) -> None:
        held = new or old
        if held is not None and (new is None or new.data != self._data):
            self.queue.add(held.metadata.namespace)

    async def reconcile(self, key: str) -> float | None:
        if not _is_live(self._namespaces.get(key)):
            return None
        held = self._published.get(ROOT_CA, key)
        if held is None:
            meta = ObjectMeta(name=ROOT_CA, namespace=key)
            await _create(self._client, ConfigMap(metadata=meta, data=dict(self._data)))
        elif held.data != self._data:
            meta = ObjectMeta(name=ROOT_CA, namespace=key, resourceVersion=held.metadata.resourceVersion)
            await self._client.update(ConfigMap(metadata=meta, data=dict(self._data)))
        return None


def _of_namespaces(queue: WorkQueue) -> Callable[[Namespace | None, Namespace | None], None]:
    def handle(old: Namespace | None, new: Namespace | None) -> None:
        if _is_live(new):
            assert new is not None
            queue.add(new.metadata.name)

    return handle


def _of_losses(queue: WorkQueue, name: str) -> Callable[[Any, Any], None]:
    def handle(old: Any, new: Any) -> None:
        if new is None and old.metadata.name == name:
            queue.add(old.metadata.namespace)

    return handle


def _is_live(namespace: Namespace | None) -> bool:
    return namespace is not None and not namespace.metadata.deletionTimestamp


async def _create(client: Client, obj: Any) -> None:
    """Make it; that somebody was quicker, or that its namespace has just begun to go, is no failure."""
    try:
        await client.create(obj)
    except ApiError as error:
        if error.reason not in ("AlreadyExists", "NotFound") and not _is_ending(error):
            raise


def _is_ending(error: ApiError) -> bool:
    causes = error.details.causes if error.details is not None else []
    return any(cause.reason == "NamespaceTerminating" for cause in causes)
