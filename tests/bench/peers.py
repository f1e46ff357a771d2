"""What a gRPC server in Python costs at least: `python -m tests.bench.peers PKI_DIR` prints its port and serves.

The same gRPC, event loop, TLS and certificates as a master's, and nothing behind them: `/bench.Peer/Echo` returns its
request, `/bench.Peer/Watch` sends one message and then everything that `/bench.Peer/Publish` is given. A figure of the
master is quoted as a ratio to these where the machine's own speed would otherwise decide.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
import grpc.aio
import uvloop

from barque.client import wire
from barque.client.pki import Identity

ECHO, WATCH, PUBLISH = (f"/bench.Peer/{name}" for name in ("Echo", "Watch", "Publish"))


class Peer:
    """The server's process; `port` is where it serves. Use as a context."""

    def __init__(self, pki: Path) -> None:
        argv = [sys.executable, "-m", "tests.bench.peers", str(pki)]
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()


async def serve(identity: Identity) -> None:
    """Serve until cancelled."""
    watchers: set[asyncio.Queue[bytes]] = set()

    async def echo(request: bytes, context: Any) -> bytes:
        return request

    async def publish(request: bytes, context: Any) -> bytes:
        for watcher in watchers:
            watcher.put_nowait(request)
        return b""

    async def watch(request: bytes, context: Any) -> AsyncIterator[bytes]:
        changes: asyncio.Queue[bytes] = asyncio.Queue()
        watchers.add(changes)
        try:
            yield b"opened"
            while True:
                yield await changes.get()
        finally:
            watchers.discard(changes)

    server = grpc.aio.server(options=wire.SERVER_OPTIONS)
    methods = {
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
        "Publish": grpc.unary_unary_rpc_method_handler(publish),
        "Watch": grpc.unary_stream_rpc_method_handler(watch),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Peer", methods),))
    port = server.add_secure_port("127.0.0.1:0", identity.server_credentials())
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(serve(Identity.load(Path(sys.argv[1]), "master")))
