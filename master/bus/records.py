"""A master's picture of the Event records: follows the stream, whatever happens to it, and tells the hub.

A stream is read aside from its first message on, and served once its end is reached. The same happens where a stream
was made anew or has lost what this master had not yet seen: till the new picture is whole the old one is served, then
every watch ends (410) and lists again. The picture of an earlier stream, of which the new one may lack something, is
handed to `on_replaced`.

Whoever follows makes no stream: where there is none it sets `missing`, and the leader's `StreamKeeper` sees to it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any, cast

import msgspec
from nats.js.errors import APIError

from barque.client.clock import Clock
from barque.master.bus.cache import HISTORY, RESOURCE, EventCache
from barque.master.bus.link import BusAwayError, Link, Message, Session
from barque.master.bus.replies import StreamState
from barque.master.bus.streams import Streams
from barque.master.bus.subjects import EVENT_STREAM
from barque.master.store.hub import Hub
from barque.master.store.port import Change, FutureRevisionError

log = logging.getLogger(__name__)

PAUSE_S = 0.2
# How long a read waits to hear where the stream stands; then it is answered with what this master has.
CURRENT_S = 1.0
# A request that meets a change of the stream's leader is never answered: better ask again.
ANSWER_S = 1.5
# A server that has just become the stream's leader may still be behind what it has in its log.
BEHIND_S = 5.0
_NOT_YET = "the Event records are not followed yet"


class _GapError(BusAwayError):
    """Messages are missing between what was seen and what comes."""


class EventRecords:
    """`cache` is what is served, once `served`; `hub` tells its changes; `following` is False while they do not come,
    and `fault` then says why.
    """

    def __init__(self, link: Link, clock: Clock, streams: Streams, on_replaced: Callable[[EventCache], None]) -> None:
        self._link = link
        self._clock = clock
        self._streams = streams
        self._on_replaced = on_replaced
        self._filling: EventCache | None = None
        self._behind_since: float | None = None
        self.cache = EventCache("", 0)
        self.hub = Hub(clock, HISTORY)
        self.served = False
        self.following = False
        self.fault = _NOT_YET
        self.missing = asyncio.Event()

    async def run(self) -> None:
        """Follow, until cancelled."""
        while True:
            session = await self._link.up()
            try:
                await self._follow(session)
            except (BusAwayError, APIError) as error:
                self.fault = f"the Event records cannot be followed: {error}"
                log.debug("events: %s", self.fault)
            finally:
                self.following = False
                self.fault = self.fault or _NOT_YET
            await self._clock.sleep(PAUSE_S)

    async def reached(self, revision: int) -> bool:
        """Wait until the cache is at `revision`; False where that does not come within 3 s."""
        if revision > self.hub.revision:
            try:
                await self.hub.wait_for_revision(revision)
            except FutureRevisionError:
                return False
        return True

    async def catch_up(self) -> None:
        """Wait for what any master has written before this call; not for long, where the bus does not say how much."""
        session = self._link.session
        if session is None or not self.following:
            return
        try:
            state = await session.stream_state(EVENT_STREAM, CURRENT_S)
        except (BusAwayError, APIError):
            return
        if state is not None and state.created == self.cache.created:
            await self.reached(state.state.last_seq)

    async def _follow(self, session: Session) -> None:
        """Until the connection, the consumer or the stream breaks off; raises why."""
        state = await session.stream_state(EVENT_STREAM, ANSWER_S)
        if state is None:
            self.missing.set()
            raise BusAwayError("there is no stream of them")
        self._streams.check(EVENT_STREAM, state.config.metadata)
        cache = self._cache_of(state)
        self._serve_whole(cache, state)
        async with aclosing(cast(Any, session.follow(EVENT_STREAM, cache.revision))) as batches:
            async for messages in batches:
                self._take(cache, messages)
                if not self.following:
                    self._serve_whole(cache, state)

    def _cache_of(self, state: StreamState) -> EventCache:
        """The cache to go on with: the newest one where the stream goes on from it, else an empty one."""
        newest = self._filling if self._filling is not None else self.cache
        bounds = state.state
        if newest.created == state.created:
            if bounds.last_seq < newest.revision:
                self._bear_with(newest, bounds.last_seq)
            elif bounds.first_seq <= newest.revision + 1 or newest is self._filling:
                self._behind_since = None
                return newest
        if self.served:
            log.warning("the stream of Event records was made anew or has lost its past: watches begin again")
        self._behind_since = None
        self._filling = EventCache(state.created, max(0, bounds.first_seq - 1))
        return self._filling

    def _bear_with(self, newest: EventCache, last: int) -> None:
        """Raises while the stream's leader may still catch up with what it has acknowledged."""
        now = self._clock.monotonic()
        since = self._behind_since = now if self._behind_since is None else self._behind_since
        if now - since < BEHIND_S:
            raise BusAwayError(f"the stream is at {last}, this master at {newest.revision}")

    def _serve_whole(self, cache: EventCache, state: StreamState) -> None:
        """Serve the cache once it has come to where the stream ended: half-read it would show what was deleted."""
        if cache.revision < state.state.last_seq:
            return
        if cache is not self.cache:
            self._replace(cache)
        self.following = True
        self.fault = ""

    def _replace(self, cache: EventCache) -> None:
        old, self.cache, self._filling = self.cache, cache, None
        floor = cache.history.floor
        self.hub.restart(floor, "the Event records are those of another stream")
        self.hub.publish(cache.history.since(floor), cache.revision)
        cache.history.reset(cache.revision)
        self.served = True
        if old.created and old.created != cache.created:
            self._on_replaced(old)

    def _take(self, cache: EventCache, messages: Sequence[Message]) -> None:
        """Raises where messages are missing that a watch would have to be told."""
        changes: list[Change] = []
        try:
            for message in messages:
                if message.sequence != cache.revision + 1:
                    self._step_over(cache, message.sequence)
                try:
                    change = cache.take(message.sequence, message.at, message.data)
                except msgspec.DecodeError as unreadable:
                    log.warning("event message %d is left out: %s", message.sequence, unreadable)
                    continue
                if change is not None:
                    changes.append(change)
        finally:
            if cache is self.cache:
                self.hub.publish(changes, cache.revision)
            else:
                for change in changes:
                    cache.history.append(change, RESOURCE)

    def _step_over(self, cache: EventCache, sequence: int) -> None:
        """Messages before this one have gone from the stream: what is served must be read anew, with the gap in it."""
        if cache is self.cache:
            cache.created = ""
            raise _GapError(f"messages between {cache.revision} and {sequence} have gone")
        cache.history.reset(sequence - 1)
