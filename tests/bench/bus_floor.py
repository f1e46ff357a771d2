"""What Barque's bus is measured beside: bare nats-servers of the bench's own, asked by nats-py, with the same bytes.

Three servers on loopback, routed to each other, JetStream on file storage with every write synced, a stream of three
copies; no TLS, no permissions, no API.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext, api

from barque.master.bus.binary import find_nats_server
from tests.support.host import dying_with_parent
from tests.support.ports import free_ports

STREAM = "FLOOR"
IN_FLIGHT = 256
_TIMEOUT_S = 30.0


@contextlib.asynccontextmanager
async def bare_servers(count: int = 3) -> AsyncIterator[list[str]]:
    """Their addresses, once their stream is there."""
    directory = Path(tempfile.mkdtemp(prefix="barque-floor-"))
    binary, ports = await find_nats_server(), free_ports(2 * count)
    clients, routes = ports[:count], ports[count:]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for number in range(count):
            config = directory / f"{number}.conf"
            config.write_text(_config(directory, number, clients, routes))
            processes.append(_start(binary, config))
        addresses = [f"nats://127.0.0.1:{port}" for port in clients]
        await _make_stream(addresses[0], count)
        yield addresses
    finally:
        for process in processes:
            process.kill()
            process.wait()
        shutil.rmtree(directory, ignore_errors=True)


def _start(binary: Path, config: Path) -> subprocess.Popen[bytes]:
    argv = [*dying_with_parent("KILL"), str(binary), "-c", str(config)]
    return subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _config(directory: Path, number: int, clients: list[int], routes: list[int]) -> str:
    others = ", ".join(f'"nats://127.0.0.1:{port}"' for n, port in enumerate(routes) if n != number)
    cluster = f'cluster {{ name: floor, listen: "127.0.0.1:{routes[number]}", routes: [{others}] }}'
    return f"""\
server_name: "floor-{number}"
listen: "127.0.0.1:{clients[number]}"
jetstream {{ store_dir: "{directory / str(number)}", sync_interval: always }}
{cluster if len(clients) > 1 else ""}
"""


async def _ignore(_error: Exception) -> None:
    """A server that is not up yet is asked again."""


async def _make_stream(address: str, replicas: int) -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            connection = await nats.connect(address, allow_reconnect=False, connect_timeout=1, error_cb=_ignore)
            try:
                await connection.jetstream(timeout=2).add_stream(
                    api.StreamConfig(STREAM, subjects=["floor.>"], num_replicas=replicas)
                )
                return
            finally:
                await connection.close()
        except (nats.errors.Error, OSError, TimeoutError) as error:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the bare servers make no stream: {error}") from error
            await asyncio.sleep(0.1)


class Floor:
    """A publisher and a subscriber of a bare stream."""

    def __init__(self, publisher: Client, subscriber: Client) -> None:
        self._publisher = publisher
        self._subscriber = subscriber
        self._jetstream: JetStreamContext = publisher.jetstream(timeout=_TIMEOUT_S)

    async def per_s(self, payload: bytes, count: int) -> float:
        """Messages a second from the first publish until the subscriber has the last, `IN_FLIGHT` unanswered."""
        seen, all_seen = 0, asyncio.Event()

        async def hear(_message: Msg) -> None:
            nonlocal seen
            seen += 1
            if seen == count:
                all_seen.set()

        consumer = await self._consume(hear)
        slots, began = asyncio.Semaphore(IN_FLIGHT), time.monotonic()

        async def publish(number: int) -> None:
            async with slots:
                await self._jetstream.publish(f"floor.{number}", payload)

        await asyncio.gather(*(publish(number) for number in range(count)))
        async with asyncio.timeout(_TIMEOUT_S):
            await all_seen.wait()
        took = time.monotonic() - began
        await consumer.unsubscribe()
        return count / took

    async def seen_ms(self, payload: bytes, count: int, per_s: float) -> list[float]:
        """From each publish, sent in this rhythm, to the subscriber."""
        sent: dict[str, float] = {}
        times: list[float] = []

        async def hear(message: Msg) -> None:
            times.append((time.monotonic() - sent[message.subject]) * 1000)

        consumer = await self._consume(hear)
        began, under_way = time.monotonic(), []
        for number in range(count):
            await asyncio.sleep(max(0.0, began + number / per_s - time.monotonic()))
            subject = f"floor.{number}"
            sent[subject] = time.monotonic()
            under_way.append(asyncio.ensure_future(self._jetstream.publish(subject, payload)))
        await asyncio.gather(*under_way)
        async with asyncio.timeout(_TIMEOUT_S):
            while len(times) < count:
                await asyncio.sleep(0.005)
        await consumer.unsubscribe()
        return times

    async def _consume(self, hear: object) -> JetStreamContext.PushSubscription:
        return await self._subscriber.jetstream().subscribe(
            "floor.>", stream=STREAM, cb=hear, ordered_consumer=True,  # type: ignore[arg-type]
            config=api.ConsumerConfig(deliver_policy=api.DeliverPolicy.NEW),
            pending_msgs_limit=-1, pending_bytes_limit=-1,
        )  # fmt: skip


@contextlib.asynccontextmanager
async def floor(count: int = 3) -> AsyncIterator[Floor]:
    """Bare servers, with a publisher at the first and a subscriber at the last."""
    async with bare_servers(count) as addresses:
        publisher, subscriber = await nats.connect(addresses[0]), await nats.connect(addresses[-1])
        try:
            yield Floor(publisher, subscriber)
        finally:
            await publisher.close()
            await subscriber.close()
