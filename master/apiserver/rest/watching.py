"""Watches over HTTP: an answer that does not end, of one event a line, or a WebSocket of one event a message.

In: a request whose verb is `watch`. Out: what there is or has changed since, and what changes from then on, until the
watch's time is over, its caller leaves or may no longer see it. Guarantees: events are those of the hub, in order and
without a gap; stored objects go out as the bytes they are; what a batch costs to write down it costs once, however many
watch; a client that does not read is cut off, by the hub for what waits there and here for what it does not take.

Most watches wait most of the time. Once its headers are written, a watch over lines is no request any more: aiohttp's
part of it goes, and what stays is a subscription and the connection itself: there is a task only while there is
something to send.

What is refused is refused with a status of its own before the answer begins; afterwards, and where the history asked
for is gone, by an ERROR event, as Kubernetes does. Whatever else breaks a watch off, it just ends: clients then go on
from the last revision that they have.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeAlias, cast

from aiohttp import WSMsgType, web

from barque.api.errors import ApiError
from barque.client.verbs import Page, RawEvent, Target
from barque.master.apiserver import reads
from barque.master.apiserver.grpc_calls import Bounds
from barque.master.apiserver.reads import filter_of
from barque.master.apiserver.registry import Registry
from barque.master.apiserver.rest import watch_frames
from barque.master.apiserver.rest.answers import headers_of
from barque.master.apiserver.rest.call import Ending, RestCall
from barque.master.apiserver.rest.deadlines import Deadlines
from barque.master.apiserver.rest.limits import BoundedConnection, Detached
from barque.master.apiserver.rest.negotiation import JSON, accepted
from barque.master.apiserver.rest.objects import query_of, target_of
from barque.master.apiserver.rest.tables import include_of
from barque.master.apiserver.rest.watch_frames import WatchForm
from barque.master.apiserver.rest.watch_options import WatchOptions, named_target, watch_options
from barque.master.apiserver.rest.websockets import Socket, open_socket
from barque.master.auth.authentication import socket_token
from barque.master.auth.identity import User
from barque.master.store.port import Stored, Subscription

log = logging.getLogger(__name__)

Recheck: TypeAlias = Callable[[], Awaitable[None]]

# A client that is alive takes a frame within this, or has its reasons to begin again later.
WRITE_S = 30.0
# Of what there is, so many objects go out at once.
_INITIAL_BATCH = 256
# What a WebSocket's client may say: nothing, but for closing.
_HEARD_BYTES = 4096
# Of these a caller is told; of others that the watch is over.
_TOLD = (401, 403, 410)


class Sink(Protocol):
    """Where a watch's frames go."""

    async def send(self, frame: bytes) -> None:
        """Raises `ConnectionError` where nobody takes it."""
        ...


