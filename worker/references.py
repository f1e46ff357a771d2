"""`References`: the ConfigMaps and Secrets that this node's pods name, fetched when needed, kept for an outage.

Nothing is listed or watched: a worker may read what its own pods refer to, by name. A value fetched a moment ago is
given again, so that the pods of one rollout share a fetch; while no master answers, the last known value is given, also
after a restart of the worker (`reference_files`).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple, TypeVar

from barque.api.errors import ApiError
from barque.api.types import core_v1
from barque.api.types.base import Object
from barque.client.client import Client
from barque.client.clock import Clock
from barque.worker.pods import env
from barque.worker.reference_files import Key, ReferenceFiles
from barque.worker.volumes import volumes

T = TypeVar("T", bound=Object)

# Long enough for a rollout's pods to share it, short enough that a corrected ConfigMap is seen at the next try.
FRESH_S = 2.0
# Objects kept; the least recently used go first.
MAX_KEPT = 2048
TIMEOUT_S = 10.0
# What says that nobody knows, rather than that there is none.
_UNKNOWN_CODES = (500, 503, 504, 429)


class _Known(NamedTuple):
    value: Object | None
    at_s: float


def referenced(pod: core_v1.Pod) -> set[Key]:
    """Everything the pod's volumes and environments name."""
    namespace = pod.metadata.namespace
    named = [volumes.references(pod), *(env.references(container) for container in pod.spec.containers)]
    config_maps: set[Key] = {(core_v1.ConfigMap, namespace, name) for names in named for name in names.config_maps}
    return config_maps | {(core_v1.Secret, namespace, name) for names in named for name in names.secrets}


class References:
    """Fetches by name; see the module. Without `files` nothing outlives the process."""

    def __init__(self, client: Client, clock: Clock, files: ReferenceFiles | None = None) -> None:
        self._client = client
        self._clock = clock
        self._files = files
        self._known: OrderedDict[Key, _Known] = OrderedDict()
        self._asked: dict[Key, asyncio.Task[Object | None]] = {}

    def load(self) -> None:
        """Take up what an earlier run knew, as values to be asked for anew. Blocks."""
        if self._files is not None:
            for key, value in self._files.load().items():
                self._known[key] = _Known(value, float("-inf"))

    def retain(self, pods: Iterable[core_v1.Pod]) -> None:
        """These are all pods of this node: forget what none of them names."""
        wanted = {key for pod in pods for key in referenced(pod)}
        for key in [key for key in self._known if key not in wanted]:
            self._forget(key)

    async def config_maps(self, namespace: str, names: Iterable[str]) -> dict[str, core_v1.ConfigMap | None]:
        """By name; None where there is none. Raises `ApiError` where nobody can say."""
        return await self._all(core_v1.ConfigMap, namespace, names)

    async def secrets(self, namespace: str, names: Iterable[str]) -> dict[str, core_v1.Secret | None]:
        return await self._all(core_v1.Secret, namespace, names)

    async def _all(self, kind: type[T], namespace: str, names: Iterable[str]) -> dict[str, T | None]:
        wanted = sorted(names)
        found = await asyncio.gather(*(self._one(kind, namespace, name) for name in wanted))
        return dict(zip(wanted, found, strict=True))

    async def _one(self, kind: type[T], namespace: str, name: str) -> T | None:
        key = (kind, namespace, name)
        known = self._known.get(key)
        if known is None or self._clock.monotonic() - known.at_s > FRESH_S:
            task = self._asked.get(key)
            if task is None:
                task = self._asked[key] = asyncio.create_task(self._ask(key))
                task.add_done_callback(lambda _: self._asked.pop(key, None))
            value = await asyncio.shield(task)
        else:
            value = known.value
        assert value is None or isinstance(value, kind)
        return value

    async def _ask(self, key: Key) -> Object | None:
        kind, namespace, name = key
        try:
            async with asyncio.timeout(TIMEOUT_S):
                value: Object | None = await self._client.get(kind, name, namespace)
        except (ApiError, TimeoutError) as error:
            code = error.code if isinstance(error, ApiError) else 504
            known = self._known.get(key)
            if code == 404:
                value = None
            elif code in _UNKNOWN_CODES and known is not None:
                return known.value
            elif isinstance(error, ApiError):
                raise
            else:
                raise ApiError(504, "Timeout", f"no master answered for {kind.__name__} {namespace}/{name}") from error
        before = self._known.get(key)
        self._known[key] = _Known(value, self._clock.monotonic())
        self._known.move_to_end(key)
        if self._files is not None and (before is None or before.value != value):
            if value is None:
                await asyncio.to_thread(self._files.remove, key)
            else:
                await asyncio.to_thread(self._files.write, key, value)
        while len(self._known) > MAX_KEPT:
            self._forget(next(iter(self._known)))
        return value

    def _forget(self, key: Key) -> None:
        del self._known[key]
        if self._files is not None:
            self._files.remove(key)
