"""`Images`: makes sure that an image is on this node, by the pull policy. One pull per image at a time, few in all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from barque.client.clock import Clock
from barque.worker.pods import backoff
from barque.worker.pods.backoff import Fault
from barque.worker.runtime.port import ImageRecord, PullError, Runtime, RuntimeUnavailableError

MAX_PULLS = 4
# Kubernetes' figures for pulls.
FIRST_DELAY_S, LONGEST_DELAY_S = 10.0, 300.0
# Remembered failures; beyond this the oldest are forgotten, which only means an earlier retry.
MAX_FAILURES = 1024

Say = Callable[[str, str, str], None]


class ImageFault(Exception):
    """The image cannot be had at present; `fault` says why and when to try again."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class _Pulled(NamedTuple):
    image: ImageRecord
    took_s: float


class Images:
    """The images of this node."""

    def __init__(self, runtime: Runtime, clock: Clock) -> None:
        self._runtime = runtime
        self._clock = clock
        self._slots = asyncio.Semaphore(MAX_PULLS)
        self._pulls: dict[str, asyncio.Task[_Pulled]] = {}
        self._failures: dict[str, Fault] = {}

    async def ensure(self, reference: str, policy: str, say: Say) -> ImageRecord:
        """The image, pulled if the policy wants. `say(type, reason, message)` tells the pod's events.

        Raises `ImageFault`; `RuntimeUnavailableError` where the engine does not answer.
        """
        if policy != "Always":
            image = await self._runtime.image(reference)
            if image is not None:
                say("Normal", "Pulled", f'Container image "{reference}" already present on machine')
                return image
            if policy == "Never":
                message = f'Container image "{reference}" is not present with pull policy of Never'
                say("Warning", "ErrImageNeverPull", message)
                raise ImageFault(self._fail(reference, "ErrImageNeverPull", message))
        waiting = self._failures.get(reference)
        if waiting is not None and waiting.retry_s > self._clock.monotonic():
            raise ImageFault(waiting)
        return await self._pull(reference, say)

    async def _pull(self, reference: str, say: Say) -> ImageRecord:
        say("Normal", "Pulling", f'Pulling image "{reference}"')
        task = self._pulls.get(reference)
        if task is None:
            task = self._pulls[reference] = asyncio.create_task(self._pull_once(reference))
            task.add_done_callback(lambda done: self._forget(reference, done))
        try:
            pulled = await asyncio.shield(task)
        except PullError as error:
            say("Warning", "Failed", f'Failed to pull image "{reference}": {error}')
            say("Warning", "Failed", "Error: ErrImagePull")
            raise ImageFault(self._failures[reference]) from error
        say("Normal", "Pulled", f'Successfully pulled image "{reference}" in {pulled.took_s:.1f}s')
        return pulled.image

    def _forget(self, reference: str, done: asyncio.Task[_Pulled]) -> None:
        self._pulls.pop(reference, None)
        if not done.cancelled():
            # Its failure was told by whoever waits for it; if nobody does any more, it is of no interest.
            done.exception()

    async def _pull_once(self, reference: str) -> _Pulled:
        began_s = self._clock.monotonic()
        async with self._slots:
            try:
                await self._runtime.pull(reference)
                image = await self._runtime.image(reference)
                if image is None:
                    raise PullError("the image was pulled but is not there")
            except RuntimeUnavailableError:
                raise
            except PullError as error:
                self._fail(reference, "ErrImagePull", str(error))
                raise
        self._failures.pop(reference, None)
        return _Pulled(image, self._clock.monotonic() - began_s)

    def _fail(self, reference: str, reason: str, message: str) -> Fault:
        fault = backoff.again(
            self._failures.pop(reference, None), reason, message, self._clock.monotonic(),
            first_s=FIRST_DELAY_S, longest_s=LONGEST_DELAY_S,
        )  # fmt: skip
        self._failures[reference] = fault
        while len(self._failures) > MAX_FAILURES:
            self._failures.pop(next(iter(self._failures)))
        return fault