class Watching:
    """The handler of watches.

    `recheck(call)` gives what raises 401 once the caller's certificate or token is no longer good; that is asked at
    least every minute, and must not hold on to the request. `bounds` counts each watch as a stream of its user for as
    long as it lasts. `generation()` is another number whenever somebody's rights may have changed: no event is sent
    after that before the caller's were looked at anew.
    """

    def __init__(
        self,
        registry: Registry,
        recheck: Callable[[RestCall], Recheck],
        generation: Callable[[], int],
        bounds: Bounds,
    ) -> None:
        self.registry = registry
        self.generation = generation
        self.deadlines = Deadlines()
        self._recheck = recheck
        self._bounds = bounds
        self.standing: set[_Standing] = set()

    async def __call__(self, call: RestCall) -> web.StreamResponse:
        target, said = target_of(call), watch_options(query_of(call), self.registry.environment.entropy)
        target = named_target(target, said.selection)
        form = _form(call, said)
        generation = self.generation()
        verbs = self.registry.as_user(call.user, call.warnings, call.decided)
        await verbs.authorize_watch(target, said.selection)
        watch = _Watch(self, call.user, self._recheck(call), target, said, form, generation)
        self._bounds.enter(call.user, "streams")
        try:
            await watch.begin()
            if _is_upgrade(call.request):
                return await _by_websocket(call, watch)
            return await self._by_lines(call, watch)
        finally:
            if not call.outlived:
                self._bounds.leave(call.user, "streams")

    async def stop(self) -> None:
        """End every watch over lines."""
        standing = list(self.standing)
        tasks = [watch.task for watch in standing if watch.task is not None]
        for watch in standing:
            watch.interrupt()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _by_lines(self, call: RestCall, watch: _Watch) -> web.StreamResponse:
        """Write the headers, and leave the rest to a task."""
        request, chunked = call.request, call.request.version >= (1, 1)
        response = web.StreamResponse(headers=headers_of(call))
        response.headers["Content-Type"] = JSON
        # The connection does not come back to aiohttp.
        response.force_close()
        if chunked:
            response.enable_chunked_encoding()
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        # aiohttp keeps headers back until there is a body; an empty piece is no chunk.
        await response.write(b"")
        lines = _Lines(chunked=chunked)
        lines.attach(cast(BoundedConnection, request.protocol).detach(lines))
        lines.watch = standing = _Standing(self, watch, lines, call.outlive())
        self.standing.add(standing)
        standing.begin()
        return response

    def ended(self, user: User, ending: Ending | None) -> None:
        """A watch over lines is over."""
        self._bounds.leave(user, "streams")
        if ending is not None:
            ending(200)


class _Standing:
    """A watch over lines: `begin`, and it goes on by itself until its end.

    There is a task while there is something to send; the subscription calls for one.
    """

    __slots__ = ("_at", "_ending", "_lines", "_of", "_over", "_subscription", "_watch", "task")

    def __init__(self, of: Watching, watch: _Watch, lines: _Lines, ending: Ending | None) -> None:
        self._of = of
        self._watch = watch
        self._lines = lines
        self._ending = ending
        self._at = 0.0
        self._over = False
        self._subscription: Subscription | None = None
        self.task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self._at = self._of.deadlines.begin(self._watch.timeout_s, self)
        self._go_on()

    def interrupt(self) -> None:
        """The time is over, the client has left, or the master stops."""
        self._over = True
        if self.task is not None:
            self.task.cancel()
        else:
            self._end(None)

    def _go_on(self) -> None:
        if self.task is None and not self._over:
            self.task = asyncio.create_task(self._send())
            self.task.add_done_callback(self._sent)

    async def _send(self) -> None:
        """Send what there is by now."""
        watch, lines = self._watch, self._lines
        try:
            if self._subscription is None:
                await watch.send_initial(lines)
                self._subscription = watch.subscribe(self._go_on)
            while (batch := self._subscription.take()) is not None:
                if batch:
                    await watch.pass_on(cast(Sequence[RawEvent], batch), lines)
                else:
                    await asyncio.sleep(0)  # a long backlog of which nothing is selected must not hold the loop
        except ApiError as refused:
            self._over = True
            await tell(refused, lines)
        # Nothing may come between the last look and this: what comes from now on calls for a task of its own.
        self.task = None

    def _sent(self, task: asyncio.Task[None]) -> None:
        """Also where the task never ran: a client may be gone at once."""
        if self.task is task:
            self.task = None
        failure = None if task.cancelled() else task.exception()
        if self._over or task.cancelled() or failure is not None:
            self._end(failure)

    def _end(self, failure: BaseException | None) -> None:
        if self not in self._of.standing:
            return
        self._of.standing.discard(self)
        self._over = True
        self._of.deadlines.leave(self._at, self)
        if self._subscription is not None:
            self._subscription.close()
        lines = self._lines
        lines.watch = None
        if failure is not None:
            if not isinstance(failure, ConnectionError):
                log.error("a watch failed unexpectedly", exc_info=failure)
            lines.abort()
        else:
            # Also where the master stops: the client goes on at another one.
            lines.end()
        lines.close()
        self._of.ended(self._watch.user, self._ending)


