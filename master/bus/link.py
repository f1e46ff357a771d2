"""The master's connection to the bus: made again and again, handed to whoever works while it lasts.

A broken connection is never mended behind the users' backs: its `Session` ends, what used it ends with `BusAwayError`,
and the next one starts fresh, with the certificate as it is then. So nothing is silently buffered, and a write is
either acknowledged or its fate is said.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec
import nats
import nats.errors
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg
from nats.js import api
from nats.js.errors import APIError, ServiceUnavailableError

from barque.client.clock import Clock
from barque.master.bus.access import Access
from barque.master.bus.replies import Replies, StreamState, is_unheard

log = logging.getLogger(__name__)


class _KnownRemark(logging.Filter):
    """Drops what is remarked at the end of TLS connections, and nothing can be done about: by asyncio of each of the
    NATS client's, by uvloop, with a traceback, of one that ends while it still has something to answer.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        said = str(record.msg)
        fault = str(record.exc_info[1]) if record.exc_info else ""
        answers_late = said.startswith("Fatal error on SSL protocol") and fault.endswith("the handler is closed")
        return not (answers_late or "returning true from eof_received" in said)


logging.getLogger("asyncio").addFilter(_KnownRemark())

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0
CONNECT_TIMEOUT_S = 2
CLOSE_TIMEOUT_S = 1.0
# Where it waits for its own reconnecting, the client takes a cancellation for that one's and goes on.
_CANCELLED_AT_MOST = 2
LOOK_S = 0.25
REQUEST_TIMEOUT_S = 5.0
# A server that answers neither of so many pings, one each interval, is taken for gone.
PING_INTERVAL_S, PINGS_UNANSWERED = 2, 2
# How many messages are asked for at a time and how many bytes of them, at least one of the largest; how long the server
# keeps an unfilled request, and how often it says that it is alive meanwhile; after three missing signs the consumer is
# taken for gone.
PULL_MESSAGES = 256
PULL_BYTES = 8 * 1024 * 1024
PULL_EXPIRES_S = 30
HEARTBEAT_S = 1
# What a listener may leave lying: messages, and bytes of them, for readers may ask with 64 KiB each.
LISTEN_AT_MOST = 10_000
LISTEN_BYTES = 16 * 1024 * 1024
_NANO = 1_000_000_000
# Tokens of a reply subject without domain and account.
_SHORT_PLACE = 9
# nats-server's number for a stream that is not there.
STREAM_NOT_FOUND = 10059

T = TypeVar("T")


class BusAwayError(Exception):
    """The bus cannot be reached, or has just gone; whether a request was carried out is not known."""


class Message(NamedTuple):
    """One message of a stream; `at` is when the stream took it, in seconds since the epoch."""

    sequence: int
    at: float
    data: bytes
    subject: str = ""


class Outgoing(NamedTuple):
    """One message to be published."""

    subject: str
    payload: bytes
    headers: dict[str, str]


class Link:
    """A connection that comes back, to the first of `access`'s servers that answers; it ends where that is none of them
    any more. `session` is None while there is none, and `fault` then says why.
    """

    def __init__(self, access: Access, clock: Clock) -> None:
        self._access = access
        self._clock = clock
        self._changed = asyncio.Event()
        self.session: Session | None = None
        self.fault = "not connected yet"

    async def run(self) -> None:
        """Connect, wait for the end, connect again; until cancelled."""
        pause_s = FIRST_PAUSE_S
        while True:
            began = self._clock.monotonic()
            connected = await self._one_session()
            # A server that lets this master in and throws it out at once is no better than one that is away.
            if connected and self._clock.monotonic() - began > LONGEST_PAUSE_S:
                pause_s = FIRST_PAUSE_S
            await self._clock.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def up(self) -> Session:
        """Wait for a connection."""
        while self.session is None:
            await self._changed.wait()
        return self.session

    async def _one_session(self) -> bool:
        """Connect, and wait for the connection's end; return whether there was one."""
        faults = []
        for url in self._access.urls():
            ended = asyncio.Event()
            try:
                connection = await open_connection(url, self._access.options(), ended)
            except (BusAwayError, OSError, ValueError) as error:
                faults.append(f"cannot connect to {_host(url)}: {error}")
                continue
            await self._serve(url, connection, ended)
            return True
        self.fault = "; ".join(faults) or "there is no server to connect to"
        log.debug("bus: %s", self.fault)
        return False

    async def _serve(self, url: str, connection: NatsClient, ended: asyncio.Event) -> None:
        session = self.session = Session(connection)
        self.fault = ""
        self._changed.set()
        log.info("connected to the bus at %s", _host(url))
        try:
            self.fault = await self._wait_for_end(url, connection, ended)
            log.warning("lost the bus at %s: %s", _host(url), self.fault)
        finally:
            self._changed.clear()
            self.session = None
            session.end()
            await close_connection(connection)

    async def _wait_for_end(self, url: str, connection: NatsClient, ended: asyncio.Event) -> str:
        """Until the connection has ended, or ought to; return why.

        Of a peer that has fallen silent the client says its goodbye first, for half a minute, and only then that the
        connection has ended: so it is asked, too. And a master that was removed may not have heard of it: its server
        runs on, cut off from the others, and refuses what is asked of it.
        """
        while connection.is_connected and not ended.is_set():
            if url not in self._access.urls():
                return "its server is none of the bus's any more"
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await ended.wait()
        return "the connection broke"


