"""The `proxy` subresources: a request handed on to a pod, to a pod of a service, or to a node, and its answer back.

In: a `RestCall` that is authorised, its `info.name` with scheme and port, its `info.rest` the path behind `proxy`. Out:
what the backend answers, as it comes; or 503 in Kubernetes' words where nobody does. An upgrade (WebSocket, SPDY, …)
makes the connection a tunnel. A caller that goes away cancels the handler, and with it the backend's connection. A node
without a port is asked through its worker's node API, which answers as a kubelet would to those who read.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, NamedTuple

import grpc
import grpc.aio
import h11
from aiohttp import web
from multidict import CIMultiDict

from barque.api.errors import ApiError, bad_request, unavailable
from barque.api.types.core_v1 import Node, Pod, Service
from barque.api.types.discovery_v1 import EndpointSlice
from barque.client import wire
from barque.client.client import Client
from barque.master.apiserver.node_channels import NodeChannels
from barque.master.apiserver.places import node_address
from barque.master.apiserver.proxying import headers, links, tunnel
from barque.master.apiserver.proxying.connections import Connection, NodeStream, TlsStream
from barque.master.apiserver.proxying.destinations import (
    Asked,
    PodPort,
    choose_endpoint,
    is_node_api,
    pod_port,
    port_number,
    service_port_name,
    split_name,
)
from barque.master.apiserver.proxying.exchange import Exchange
from barque.master.apiserver.rest.bodies import ask_for_body
from barque.master.apiserver.rest.call import RestCall
from barque.proto import node_pb2, node_pb2_grpc
from barque.proto import pods_pb2 as pb

_SERVICE_NAME = "kubernetes.io/service-name"
# For a backend's head: the longest that a watch of another cluster's door takes to say its first word.
ANSWER_TIMEOUT_S = 600.0
_NO_PIECES: tuple[bytes, ...] = ()
_READ_METHODS = ("GET", "HEAD")


class _Backend(NamedTuple):
    """Who is asked: a pod's port or, with none, a port of the node. `host` is what a URL would name it by."""

    node: Node
    host: str
    start: pb.PortForwardInput.Start
    tls: bool


