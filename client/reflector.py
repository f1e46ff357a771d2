"""`Reflector`: follows one kind of object by one list and one never-ending watch, and tells a sink what it sees.

In: a `Client`, a target, optional selectors, a clock and a source of jitter. Out: calls of the sink, in order, never
concurrent. Guarantees: after the first list it resumes each broken watch from the revision it has reached, so no change
is missed and nothing is listed again unless the server answers 410. An outage is logged once when it begins and once
when it ends. What is kept of the objects, if anything, is the sink's affair: this holds none.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random as _random
from collections.abc import Callable, Sequence
from typing import Protocol

from barque.api.errors import ApiError, unavailable
from barque.client.client import Client
from barque.client.clock import Clock
from barque.client.gathering import gathered
from barque.client.verbs import RawEvent, Selection, Target

log = logging.getLogger(__name__)

# The first pause is short because most breaks are a master's restart or a cut-off of a slow watcher; the longest keeps
# thousands of workers from storming a master while still noticing within seconds that it is back.
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 3.0
# A watch sends a bookmark at least once a minute; silence beyond this means the connection is dead without saying so.
SILENCE_S = 90.0
# How many objects the sink takes before other tasks get the loop: at 20 to 60 µs each a few milliseconds, so that
# several informers that list at once stay below 20.
SLICE = 64


class Sink(Protocol):
    """Who is told. What is raised here ends the reflector: it is a fault of the program."""

    def begin_list(self) -> None:
        """What follows, up to `end_list`, is everything there is."""
        ...

    def put(self, json: bytes) -> None:
        """An object as it is now."""
        ...

    def drop(self, json: bytes) -> None:
        """An object that is gone, or no longer selected, as it last was."""
        ...

    def end_list(self) -> None:
        """What was known before `begin_list` and has not been put since is gone."""
        ...


class Reflector:
    """Feeds `sink`; `run()` goes on until cancelled. `lists` and `watches` count how often each was begun.

    With `gather_s` changes gather for so many seconds after each batch of them, for a sink that is in no hurry: a lone
    change is told at once, a stream of them in few batches, which cost less.
    """

    def __init__(
        self,
        client: Client,
        target: Target,
        sink: Sink,
        *,
        selection: Selection = Selection(),
        clock: Clock,
        random: Callable[[], float] = _random.random,
        gather_s: float = 0.0,
    ) -> None:
        self.resource_version = ""
        self.lists = 0
        self.watches = 0
        self._client = client
        self._target = target
        self._sink = sink
        self._selection = selection
        self._clock = clock
        self._random = random
        self._gather_s = gather_s
        self._synced = asyncio.Event()
        self._heard_at = 0.0
        self._pause_s = FIRST_PAUSE_S
        self._broken_since: float | None = None

    @property
    def synced(self) -> bool:
        """Whether the sink has been given the first complete list."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        await self._synced.wait()

    async def run(self) -> None:
        """List, then watch until cancelled."""
        listed = False
        while True:
            try:
                if not listed:
                    await self._list()
                    listed = True
                await self._watch()
            except ApiError as error:
                if error.code == 410:
                    log.info("%s: history is gone, listing again", self._target.resource.plural)
                    listed = False
                else:
                    self._note_broken(error)
            await self._clock.sleep(self._next_pause())

    def _next_pause(self) -> float:
        pause = self._pause_s * (0.5 + self._random() / 2)
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)
        return pause

    def _note_broken(self, error: ApiError) -> None:
        if self._broken_since is None:
            self._broken_since = self._clock.monotonic()
            log.warning("%s: cannot follow changes, trying again: %s", self._target.resource.plural, error.message)

    def _note_heard(self) -> None:
        self._heard_at = self._clock.monotonic()
        self._pause_s = FIRST_PAUSE_S
        if self._broken_since is not None:
            away_s = self._heard_at - self._broken_since
            self._broken_since = None
            log.info("%s: following changes again after %.1f s", self._target.resource.plural, away_s)

    async def _list(self) -> None:
        self.lists += 1
        raw = await self._client.verbs.list(self._target, self._selection)
        self._sink.begin_list()
        for count, item in enumerate(raw.items, 1):
            self._sink.put(item)
            if count % SLICE == 0:
                await asyncio.sleep(0)
        self._sink.end_list()
        self.resource_version = raw.resource_version
        self._synced.set()
        self._note_heard()

    async def _watch(self) -> None:
        """Follow until the stream ends, breaks or falls silent."""
        self.watches += 1
        self._heard_at = self._clock.monotonic()
        tasks = {asyncio.create_task(self._follow()), asyncio.create_task(self._wait_silence())}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _wait_silence(self) -> None:
        while (left_s := self._heard_at + SILENCE_S - self._clock.monotonic()) > 0:
            await self._clock.sleep(left_s)
        raise unavailable(f"nothing heard for {SILENCE_S:.0f} s")

    async def _follow(self) -> None:
        stream = self._client.verbs.watch(self._target, self._selection, self.resource_version)
        if self._gather_s:
            stream = gathered(stream, self._clock, self._gather_s)
        async with contextlib.aclosing(stream):  # type: ignore[type-var]  # the port promises aclose()
            async for batch in stream:
                self._note_heard()
                await self._take(batch)
        raise unavailable("the watch ended")

    async def _take(self, batch: Sequence[RawEvent]) -> None:
        for count, event in enumerate(batch, 1):
            if event.type == "DELETED":
                self._sink.drop(event.json)
            elif event.type != "BOOKMARK":
                self._sink.put(event.json)
            self.resource_version = str(event.revision)
            if count % SLICE == 0:
                await asyncio.sleep(0)
