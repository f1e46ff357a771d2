"""`HealthPorts`: answers load balancers that ask which nodes have endpoints of a service (`healthCheckNodePort`).

In: what to answer on which port. Out: one small HTTP server per port, on all addresses of this host: 200 where ready
endpoints are here, 503 where none is or where this node's rules are not what they should be (KEP-3458). Guarantees: a
connection is answered within `ANSWER_S` and closed; no more than `MOST_CALLERS` of a port are heard at once.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Collection

from barque.network.proxy.state import HealthCheck

log = logging.getLogger(__name__)

ANSWER_S = 5.0
MOST_CALLERS = 64
# A request's head; what balancers send is a few hundred.
MAX_HEAD_BYTES = 8192
_REASONS = {200: "OK", 503: "Service Unavailable"}


def render_answer(check: HealthCheck, healthy: bool) -> bytes:
    """The whole HTTP answer; its body and headers are kube-proxy's."""
    code = 200 if check.local_endpoints and healthy else 503
    document = {
        "service": {"namespace": check.namespace, "name": check.name},
        "localEndpoints": check.local_endpoints,
        "serviceProxyHealthy": healthy,
    }
    body = json.dumps(document, indent="\t").encode()
    head = (
        f"HTTP/1.1 {code} {_REASONS[code]}\r\n"
        "Content-Type: application/json\r\n"
        "X-Content-Type-Options: nosniff\r\n"
        f"X-Load-Balancing-Endpoint-Weight: {check.local_endpoints}\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + body


class HealthPorts:
    """The health check ports of one node."""

    def __init__(self) -> None:
        self.healthy = True
        self._checks: dict[int, HealthCheck] = {}
        self._servers: dict[int, asyncio.Server] = {}
        self._refused: set[int] = set()
        self._callers: dict[int, int] = {}

    async def serve(self, checks: Collection[HealthCheck]) -> None:
        """Answer these from now on, and no others. A port that another program holds is told and tried next time."""
        self._checks = {check.port: check for check in checks}
        for port in self._servers.keys() - self._checks.keys():
            self._servers.pop(port).close()
        for port in sorted(self._checks.keys() - self._servers.keys()):
            await self._open(port)
        self._refused &= self._checks.keys()

    async def close(self) -> None:
        await self.serve(())

    async def _open(self, port: int) -> None:
        check = self._checks[port]

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._answer(port, reader, writer)

        try:
            self._servers[port] = await asyncio.start_server(answer, "0.0.0.0", port, limit=MAX_HEAD_BYTES)
        except OSError as error:
            if port not in self._refused:
                log.error(
                    "cannot open health check port %d of service %s/%s: %s", port, check.namespace, check.name,
                    error.strerror or error,
                )  # fmt: skip
            self._refused.add(port)
        else:
            self._refused.discard(port)

    async def _answer(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._callers[port] = self._callers.get(port, 0) + 1
        try:
            check = self._checks.get(port)
            if check is not None and self._callers[port] <= MOST_CALLERS:
                async with asyncio.timeout(ANSWER_S):
                    await reader.readuntil(b"\r\n\r\n")
                    writer.write(render_answer(check, self.healthy))
                    await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            # The caller is slow, gone or speaks something else: it asks again, or not.
            pass
        finally:
            self._callers[port] -= 1
            writer.close()