async def open_connection(url: str, options: Mapping[str, Any], ended: asyncio.Event) -> NatsClient:
    """A connection that sets `ended` when it breaks. Raises `BusAwayError`."""
    faults: list[Exception] = []

    async def on_end() -> None:
        ended.set()

    async def on_fault(error: Exception) -> None:
        faults[:] = [error]
        log.debug("bus: %s: %s", type(error).__name__, error)

    connection = NatsClient()
    work = connection.connect(
        url,
        name="barque-master",
        allow_reconnect=False,
        connect_timeout=CONNECT_TIMEOUT_S,
        # The client tries twice by itself even so; the pauses are the caller's to make.
        max_reconnect_attempts=1,
        reconnect_time_wait=0,
        ping_interval=PING_INTERVAL_S,
        max_outstanding_pings=PINGS_UNANSWERED,
        closed_cb=on_end,
        disconnected_cb=on_end,
        error_cb=on_fault,
        **options,
    )
    try:
        await obeying(work)
    except BaseException as error:
        # The client leaves open what it got as far as opening.
        await close_connection(connection)
        # Whatever the peer says may upset the client in ways of its own, cancelling itself included.
        if not isinstance(error, (Exception, asyncio.CancelledError)) or _being_cancelled():
            raise
        fault = faults[0] if faults else error
        raise BusAwayError(str(fault) or type(fault).__name__) from error
    return connection


def _host(url: str) -> str:
    """Where a URL leads, without what might be secret in it."""
    return url.rpartition("@")[2].rpartition("/")[2]


