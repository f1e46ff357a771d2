"""Snapshots on their way from the leader to a member that is too far behind for the log.

Offer → "I have all pieces before n" → pieces from n on, a few ahead of what was confirmed → installed. Every message
may be lost: after a second without progress the sender offers again, hears how far the receiver is, and goes on from
there. So a cut costs a second, whatever was sent before it stays, and only another snapshot (another leader's, a newer
one) begins anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from typing import NamedTuple

from barque.master.raft.messages import Message, SnapshotChunk, SnapshotOffer, SnapshotReply
from barque.master.raft.ports import SnapshotHead, SnapshotSink, SnapshotSource

log = logging.getLogger(__name__)


class TransferSettings(NamedTuple):
    """`window`: how many pieces are sent ahead of what is confirmed. `resend_s` without progress: ask how far it is;
    after `give_up_s` without a word the sender leaves it, after twice that the receiver does.
    """

    window: int = 8
    resend_s: float = 1.0
    give_up_s: float = 30.0


class Wire(NamedTuple):
    """How messages leave: `post` sends, `own` is the sender's id, `term` what they carry."""

    own: str
    term: Callable[[], int]
    post: Callable[[Message], None]


class _Sending:
    """One snapshot to one member. `run` returns "" once it is installed there, or why it is not."""

    def __init__(self, to: str, transfer: str, source: SnapshotSource, wire: Wire, settings: TransferSettings) -> None:
        self._to = to
        self._transfer = transfer
        self._source = source
        self._wire = wire
        self._settings = settings
        # What the receiver has: all pieces before it.
        self._next = 0
        self._done = False
        self._refused = ""
        # How many pieces there are, once the last one was read.
        self._total = -1
        self._heard = asyncio.Event()

    def hear(self, reply: SnapshotReply) -> None:
        if reply.transfer != self._transfer:
            return
        # Taken at its word: a receiver that has started anew has nothing.
        self._next = reply.next
        self._done = self._done or reply.done
        self._refused = self._refused or reply.refused
        self._heard.set()

    async def run(self) -> str:
        head = self._source.head
        silent_s = 0.0
        while not self._done and not self._refused:
            offer = SnapshotOffer(
                self._to, self._wire.own, self._wire.term(), self._transfer, head.index, head.term, head.configuration
            )
            self._heard.clear()
            self._wire.post(offer)
            if not await self._word():
                silent_s += self._settings.resend_s
                if silent_s >= self._settings.give_up_s:
                    return f"no answer for {silent_s:.0f} s"
                continue
            silent_s = 0.0
            if self._ended:
                break
            if self._next != self._total:
                await self._send_pieces()
            # All is there: it is being installed, which a word will tell.
            while not self._ended and self._next == self._total and await self._word():
                pass
        return self._refused

    @property
    def _ended(self) -> bool:
        return self._done or bool(self._refused)

    async def _send_pieces(self) -> None:
        """Send from the confirmed piece on, until all are confirmed or there is no progress."""
        async with contextlib.aclosing(_numbered(self._source, self._next)) as pieces:
            async for number, data, last in pieces:
                if last:
                    self._total = number + 1
                while number >= self._next + self._settings.window and not self._ended:
                    if not await self._progress():
                        return
                if self._ended:
                    return
                chunk = SnapshotChunk(self._to, self._wire.own, self._wire.term(), self._transfer, number, data, last)
                self._wire.post(chunk)
        while not self._ended and self._next < self._total:
            if not await self._progress():
                return

    async def _progress(self) -> bool:
        """Wait until more is confirmed; False where nothing was for a while."""
        before = self._next
        while self._next == before and not self._ended:
            if not await self._word():
                return False
        return True

    async def _word(self) -> bool:
        """Wait until the receiver says anything; False where it did not in time."""
        try:
            async with asyncio.timeout(self._settings.resend_s):
                await self._heard.wait()
        except TimeoutError:
            return False
        self._heard.clear()
        return True


async def _numbered(source: SnapshotSource, start: int) -> AsyncGenerator[tuple[int, bytes, bool], None]:
    """The pieces from `start` on with their numbers, and whether each is the last."""
    number, held = start, None
    async for piece in source.pieces(start):
        if held is not None:
            yield number, held, False
            number += 1
        held = piece
    if held is not None:
        yield number, held, True


