"""The view of metrics.k8s.io: NodeMetrics and PodMetrics of this master's table of samples.

Its refusals are the metrics-server's, word for word. Lists are made in slices, so that none holds the event loop.
"""

from __future__ import annotations

import asyncio

from barque.api.errors import not_found
from barque.master.apiserver.view import View
from barque.master.store.port import Filter, Key, Listing, Store, Stored
from barque.master.usage.table import NODES, PODS, REVISION, UsageTable

_GROUP = "metrics.k8s.io"
# At less than a microsecond each, some milliseconds.
_SLICE = 4096


class UsageView(View):
    """`store` is this master's: what it has applied says which pods and nodes there are."""

    def __init__(self, store: Store, table: UsageTable) -> None:
        self._store = store
        self._table = table

    async def get(self, key: Key) -> Stored | None:
        """Raises 404 that says whether the object is missing, or only its metrics."""
        return self._pod(key) if key.resource == PODS else self._node(key)

    async def list(self, resource: str, selected: Filter = Filter(), revision: int | None = None) -> Listing:
        if resource == NODES:
            nodes = self._store.list("nodes", Filter(name=selected.name)).items
            return Listing(self._table.nodes(nodes), REVISION)
        pods = self._store.list("pods", selected._replace(matches=None)).items
        found: list[Stored] = []
        for start in range(0, len(pods), _SLICE):
            if start:
                await asyncio.sleep(0)
            found += self._table.pods(pods[start : start + _SLICE])
        return Listing(found, REVISION)

    def _pod(self, key: Key) -> Stored:
        pod = self._store.get(Key("pods", key.namespace, key.name))
        if pod is None:
            raise not_found("pods", "", key.name)
        found = self._table.pods([pod])
        if not found:
            raise not_found("podmetrics", _GROUP, f"{key.namespace}/{key.name}")
        return found[0]

    def _node(self, key: Key) -> Stored:
        node = self._store.get(Key("nodes", "", key.name))
        if node is None:
            raise not_found("nodes", "", key.name)
        found = self._table.nodes([node])
        if not found:
            raise not_found("nodemetrics", _GROUP, key.name)
        return found[0]
