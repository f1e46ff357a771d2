"""`References`: the ConfigMaps and Secrets that this node's pods name, fetched when needed, kept for an outage.

Nothing is listed or watched: a worker may read what its own pods refer to, by name. A value fetched a moment ago is
given again, so that the pods of one rollout share a fetch; while no master answers, the last known value is given, also
after a restart of the worker (`reference_files`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple, TypeVar

from barque.api.errors import ApiError
from barque.api.types import core_v1
from barque.api.types.base import Object
from barque.client.client import Client
from barque.client.clock import Clock
from barque.worker.pods import env
from barque.worker.pods.members import members
from barque.worker.reference_files import Key, ReferenceFiles
from barque.worker.volumes import payloads

log = logging.getLogger(__name__)

T = TypeVar("T", bound=Object)

# Long enough for a rollout's pods to share it, short enough that a corrected ConfigMap is seen at the next try.
FRESH_S = 2.0
# What cannot change is asked for again all the same, as it may be removed and made anew.
IMMUTABLE_FRESH_S = 300.0
# Objects kept; the least recently used go first.
MAX_KEPT = 2048
TIMEOUT_S = 10.0
# What says that nobody knows, rather than that there is none.
_UNKNOWN_CODES = (500, 503, 504, 429)


class _Known(NamedTuple):
    value: Object | None
    at_s: float


def referenced(pod: core_v1.Pod) -> set[Key]:
    """Everything the pod's volumes, environments and pulls name."""
    namespace = pod.metadata.namespace
    named = [payloads.references(pod), *(env.references(one.container) for one in members(pod))]
    pulls: set[Key] = {(core_v1.Secret, namespace, ref.name) for ref in pod.spec.imagePullSecrets}
    config_maps: set[Key] = {(core_v1.ConfigMap, namespace, name) for names in named for name in names.config_maps}
    return config_maps | pulls | {(core_v1.Secret, namespace, name) for names in named for name in names.secrets}


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
        if known is None or self._clock.monotonic() - known.at_s > _fresh_s(known.value):
            task = self._asked.get(key)
            if task is None:
                task = self._asked[key] = asyncio.create_task(self._ask(key))
                task.add_done_callback(lambda done: self._forget_question(key, done))
            value = await asyncio.shield(task)
        else:
            value = known.value
        assert value is None or isinstance(value, kind)
        return value

    def _forget_question(self, key: Key, done: asyncio.Task[Object | None]) -> None:
        self._asked.pop(key, None)
        if not done.cancelled():
            # Its failure is told by whoever waits for it; if nobody does any more, it is of no interest.
            done.exception()

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
            await asyncio.to_thread(self._file, key, value)
        while len(self._known) > MAX_KEPT:
            self._forget(next(iter(self._known)))
        return value

    def _forget(self, key: Key) -> None:
        del self._known[key]
        self._file(key, None)

    def _file(self, key: Key, value: Object | None) -> None:
        """Have the copy on disk follow; None removes it. Blocks."""
        if self._files is None:
            return
        try:
            if value is None:
                self._files.remove(key)
            else:
                self._files.write(key, value)
        except OSError as error:
            # A pod that has its values here starts with them, whatever the disk is like.
            kind, namespace, name = key
            log.error("%s %s/%s cannot be kept on disk for an outage: %s", kind.__name__, namespace, name, error)


def _fresh_s(value: Object | None) -> float:
    """How long a value fetched before is taken for the present one."""
    immutable = isinstance(value, core_v1.ConfigMap | core_v1.Secret) and value.immutable
    return IMMUTABLE_FRESH_S if immutable else FRESH_S
