"""The DNS server's sockets: datagrams and streams in, answers out.

Guarantees: only addresses that `Sources` admits are answered, others hear nothing at all, so that nobody can turn this
resolver on a third party; a wake-up answers at most `DATAGRAMS` datagrams and for at most `TURN_S`, so that the rest of
the daemon has its turn; what waits for an upstream is bounded (`MOST_WAITING`), as are streams, the questions under way
on each, and their silence. RFC 7766.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Coroutine, Iterable
from typing import Any

from barque.client.clock import Clock
from barque.network.dns.answers import ID_BYTES, Answers
from barque.network.dns.exchange import LENGTH_BYTES
from barque.network.dns.reply import FAILURE, STREAM_BYTES, Query, Reply, read, render
from barque.network.dns.resolver import Resolver
from barque.network.dns.zone import LARGE

log = logging.getLogger(__name__)

# A turn of the event loop: short beside the 20 ms that nothing may hold it.
DATAGRAMS, TURN_S = 128, 0.005
# Longer questions do not exist.
QUESTION_BYTES = 4096
MOST_WAITING = 2000
MOST_STREAMS, MOST_ON_STREAM = 256, 32
SILENCE_S = 10.0
# Some 4,000 questions; without the privilege the kernel gives what it gives everyone.
RECEIVE_BYTES = 4 << 20
_SO_RCVBUFFORCE = 33
_REMEMBERED_SOURCES = 4096

Peer = tuple[str, int]


class Sources:
    """Whom to answer: addresses in some ranges."""

    def __init__(self, ranges: Iterable[str]) -> None:
        self._ranges = [ipaddress.ip_network(cidr) for cidr in ranges]
        self._known: dict[str, bool] = {}

    def admits(self, address: str) -> bool:
        known = self._known.get(address)
        if known is None:
            if len(self._known) >= _REMEMBERED_SOURCES:
                self._known.clear()
            parsed = ipaddress.ip_address(address)
            known = self._known[address] = any(parsed in cidr for cidr in self._ranges)
        return known


class DnsServer:
    """Serves one address, while it `run`s."""

    def __init__(self, resolver: Resolver, answers: Answers, sources: Sources, clock: Clock) -> None:
        self._resolver = resolver
        self._answers = answers
        self._sources = sources
        self._clock = clock
        self._waiting = 0
        self._streams = 0

    async def run(self, datagrams: socket.socket, streams: socket.socket) -> None:
        """Answer on two sockets, as `bind` returns them, until cancelled; closes them."""
        loop = asyncio.get_running_loop()
        with datagrams, streams:
            async with asyncio.TaskGroup() as tasks:
                loop.add_reader(datagrams.fileno(), self._drain, datagrams, tasks)
                try:
                    await self._accept(streams, tasks)
                finally:
                    loop.remove_reader(datagrams.fileno())

    def _drain(self, sock: socket.socket, tasks: asyncio.TaskGroup) -> None:
        """Answer what has come."""
        end = self._clock.monotonic() + TURN_S
        for _ in range(DATAGRAMS):
            try:
                data, peer = sock.recvfrom(QUESTION_BYTES)
            except OSError:
                # Nothing more, or an earlier answer's asker is gone.
                return
            if not self._sources.admits(peer[0]):
                continue
            now = self._clock.monotonic()
            known = self._answers.get(data[ID_BYTES:], now)
            if known is not None:
                _send(sock, data[:ID_BYTES] + known, peer)
            else:
                self._answer_datagram(sock, data, peer, tasks)
            if now > end:
                return

    def _answer_datagram(self, sock: socket.socket, data: bytes, peer: Peer, tasks: asyncio.TaskGroup) -> None:
        query = read(data)
        if not isinstance(query, Query):
            if query is not None:
                _send(sock, query, peer)
            return
        reply = self._resolver.resolve(query)
        if isinstance(reply, Reply):
            self._finish_datagram(sock, data, peer, query, reply)
        elif self._waiting < MOST_WAITING:
            self._waiting += 1
            work = self._await_datagram(sock, data, peer, query, reply)
            tasks.create_task(_guarded(work), name="DNS answer")
        else:
            _close(reply)
            _send(sock, render(query, FAILURE, query.payload), peer)

    async def _await_datagram(
        self, sock: socket.socket, data: bytes, peer: Peer, query: Query, reply: Awaitable[Reply]
    ) -> None:
        try:
            self._finish_datagram(sock, data, peer, query, await reply)
        finally:
            self._waiting -= 1

    def _finish_datagram(self, sock: socket.socket, data: bytes, peer: Peer, query: Query, reply: Reply) -> None:
        wire = render(query, reply, query.payload)
        self._answers.put(data[ID_BYTES:], query, reply, wire, self._clock.monotonic())
        _send(sock, wire, peer)

    async def _accept(self, listening: socket.socket, tasks: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, peer = await loop.sock_accept(listening)
            except OSError as error:
                # Out of file descriptors, or the asker is gone already.
                log.debug("cannot accept a DNS connection: %s", error)
                await self._clock.sleep(0.1)
                continue
            if self._streams >= MOST_STREAMS or not self._sources.admits(peer[0]):
                connection.close()
                continue
            self._streams += 1
            tasks.create_task(_guarded(self._serve_stream(connection)), name="DNS stream")

    async def _serve_stream(self, connection: socket.socket) -> None:
        try:
            reader, writer = await asyncio.open_connection(sock=connection)
            try:
                await self._converse(reader, writer)
            finally:
                writer.close()
        except OSError:
            connection.close()
        finally:
            self._streams -= 1

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the questions of a stream, each as soon as its answer is known."""
        room = asyncio.Semaphore(MOST_ON_STREAM)
        async with asyncio.TaskGroup() as tasks:
            while True:
                await room.acquire()
                try:
                    async with asyncio.timeout(SILENCE_S):
                        length = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
                        data = await reader.readexactly(length)
                except (OSError, EOFError):
                    # What is still under way is answered: a client may close its half after its last question.
                    return
                work = self._answer_on_stream(data, writer, room)
                tasks.create_task(_guarded(work), name="DNS answer")

    async def _answer_on_stream(self, data: bytes, writer: asyncio.StreamWriter, room: asyncio.Semaphore) -> None:
        try:
            wire = await self._answer(data)
            if wire is None or writer.is_closing():
                return
            writer.write(len(wire).to_bytes(LENGTH_BYTES, "big") + wire)
            with contextlib.suppress(OSError):
                async with asyncio.timeout(SILENCE_S):
                    await writer.drain()
        finally:
            room.release()

    async def _answer(self, data: bytes) -> bytes | None:
        query = read(data)
        if not isinstance(query, Query):
            return query
        reply = self._resolver.resolve(query)
        if not isinstance(reply, Reply):
            reply = await reply
        if reply.size > LARGE:
            return await asyncio.to_thread(render, query, reply, STREAM_BYTES)
        return render(query, reply, STREAM_BYTES)


def bind(address: str, port: int) -> tuple[socket.socket, socket.socket]:
    """The sockets for datagrams and streams of one address. Raises `OSError` where the port is taken."""
    with contextlib.ExitStack() as undo:
        datagrams = undo.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        datagrams.setblocking(False)
        try:
            datagrams.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BYTES)
        except OSError:
            datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        datagrams.bind((address, port))
        streams = undo.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        streams.setblocking(False)
        streams.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        streams.bind(datagrams.getsockname())
        streams.listen(128)
        undo.pop_all()
    return datagrams, streams


def _send(sock: socket.socket, wire: bytes, peer: Peer) -> None:
    """Or not: whoever gets no answer asks again."""
    with contextlib.suppress(OSError):
        sock.sendto(wire, peer)


async def _guarded(work: Coroutine[Any, Any, None]) -> None:
    """What one asker, or an upstream, sends must not end the server for all others."""
    try:
        await work
    except Exception:
        log.exception("a DNS question could not be answered")


def _close(reply: Awaitable[Reply]) -> None:
    if asyncio.iscoroutine(reply):
        reply.close()
