"""The peers' door (`:7444`) and the streams to the other members' doors: messages over gRPC with mutual TLS.

Every member opens one stream to every other and only speaks on it; several messages travel in one frame. What cannot
be sent is dropped, never waited for. A stream carries the cluster's id and both members'; the door asks `Admit` about
them and the certificate, and whoever is refused hears why. Connections are made anew after every break, with the
identity as it is then, at most a second apart; a link that is cut is noticed within two seconds.

A stream also says where its sender's own door is. So whoever is heard can be answered, even where the configuration
does not know it yet (a learner's first leader) or knows it elsewhere (it came back with another address).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import grpc
import grpc.aio
import msgspec
from google.protobuf.message import DecodeError

from barque.client import wire
from barque.client.pki import MASTER_HOST, Identity, PkiError, Subject, subject_of
from barque.master.raft.messages import MemberInfo, Message, decode_messages, encode_messages, flaw_of
from barque.master.raft.outbox import Outbox
from barque.proto import raft_pb2, raft_pb2_grpc

log = logging.getLogger(__name__)

# Cluster id, member id and certificate in; "" or why the member is not heard out.
Admit = Callable[[str, str, Subject], str]
Receive = Callable[[Message], None]
_Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

# Who speaks (a `MemberInfo`), and to whom.
_CLUSTER, _MEMBER, _PEER = "barque-cluster", "barque-member-bin", "barque-peer"
_ADMITTED = "barque-admitted"
_SERVICE, _METHOD = "barque.v1.Raft", "Deliver"

# A silent peer is noticed after the sum; its heartbeats come ten times a second.
_KEEPALIVE_MS = 1_000
_KEEPALIVE_TIMEOUT_MS = 1_000
# From the first packet to being admitted.
_CONNECT_S = 2.0
_BACKOFF_FIRST_S, _BACKOFF_MOST_S = 0.05, 1.0
# A stream that lasted this long was a good one: the next attempt comes at once.
_GOOD_S = 5.0
# Two streams for each of some twenty members, some of them about to be replaced.
_MAX_STREAMS = 64
_STOP_GRACE_S = 0.2

_KEEPALIVE: dict[str, Any] = {
    "grpc.keepalive_time_ms": _KEEPALIVE_MS,
    "grpc.keepalive_timeout_ms": _KEEPALIVE_TIMEOUT_MS,
    "grpc.http2.ping_timeout_ms": _KEEPALIVE_TIMEOUT_MS,
}


class _Speaker(NamedTuple):
    """Who speaks on the streams to peers."""

    cluster_id: str
    info: MemberInfo
    identity: Callable[[], Identity]
    refused: Callable[[str], None]


class PeerDoor:
    """`attach` is a `ports.Connector`.

    `listen` first, so that the port is known; then hand `attach` to the member; then `serve`. Until then, who comes is
    asked to come again, and what is sent is dropped. When a member closes its transport the door stays open, and the
    next one may attach: a member that goes on alone is made anew.
    """

    def __init__(self, identity: Callable[[], Identity]) -> None:
        self.port = 0
        self._identity = identity
        self._server: grpc.aio.Server | None = None
        self._hall: _Hall | None = None
        self._receive: Receive | None = None
        self._speaker: _Speaker | None = None
        self._members: Sequence[MemberInfo] = ()
        self._peers: dict[str, _Peer] = {}
        # Those who speak to us from where the configuration does not know them.
        self._callers: dict[str, _Peer] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._closed = False

    async def listen(self, address: str, credentials: grpc.ServerCredentials) -> int:
        """Listen on `host:port` (port 0 picks a free one) and return the port. Raises `OSError` where that cannot be
        had.
        """
        options = {**dict(wire.SERVER_OPTIONS), **_KEEPALIVE}
        server = grpc.aio.server(options=list(options.items()), maximum_concurrent_rpcs=_MAX_STREAMS)
        self._hall = _Hall(self._entered, self._left)
        # Bytes, not messages: what is no message must end a stream with a sentence, not with a traceback in our log.
        handler = grpc.stream_unary_rpc_method_handler(self._hall.deliver, None, raft_pb2.Delivered.SerializeToString)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, {_METHOD: handler}),))
        self.port = wire.listen(server, address, credentials)
        await server.start()
        self._server = server
        return self.port

    def attach(self, receive: Receive) -> Line:
        """Have what comes given to `receive`."""
        self._receive = receive
        return Line(self)

    def detach(self) -> None:
        """Let what comes fall, and reach for nobody."""
        self._receive = None
        self.connect(())

    def serve(
        self, cluster_id: str, info: MemberInfo, admit: Admit, refused: Callable[[str], None] = lambda why: None
    ) -> None:
        """Let in whom `admit` admits, and reach for the members as `info`, whose address they may answer to. `refused`
        hears in what words one of them does not let this member in.
        """
        assert self._hall is not None
        self._hall.open(cluster_id, info.id, admit, self._hear)
        self._speaker = _Speaker(cluster_id, info, self._identity, refused)
        self.connect(self._members)

    def send(self, message: Message) -> None:
        peer = self._callers.get(message.to) or self._peers.get(message.to)
        if peer is not None:
            peer.send(message)

    def connect(self, peers: Sequence[MemberInfo]) -> None:
        self._members = tuple(peers)
        if self._speaker is None or self._closed:
            return
        wanted = {info.id: info for info in peers if info.id != self._speaker.info.id}
        for member, peer in list(self._peers.items()):
            if member not in wanted or wanted[member].peer_address != peer.info.peer_address:
                self._let_go(self._peers, member)
        for member, info in wanted.items():
            if member in self._callers and self._callers[member].info.peer_address == info.peer_address:
                if member in self._peers:
                    self._let_go(self._peers, member)
                self._peers[member] = self._callers.pop(member)
            elif member not in self._peers:
                self._peers[member] = _Peer(info, self._speaker)
        if self._hall is not None:
            self._hall.review()

    def _hear(self, message: Message) -> None:
        if self._receive is not None:
            self._receive(message)

    def _entered(self, info: MemberInfo) -> None:
        """It has opened a stream: be able to answer."""
        known = self._peers.get(info.id)
        if known is not None and known.info.peer_address == info.peer_address:
            return
        assert self._speaker is not None
        if info.id in self._callers:
            self._let_go(self._callers, info.id)
        self._callers[info.id] = _Peer(info, self._speaker)

    def _left(self, member: str) -> None:
        if member in self._callers:
            self._let_go(self._callers, member)

    def _let_go(self, peers: dict[str, _Peer], member: str) -> None:
        task = asyncio.create_task(peers.pop(member).close())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def faults(self) -> dict[str, str]:
        return {peer.info.name: peer.fault for peer in self._peers.values() if peer.fault}

    async def close(self) -> None:
        self._closed = True
        if self._hall is not None:
            self._hall.close()
        for peers in (self._peers, self._callers):
            for member in list(peers):
                self._let_go(peers, member)
        if self._leaving:
            await asyncio.wait(self._leaving)
        if self._server is not None:
            await self._server.stop(_STOP_GRACE_S)
            self._server = None


class Line:
    """What one member has of the door. Implements `ports.Transport`."""

    def __init__(self, door: PeerDoor) -> None:
        self._door = door

    def send(self, message: Message) -> None:
        self._door.send(message)

    def connect(self, peers: Sequence[MemberInfo]) -> None:
        self._door.connect(peers)

    def faults(self) -> dict[str, str]:
        return self._door.faults()

    async def close(self) -> None:
        self._door.detach()


class _Peer:
    """One other member, and the stream to it."""

    def __init__(self, info: MemberInfo, speaker: _Speaker) -> None:
        self.info = info
        # Why nothing can be sent; "" while it can.
        self.fault = ""
        self._speaker = speaker
        self._outbox = Outbox()
        self._wake = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name=f"raft to {info.name}")

    def send(self, message: Message) -> None:
        self._outbox.put(message)
        self._wake.set()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        """Speak for ever, on one stream after another; ends only when cancelled."""
        loop = asyncio.get_running_loop()
        backoff_s = 0.0
        while True:
            began = loop.time()
            self._note(await self._speak())
            # What waited was meant for then; Raft sends again what matters.
            self._outbox.clear()
            if loop.time() - began > _GOOD_S:
                backoff_s = 0.0
            backoff_s = min(max(2 * backoff_s, _BACKOFF_FIRST_S), _BACKOFF_MOST_S)
            await asyncio.sleep(backoff_s)

    async def _speak(self) -> str:
        """One stream, from connecting to its end; returns why it ended."""
        options = {**dict(wire.channel_options(MASTER_HOST)), **_KEEPALIVE}
        credentials = self._speaker.identity().channel_credentials()
        # A channel for each attempt: it has the identity of now, and no back-off of its own.
        channel = grpc.aio.secure_channel(self.info.peer_address, credentials, list(options.items()))
        metadata = (
            (_CLUSTER, self._speaker.cluster_id),
            (_MEMBER, msgspec.msgpack.encode(self._speaker.info)),
            (_PEER, self.info.id),
        )
        call = raft_pb2_grpc.RaftStub(channel).Deliver(metadata=metadata)
        try:
            call.add_done_callback(lambda _: self._wake.set())
            async with asyncio.timeout(_CONNECT_S):
                greeting = await call.initial_metadata()
            if _ADMITTED not in dict(greeting):
                # Refused: then there is no greeting, but an end at once.
                if await call.code() is grpc.StatusCode.PERMISSION_DENIED:
                    self._speaker.refused(await call.details() or "")
                return _account(await call.code(), await call.details())
            self._connected()
            while not call.done():
                while messages := self._outbox.take():
                    await call.write(raft_pb2.Frame(messages=encode_messages(messages)))
                self._wake.clear()
                if not call.done():
                    await self._wake.wait()
            return _account(await call.code(), await call.details())
        except TimeoutError:
            return "no answer in time"
        except grpc.aio.AioRpcError as error:
            return _account(error.code(), error.details())
        except asyncio.InvalidStateError:
            # The call ended between two writes.
            return _account(await call.code(), await call.details())
        finally:
            call.cancel()
            await channel.close()

    def _connected(self) -> None:
        if self.fault:
            log.info("the member %s at %s is reached again", self.info.name, self.info.peer_address)
        self.fault = ""

    def _note(self, fault: str) -> None:
        if fault != self.fault:
            log.warning("the member %s at %s: %s", self.info.name, self.info.peer_address, fault)
        self.fault = fault


class _Stream(NamedTuple):
    """A stream that was admitted, and the task that reads it."""

    cluster: str
    info: MemberInfo
    subject: Subject
    task: asyncio.Task[Any]


class _RefusedError(Exception):
    def __init__(self, code: grpc.StatusCode, why: str) -> None:
        super().__init__(why)
        self.code = code


class _Hall:
    """What is behind the door: the streams that come in. `entered` and `left` hear who has come and gone."""

    def __init__(self, entered: Callable[[MemberInfo], None], left: Callable[[str], None]) -> None:
        self._entered = entered
        self._left = left
        self._own = ("", "")
        self._admit: Admit | None = None
        self._receive: Receive | None = None
        self._streams: dict[str, _Stream] = {}
        # Why a stream that is being ended is.
        self._ended: dict[asyncio.Task[Any], _RefusedError] = {}

    def open(self, cluster_id: str, member_id: str, admit: Admit, receive: Receive) -> None:
        self._own = (cluster_id, member_id)
        self._admit, self._receive = admit, receive

    def review(self) -> None:
        """End the streams of those who are not admitted any more."""
        assert self._admit is not None
        for stream in self._streams.values():
            if why := self._admit(stream.cluster, stream.info.id, stream.subject):
                self._end(stream, grpc.StatusCode.PERMISSION_DENIED, why)

    def close(self) -> None:
        self._admit = None
        for stream in self._streams.values():
            self._end(stream, grpc.StatusCode.UNAVAILABLE, "this member is stopping")

    async def deliver(self, frames: AsyncIterator[bytes], context: _Context) -> raft_pb2.Delivered:
        """Read one member's stream until it ends."""
        task = asyncio.current_task()
        assert task is not None
        stream: _Stream | None = None
        try:
            stream = self._enter(context, task)
            # The sender begins once it has this.
            await context.send_initial_metadata(((_ADMITTED, "yes"),))
            async for frame in frames:
                self._take(frame, stream)
            return raft_pb2.Delivered()
        except _RefusedError as error:
            refused = error
        except asyncio.CancelledError:
            if task not in self._ended:
                raise
            refused = self._ended[task]
        finally:
            self._ended.pop(task, None)
            if stream is not None and self._streams.get(stream.info.id) is stream:
                del self._streams[stream.info.id]
                self._left(stream.info.id)
        log.info("the stream of %s was ended: %s", context.peer(), refused)
        await context.abort(refused.code, str(refused))
        raise AssertionError("abort does not return")

    def _enter(self, context: _Context, task: asyncio.Task[Any]) -> _Stream:
        """The stream, admitted. Raises `_RefusedError`."""
        certificates = context.auth_context().get("x509_pem_cert")
        try:
            if not certificates:
                raise PkiError("the connection carries no client certificate")
            subject = subject_of(bytes(certificates[0]))
        except PkiError as error:
            raise _RefusedError(grpc.StatusCode.UNAUTHENTICATED, str(error)) from error
        said: dict[str, Any] = dict(context.invocation_metadata() or ())
        cluster, peer = said.get(_CLUSTER, ""), said.get(_PEER, "")
        try:
            info = msgspec.msgpack.decode(said.get(_MEMBER, b""), type=MemberInfo)
        except msgspec.DecodeError as error:
            why = f"who speaks cannot be read: {error}"
            raise _RefusedError(grpc.StatusCode.INVALID_ARGUMENT, why) from error
        if self._admit is None:
            raise _RefusedError(grpc.StatusCode.UNAVAILABLE, "this member is starting or stopping")
        if why := self._admit(cluster, info.id, subject):
            raise _RefusedError(grpc.StatusCode.PERMISSION_DENIED, why)
        own_cluster, own_member = self._own
        if peer != own_member or info.id == own_member:
            raise _RefusedError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"member {peer} of {cluster} is not here: this is member {own_member} of {own_cluster}",
            )
        stream = _Stream(cluster, info, subject, task)
        if earlier := self._streams.get(info.id):
            self._end(earlier, grpc.StatusCode.ABORTED, "the member has opened another stream")
        self._streams[info.id] = stream
        self._entered(info)
        return stream

    def _take(self, frame: bytes, stream: _Stream) -> None:
        """Hand on what a frame holds. Raises `_RefusedError` for what no member sends."""
        try:
            messages = decode_messages(raft_pb2.Frame.FromString(frame).messages)
        except (DecodeError, msgspec.DecodeError) as error:
            raise _RefusedError(grpc.StatusCode.INVALID_ARGUMENT, f"a frame cannot be read: {error}") from error
        assert self._receive is not None
        for message in messages:
            if message.sender != stream.info.id or message.to != self._own[1]:
                why = f"a message from {message.sender} to {message.to} does not belong on this stream"
                raise _RefusedError(grpc.StatusCode.INVALID_ARGUMENT, why)
            if flaw := flaw_of(message):
                raise _RefusedError(grpc.StatusCode.INVALID_ARGUMENT, f"no member sends {flaw}")
            self._receive(message)

    def _end(self, stream: _Stream, code: grpc.StatusCode, why: str) -> None:
        self._ended[stream.task] = _RefusedError(code, why)
        stream.task.cancel()


def _account(code: grpc.StatusCode, details: str | None) -> str:
    """Why a stream ended, in a sentence."""
    if code in (
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.INVALID_ARGUMENT,
    ):
        return f"it refuses this member: {details}"
    if code in (grpc.StatusCode.OK, grpc.StatusCode.INTERNAL):
        # The latter is what a write on a stream that ends at that moment is told.
        return "connection closed"
    return wire.plain_reason(details or code.name)
