"""The change feed relayed: what `Feed.Follow` of this master gives to those who have only a profile.

One reader follows the end of the stream for all callers together, and the newest entries stay in memory. A caller who
is further back reads from the stream on a consumer of its own, few at a time, until it is there. So a slow caller costs
nothing but its place among `MOST_FOLLOWERS`, and the publisher knows of none.

Sequences are without a hole, so that whoever goes on from one either misses nothing or is told (410): the stream has
trimmed what comes next, or it was made anew, which begins beyond every sequence of before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple, cast

from nats.js.errors import APIError

from barque.api.errors import ApiError, expired, too_many_requests
from barque.client.clock import Clock
from barque.client.subjects import Pattern
from barque.master.bus.link import BusAwayError, Link, Message, Session
from barque.master.bus.streams import Streams
from barque.master.bus.subjects import CHANGE_STREAM, change_subjects

log = logging.getLogger(__name__)

MOST_FOLLOWERS = 64
MOST_CATCHING_UP = 4
KEPT_ENTRIES = 4096
KEPT_BYTES = 8 * 1024 * 1024
PAGE_ENTRIES = 256
PAGE_BYTES = 1024 * 1024
# So often a caller whose subject is quiet learns how far the feed has come, so that it resumes from there.
BOOKMARK_S = 20.0
# A sequence from the future: the entry may be on its way to this master.
FUTURE_S = 3.0
_PAUSE_S = 0.3


class Entry(NamedTuple):
    """One message; `subject` is what follows `barque.<cluster>.change.`."""

    sequence: int
    subject: str
    message: bytes


class Page(NamedTuple):
    """Entries in order, none at all in a bookmark; nothing that is meant is missing up to `sequence`."""

    entries: list[Entry]
    sequence: int


class FeedRelay:
    """`run()` reads while there are followers. Where `enabled` is False there is no feed, and callers get 404."""

    def __init__(
        self, link: Link, cluster: str, clock: Clock, *, streams: Streams = Streams(lambda: 1), enabled: bool = True
    ) -> None:
        self._link = link
        self._streams = streams
        self._clock = clock
        self._enabled = enabled
        self._prefix = len(change_subjects(cluster)) - 1
        self._followers = 0
        self._wanted = asyncio.Event()
        self._catching_up = asyncio.Semaphore(MOST_CATCHING_UP)
        self._stream: object = None
        # A number for each unbroken run of the stream, and whether its end is being followed.
        self._epoch = 0
        self._live = False
        self._newest = Newest(0)
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled, whatever happens to the bus."""
        while True:
            await self._wanted.wait()
            session = await self._link.up()
            try:
                await self._read(session)
            except (BusAwayError, APIError) as error:
                log.debug("feed relay: %s", error)
                await self._clock.sleep(_PAUSE_S)

    async def follow(self, pattern: Pattern, after: int) -> AsyncIterator[Page]:
        """What is meant by `pattern` after a sequence, 0 for what comes from now on, which begins with a bookmark.

        While the bus is away nothing comes. Raises 410 where the next entry is not there any more, 404 where there is
        no feed, 429 where too many follow. The caller closes it.
        """
        if not self._enabled:
            raise ApiError(404, "NotFound", "this master publishes no change feed (barque master run --no-change-feed)")
        if self._followers >= MOST_FOLLOWERS:
            raise too_many_requests(f"{MOST_FOLLOWERS} callers follow the change feed of this master: too many at once")
        self._followers += 1
        self._wanted.set()
        try:
            while not self._live:
                await self._news.wait()
            async with aclosing(cast(Any, self._follow(pattern, after))) as pages:
                async for page in pages:
                    yield page
        finally:
            self._followers -= 1

    async def _follow(self, pattern: Pattern, after: int) -> AsyncIterator[Page]:
        epoch, cursor = self._epoch, after or self._newest.last
        await self._check_reached(cursor)
        if cursor >= self._newest.floor:
            yield Page([], cursor)
        told = self._clock.monotonic()
        while True:
            if epoch != self._epoch:
                raise expired(f"the change feed was made anew or has lost entries after {cursor}: begin anew")
            if cursor < self._newest.floor:
                async with aclosing(cast(Any, self._catch_up(cursor))) as earlier:
                    async for messages in earlier:
                        cursor = messages[-1].sequence
                        yield self._page(pattern, messages, cursor)
                        told = self._clock.monotonic()
                continue
            messages = self._newest.after(cursor)
            cursor = messages[-1].sequence if messages else cursor
            page = self._page(pattern, messages, cursor)
            if page.entries or self._clock.monotonic() - told >= BOOKMARK_S:
                yield page
                told = self._clock.monotonic()
            elif not messages:
                await self._wait_for_news(BOOKMARK_S)

    def _page(self, pattern: Pattern, messages: Sequence[Message], reached: int) -> Page:
        entries = (Entry(message.sequence, message.subject[self._prefix :], message.data) for message in messages)
        return Page([entry for entry in entries if pattern.matches(entry.subject)], reached)

    async def _check_reached(self, cursor: int) -> None:
        """Give what comes from elsewhere a moment to be here. Raises 410 where the stream does not reach so far."""
        give_up = self._clock.monotonic() + FUTURE_S
        while cursor > self._newest.last:
            left_s = give_up - self._clock.monotonic()
            if left_s <= 0:
                raise expired(f"the change feed stands at {self._newest.last}, before {cursor}: it was made anew")
            await self._wait_for_news(left_s)

    async def _wait_for_news(self, at_most_s: float) -> None:
        try:
            async with asyncio.timeout(at_most_s):
                await self._news.wait()
        except TimeoutError:
            pass

    async def _catch_up(self, cursor: int) -> AsyncIterator[Sequence[Message]]:
        """Messages after `cursor` from the stream, until what is kept in memory goes on from there. Raises 410."""
        async with self._catching_up:
            session = await self._link.up()
            try:
                async with aclosing(cast(Any, session.follow(CHANGE_STREAM, cursor))) as batches:
                    async for messages in batches:
                        if messages[0].sequence != cursor + 1 or not _is_whole(messages):
                            oldest = messages[0].sequence - 1
                            raise expired(f"too old sequence: {cursor} ({oldest}); begin anew")
                        yield messages
                        cursor = messages[-1].sequence
                        if cursor >= self._newest.floor:
                            return
            except (BusAwayError, APIError) as error:
                log.debug("feed relay: catching up: %s", error)
        await self._clock.sleep(_PAUSE_S)

    async def _read(self, session: Session) -> None:
        """Follow the stream's end while someone wants it. Raises `BusAwayError`, `APIError`."""
        await self._begin(session)
        async with aclosing(cast(Any, session.follow(CHANGE_STREAM, self._newest.last))) as batches:
            async for messages in batches:
                if not self._followers:
                    self._live = False
                    self._wanted.clear()
                    return
                if messages[0].sequence == self._newest.last + 1 and _is_whole(messages):
                    self._newest.add(messages)
                else:
                    self._begin_anew(messages[-1].sequence)
                self._tell()

    async def _begin(self, session: Session) -> None:
        """See to memory's being of this stream and near its end. Raises `BusAwayError` where the stream is behind."""
        info = await session.ask(session.jetstream.stream_info(CHANGE_STREAM))
        self._streams.check(CHANGE_STREAM, info.config.metadata)
        last, newest = info.state.last_seq, self._newest
        same = self._live and self._stream == info.created
        if not same or not await self._agrees(session, min(last, newest.last)):
            self._stream = info.created
            self._begin_anew(last)
        elif last < newest.last:
            # A server of one copy was killed and has lost its last messages: the publisher writes the same ones again.
            raise BusAwayError(f"the stream has come to {last} of {newest.last} again")
        elif last - newest.last > KEPT_ENTRIES:
            # Others have written much while this master was apart: its followers read that from the stream.
            self._newest = Newest(last)
        self._tell()

    async def _agrees(self, session: Session, sequence: int) -> bool:
        """Whether the stream still says what this master has told its callers."""
        known = self._newest.at(sequence)
        if known is None:
            return sequence == self._newest.last
        found = await session.ask(session.jetstream.get_msg(CHANGE_STREAM, sequence))
        return found.data == known.data

    def _begin_anew(self, last: int) -> None:
        self._live = True
        self._epoch += 1
        self._newest = Newest(last)

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