class _Watch:
    """One watch: `begin` once, then `run`."""

    __slots__ = (
        *("_form", "_generation", "_initial", "_of", "_recheck", "_said", "_since", "_target", "_tells_columns"),
        "user",
    )

    def __init__(
        self,
        of: Watching,
        user: User,
        recheck: Recheck,
        target: Target,
        said: WatchOptions,
        form: WatchForm,
        generation: int,
    ) -> None:
        self._of = of
        self.user = user
        self._recheck = recheck
        self._target = target
        self._said = said
        self._form = form
        self._generation = generation
        self._initial: Sequence[Stored] = ()
        self._since = said.since
        self._tells_columns = form.form == "Table" and not said.initial

    @property
    def timeout_s(self) -> float:
        return self._said.timeout_s

    def framed(self, *, lines: bool) -> None:
        """One event a frame, or as many as fit."""
        self._form = self._form._replace(lines=lines)

    async def begin(self) -> None:
        """Find where the watch begins. Raises 400 for selectors, 504 for a revision that is not reached."""
        said, backend = self._said, self._of.registry.environment.backend(self._target.resource)
        if said.since and not said.initial:
            filter_of(self._target, said.selection)
            await backend.reach(said.since)
            return
        version = str(said.since) if said.since else "0" if said.at_once else ""
        page = Page(resource_version=version, match="NotOlderThan" if said.since else "")
        if not said.initial:
            page = page._replace(limit=1)
        found = await reads.find(backend, self._target, said.selection, page)
        self._initial = found.items if said.initial else ()
        self._since = found.revision

    async def run(self, sink: Sink) -> None:
        """Send what there is and what comes, for as long as the watch lasts."""
        try:
            with self._of.deadlines.within(self.timeout_s):
                await self.send_initial(sink)
                await self._send_changes(sink)
        except ApiError as refused:
            await tell(refused, sink)

    def subscribe(self, on_news: Callable[[], None]) -> Subscription:
        """To what comes after the beginning. Raises 410 and 503."""
        resource = self._target.resource
        selected = filter_of(self._target, self._said.selection)
        backend = self._of.registry.environment.backend(resource)
        return backend.subscribe(resource.stored.group_resource, self._since, selected, on_news)

    async def pass_on(self, events: Sequence[RawEvent], sink: Sink) -> None:
        """Send this batch. Raises 401 or 403 where the caller may no longer see it."""
        resource, form = self._target.resource, self._form
        await self._check(events)
        now = self._of.registry.environment.clock.wall()
        if self._tells_columns and any(event.type != "BOOKMARK" for event in events):
            made: Sequence[bytes] = await watch_frames.make_frames(events, resource, form, now, first=True)
            self._tells_columns = False
        else:
            made = await watch_frames.frames(events, resource, form, now)
        for frame in made:
            await sink.send(frame)

    async def send_initial(self, sink: Sink) -> None:
        items, self._initial = self._initial, ()
        resource, form, now = self._target.resource, self._form, self._of.registry.environment.clock.wall()
        for start in range(0, len(items), _INITIAL_BATCH):
            events = [RawEvent("ADDED", s.json, s.revision) for s in items[start : start + _INITIAL_BATCH]]
            for frame in await watch_frames.make_frames(events, resource, form, now, first=start == 0):
                await sink.send(frame)
        if self._said.marks_initial:
            await sink.send(watch_frames.bookmark(self._since, resource, form, ends_initial=True))

    async def _send_changes(self, sink: Sink) -> None:
        resource, environment = self._target.resource, self._of.registry.environment
        selected = filter_of(self._target, self._said.selection)
        changes = environment.backend(resource).watch(resource.stored.group_resource, self._since, selected)
        try:
            async for batch in changes:
                # The store's events are these by another name; the very list is passed on, for watchers share it.
                await self.pass_on(cast(Sequence[RawEvent], batch), sink)
        finally:
            close = getattr(changes, "aclose", None)
            if close is not None:
                await close()

    async def _check(self, events: Sequence[RawEvent]) -> None:
        """Raises 401 or 403 where the caller may not see what comes. A bookmark comes at least once a minute."""
        if events[-1].type == "BOOKMARK":
            await self._recheck()
        generation = self._of.generation()
        if generation != self._generation:
            as_user = self._of.registry.as_user(self.user)
            await as_user.authorize_watch(self._target, self._said.selection)
            self._generation = generation


