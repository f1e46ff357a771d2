"""The REST door itself: listening, connections and what they may cost, and the end of it all.

aiohttp speaks HTTP/1.1, `tls` what is around it. Client certificates are optional here: whoever has none may show a
token, or be nobody. What befalls a connection before there is a request is `limits`' matter.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable

from barque.client.system_errors import cannot_listen
from barque.master.apiserver.rest.limits import Answering, BoundedServer, Limits
from barque.master.apiserver.rest.tls import secured

# Clients keep connections for a minute or two between requests.
IDLE_TIMEOUT_S = 150.0
STOP_TIMEOUT_S = 2.0
HANDSHAKE_TIMEOUT_S = 10.0
BACKLOG = 1024


class RestDoor:
    """`answer` answers every request, `end_watches` ends what outlives them; have `run` run while the door is open."""

    def __init__(
        self, answer: Answering, end_watches: Callable[[], Awaitable[None]] | None = None, limits: Limits = Limits()
    ) -> None:
        self._answer = answer
        self._end_watches = end_watches
        self._limits = limits
        self._server: BoundedServer | None = None
        self._site: asyncio.Server | None = None
        # The one it listens on; 0 before that.
        self.port = 0

    async def start(self, address: str, context: ssl.SSLContext) -> int:
        """Listen on `host:port`; port 0 picks a free one. Returns the port. Raises OSError where it is taken."""
        host, _, port = address.rpartition(":")
        server = BoundedServer(self._answer, self._limits, keepalive_timeout=IDLE_TIMEOUT_S)
        factory = secured(server, context, HANDSHAKE_TIMEOUT_S, server.admits)
        try:
            self._site = await asyncio.get_running_loop().create_server(
                factory, host.strip("[]") or None, int(port), backlog=BACKLOG
            )
        except OSError as error:
            raise cannot_listen(address) from error
        self._server = server
        self.port = self._site.sockets[0].getsockname()[1]
        return self.port

    async def run(self) -> None:
        """Cut off whoever owes a request, until cancelled."""
        assert self._server is not None
        await self._server.run()

    async def stop(self) -> None:
        """Close the door and the connections."""
        if self._server is not None and self._site is not None:
            self._site.close()
            if self._end_watches is not None:
                await self._end_watches()
            await self._server.shutdown(STOP_TIMEOUT_S)
            self._server = self._site = None
