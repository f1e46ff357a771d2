"""`HostProber`: what probes and lifecycle hooks do, done from the host, whose routes reach every pod here.

Commands run in the container; HTTP, TCP and gRPC (the standard health service) go to the pod's address or to the host
that the action names. Answers and words are kubelet's.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
import grpc
import grpc.aio
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from barque.api.types import core_v1
from barque.worker.probes import Outcome, Target
from barque.worker.runtime.port import ContainerNotFoundError, ExecOptions, Runtime, RuntimeFault

DEFAULT_TIMEOUT_S = 1
# As much of an answer as is read and told on.
OUTPUT_BYTES = 10 * 1024
USER_AGENT = "barque-probe"
MAX_REDIRECTS = 10
_REDIRECTS = (301, 302, 303, 307, 308)
_HEALTH_CHECK = "/grpc.health.v1.Health/Check"
# grpc.health.v1.HealthCheckResponse.ServingStatus
_SERVING = 1
_STATUSES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")


class HostProber:
    """Implements `Prober`."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def ask(self, target: Target, probe: core_v1.Probe) -> Outcome:
        timeout_s = probe.timeoutSeconds or DEFAULT_TIMEOUT_S
        try:
            if probe.grpc is not None:
                return await _grpc(target, probe.grpc, timeout_s)
            async with asyncio.timeout(timeout_s):
                if probe.exec is not None:
                    return await self._exec(target, probe.exec)
                if probe.httpGet is not None:
                    return await _http(target, probe.httpGet)
                if probe.tcpSocket is not None:
                    return await _tcp(target, probe.tcpSocket)
        except TimeoutError:
            return Outcome(False, _late(target, probe))
        except (OSError, aiohttp.ClientError, ValueError) as error:
            return Outcome(False, _words(error))
        return Outcome(False, "the probe names no action")

    async def run_hook(self, target: Target, handler: core_v1.LifecycleHandler) -> Outcome:
        """Any answer to a request counts, as for kubelet; only none at all is a failure."""
        try:
            if handler.exec is not None:
                return await self._exec(target, handler.exec)
            if handler.httpGet is not None:
                async with _session() as session, _get(session, target, handler.httpGet) as answer:
                    await answer.content.read(OUTPUT_BYTES)
                return Outcome(True)
        except (OSError, aiohttp.ClientError, ValueError) as error:
            return Outcome(False, _words(error))
        return Outcome(False, f"invalid handler: {target.container.name}")

    async def _exec(self, target: Target, action: core_v1.ExecAction) -> Outcome:
        try:
            session = await self._runtime.exec(target.id, ExecOptions(action.command))
        except ContainerNotFoundError:
            return Outcome(False, "the container is gone")
        except RuntimeFault as error:
            return Outcome(False, f"cannot run the command: {error}")
        try:
            said = bytearray()
            async with aclosing(session.output()) as pieces:
                async for _, data in pieces:
                    said += data[: OUTPUT_BYTES - len(said)]
            code = await session.exit_code()
        except RuntimeFault as error:
            return Outcome(False, f"the command was cut off: {error}")
        finally:
            await session.close()
        return Outcome(code == 0, said.decode(errors="replace"))


async def _http(target: Target, action: core_v1.HTTPGetAction) -> Outcome:
    async with _session() as session:
        url = _url(target, action)
        for _ in range(MAX_REDIRECTS):
            async with _get(session, target, action, url) as answer:
                body = await answer.content.read(OUTPUT_BYTES)
                status, following = answer.status, answer.headers.get("Location", "")
            if status not in _REDIRECTS or not following:
                break
            where = urljoin(url, following)
            # Where another host answers, this one is alive enough to send there.
            if urlsplit(where).hostname != urlsplit(url).hostname:
                shown = body.decode(errors="replace")
                return Outcome(True, f"Probe terminated redirects, Response body: {shown}", doubtful=True)
            url = where
        else:
            return Outcome(False, f'Get "{url}": stopped after {MAX_REDIRECTS} redirects')
    if 200 <= status < 400:
        return Outcome(True)
    return Outcome(False, f"HTTP probe failed with statuscode: {status}")


