"""Workers' life signs: the Sessions service, and when each node was last heard.

A node is whoever its certificate says; a beat in another node's name is refused. The times are this master's own
monotonic clock, kept in memory only: after a restart or a change of leader nothing is known, and the judge of nodes
must give each of them its whole time again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from barque.api.errors import ApiError
from barque.client.clock import Clock
from barque.master.apiserver.grpc_calls import Context, abort
from barque.master.auth.identity import user_of_call
from barque.proto import sessions_pb2, sessions_pb2_grpc

INTERVAL_S = 2.0
# A stream without beats for this long is closed: its worker is wedged, though its connection answers pings.
SILENCE_S = 30.0
MAX_NODES = 10_000


class Sessions(sessions_pb2_grpc.SessionsServicer):
    """Serves `Heartbeat`; the node controller asks `last_seen`."""

    def __init__(self, clock: Clock, *, interval_s: float = INTERVAL_S, silence_s: float = SILENCE_S) -> None:
        self._clock = clock
        self._interval_ms = round(interval_s * 1000)
        self._silence_s = silence_s
        self._seen: dict[str, float] = {}
        self._streams: dict[str, asyncio.Task[Any]] = {}

    def last_seen(self, node: str) -> float | None:
        """When `node` last beat, in this clock's monotonic seconds; None where it was not heard since `forget_all`."""
        return self._seen.get(node)

    def connected(self, node: str) -> bool:
        """Whether a worker of this name holds a stream now."""
        return node in self._streams

    def forget_all(self) -> None:
        """Know nothing about anyone: what a new leader starts with."""
        self._seen.clear()

    async def Heartbeat(
        self, request_iterator: AsyncIterator[sessions_pb2.Beat], context: Context
    ) -> AsyncIterator[sessions_pb2.BeatReply]:
        try:
            node = user_of_call(context).node
            if not node:
                raise ApiError(403, "Forbidden", "only a worker's certificate may send heartbeats")
            self._take_over(node)
            async for beat in self._beats(request_iterator, node):
                yield sessions_pb2.BeatReply(sequence=beat.sequence, interval_ms=self._interval_ms)
        except ApiError as error:
            await abort(context, error)

    def _take_over(self, node: str) -> None:
        """One stream per node: the newer one ends the older, which may be the half-open rest of a broken connection."""
        if node not in self._streams and len(self._streams) >= MAX_NODES:
            raise ApiError(429, "TooManyRequests", f"{MAX_NODES} workers are connected already")
        older = self._streams.get(node)
        task = asyncio.current_task()
        assert task is not None
        self._streams[node] = task
        if older is not None:
            older.cancel()

    async def _beats(self, beats: AsyncIterator[sessions_pb2.Beat], node: str) -> AsyncIterator[sessions_pb2.Beat]:
        try:
            while True:
                async with asyncio.timeout(self._silence_s):
                    beat = await anext(beats, None)
                if beat is None:
                    return
                if beat.node != node:
                    raise ApiError(403, "Forbidden", f"the certificate is of node {node!r}, the beat of {beat.node!r}")
                self._hear(node)
                yield beat
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or self._streams.get(node) is task:
                raise
            task.uncancel()
            raise ApiError(409, "Conflict", f"another connection of node {node!r} has taken over") from None
        except TimeoutError:
            raise ApiError(504, "Timeout", f"no heartbeat for {self._silence_s:.0f} s") from None
        finally:
            if self._streams.get(node) is asyncio.current_task():
                del self._streams[node]

    def _hear(self, node: str) -> None:
        # The longest silent is the first, and the one forgotten where there are ever more names.
        self._seen.pop(node, None)
        self._seen[node] = self._clock.monotonic()
        if len(self._seen) > MAX_NODES:
            del self._seen[next(iter(self._seen))]
