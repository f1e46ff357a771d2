"""Heartbeats passed on: a master that does not lead tells the leader which nodes it has heard, twice a second.

In: the sessions of this master, the door of the leader, a way to open a channel to it. Out: `run()`, until cancelled.
What was not taken is told again; only the newest beat of a node counts, so there is never more to tell than there are
workers. A thousand workers at two masters cost the leader four small messages a second.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import grpc.aio

from barque.client import wire
from barque.client.clock import Clock
from barque.client.pki import MASTER_HOST, Identity
from barque.master.apiserver.sessions import Sessions
from barque.proto import sessions_pb2, sessions_pb2_grpc

log = logging.getLogger(__name__)

INTERVAL_S = 0.5
_DEADLINE_S = 1.0
# Far below half a certificate's life: a later channel has the identity of its day.
_MAX_AGE_S = 3600.0


def dialer(identity: Callable[[], Identity]) -> Callable[[str], grpc.aio.Channel]:
    """Opens channels to other masters as this one."""
    return lambda address: grpc.aio.secure_channel(
        address, identity().channel_credentials(), wire.channel_options(MASTER_HOST)
    )


class HeartbeatRelay:
    """`leads()` says whether this master leads, `leader()` is the gRPC door of the one that does, "" for not known."""

    def __init__(
        self,
        sessions: Sessions,
        leads: Callable[[], bool],
        leader: Callable[[], str],
        dial: Callable[[str], grpc.aio.Channel],
        clock: Clock,
    ) -> None:
        self._sessions = sessions
        self._leads = leads
        self._leader = leader
        self._dial = dial
        self._clock = clock
        self._channel: grpc.aio.Channel | None = None
        self._door = ""
        self._made_at = 0.0
        self._broken = False

    async def run(self) -> None:
        try:
            while True:
                await self.look()
                await self._clock.sleep(INTERVAL_S)
        finally:
            await self._reach("")

    async def look(self) -> None:
        """Tell the leader once."""
        sessions, door = self._sessions, self._leader()
        if self._leads():
            sessions.note_told(sessions.untold())
            return
        if door:
            await self._tell(door)
        sessions.send_away()

    async def _tell(self, door: str) -> None:
        heard = self._sessions.untold()
        now = self._clock.monotonic()
        nodes = [sessions_pb2.NodeHeard(node=n, age_ms=round((now - when) * 1000)) for n, when in heard.items()]
        try:
            channel = await self._reach(door)
            assert channel is not None
            stub = sessions_pb2_grpc.SessionsStub(channel)
            reply = await stub.Relay(sessions_pb2.Heard(nodes=nodes), timeout=_DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            self._note_broken(f"{door}: {wire.api_error(error).message}")
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            self._note_broken(f"{door}: it is stopping")
        else:
            if reply.leads:
                self._broken = False
                self._sessions.note_told(heard)

    async def _reach(self, door: str) -> grpc.aio.Channel | None:
        """The channel to this door, None for ""; another one is closed."""
        now = self._clock.monotonic()
        if door != self._door or now - self._made_at > _MAX_AGE_S:
            if self._channel is not None:
                await self._channel.close()
            self._channel, self._door, self._made_at = self._dial(door) if door else None, door, now
        return self._channel

    def _note_broken(self, why: str) -> None:
        if not self._broken:
            self._broken = True
            log.warning("heartbeats cannot be passed on to the leader at %s", why)
