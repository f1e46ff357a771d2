"""Workers' life signs: the Sessions service, and when each node was last heard.

A node is whoever its certificate says; a beat in another node's name is refused. The times are this master's own
monotonic clock, kept in memory only: after a restart or a change of leader nothing is known, and the judge of nodes
must give each of them its whole time again.

A worker beats to any master. One that does not lead passes on what it heard (`heartbeat_relay`), as ages rather than
times, so that clocks need not agree. Where it cannot, for longer than an election takes, it hears nobody any more: its
workers find a master that can, before they are judged lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from barque.api.errors import ApiError, unavailable
from barque.client.clock import Clock
from barque.master.apiserver.grpc_audit import GrpcAudit
from barque.master.apiserver.grpc_calls import Context, abort
from barque.master.audit.audit import Audit
from barque.master.auth.identity import user_of_call
from barque.proto import sessions_pb2, sessions_pb2_grpc

INTERVAL_S = 2.0
# A stream without beats for this long is closed: its worker is wedged, though its connection answers pings.
SILENCE_S = 30.0
MAX_NODES = 10_000
# A master that has not reached a leader for so long sends its workers away. Elections take up to 2 s; with a beat of
# 2 s and the relay's half a second, a worker is heard elsewhere well within the 8 s after which it would be lost.
PATIENCE_S = 3.0


class Sessions(sessions_pb2_grpc.SessionsServicer):
    """Serves `Heartbeat` and `Relay`; the node controller asks `last_seen`. `leads` says whether this master judges;
    `on_usage` is told each sample that comes with a beat, by the node it is of, and must not wait. A worker's stream is
    one request to `audit`, None where nothing is audited.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        leads: Callable[[], bool] = lambda: True,
        on_usage: Callable[[str, bytes], None] = lambda node, sample: None,
        interval_s: float = INTERVAL_S,
        silence_s: float = SILENCE_S,
        audit: Audit | None = None,
    ) -> None:
        self._clock = clock
        self._audit = GrpcAudit(audit)
        self._leads = leads
        self._on_usage = on_usage
        self._interval_ms = round(interval_s * 1000)
        self._silence_s = silence_s
        self._seen: dict[str, float] = {}
        self._streams: dict[str, asyncio.Task[Any]] = {}
        # Heard here and not yet known to the leader.
        self._untold: dict[str, float] = {}
        self._told_at = clock.monotonic()

    def last_seen(self, node: str) -> float | None:
        """When `node` last beat, in this clock's monotonic seconds; None where it was not heard since `forget_all`."""
        return self._seen.get(node)

    def connected(self, node: str) -> bool:
        """Whether a worker of this name holds a stream now."""
        return node in self._streams

    def forget_all(self) -> None:
        """Know nothing about anyone: what a new leader starts with."""
        self._seen.clear()

    def untold(self) -> dict[str, float]:
        """Which nodes were heard here, and when, since the leader was last told."""
        return dict(self._untold)

    def note_told(self, told: Mapping[str, float]) -> None:
        """The leader knows these: this master leads, or reaches the one that does."""
        self._told_at = self._clock.monotonic()
        for node, when in told.items():
            if self._untold.get(node) == when:
                del self._untold[node]

    def send_away(self) -> None:
        """End every stream once no leader could be told for `PATIENCE_S`."""
        if not self._is_cut_off():
            return
        streams, self._streams = self._streams, {}
        self._untold.clear()
        for stream in streams.values():
            stream.cancel()

    def _is_cut_off(self) -> bool:
        return not self._leads() and self._clock.monotonic() - self._told_at > PATIENCE_S

    async def Relay(self, request: sessions_pb2.Heard, context: Context) -> sessions_pb2.Relayed:
        try:
            user = user_of_call(context)
            if not user.is_master:
                # Masters tell one another so several times a second, which is nobody's request; this is somebody's.
                async with self._audit.of_path(context, user, "/barque.v1.Sessions/Relay"):
                    raise ApiError(403, "Forbidden", "only a master may pass heartbeats on")
            nodes = request.nodes
        except ApiError as error:
            await abort(context, error)
        leads = self._leads()
        now = self._clock.monotonic()
        for heard in nodes if leads else ():
            self._hear(heard.node, now - heard.age_ms / 1000)
        return sessions_pb2.Relayed(leads=leads)

    async def Heartbeat(
        self, request_iterator: AsyncIterator[sessions_pb2.Beat], context: Context
    ) -> AsyncIterator[sessions_pb2.BeatReply]:
        try:
            user = user_of_call(context)
            async with self._audit.of_path(context, user, "/barque.v1.Sessions/Heartbeat") as record:
                node = user.node
                if not node:
                    raise ApiError(403, "Forbidden", "only a worker's certificate may send heartbeats")
                if self._is_cut_off():
                    raise _cut_off()
                self._take_over(node)
                record.started()
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
                now = self._clock.monotonic()
                self._hear(node, now)
                if not self._leads():
                    self._untold[node] = now
                if beat.usage:
                    self._on_usage(node, beat.usage)
                yield beat
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or self._streams.get(node) is task:
                raise
            task.uncancel()
            if node not in self._streams:
                raise _cut_off() from None
            raise ApiError(409, "Conflict", f"another connection of node {node!r} has taken over") from None
        except TimeoutError:
            raise ApiError(504, "Timeout", f"no heartbeat for {self._silence_s:.0f} s") from None
        finally:
            if self._streams.get(node) is asyncio.current_task():
                del self._streams[node]

    def _hear(self, node: str, when: float) -> None:
        # The longest silent is the first, and the one forgotten where there are ever more names.
        known = self._seen.pop(node, when)
        self._seen[node] = max(known, when)
        if len(self._seen) > MAX_NODES:
            del self._seen[next(iter(self._seen))]


def _cut_off() -> ApiError:
    return unavailable("this master reaches no leader, so nobody would hear of these heartbeats")