class Proxy:
    """`client` reads for the master itself: that the caller may proxy was decided before."""

    def __init__(self, client: Client, channels: NodeChannels, entropy: random.Random) -> None:
        self._client = client
        self._channels = channels
        self._entropy = entropy

    async def __call__(self, call: RestCall) -> web.StreamResponse:
        info, request = call.info, call.request
        if not info.rest and request.method in _READ_METHODS and not headers.upgrade_of(request.headers):
            query = _query(call)
            return web.Response(status=301, headers={"Location": f"{_path(call)}/{query and f'?{query}'}"})
        asked = split_name(info.name, info.resource.removesuffix("s"))
        if info.resource == "nodes":
            node = await self._client.get(Node, asked.name)
            if is_node_api(asked, node):
                return await self._read_node(call, node)
            port = port_number(asked.port)
            start = pb.PortForwardInput.Start(port=port)
            backend = _Backend(node, f"{_host_of(node)}:{port}", start, asked.scheme == "https")
        else:
            found = await self._find_pod(asked, info.resource, info.namespace)
            backend = await self._backend_of(found)
        return await self._hand_on(call, backend)

    async def _find_pod(self, asked: Asked, resource: str, namespace: str) -> PodPort:
        if resource == "pods":
            return pod_port(asked, await self._client.get(Pod, asked.name, namespace))
        name = asked.port
        if name.isdecimal():
            name = service_port_name(asked, await self._client.get(Service, asked.name, namespace))
        listed = await self._client.list(EndpointSlice, namespace, labels=f"{_SERVICE_NAME}={asked.name}")
        if not listed.items:
            await self._client.get(Service, asked.name, namespace)
        return choose_endpoint(asked, namespace, listed.items, name, self._entropy)

    async def _backend_of(self, found: PodPort) -> _Backend:
        pod = await self._client.get(Pod, found.pod, found.namespace)
        if not pod.spec.nodeName:
            raise bad_request(f"pod {found.pod} does not have a host assigned")
        node = await self._client.get(Node, pod.spec.nodeName)
        start = pb.PortForwardInput.Start(
            namespace=found.namespace, pod=found.pod, port=found.port, at_address=True
        )  # fmt: skip
        return _Backend(node, found.host, start, found.tls)

    async def _hand_on(self, call: RestCall, backend: _Backend) -> web.StreamResponse:
        upgrades = bool(headers.upgrade_of(call.request.headers))
        async with self._connection(backend, upgrades) as connection:
            exchange = Exchange(connection)
            body = None
            try:
                await exchange.begin(call.request.method, _target(call), _sent(call))
                body = asyncio.create_task(_send_body(exchange, call.request), name="body of a proxied request")
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    answer = await exchange.answer()
                if isinstance(answer, h11.InformationalResponse):
                    return await _tunnel(call, connection, exchange, answer, backend.host)
                return await _answer(call, exchange, answer, backend.host)
            except h11.LocalProtocolError as error:
                raise bad_request(f"the request cannot be handed on: {error}") from error
            except TimeoutError:
                raise unavailable("error trying to reach service: timeout awaiting response headers") from None
            except OSError as error:
                raise unavailable(f"error trying to reach service: {error}") from error
            finally:
                if body is not None:
                    body.cancel()
                    with suppress(asyncio.CancelledError):
                        await body

    @asynccontextmanager
    async def _connection(self, backend: _Backend, upgrades: bool) -> AsyncIterator[Connection]:
        """To the backend, while it lasts. Raises 503, for an upgrade 500, where it cannot be reached."""
        node = backend.node.metadata.name
        async with self._channels.to(node_address(backend.node), node) as channel:
            stub = node_pb2_grpc.NodeStub(channel)
            call = stub.PortForward() if backend.start.pod else stub.Dial()
            connection: Connection
            try:
                connection = await NodeStream.open(call, backend.start)
                if backend.tls:
                    connection = await TlsStream.open(connection)
            except (ApiError, OSError, TimeoutError) as error:
                call.cancel()
                why = error.message if isinstance(error, ApiError) else str(error) or "TLS handshake timeout"
                if upgrades:
                    raise ApiError(500, "InternalError", f"error dialing backend: {why}") from error
                raise unavailable(f"error trying to reach service: {why}") from error
            try:
                yield connection
            finally:
                await connection.close()

    async def _read_node(self, call: RestCall, node: Node) -> web.StreamResponse:
        """What a kubelet would answer to those who read."""
        request, name = call.request, node.metadata.name
        if request.method not in _READ_METHODS:
            raise ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
        async with self._channels.to(node_address(node), name) as channel:
            wanted = node_pb2.ReadRequest(path=call.info.rest, query=_query(call))
            reading = node_pb2_grpc.NodeStub(channel).Read(wanted)
            try:
                first = await reading.read()
                if first is grpc.aio.EOF:
                    raise unavailable(f"node {name} ended the answer")
                return await _pass_reading(request, first.head, reading)
            except grpc.aio.AioRpcError as error:
                raise _refusal(error, name) from error
            finally:
                reading.cancel()


async def _pass_reading(request: web.BaseRequest, head: node_pb2.ReadOutput.Head, reading: Any) -> web.StreamResponse:
    """What the node reads out, as it comes."""
    response = web.StreamResponse(status=head.code, headers={"Content-Type": head.content_type})
    await response.prepare(request)
    if request.method == "GET":
        try:
            while (output := await reading.read()) is not grpc.aio.EOF:
                await response.write(output.data)
        except grpc.aio.AioRpcError:
            return _cut_off(request, response)
    await response.write_eof()
    return response


async def _send_body(exchange: Exchange, request: web.BaseRequest) -> None:
    """The caller's body, as it comes. A backend that takes no more of it may have answered already."""
    await ask_for_body(request)
    with suppress(OSError, h11.LocalProtocolError):
        await exchange.send(request.content.iter_any() if request.body_exists else _nothing())


