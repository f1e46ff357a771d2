"""`StatusWriter`: brings pod statuses to the masters, many in one call, in order for each pod, until they are taken.

Only the newest status of a pod waits, so the queue is bounded by the number of pods; while a call is under way the next
one gathers. An idle writer sends at once.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, NamedTuple

import msgspec

from barque.api.errors import ApiError
from barque.api.types import core_v1
from barque.client.client import Client, target_of_object
from barque.client.clock import Clock
from barque.client.verbs import MERGE_PATCH, Patch
from barque.worker.pods.backoff import doubled
from barque.worker.pods.origin import is_static

log = logging.getLogger(__name__)

MAX_BATCH = 100
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0
# The status fields that the worker writes; an empty one is removed from the object.
OWNED = (
    "phase", "conditions", "initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses", "hostIP",
    "hostIPs", "podIP", "podIPs", "qosClass", "startTime", "reason", "message", "observedGeneration",
)  # fmt: skip
# The object is gone or replaced by another of its name: this status concerns nobody any more.
_GONE_CODES = (404, 409, 410, 422)


class _Waiting(NamedTuple):
    pod: core_v1.Pod
    fields: dict[str, Any]


class _Written(NamedTuple):
    fields: dict[str, Any]
    revision: int


class _Meta(msgspec.Struct):
    resourceVersion: str = "0"


class _Stored(msgspec.Struct):
    metadata: _Meta


class StatusWriter:
    """`put` never blocks; `run` writes until cancelled."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._waiting: dict[str, _Waiting] = {}
        self._written: dict[str, _Written] = {}
        self._failures = 0
        self._woken = asyncio.Event()

    def put(self, pod: core_v1.Pod, status: core_v1.PodStatus) -> None:
        """Have this status written, unless it is the pod's already."""
        fields = owned_fields(status)
        uid = pod.metadata.uid
        waiting, written = self._waiting.get(uid), self._written.get(uid)
        if waiting is not None:
            known = waiting.fields
        elif written is not None and revision_of(pod) <= written.revision:
            known = written.fields
        else:
            # Nothing written yet, or somebody else has written since: what is stored counts.
            known = owned_fields(pod.status)
        if fields != known:
            self._waiting[uid] = _Waiting(pod, fields)
            self._woken.set()

    def forget(self, uid: str) -> None:
        """The pod is no more."""
        self._waiting.pop(uid, None)
        self._written.pop(uid, None)

    async def run(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            while self._waiting:
                if not await self.flush():
                    await self._clock.sleep(doubled(self._failures, FIRST_PAUSE_S, LONGEST_PAUSE_S))

    async def flush(self) -> bool:
        """Write what waits, at most one batch; returns whether the masters answered."""
        taken = dict(list(self._waiting.items())[:MAX_BATCH])
        writes = [_patch(waiting) for waiting in taken.values()]
        try:
            results = await self._client.batch(writes)
        except ApiError as error:
            self._note_failure(error)
            return False
        refused: ApiError | None = None
        for (uid, sent), result in zip(taken.items(), results, strict=True):
            if isinstance(result, ApiError) and result.code not in _GONE_CODES:
                refused = result
                continue
            if isinstance(result, ApiError):
                if result.code == 422:
                    log.error("the status of pod %s was refused: %s", sent.pod.metadata.name, result)
            else:
                stored = msgspec.json.decode(result, type=_Stored)
                self._written[uid] = _Written(sent.fields, int(stored.metadata.resourceVersion or 0))
            if self._waiting.get(uid) is sent:
                del self._waiting[uid]
        if refused is not None:
            self._note_failure(refused)
            return False
        self._failures = 0
        return True

    def _note_failure(self, error: ApiError) -> None:
        if self._failures == 0:
            log.warning("cannot write pod statuses, and keep trying: %s", error)
        self._failures += 1


def owned_fields(status: core_v1.PodStatus) -> dict[str, Any]:
    """The worker's part of a status as JSON values, without what is empty."""
    found: dict[str, Any] = msgspec.to_builtins(status)
    return {name: found[name] for name in OWNED if found.get(name)}


def revision_of(pod: core_v1.Pod) -> int:
    return int(pod.metadata.resourceVersion or 0)


def _patch(waiting: _Waiting) -> Patch:
    body: dict[str, Any] = {"status": {name: waiting.fields.get(name) for name in OWNED}}
    if not is_static(waiting.pod):
        # The uid makes it a patch of this very pod: one of the same name made meanwhile refuses it. A static pod's
        # mirror has a uid of its own.
        body["metadata"] = {"uid": waiting.pod.metadata.uid}
    return Patch(target_of_object(waiting.pod, "status"), MERGE_PATCH, msgspec.json.encode(body))
