"""Channels to the workers' node APIs, shared by the streams to one worker and closed soon after the last of them.

A forwarded port makes a stream for each connection; a TLS handshake for each would cost more than most of them carry.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeAlias

import grpc.aio

from barque.client import wire
from barque.client.clock import Clock
from barque.client.pki import Identity, node_host

# Opens a channel to a worker's node API: (`host:port`, node).
Dial: TypeAlias = Callable[[str, str], grpc.aio.Channel]

# As long as a browser or a loop of commands may pause.
IDLE_S = 10.0
# Far below half a certificate's life: later streams get a channel with the identity of their day.
MAX_AGE_S = 3600.0


def dialer(identity: Callable[[], Identity]) -> Dial:
    """Opens channels as this master; only that node's certificate will do."""

    def dial(address: str, node: str) -> grpc.aio.Channel:
        options = wire.channel_options(node_host(node))
        return grpc.aio.secure_channel(address, identity().channel_credentials(), options)

    return dial


@dataclass
class _Held:
    channel: grpc.aio.Channel
    made_s: float
    users: int = 0
    closing: asyncio.Task[None] | None = None


class NodeChannels:
    """`async with channels.to(address, node) as channel` for as long as a stream lasts."""

    def __init__(self, dial: Dial, clock: Clock) -> None:
        self._dial = dial
        self._clock = clock
        self._held: dict[tuple[str, str], _Held] = {}
        # Out of use but not closed yet.
        self._closing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def to(self, address: str, node: str) -> AsyncIterator[grpc.aio.Channel]:
        key = (address, node)
        held = self._held.get(key)
        if held is None or self._clock.monotonic() - held.made_s > MAX_AGE_S:
            held = self._held[key] = _Held(self._dial(address, node), self._clock.monotonic())
        held.users += 1
        if held.closing is not None:
            held.closing.cancel()
            held.closing = None
        try:
            yield held.channel
        finally:
            held.users -= 1
            if not held.users:
                held.closing = asyncio.create_task(self._close(key, held), name=f"idle channel to {node}")
                self._closing.add(held.closing)
                held.closing.add_done_callback(self._closing.discard)

    async def _close(self, key: tuple[str, str], held: _Held) -> None:
        await self._clock.sleep(IDLE_S)
        if self._held.get(key) is held:
            del self._held[key]
        await held.channel.close()

    async def close(self) -> None:
        """Close all channels, ending the streams on them."""
        held, self._held = list(self._held.values()), {}
        for task in list(self._closing):
            task.cancel()
        for each in held:
            await each.channel.close()
