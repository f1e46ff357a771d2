"""`MastersKeeper`: the masters that this worker knows, kept as they are now, in its connection and in its profile.

A worker that was off while every master it knew was replaced could not come back; so what one master tells of the
others is written down at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import grpc.aio

from barque.api.errors import ApiError
from barque.client import wire
from barque.client.clock import Clock

log = logging.getLogger(__name__)

# Masters come and go with administrators' commands.
LOOK_S = 60.0


class Learn(Protocol):
    """Asks a master who the masters are; what is new is used from then on and returned."""

    async def __call__(self) -> list[str] | None: ...


class MastersKeeper:
    """`save` makes the masters durable; it may raise `OSError`."""

    def __init__(self, learn: Learn, save: Callable[[Sequence[str]], object], clock: Clock) -> None:
        self._learn = learn
        self._save = save
        self._clock = clock
        self._unsaved: list[str] | None = None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await self._clock.sleep(LOOK_S)

    async def look(self) -> None:
        """Ask once; what could not be saved is saved with the next look."""
        try:
            found = await self._learn()
        except grpc.aio.AioRpcError as error:
            log.debug("who the masters are is not known anew: %s", wire.api_error(error).message)
            found = None
        except ApiError as error:
            log.debug("who the masters are is not known anew: %s", error.message)
            found = None
        if found is not None:
            log.info("the masters are now %s", ", ".join(found))
        self._unsaved = found or self._unsaved
        if self._unsaved is None:
            return
        try:
            await asyncio.to_thread(self._save, self._unsaved)
            self._unsaved = None
        except OSError as error:
            log.warning("the masters cannot be noted: %s", error)