@asynccontextmanager
async def _session() -> AsyncIterator[aiohttp.ClientSession]:
    # A pod's certificate is its own affair: a probe asks for life, not for identity.
    connector = aiohttp.TCPConnector(force_close=True, ssl=False)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout()) as session:
        yield session


@asynccontextmanager
async def _get(
    session: aiohttp.ClientSession, target: Target, action: core_v1.HTTPGetAction, url: str = ""
) -> AsyncIterator[aiohttp.ClientResponse]:
    url = url or _url(target, action)
    named = {header.name.lower() for header in action.httpHeaders}
    headers = [
        (name, value)
        for name, value in (("User-Agent", USER_AGENT), ("Accept", "*/*"), ("Connection", "close"))
        if name.lower() not in named
    ]
    headers += [(header.name, header.value) for header in action.httpHeaders]
    try:
        async with session.get(url, headers=headers, allow_redirects=False) as answer:
            yield answer
    except (OSError, aiohttp.ClientError) as error:
        raise OSError(f'Get "{url}": {_words(error)}') from error


def _url(target: Target, action: core_v1.HTTPGetAction) -> str:
    path = action.path if action.path.startswith("/") else f"/{action.path}"
    where = _shown(action.host or target.address, port_number(target.container, action.port))
    return f"{(action.scheme or 'HTTP').lower()}://{where}{path}"


async def _tcp(target: Target, action: core_v1.TCPSocketAction) -> Outcome:
    host, port = action.host or target.address, port_number(target.container, action.port)
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        return Outcome(False, f"dial tcp {_shown(host, port)}: connect: {_words(error)}")
    writer.close()
    return Outcome(True)


async def _grpc(target: Target, action: core_v1.GRPCAction, timeout_s: float) -> Outcome:
    """The standard health check (grpc/doc/health-checking.md). Its request and answer have one field each, of the wire
    form of these two well-known types.
    """
    address = _shown(target.address, action.port)
    async with grpc.aio.insecure_channel(address, options=[("grpc.primary_user_agent", USER_AGENT)]) as channel:
        check: Any = channel.unary_unary(
            _HEALTH_CHECK,
            request_serializer=StringValue.SerializeToString,
            response_deserializer=Int32Value.FromString,
        )
        try:
            answer = await check(StringValue(value=action.service), timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            return Outcome(False, _refused(error, address, timeout_s))
    if answer.value == _SERVING:
        return Outcome(True)
    status = _STATUSES[answer.value] if 0 <= answer.value < len(_STATUSES) else str(answer.value)
    return Outcome(False, f'service unhealthy (responded with "{status}")')


def _refused(error: grpc.aio.AioRpcError, address: str, timeout_s: float) -> str:
    match error.code():
        case grpc.StatusCode.UNIMPLEMENTED:
            return (
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): "
                f"{error.details()}"
            )
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"timeout: health rpc did not complete within {timeout_s:g}s"
        case grpc.StatusCode.UNAVAILABLE:
            return f'error: failed to connect service at "{address}"'
        case _:
            return f"error: health rpc probe failed: {error.details()}"


def port_number(container: core_v1.Container, port: int | str | None) -> int:
    """A port's number, by number or by its name in the container. Raises ValueError."""
    if isinstance(port, int):
        return port
    named = next((p.containerPort for p in container.ports if p.name == port), None)
    if named is not None:
        return named
    if port and port.isdecimal():
        return int(port)
    raise ValueError(f"couldn't find port: {port!r}")


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _late(target: Target, probe: core_v1.Probe) -> str:
    if probe.exec is not None:
        return f'command "{" ".join(probe.exec.command)}" timed out'
    if probe.httpGet is not None:
        why = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        return f'Get "{_url(target, probe.httpGet)}": {why}'
    assert probe.tcpSocket is not None
    port = port_number(target.container, probe.tcpSocket.port)
    return f"dial tcp {_shown(probe.tcpSocket.host or target.address, port)}: i/o timeout"


def _words(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"dial tcp {error.host}:{error.port}: connect: {_words(error.os_error)}"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "EOF"
    if isinstance(error, OSError) and error.errno:
        # asyncio's own wording repeats the address.
        return os.strerror(error.errno).lower()
    return str(error) or type(error).__name__
