"""What an HTTPS server in Python costs at least: `python -m tests.bench.https_peer PKI_DIR` prints its port and serves.

The same aiohttp, event loop, TLS and certificates as a master's REST door, and nothing behind them: `POST /echo`
returns its body, `GET /page` the body that was echoed last, `GET /watch` sends what `POST /publish` is given.
"""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from pathlib import Path
from types import TracebackType

import uvloop
from aiohttp import web

from barque.client.pki import Identity

_JSON = {"Content-Type": "application/json"}


class HttpsPeer:
    """The server's process; `port` is where it serves. Use as a context."""

    def __init__(self, pki: Path) -> None:
        argv = [sys.executable, "-m", "tests.bench.https_peer", str(pki)]
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def __enter__(self) -> HttpsPeer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()


class _Site:
    def __init__(self) -> None:
        self._page = b""
        self._watchers: set[asyncio.Queue[bytes]] = set()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        match request.path:
            case "/echo":
                self._page = await request.read()
            case "/publish":
                change = await request.read()
                for watcher in self._watchers:
                    watcher.put_nowait(change)
                return web.Response(body=b"{}", headers=_JSON)
            case "/watch":
                return await self._watch(request)
        return web.Response(body=self._page, headers=_JSON)

    async def _watch(self, request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers=_JSON)
        response.enable_chunked_encoding()
        await response.prepare(request)
        changes: asyncio.Queue[bytes] = asyncio.Queue()
        self._watchers.add(changes)
        try:
            while True:
                await response.write(await changes.get())
        except ConnectionError:
            return response
        finally:
            self._watchers.discard(changes)


async def serve(identity: Identity) -> None:
    """Serve until cancelled."""
    context = identity.server_context()
    context.load_verify_locations(cadata=identity.ca_pem.decode())
    context.verify_mode = ssl.CERT_REQUIRED
    server = web.Server(_Site().answer, access_log=None, tcp_keepalive=True, lingering_time=0)
    site = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0, ssl=context, backlog=1024)
    print(site.sockets[0].getsockname()[1], flush=True)
    await site.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(Identity.load(Path(sys.argv[1]), "master")))
