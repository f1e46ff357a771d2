"""Channels to the masters: which one is in use, and moving on to another when it does not answer.

One gRPC channel per master, made when first needed. The choice is sticky: calls stay with a master until it fails. A
master that takes its time to connect is given a head start, then the next one is tried beside it, so that a dead host
costs half a second and not a connection's timeout.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import grpc
import grpc.aio

from barque.api.errors import unavailable
from barque.client import wire
from barque.client.pki import MASTER_HOST, Identity
from barque.proto import cluster_pb2, cluster_pb2_grpc

# A little more than one attempt to connect takes (wire.CONNECT_TIMEOUT_MS).
READY_TIMEOUT_S = wire.CONNECT_TIMEOUT_MS / 1000 + 0.5
# A handshake takes milliseconds; whoever needs longer may be dead, and is waited for beside the next one.
HEAD_START_S = 0.5
# Calls under way on a master that is left for good get this long to end.
_LEAVE_GRACE_S = 0.2
_PROBE_TIMEOUT_S = 1.0

Say = Callable[[str], None]


def _silent(_: str) -> None:
    """For those who have nobody to tell."""


class Channels:
    """Channels to `masters` (`host:port`) as `identity()`; after a renewal call `renew()`. `say` hears, a line each, of
    every change of the master in use.
    """

    def __init__(self, masters: Sequence[str], identity: Callable[[], Identity], say: Say = _silent) -> None:
        if not masters:
            raise ValueError("no masters to connect to")
        self.masters = tuple(masters)
        self.say = say
        self._identity = identity
        self._current = 0
        self._open: dict[str, grpc.aio.Channel] = {}
        self._retired: list[grpc.aio.Channel] = []

    @property
    def master(self) -> str:
        """The address of the master in use."""
        return self.masters[self._current]

    @property
    def channel(self) -> grpc.aio.Channel:
        """The channel in use, connected or not."""
        return self._channel_to(self.master)

    def move_on(self, failed: str) -> None:
        """Use the next master, unless someone has moved on from `failed` already."""
        if self.master == failed:
            self._current = (self._current + 1) % len(self.masters)

    async def leave(self, failed: str) -> None:
        """Move on, and end what is under way there: it is up, but apart from the others. The only master stays."""
        if len(self.masters) == 1:
            return
        self.move_on(failed)
        channel = self._open.pop(failed, None)
        if channel is not None:
            await channel.close(_LEAVE_GRACE_S)

    def learn(self, masters: Sequence[str]) -> None:
        """These are the masters from now on. The one in use stays so, where it is among them."""
        current, self.masters = self.master, tuple(masters)
        self._current = self.masters.index(current) if current in self.masters else 0
        for gone in [master for master in self._open if master not in self.masters]:
            self._retired.append(self._open.pop(gone))

    async def ready(self) -> grpc.aio.Channel:
        """A connected channel, trying each master once. Raises 503 naming every master and what is wrong with it.

        What is refused here has provably not been sent.
        """
        first, channel = self.master, self.channel
        if channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY:
            return channel
        order = [*self.masters[self._current :], *self.masters[: self._current]]
        found = await self._first_connected(order)
        if found is None:
            reasons = await asyncio.gather(*(_why(self._channel_to(master)) for master in order))
            told = "; ".join(f"{master}: {why}" for master, why in zip(order, reasons, strict=True))
            raise unavailable(f"no master is reachable ({told})")
        if found != first and self.master == first and found in self.masters:
            self._current = self.masters.index(found)
            self.say(f"master {first} does not answer, trying {found}")
        return self.channel

    async def _first_connected(self, order: Sequence[str]) -> str | None:
        """The master that is connected first, where each has a head start on the next; None where all have failed."""
        waiting, racing = list(order), dict[asyncio.Task[bool], str]()
        try:
            while waiting or racing:
                if waiting:
                    master = waiting.pop(0)
                    racing[asyncio.create_task(_connected(self._channel_to(master)), name=f"reach {master}")] = master
                head_start_s = HEAD_START_S if waiting else None
                done, _ = await asyncio.wait(racing, timeout=head_start_s, return_when=asyncio.FIRST_COMPLETED)
                connected = [racing.pop(task) for task in list(racing) if task in done and task.result()]
                if connected:
                    return connected[0]
                for task in done:
                    racing.pop(task, None)
        finally:
            for task in racing:
                task.cancel()
        return None

    def _channel_to(self, master: str) -> grpc.aio.Channel:
        channel = self._open.get(master)
        if channel is None:
            credentials = self._identity().channel_credentials()
            options = wire.channel_options(MASTER_HOST)
            channel = self._open[master] = grpc.aio.secure_channel(master, credentials, options)
        return channel

    async def renew(self) -> None:
        """Make new calls on new connections, with the identity as it is now; calls under way stay where they are."""
        # One generation is kept: it is half a certificate's life old when the next renewal closes it.
        stale, self._retired, self._open = self._retired, list(self._open.values()), {}
        for channel in stale:
            await channel.close()

    async def close(self) -> None:
        """End all calls and connections."""
        channels = [*self._retired, *self._open.values()]
        self._retired, self._open = [], {}
        for channel in channels:
            await channel.close()


async def _connected(channel: grpc.aio.Channel) -> bool:
    """Wait until the channel is connected (True) or its attempt has failed (False)."""
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            state = channel.get_state(try_to_connect=True)
            while state is not grpc.ChannelConnectivity.READY:
                if state in (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN):
                    return False
                await channel.wait_for_state_change(state)
                state = channel.get_state(try_to_connect=True)
    except (TimeoutError, grpc.aio.UsageError):
        return False
    return True


async def _why(channel: grpc.aio.Channel) -> str:
    """Why the channel does not connect: only a call is told, so make a harmless one; it fails at once."""
    try:
        await cluster_pb2_grpc.ClusterStub(channel).Status(cluster_pb2.StatusRequest(), timeout=_PROBE_TIMEOUT_S)
    except grpc.aio.AioRpcError as error:
        return wire.plain_reason(error.details() or error.code().name)
    except grpc.aio.UsageError as error:
        return str(error)
    return "it answered too late"