class Senders:
    """The snapshots that this member is sending, one to a member at most.

    `offer(after)` gives a source; `ended(member, ok)` hears of each end; `failed` of what should not happen.
    """

    def __init__(
        self,
        wire: Wire,
        settings: TransferSettings,
        entropy: Callable[[int], bytes],
        offer: Callable[[int], Awaitable[SnapshotSource]],
        ended: Callable[[str, bool], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._wire = wire
        self._settings = settings
        self._entropy = entropy
        self._offer = offer
        self._ended = ended
        self._failed = failed
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._sendings: dict[str, _Sending] = {}
        # The entries after these must stay until the snapshots are there.
        self._after: dict[str, int] = {}

    def __contains__(self, member: str) -> bool:
        return member in self._tasks

    @property
    def after(self) -> int | None:
        """The entries after this one follow a snapshot that is being sent; None where none is."""
        return min(self._after.values(), default=None)

    def start(self, to: str, after: int) -> None:
        """Send a snapshot of `after` or later, unless one is being sent already."""
        if to not in self._tasks:
            self._after[to] = after
            task = asyncio.create_task(self._send(to, after), name=f"snapshot to {to}")
            self._tasks[to] = task
            task.add_done_callback(lambda done: self._over(to, done))

    def hear(self, reply: SnapshotReply) -> None:
        sending = self._sendings.get(reply.sender)
        if sending is not None:
            sending.hear(reply)

    def keep(self, members: Collection[str]) -> None:
        """Stop sending to all others."""
        for member, task in self._tasks.items():
            if member not in members:
                task.cancel()

    async def close(self) -> None:
        self.keep(())
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    async def _send(self, to: str, after: int) -> None:
        why = ""
        try:
            source = await self._offer(after)
            try:
                self._after[to] = source.head.index
                sending = _Sending(to, self._entropy(8).hex(), source, self._wire, self._settings)
                self._sendings[to] = sending
                log.info("sending the snapshot of entry %d to member %s", source.head.index, to)
                why = await sending.run()
            finally:
                self._sendings.pop(to, None)
                source.close()
        except OSError as error:
            why = str(error)
        if why:
            log.warning("the snapshot for member %s was not sent: %s", to, why)
        self._ended(to, not why)

    def _over(self, to: str, task: asyncio.Task[None]) -> None:
        del self._tasks[to], self._after[to]
        if task.cancelled():
            self._ended(to, False)
        elif failure := task.exception():
            self._failed(failure)


class _Receiving:
    """One snapshot that is coming in, after the one before it has let go."""

    def __init__(self, offer: SnapshotOffer, window: int) -> None:
        self.offer = offer
        self.next = 0
        # There is room for it: pieces may come.
        self.ready = False
        self.installing = False
        self._window = window
        # Pieces that came and are not added yet, by number.
        self._chunks: dict[int, SnapshotChunk] = {}
        self._came = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def put(self, chunk: SnapshotChunk) -> None:
        """What is too far ahead, or was here already, is dropped."""
        if self.next <= chunk.number < self.next + self._window:
            self._chunks[chunk.number] = chunk
            self._came.set()

    async def get(self, timeout_s: float) -> SnapshotChunk:
        """The next piece. Raises `TimeoutError`."""
        async with asyncio.timeout(timeout_s):
            while self.next not in self._chunks:
                self._came.clear()
                await self._came.wait()
        return self._chunks.pop(self.next)


class Receiver:
    """The snapshot that this member is receiving, one at a time.

    `needed(offer)` says whether it is worth having; `accept(head)` makes room; `install(offer, sink)` puts it in the
    place of log and state, raising what `SnapshotSink.install` raises; `failed` hears of what should not happen.
    """

    def __init__(
        self,
        wire: Wire,
        settings: TransferSettings,
        needed: Callable[[SnapshotOffer], bool],
        accept: Callable[[SnapshotHead], Awaitable[SnapshotSink]],
        install: Callable[[SnapshotOffer, SnapshotSink], Awaitable[None]],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._wire = wire
        self._settings = settings
        self._needed = needed
        self._accept = accept
        self._install = install
        self._failed = failed
        self._current: _Receiving | None = None
        # Why the newest one could not be kept; "" once one is.
        self.fault = ""

    def offered(self, offer: SnapshotOffer) -> None:
        current = self._current
        if current is not None and current.offer.transfer == offer.transfer:
            if current.ready:
                self._reply(offer, current.next)
        elif not self._needed(offer):
            self._reply(offer, 0, done=True)
        elif current is None or not current.installing:
            self._begin(offer, current)

    def take(self, chunk: SnapshotChunk) -> None:
        current = self._current
        if current is not None and current.ready and current.offer.transfer == chunk.transfer:
            current.put(chunk)

    async def close(self) -> None:
        if self._current is not None and self._current.task is not None:
            self._current.task.cancel()
            await asyncio.wait([self._current.task])

    def _begin(self, offer: SnapshotOffer, before: _Receiving | None) -> None:
        current = _Receiving(offer, self._settings.window)
        self._current = current
        earlier = before.task if before is not None else None
        if earlier is not None:
            earlier.cancel()
        current.task = asyncio.create_task(self._receive(current, earlier), name=f"snapshot from {offer.sender}")
        current.task.add_done_callback(lambda task: self._over(current, task))

    async def _receive(self, current: _Receiving, earlier: asyncio.Task[None] | None) -> None:
        if earlier is not None:
            await asyncio.wait([earlier])
        offer = current.offer
        log.info("receiving the snapshot of entry %d from member %s", offer.index, offer.sender)
        sink: SnapshotSink | None = None
        try:
            sink = await self._accept(SnapshotHead(offer.index, offer.snapshot_term, offer.configuration))
            current.ready = True
            self._reply(offer, 0)
            await self._fill(current, sink)
            current.installing = True
            await self._install(offer, sink)
            sink = None
        except TimeoutError:
            log.info("the snapshot of entry %d stopped coming", offer.index)
            return
        except (OSError, ValueError) as error:
            self.fault = f"the snapshot of entry {offer.index} was not kept: {error}"
            log.error("%s", self.fault)
            self._reply(offer, 0, refused=str(error) or "it cannot be kept")
            return
        finally:
            if sink is not None:
                sink.abort()
        self.fault = ""
        log.info("the snapshot of entry %d is installed", offer.index)
        self._reply(offer, current.next, done=True)

    async def _fill(self, current: _Receiving, sink: SnapshotSink) -> None:
        """Raises `TimeoutError` where the sender has gone, and what `SnapshotSink.add` raises."""
        while True:
            chunk = await current.get(2 * self._settings.give_up_s)
            await sink.add(chunk.data)
            current.next += 1
            self._reply(current.offer, current.next)
            if chunk.last:
                return

    def _over(self, current: _Receiving, task: asyncio.Task[None]) -> None:
        if self._current is current:
            self._current = None
        if not task.cancelled() and (failure := task.exception()):
            self._failed(failure)

    def _reply(self, offer: SnapshotOffer, received: int, *, done: bool = False, refused: str = "") -> None:
        reply = SnapshotReply(offer.sender, self._wire.own, self._wire.term(), offer.transfer, received, done, refused)
        self._wire.post(reply)
