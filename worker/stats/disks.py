"""`Disks`: what each container has written to disk, its own layer and its logs.

That takes a walk over files, so it is kept apart from what is read in a moment: container by container, the longest
unmeasured first, with pauses, and never for more than a fifth of the time. No figure is older than `DISK_AGE_S`, unless
the walks themselves take longer than that allows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from barque.client.clock import Clock
from barque.worker.pods.observed import Observed
from barque.worker.runtime.port import Runtime, RuntimeFault
from barque.worker.stats import proc

DISK_AGE_S = 60.0
# How often it is looked whether anything is due.
_LOOK_S = 2.0
# Once one is due, all are measured within half the time, so that the last of them is not too old either.
_PASS_S = DISK_AGE_S / 2
_DUE_S = DISK_AGE_S - _PASS_S - _LOOK_S
# Rest after a walk, as a multiple of what it took.
_REST = 4.0

Blocking = Callable[..., Awaitable[Any]]


class _Disk(NamedTuple):
    used_bytes: int
    read_s: float
    # Where the container writes, which does not change in its life; None where the engine did not tell.
    written: tuple[str, ...] | None


_NEVER = _Disk(0, float("-inf"), None)


class Disks:
    """`blocking` runs the walks off the event loop."""

    def __init__(self, runtime: Runtime, clock: Clock, blocking: Blocking = asyncio.to_thread) -> None:
        self._runtime = runtime
        self._clock = clock
        self._blocking = blocking
        self._known: dict[str, _Disk] = {}

    def used_bytes(self, container_id: str) -> int:
        """As last measured; 0 for a container that was not."""
        return self._known.get(container_id, _NEVER).used_bytes

    async def run(self, pods: Callable[[], Sequence[tuple[object, Observed]]]) -> None:
        """Keep the figures of the pods' running containers fresh, until cancelled."""
        while True:
            running = [instance.id for _, observed in pods() for instance in observed.running()]
            await self._clock.sleep(await self._step(running))

    async def refresh(self, ids: Iterable[str]) -> None:
        """Measure, at once, those of which nothing is known that is young enough."""
        for container_id in ids:
            if self._age_s(container_id) >= DISK_AGE_S:
                await self._measure(container_id)

    async def _step(self, ids: list[str]) -> float:
        """Measure the one longest unmeasured, where it is due; for how long to pause then."""
        self._known = {known: self._known[known] for known in ids if known in self._known}
        oldest = max(ids, key=self._age_s, default=None)
        if oldest is None or self._age_s(oldest) < _DUE_S:
            return _LOOK_S
        begun = self._clock.monotonic()
        await self._measure(oldest)
        took_s = self._clock.monotonic() - begun
        return max(took_s * _REST, min(_LOOK_S, _PASS_S / len(ids) - took_s))

    async def _measure(self, container_id: str) -> None:
        known = self._known.get(container_id, _NEVER)
        now = self._clock.monotonic()
        written = known.written
        if written is None:
            try:
                written = (await self._runtime.inspect(container_id)).written
            except RuntimeFault:
                self._known[container_id] = known._replace(read_s=now)
                return
        used: int = await self._blocking(_walk, written)
        self._known[container_id] = _Disk(used, now, written)

    def _age_s(self, container_id: str) -> float:
        return self._clock.monotonic() - self._known.get(container_id, _NEVER).read_s


def _walk(written: tuple[str, ...]) -> int:
    total = 0
    for path in written:
        try:
            total += proc.size_of(Path(path))
        except OSError:
            continue
    return total