class _Lines(Detached):
    """The lines of an answer, in chunks (RFC 9112, 7.1) or, to HTTP/1.0, until the connection ends."""

    __slots__ = ("_chunked", "_may_write", "_transport", "watch")

    def __init__(self, *, chunked: bool) -> None:
        super().__init__()
        self._chunked = chunked
        self._transport: asyncio.Transport | None = None
        self._may_write: asyncio.Future[None] | None = None
        self.watch: _Standing | None = None

    def attach(self, transport: asyncio.Transport) -> None:
        """From now on the lines go there."""
        self._transport = transport

    async def send(self, frame: bytes) -> None:
        await self._write(b"%x\r\n%b\r\n" % (len(frame), frame) if self._chunked else frame)

    def end(self) -> None:
        """Say that no further line comes, to whoever still listens."""
        if self._chunked and self._transport is not None:
            self._transport.write(b"0\r\n\r\n")

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Drop a connection whose client does not read: waiting for it to take the rest would hold its memory."""
        if self._transport is not None:
            self._transport.abort()

    def pause_writing(self) -> None:
        self._may_write = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        waiter, self._may_write = self._may_write, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Whoever watches has nothing more to say."""

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._transport = None
        self.resume_writing()
        if self.watch is not None:
            self.watch.interrupt()

    async def _write(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            raise ConnectionError("the client has left")
        self._transport.write(data)
        if self._may_write is not None:
            await _taken(self._may_write)


class _Messages:
    """The messages of a WebSocket."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket

    async def send(self, frame: bytes) -> None:
        await _taken(self._socket.send_frame(frame, WSMsgType.TEXT))


async def tell(refused: ApiError, sink: Sink) -> None:
    """Why the watch ends, where that is for its caller to know."""
    if refused.code in _TOLD:
        await sink.send(watch_frames.error(refused))


async def _taken(write: Awaitable[None]) -> None:
    """Raises `ConnectionError` where the client does not read."""
    try:
        async with asyncio.timeout(WRITE_S):
            await write
    except TimeoutError:
        raise ConnectionError("the client does not read") from None


async def _by_websocket(call: RestCall, watch: _Watch) -> web.StreamResponse:
    watch.framed(lines=True)
    _, protocols = socket_token(call.request.headers.get("Sec-WebSocket-Protocol", ""))
    # A browser takes no answer that leaves all of them out; what a message looks like none of them changes.
    socket = await open_socket(
        call.request, protocols.partition(",")[0].strip(), max_bytes=_HEARD_BYTES, decode_text=True
    )
    if call.audit is not None:
        call.audit.started(socket.status)
    sending = asyncio.ensure_future(watch.run(_Messages(socket)))
    listening = asyncio.ensure_future(_closed(socket))
    try:
        await asyncio.wait((sending, listening), return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            try:
                sending.result()
            except ConnectionError:
                socket.abort()
    finally:
        for task in (sending, listening):
            task.cancel()
        await asyncio.wait((sending, listening))
    await socket.close()
    return socket


async def _closed(socket: Socket) -> None:
    """Until the client closes the socket; what else it says is nothing to us."""
    async for _ in socket:
        await socket.take_turns()


def _is_upgrade(request: web.BaseRequest) -> bool:
    tokens = request.headers.get("Connection", "").lower().split(",")
    return (
        "upgrade" in (token.strip() for token in tokens) and request.headers.get("Upgrade", "").lower() == "websocket"
    )


def _form(call: RestCall, said: WatchOptions) -> WatchForm:
    """In which form the events are wanted. Raises 400 and 406."""
    form = accepted(call.request.headers.get("Accept", ""))
    if form.yaml or form.form == "PartialObjectMetadataList":
        raise ApiError(406, "NotAcceptable", f"only the following media types are accepted: {JSON};stream=watch")
    include = include_of(query_of(call)) if form.form == "Table" else "Metadata"
    return WatchForm(form.form, form.version, include, said.bookmarks)
