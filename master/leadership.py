"""`Leadership`: what only one master may do begins when this one leads, and ends when it does not.

In: the store, and the work as a coroutine for each term. Out: `run()`, which ends only by cancellation or where the
work fails by a fault of its own. Each term begins with a barrier, so that the work sees everything earlier leaders did,
and with a new epoch (`store.epoch`) that all its writes compare. It ends when the store says that another leads, or at
the first write that was refused for its epoch; the work is then cancelled and gone within `STOP_S`, and until then it
can write nothing. This master goes on serving. Where it still leads, as after a snapshot was restored, the next term
begins at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from barque.client.clock import Clock
from barque.master.store.epoch import Epoch, begin
from barque.master.store.port import Store, StoreUnavailableError

log = logging.getLogger(__name__)

# What is cancelled only has to let go. Recorders alone wait for the network then, for `LAST_S`; nothing of it can write
# any more, so the rest is patience with a busy machine.
STOP_S = 3.0
# Between two attempts to begin a term: an election is over, or the quorum back, within a few of these.
PAUSE_S = 0.2

Work = Callable[[Epoch], Coroutine[Any, Any, object]]


class StuckWorkError(Exception):
    """What should have ended with the term has not: this master must stop rather than work twice."""


class Leadership:
    """`work(epoch)` makes everything anew for each term; it must not end by itself. `epoch` is the present term's, None
    while this master does not lead. `entropy()` gives a value that was never given before.
    """

    def __init__(self, store: Store, member: str, work: Work, entropy: Callable[[], str], clock: Clock) -> None:
        self.epoch: Epoch | None = None
        self._store = store
        self._member = member
        self._work = work
        self._entropy = entropy
        self._clock = clock

    async def run(self) -> None:
        """Until cancelled. Raises what the work raises, `StuckWorkError`, and `StoreUnavailableError` once the store is
        closed.
        """
        while True:
            await self._store.led(leads=True)
            try:
                epoch = await begin(self._store, self._member, self._entropy())
            except StoreUnavailableError as away:
                log.info("this master leads and cannot begin its term yet: %s", away)
                epoch = None
            if epoch is None:
                await self._clock.sleep(PAUSE_S)
                continue
            self.epoch = epoch
            try:
                await self._reign(epoch)
            finally:
                self.epoch = None
            await self._clock.sleep(PAUSE_S)

    async def _reign(self, epoch: Epoch) -> None:
        """One term, until this master no longer leads."""
        log.info("this master leads: controllers and scheduler begin, epoch %s", epoch.value)
        work = asyncio.create_task(self._work(epoch), name="leader's work")
        left = asyncio.create_task(self._store.led(leads=False), name="end of leadership")
        over = asyncio.create_task(epoch.over.wait(), name="end of the epoch")
        try:
            await asyncio.wait({work, left, over}, return_when=asyncio.FIRST_COMPLETED)
            if work.done() and not epoch.over.is_set() and self._store.leads:
                work.result()
                raise RuntimeError("the leader's work ended by itself")
            why = "another master has begun a term" if epoch.over.is_set() else "it was voted out or lost the quorum"
            log.warning("this master leads no longer (%s): controllers and scheduler stop", why)
        finally:
            await _end(work, left, over)
        # What failed because the term was over is no fault.
        if work.done() and not work.cancelled() and (failure := work.exception()) is not None:
            log.info("the leader's work ended with its term: %s", failure)
        if left.done() and not left.cancelled():
            left.result()


async def _end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel them and wait until they have ended. Raises `StuckWorkError`."""
    for task in tasks:
        task.cancel()
    _, stuck = await asyncio.wait(tasks, timeout=STOP_S)
    if stuck:
        names = ", ".join(sorted(task.get_name() for task in stuck))
        raise StuckWorkError(f"{names} did not end within {STOP_S:g} s after leadership was lost")
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError, Exception):
            task.exception()
