"""Channels to the masters: which one is in use, and moving on to the next when it does not answer.

One gRPC channel per master, made when first needed. The choice is sticky: calls stay with a master until it fails.
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
_PROBE_TIMEOUT_S = 1.0


class Channels:
    """Channels to `masters` (`host:port`) as `identity()`; after a renewal call `renew()`."""

    def __init__(self, masters: Sequence[str], identity: Callable[[], Identity]) -> None:
        if not masters:
            raise ValueError("no masters to connect to")
        self.masters = tuple(masters)
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
        channel = self._open.get(self.master)
        if channel is None:
            credentials = self._identity().channel_credentials()
            options = wire.channel_options(MASTER_HOST)
            channel = self._open[self.master] = grpc.aio.secure_channel(self.master, credentials, options)
        return channel

    def move_on(self, failed: str) -> None:
        """Use the next master, unless someone has moved on from `failed` already."""
        if self.master == failed:
            self._current = (self._current + 1) % len(self.masters)

    async def ready(self) -> grpc.aio.Channel:
        """A connected channel, trying each master once. Raises 503 naming every master and what is wrong with it.

        What is refused here has provably not been sent.
        """
        reasons = []
        for _ in self.masters:
            master, channel = self.master, self.channel
            if channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY or await _connected(channel):
                return channel
            reasons.append(f"{master}: {await _why(channel)}")
            self.move_on(master)
        raise unavailable(f"no master is reachable ({'; '.join(reasons)})")

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
    except TimeoutError:
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