async def _nothing() -> AsyncIterator[bytes]:
    for piece in _NO_PIECES:
        yield piece


async def _answer(call: RestCall, exchange: Exchange, answer: h11.Response, backend: str) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status_code, reason=answer.reason.decode("latin-1") or None)
    returned = _returned(call, answer, backend)
    is_page = links.are_in(answer.status_code, returned.items())
    if is_page:
        returned.popall("Content-Length", None)
    response.headers.extend(returned)
    await response.prepare(call.request)
    async with aclosing(exchange.body()) as body:
        try:
            async for piece in _with_links(call, body, returned, backend) if is_page else body:
                await response.write(piece)
        except OSError:
            return _cut_off(call.request, response)
    await response.write_eof()
    return response


async def _with_links(
    call: RestCall, body: AsyncIterator[bytes], returned: CIMultiDict[str], backend: str
) -> AsyncIterator[bytes]:
    """A page's body with its links led back through the proxy. Raises OSError as the body does."""
    prefix, host = _path(call), call.request.host
    page = links.Page(
        lambda link: headers.rewritten(link, prefix, backend, host), packed="Content-Encoding" in returned
    )
    came = False
    async for piece in body:
        came = True
        for part in page.feed(piece):
            if part:
                yield part
            # A small piece may be the gzip of a large page.
            await asyncio.sleep(0)
    if came and (last := page.end()):
        yield last


def _cut_off(request: web.BaseRequest, response: web.StreamResponse) -> web.StreamResponse:
    """An answer that broke off within its body breaks off for the caller, too, who would take it for whole."""
    if request.transport is not None:
        request.transport.abort()
    return response


async def _tunnel(
    call: RestCall, connection: Connection, exchange: Exchange, answer: h11.InformationalResponse, backend: str
) -> web.StreamResponse:
    upgrade = dict(answer.headers).get(b"upgrade", b"").decode("latin-1")
    said = [("Connection", "Upgrade"), ("Upgrade", upgrade), *_returned(call, answer, backend).items()]
    caller = tunnel.take_over(call.request)
    caller[1].write(tunnel.switching_head(answer.reason.decode("latin-1"), said))
    await tunnel.pass_on(caller, connection, exchange.rest)
    return tunnel.Upgraded()


def _returned(call: RestCall, answer: h11.Response | h11.InformationalResponse, backend: str) -> CIMultiDict[str]:
    came = [
        (name.decode("latin-1"), value.decode("utf-8", "surrogateescape")) for name, value in answer.headers.raw_items()
    ]
    return CIMultiDict(headers.answer_headers(came, _path(call), backend, call.request.host))


def _sent(call: RestCall) -> list[headers.Header]:
    request = call.request
    uri = headers.forwarded_uri(_path(call), call.info.rest)
    sent = headers.request_headers(request.headers.items(), uri, request.remote or "")
    if request.body_exists and request.content_length is None:
        sent.append(("Transfer-Encoding", "chunked"))
    return sent


def _path(call: RestCall) -> str:
    """The path of the proxy itself, as the caller wrote it."""
    whole = call.info.path.partition("?")[0]
    return whole.removesuffix(call.info.rest) if call.info.rest else whole


def _target(call: RestCall) -> str:
    """What the backend is asked for; nothing of the path is decoded."""
    query = _query(call)
    return f"{call.info.rest or '/'}{f'?{query}' if query else ''}"


def _query(call: RestCall) -> str:
    """The query as it came: decoded it may say something else, and break a line."""
    return call.request.raw_path.partition("?")[2]


def _host_of(node: Node) -> str:
    return node_address(node).rpartition(":")[0]


def _refusal(error: grpc.aio.AioRpcError, node: str) -> ApiError:
    carried = wire.carried_status(error.trailing_metadata() or ())
    if carried is not None:
        return ApiError.from_status(carried)
    why = wire.plain_reason(error.details() or error.code().name)
    return unavailable(f"error trying to reach service: node {node} cannot be reached: {why}")
