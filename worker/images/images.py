"""`Images`: makes sure that an image is on this node, by the pull policy. One pull per image at a time, few in all.

Events, reasons and back-off (10 s doubling to 5 min) are the kubelet's; the pods that ask for an image in the same name
share its back-off, so that a rollout of many does not press a registry that refuses it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from barque.api import durations
from barque.client.clock import Clock
from barque.worker.images import names
from barque.worker.images.names import InvalidNameError
from barque.worker.pods import backoff
from barque.worker.pods.backoff import Fault
from barque.worker.runtime.port import ImageRecord, Login, PullError, Runtime, RuntimeUnavailableError

MAX_PULLS = 4
# Kubernetes' figures for pulls.
FIRST_DELAY_S, LONGEST_DELAY_S = 10.0, 300.0
# Remembered failures; beyond this the oldest are forgotten, which only means an earlier retry.
MAX_FAILURES = 1024

Say = Callable[[str, str, str], None]
Logins = Callable[[], Awaitable[Sequence[Login]]]


class ImageFault(Exception):
    """The image cannot be had at present; `fault` says why and when to try again."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class _Pulled(NamedTuple):
    image: ImageRecord
    took_s: float


class _Pull(NamedTuple):
    """One pull under way serves all who would ask for the same in the same name."""

    reference: str
    logins: tuple[Login, ...] = ()


async def _no_logins() -> Sequence[Login]:
    return ()


class Images:
    """The images of this node. `parallel` pulls run at the same time, 1 for one after another; `note` hears the id of
    each image that was pulled.
    """

    def __init__(
        self, runtime: Runtime, clock: Clock, *, parallel: int = MAX_PULLS, note: Callable[[str], None] | None = None
    ) -> None:
        self._runtime = runtime
        self._clock = clock
        self._note = note or (lambda image_id: None)
        self._slots = asyncio.Semaphore(parallel)
        self._pulls: dict[_Pull, asyncio.Task[_Pulled]] = {}
        self._failures: dict[_Pull, Fault] = {}

    async def ensure(self, reference: str, policy: str, say: Say, logins: Logins = _no_logins) -> ImageRecord:
        """The image, pulled if the policy wants, as one of `logins` or as nobody. `say(type, reason, message)` tells
        the pod's events.

        Raises `ImageFault`; `RuntimeUnavailableError` where the engine does not answer.
        """
        try:
            names.parse(reference)
        except InvalidNameError as error:
            message = (
                f'Failed to apply default image tag "{reference}": couldn\'t parse image name "{reference}": {error}'
            )
            say("Warning", "InspectFailed", message)
            say("Warning", "Failed", "Error: InvalidImageName")
            raise ImageFault(self._fail(_Pull(reference), "InvalidImageName", message)) from error
        if policy != "Always":
            image = await self._runtime.image(reference)
            if image is not None:
                present = f'Container image "{reference}" already present on machine and can be accessed by the pod'
                say("Normal", "Pulled", present)
                return image
            if policy == "Never":
                message = f'Container image "{reference}" is not present with pull policy of Never'
                say("Warning", "ErrImageNeverPull", message)
                say("Warning", "Failed", "Error: ErrImageNeverPull")
                raise ImageFault(self._fail(_Pull(reference), "ErrImageNeverPull", message))
        pull = _Pull(reference, tuple(await logins()))
        waiting = self._failures.get(pull)
        if waiting is not None and waiting.retry_s > self._clock.monotonic():
            raise ImageFault(waiting)
        return await self._pull(pull, say)

    async def _pull(self, pull: _Pull, say: Say) -> ImageRecord:
        reference = pull.reference
        say("Normal", "Pulling", f'Pulling image "{reference}"')
        began_s = self._clock.monotonic()
        task = self._pulls.get(pull)
        if task is None:
            task = self._pulls[pull] = asyncio.create_task(self._pull_once(pull))
            task.add_done_callback(lambda done: self._forget(pull, done))
        try:
            pulled = await asyncio.shield(task)
        except PullError as error:
            say("Warning", "Failed", f'Failed to pull image "{reference}": {error}')
            say("Warning", "Failed", "Error: ErrImagePull")
            raise ImageFault(self._failures[pull]) from error
        self._note(pulled.image.id)
        took, waited = _shown(pulled.took_s), _shown(self._clock.monotonic() - began_s)
        say(
            "Normal",
            "Pulled",
            f'Successfully pulled image "{reference}" in {took} ({waited} including waiting). '
            f"Image size: {pulled.image.size_bytes} bytes.",
        )
        return pulled.image

    def _forget(self, pull: _Pull, done: asyncio.Task[_Pulled]) -> None:
        self._pulls.pop(pull, None)
        if not done.cancelled():
            # Its failure was told by whoever waits for it; if nobody does any more, it is of no interest.
            done.exception()

    async def _pull_once(self, pull: _Pull) -> _Pulled:
        async with self._slots:
            began_s = self._clock.monotonic()
            refusals: list[str] = []
            for login in pull.logins or (None,):
                try:
                    await self._runtime.pull(pull.reference, login)
                    break
                except RuntimeUnavailableError:
                    raise
                except PullError as error:
                    refusals.append(str(error))
            else:
                raise self._refused(pull, refusals)
            took_s = self._clock.monotonic() - began_s
            image = await self._runtime.image(pull.reference)
            if image is None:
                raise self._refused(pull, ["the image was pulled but is not there"])
        self._failures.pop(pull, None)
        return _Pulled(image, took_s)

    def _refused(self, pull: _Pull, refusals: list[str]) -> PullError:
        """One failure, however many pods wait for the pull."""
        distinct = list(dict.fromkeys(refusals))
        message = distinct[0] if len(distinct) == 1 else f"[{', '.join(distinct)}]"
        self._fail(pull, "ErrImagePull", message)
        return PullError(message)

    def _fail(self, pull: _Pull, reason: str, message: str) -> Fault:
        fault = backoff.again(
            self._failures.pop(pull, None), reason, message, self._clock.monotonic(),
            first_s=FIRST_DELAY_S, longest_s=LONGEST_DELAY_S,
        )  # fmt: skip
        self._failures[pull] = fault
        while len(self._failures) > MAX_FAILURES:
            self._failures.pop(next(iter(self._failures)))
        return fault


def _shown(seconds: float) -> str:
    """As Go prints a duration cut to milliseconds."""
    return durations.show(int(seconds * 1000) * 1_000_000)