class Session:
    """One connection, from its beginning to its end."""

    def __init__(self, connection: NatsClient) -> None:
        self._connection = connection
        self._inboxes: set[Inbox] = set()
        self._replies: Replies | None = None
        self._ended = False
        self.jetstream = connection.jetstream(timeout=REQUEST_TIMEOUT_S)

    @property
    def connected(self) -> bool:
        return self._connection.is_connected

    @property
    def max_payload_bytes(self) -> int:
        """The largest message that the server takes, headers included."""
        return self._connection.max_payload

    def end(self) -> None:
        """Have everyone who waits for messages stop, also who comes only now."""
        self._ended = True
        for inbox in self._inboxes:
            inbox.close()
        if self._replies is not None:
            self._replies.end(BusAwayError("the connection broke"))

    async def ask(self, work: Awaitable[T]) -> T:
        """Await a request to the bus. JetStream's refusals (`APIError`) pass; all else is `BusAwayError`."""
        try:
            return await obeying(work)
        except ServiceUnavailableError as error:
            raise BusAwayError(str(error)) from error
        except APIError:
            raise
        except Exception as error:
            # Besides its own errors the client raises what an answer leads to that it cannot read.
            raise BusAwayError(str(error) or type(error).__name__) from error
        except asyncio.CancelledError as error:
            # A closing connection cancels its pending requests; that is not our own cancellation.
            if _being_cancelled():
                raise
            raise BusAwayError("the connection was closed") from error

    async def publish(self, subject: str, payload: bytes, headers: dict[str, Any]) -> api.PubAck:
        """Append to the subject's stream; the answer comes after the fsync, unless the stream does without."""
        return await self.ask(self.jetstream.publish(subject, payload, headers=headers, timeout=REQUEST_TIMEOUT_S))

    async def post(self, subject: str, payload: bytes, headers: dict[str, str] | None = None) -> asyncio.Future[Msg]:
        """Send a request; the future holds the answer, or `BusAwayError` when the connection ends. It knows no timeout:
        cancel it to wait no longer.
        """
        if self._replies is None:
            replies = self._replies = Replies(self._connection.new_inbox())
            await self.ask(self._connection.subscribe(replies.subject, cb=replies.hear))
        address, answer = self._replies.expect()
        try:
            await self._connection.publish(subject, payload, address, headers)
        except BaseException as error:
            answer.cancel()
            if not isinstance(error, (nats.errors.Error, OSError)):
                raise
            raise BusAwayError(str(error) or type(error).__name__) from error
        return answer

    async def stream_state(self, stream: str, within_s: float = REQUEST_TIMEOUT_S) -> StreamState | None:
        """Where the stream stands; None where there is none. Raises `BusAwayError` and `APIError`."""
        answer = await self.post(f"$JS.API.STREAM.INFO.{stream}", b"")
        try:
            async with asyncio.timeout(within_s):
                message = await answer
        except TimeoutError:
            raise BusAwayError("the bus does not say where the stream stands") from None
        if is_unheard(message):
            raise BusAwayError("no server of the bus keeps streams")
        try:
            state = msgspec.json.decode(message.data, type=StreamState)
        except msgspec.DecodeError as error:
            raise BusAwayError(f"where the stream stands cannot be read: {error}") from error
        if state.error is None:
            return state
        if state.error.err_code == STREAM_NOT_FOUND:
            return None
        raise APIError(state.error.code, state.error.description, state.error.err_code)

    async def publish_chain(self, messages: Sequence[Outgoing]) -> api.PubAck:
        """Append messages each of which expects the one before it as the stream's last: so the last one's answer
        stands for all, and where one is refused none after it is taken.
        """
        *unanswered, last = messages
        await self.ask(self._publish_unanswered(unanswered))
        return await self.publish(last.subject, last.payload, last.headers)

    async def _publish_unanswered(self, messages: Sequence[Outgoing]) -> None:
        for message in messages:
            await self._connection.publish(message.subject, message.payload, headers=message.headers)

    async def tell(self, subject: str, payload: bytes) -> None:
        """Publish to whoever listens now; nobody answers and nothing is kept."""
        await self.ask(self._connection.publish(subject, payload))

    async def listen(self, subject: str, *, queue: str = "") -> AsyncIterator[Msg]:
        """What is told on a subject from now on; with a `queue` each message goes to one of its listeners.

        Bounded: whoever is slower than the subject loses the newest. Raises `BusAwayError` when the connection ends.
        """
        inbox = Inbox(LISTEN_AT_MOST, LISTEN_BYTES)
        subscription = await self.ask(self._connection.subscribe(subject, queue=queue, cb=inbox.hear))
        self._admit(inbox)
        try:
            while True:
                for message in await inbox.take(silence_s=None):
                    yield message
        finally:
            self._inboxes.discard(inbox)
            if self.connected:
                await self.ask(subscription.unsubscribe())

    async def follow(self, stream: str, after: int, subject: str = "") -> AsyncIterator[list[Message]]:
        """The stream's messages after a sequence, in order and without a gap, in batches as they come; with `subject`
        only those on it, wildcards allowed.

        Never ends by itself; raises `BusAwayError` where the connection or the consumer is gone: then follow anew from
        the last message seen. An ordered pull consumer: no more is sent than was asked for.
        """
        config = api.ConsumerConfig(
            deliver_policy=api.DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=after + 1,
            ack_policy=api.AckPolicy.NONE,
            inactive_threshold=60,
            mem_storage=True,
            num_replicas=1,
            filter_subject=subject or None,
        )
        consumer = await self.ask(self.jetstream.add_consumer(stream, config))
        request = {
            "batch": PULL_MESSAGES,
            "max_bytes": max(PULL_BYTES, 2 * self.max_payload_bytes),
            "expires": PULL_EXPIRES_S * _NANO,
            "idle_heartbeat": HEARTBEAT_S * _NANO,
        }
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer.name}"
        inbox = Inbox()
        address = self._connection.new_inbox()
        subscription = await self.ask(self._connection.subscribe(address, cb=inbox.hear))
        self._admit(inbox)
        try:
            while True:
                await self.ask(self._connection.publish(subject, json.dumps(request).encode(), reply=address))
                left = PULL_MESSAGES
                while left > 0:
                    messages, over = inbox.sort(await inbox.take())
                    left = 0 if over else left - len(messages)
                    if messages:
                        yield messages
        finally:
            self._inboxes.discard(inbox)
            if self.connected:
                # Left alone the consumer would live for another minute, and a stream bears only so many.
                forget = f"$JS.API.CONSUMER.DELETE.{stream}.{consumer.name}"
                await self.ask(
                    _in_turn(subscription.unsubscribe(), self._connection.publish(forget, b"", reply=address))
                )

    def _admit(self, inbox: Inbox) -> None:
        self._inboxes.add(inbox)
        if self._ended:
            inbox.close()


