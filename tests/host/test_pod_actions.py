"""What probes and hooks ask of real servers, and the words for what they find."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import grpc.aio
from aiohttp import web
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from barque.api.types import core_v1
from barque.client.clock import SystemClock
from barque.client.pki import create_authority, master_subject
from barque.worker.actions import HostProber
from barque.worker.probes import Outcome, Target
from barque.worker.runtime.fake import FakeRuntime
from tests.support.worker_world import a_container

HERE = "127.0.0.1"
PROBER = HostProber(FakeRuntime(SystemClock()))


def a_target(**ports: int) -> Target:
    named = [core_v1.ContainerPort(name=name, containerPort=port) for name, port in ports.items()]
    return Target("c1", a_container(ports=named), HERE)


async def ask(listens: int, kind: str = "httpGet", timeout_s: int = 30, **fields: Any) -> Outcome:
    actions = {"httpGet": core_v1.HTTPGetAction, "tcpSocket": core_v1.TCPSocketAction, "grpc": core_v1.GRPCAction}
    action = actions[kind](**({"port": listens} | fields))
    probe = core_v1.Probe(timeoutSeconds=timeout_s, **{kind: action})
    return await PROBER.ask(a_target(web=listens), probe)


@contextlib.asynccontextmanager
async def a_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, list[web.Request]]]:
    """A server that answers by path; its port and what it was asked."""
    asked: list[web.Request] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request)
        match request.path:
            case "/away":
                raise web.HTTPFound("http://elsewhere.example/")
            case "/round":
                raise web.HTTPFound("/round")
            case "/moved":
                raise web.HTTPFound("/broken")
            case "/broken":
                return web.Response(status=503)
            case "/slow":
                await asyncio.sleep(300)
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_route("GET", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, HERE, 0, ssl_context=tls)
    await site.start()
    try:
        yield runner.addresses[0][1], asked
    finally:
        await runner.cleanup()


async def test_http_by_number_and_name_with_headers_of_the_users_own() -> None:
    async with a_server() as (port, asked):
        given = {"Host": "shop.example", "X-A": "b", "User-Agent": "mine"}
        headers = [core_v1.HTTPHeader(name=name, value=value) for name, value in given.items()]
        assert await ask(port, path="healthz?deep=1", httpHeaders=headers) == Outcome(True)
        assert (await ask(port, port="web")).ok
        first, second = asked
        assert (first.path_qs, first.headers["Host"], first.headers["X-A"]) == ("/healthz?deep=1", "shop.example", "b")
        assert first.headers.getall("User-Agent") == ["mine"]
        assert (second.headers["User-Agent"], second.headers["Accept"]) == ("barque-probe", "*/*")
        assert await ask(port, port="none") == Outcome(False, "couldn't find port: 'none'")


async def test_http_answers_and_redirects() -> None:
    async with a_server() as (port, _):
        assert await ask(port, path="/broken") == Outcome(False, "HTTP probe failed with statuscode: 503")
        assert await ask(port, path="/moved") == Outcome(False, "HTTP probe failed with statuscode: 503")
        away = await ask(port, path="/away")
        assert (away.ok, away.doubtful) == (True, True)
        assert away.message.startswith("Probe terminated redirects, Response body: ")
        assert (await ask(port, path="/round")).message.endswith("stopped after 10 redirects")
        late = await ask(port, path="/slow", timeout_s=2)
        why = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        assert late == Outcome(False, f'Get "http://{HERE}:{port}/slow": {why}')


async def test_https_asks_for_life_and_not_for_identity() -> None:
    now = datetime.datetime.now(datetime.UTC)
    identity = create_authority(now).identity(master_subject("m1"), now)
    async with a_server(identity.server_context()) as (port, _):
        assert await ask(port, scheme="HTTPS") == Outcome(True)
        assert not (await ask(port, scheme="HTTP")).ok


@contextlib.contextmanager
def a_silent_port() -> Iterator[int]:
    """A port on which nobody listens, nor anybody else can."""
    with socket.socket() as held:
        held.bind((HERE, 0))
        yield held.getsockname()[1]


async def test_nobody_listens() -> None:
    async with a_server() as (port, _):
        assert await ask(port, "tcpSocket") == Outcome(True)
    with a_silent_port() as port:
        refused = f"dial tcp {HERE}:{port}: connect: connection refused"
        assert await ask(port) == Outcome(False, f'Get "http://{HERE}:{port}/": {refused}')
        assert await ask(port, "tcpSocket") == Outcome(False, refused)
        assert await ask(port, "grpc") == Outcome(False, f'error: failed to connect service at "{HERE}:{port}"')


async def test_hooks_count_any_answer() -> None:
    async with a_server() as (port, asked):
        broken = core_v1.LifecycleHandler(httpGet=core_v1.HTTPGetAction(port=port, path="/broken"))
        assert await PROBER.run_hook(a_target(), broken) == Outcome(True)
        assert asked[0].path == "/broken"
    with a_silent_port() as port:
        unheard = core_v1.LifecycleHandler(httpGet=core_v1.HTTPGetAction(port=port))
        found = await PROBER.run_hook(a_target(), unheard)
        assert (found.ok, "connection refused" in found.message) == (False, True)


@contextlib.asynccontextmanager
async def a_health_service(slow_s: float = 0.0) -> AsyncIterator[int]:
    """grpc.health.v1.Health as another implementation would serve it: "" serves, "down" does not."""

    async def check(request: StringValue, context: Any) -> Int32Value:
        await asyncio.sleep(slow_s)
        if request.value == "unknown":
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return Int32Value(value=2 if request.value == "down" else 1)

    handler = grpc.unary_unary_rpc_method_handler(
        check, request_deserializer=StringValue.FromString, response_serializer=Int32Value.SerializeToString
    )
    server = grpc.aio.server()
    if slow_s >= 0:
        service = grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": handler})
        server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port(f"{HERE}:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


async def test_grpc_health() -> None:
    async with a_health_service() as port:
        assert await ask(port, "grpc") == Outcome(True)
        assert await ask(port, "grpc", service="down") == Outcome(
            False, 'service unhealthy (responded with "NOT_SERVING")'
        )
        assert (await ask(port, "grpc", service="unknown")).message == "error: health rpc probe failed: unknown service"
    async with a_health_service(slow_s=300.0) as port:
        assert await ask(port, "grpc", timeout_s=1) == Outcome(False, "timeout: health rpc did not complete within 1s")


async def test_a_server_without_health_says_so() -> None:
    async with a_health_service(slow_s=-1) as port:
        found = await ask(port, "grpc")
        assert found.message.startswith("error: this server does not implement the grpc health protocol")