class Newest:
    """The newest messages, without a hole: those after `floor` up to `last`."""

    def __init__(self, floor: int) -> None:
        self.floor = floor
        self._kept: list[Message] = []
        self._bytes = 0

    @property
    def last(self) -> int:
        return self.floor + len(self._kept)

    def add(self, messages: Sequence[Message]) -> None:
        """Take what follows; where that is too much the older half goes."""
        self._kept += messages
        self._bytes += sum(len(message.data) for message in messages)
        while len(self._kept) > KEPT_ENTRIES or (self._bytes > KEPT_BYTES and len(self._kept) > 1):
            gone = (len(self._kept) + 1) // 2
            self._bytes -= sum(len(message.data) for message in self._kept[:gone])
            del self._kept[:gone]
            self.floor += gone

    def at(self, sequence: int) -> Message | None:
        """The message of this sequence, None where it is not kept."""
        return self._kept[sequence - self.floor - 1] if self.floor < sequence <= self.last else None

    def after(self, sequence: int) -> list[Message]:
        """A page of messages after `sequence`, which is not below `floor`."""
        return list(_page_of(self._kept[sequence - self.floor : sequence - self.floor + PAGE_ENTRIES]))


def _page_of(messages: Sequence[Message]) -> Iterator[Message]:
    size = 0
    for message in messages:
        size += len(message.data)
        if size > PAGE_BYTES and size > len(message.data):
            return
        yield message


def _is_whole(messages: Sequence[Message]) -> bool:
    """Whether no sequence is missing between them."""
    return messages[-1].sequence - messages[0].sequence == len(messages) - 1