async def _in_turn(*steps: Awaitable[object]) -> None:
    for step in steps:
        await step


class Inbox:
    """Where a follower's messages arrive, `at_most` of them and `most_bytes` before some are taken; the newest are lost
    then. Without these bounds none is.
    """

    def __init__(self, at_most: float = math.inf, most_bytes: float = math.inf) -> None:
        self._at_most = at_most
        self._most_bytes = most_bytes
        self._arrived: list[Msg] = []
        self._bytes = 0
        self._signal = asyncio.Event()
        self._delivered = 0
        self._closed = False

    async def hear(self, message: Msg) -> None:
        if len(self._arrived) < self._at_most and self._bytes < self._most_bytes:
            self._arrived.append(message)
            self._bytes += len(message.data)
        self._signal.set()

    def close(self) -> None:
        self._closed = True
        self._signal.set()

    async def take(self, silence_s: float | None = 3 * HEARTBEAT_S) -> list[Msg]:
        """All that has arrived, once something has. Raises `BusAwayError` on silence and at the end."""
        try:
            async with asyncio.timeout(silence_s):
                await self._signal.wait()
        except TimeoutError:
            raise BusAwayError("the stream's consumer has fallen silent") from None
        if self._closed:
            raise BusAwayError("the connection broke")
        self._signal.clear()
        taken, self._arrived, self._bytes = self._arrived, [], 0
        return taken

    def sort(self, taken: list[Msg]) -> tuple[list[Message], bool]:
        """The messages proper, and whether the request is over. Raises `BusAwayError` where one is missing."""
        messages, over = [], False
        for message in taken:
            status = (message.headers or {}).get("Status", "") if not message.data else ""
            why = (message.headers or {}).get("Description", "") if status == "409" else ""
            # Of a request all of whose messages have come its end is said, too: they have been counted.
            if status == "100" or why == "Batch Completed":
                continue
            # What follows is more than is left of the bytes that were asked for.
            if status in ("404", "408") or "Exceeds MaxBytes" in why:
                over = True
                continue
            if status:
                raise BusAwayError(f"the stream's consumer is gone ({status})")
            sequence, delivery, at = read_place(message.reply)
            self._delivered += 1
            if delivery != self._delivered:
                raise BusAwayError("the stream's consumer has lost messages")
            messages.append(Message(sequence, at, message.data, message.subject))
        return messages, over


def read_place(reply: str) -> tuple[int, int, float]:
    """Of a delivered message its sequence, how many were delivered up to it, and when the stream took it (seconds since
    the epoch): all in its reply subject, `$JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<tries>.<sequence>.
    <delivery>.<nanoseconds>.<pending>[.<token>]`. Raises `BusAwayError` for any other.
    """
    tokens = reply.split(".")
    at = 5 if len(tokens) == _SHORT_PLACE else 7
    try:
        return int(tokens[at]), int(tokens[at + 1]), int(tokens[at + 2]) / _NANO
    except (IndexError, ValueError):
        raise BusAwayError(f"not a message of a stream: {reply}") from None


async def obeying(work: Awaitable[T]) -> T:
    """Await what the NATS client does, without letting it swallow our cancellation.

    It waits with `asyncio.wait_for`, which in Python 3.11 forgets a cancellation that meets the awaited result.
    """
    try:
        return await work
    finally:
        if _being_cancelled():
            raise asyncio.CancelledError


async def close_connection(connection: NatsClient) -> None:
    """Close within bounds: the client itself waits without any for the peer's goodbye. Nothing of that goes on once
    this returns, also where it is cancelled itself: what is pending as the loop ends is a fault in the log.
    """
    closing = asyncio.create_task(connection.close(), name="goodbye to the bus")
    try:
        await asyncio.wait({closing}, timeout=CLOSE_TIMEOUT_S)
    finally:
        for _ in range(_CANCELLED_AT_MOST):
            if closing.done():
                break
            closing.cancel()
            await asyncio.wait({closing}, timeout=CLOSE_TIMEOUT_S)
    if closing.done() and not closing.cancelled() and closing.exception() is not None:
        log.debug("bus: closing: %s", closing.exception())


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
