"""The `proxy` subresources: HTTP through a master's door and a worker's node API to pods, services and nodes.

The door is aiohttp's own server around the handler, the worker a real one with a fake runtime, whose pods' network is
this host's; backends are small servers on loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import random
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from barque.api.errors import ApiError
from barque.client.client import Client
from barque.client.clock import SystemClock
from barque.client.pki import create_authority, master_subject, node_host, node_subject
from barque.master.apiserver.node_channels import NodeChannels, dialer
from barque.master.apiserver.rest.call import RestCall
from barque.master.apiserver.rest.proxy import Proxy
from barque.master.apiserver.rest.request_info import request_info
from barque.worker.server import forwarding
from barque.worker.server.door import serve
from barque.worker.server.images import NodeImagesService
from barque.worker.server.readings import About
from barque.worker.server.service import NodeService
from barque.worker.stats.disks import Disks
from barque.worker.stats.gauges import Gauges
from barque.worker.stats.meter import Meter
from tests.support.memory_store import ADMIN, Bench, a_bench
from tests.support.worker_world import a_pod, a_world, in_place

NOW = SystemClock().wall()
AUTHORITY = create_authority(NOW)
PODS, SERVICES, NODES = "/api/v1/namespaces/default/pods", "/api/v1/namespaces/default/services", "/api/v1/nodes"


async def dial_host(netns: str, port: int, address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Stands for the pod's network namespace, where its address is: this one."""
    assert address == "10.244.0.2" or not address
    return await asyncio.open_connection("127.0.0.1", port)


class Backend:
    """An HTTP server that tells what it was asked."""

    def __init__(self) -> None:
        self.port = 0
        self.asked = asyncio.Event()
        self.gone = asyncio.Event()
        self.protocols = ""

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        match request.path:
            case "/moved":
                return web.Response(status=302, headers={"Location": "/there/?a=b", "Set-Cookie": "a=b; Path=/"})
            case "/page":
                return await self._page(request, packed="gzip" in request.headers.get("Accept-Encoding", ""))
            case "/echo":
                return web.Response(body=await request.read(), headers={"X-Kept": "1", "Keep-Alive": "timeout=5"})
            case "/count":
                size = 0
                async for piece in request.content.iter_any():
                    size += len(piece)
                return web.Response(text=str(size))
            case "/forever":
                response = web.StreamResponse()
                await response.prepare(request)
                self.asked.set()
                try:
                    while True:
                        await response.write(b"x" * 65536)
                finally:
                    self.gone.set()
            case "/hang":
                self.asked.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    self.gone.set()
            case "/socket":
                self.protocols = request.headers["Sec-WebSocket-Protocol"]
                socket = web.WebSocketResponse(protocols=("chat",))
                await socket.prepare(request)
                async for message in socket:
                    await socket.send_str(message.data.upper())
                return socket
        headers = [[name, value] for name, value in request.headers.items()]
        return web.json_response({"method": request.method, "path": request.raw_path, "headers": headers})

    async def _page(self, request: web.BaseRequest, *, packed: bool) -> web.StreamResponse:
        page = b'<!DOCTYPE html><link href="/style.css"><a href="there">there</a>'
        sent = gzip.compress(page) if packed else page
        response = web.StreamResponse(headers={"Content-Type": "text/html; charset=utf-8"})
        if packed:
            response.headers["Content-Encoding"] = "gzip"
        response.content_length = len(sent)
        await response.prepare(request)
        await response.write(sent[:30])
        await response.write(sent[30:])
        return response


@contextlib.asynccontextmanager
async def a_server(answer: Any, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    server = web.Server(answer, handler_cancellation=True, access_log=None)
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0, ssl=context)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        await server.shutdown(0.1)


class Site:
    """A master's door, and a node n1 with the pod `p`, which has one backend."""

    def __init__(self, bench: Bench, session: aiohttp.ClientSession, base: str, backend: Backend) -> None:
        self.bench = bench
        self.session = session
        self.base = base
        self.backend = backend
        self.log_dir = Path()

    def ask(self, path: str, method: str = "GET", **options: Any) -> Any:
        return self.session.request(method, f"{self.base}{path}", allow_redirects=False, **options)

    async def told(self, path: str, **options: Any) -> tuple[int, str]:
        async with asyncio.timeout(30), self.ask(path, **options) as response:
            text = await response.text()
            return response.status, json.loads(text)["message"] if '"kind":"Status"' in text else text


@contextlib.asynccontextmanager
async def a_site(tmp_path: Path) -> AsyncIterator[Site]:
    bench, backend = await a_bench(), Backend()
    async with contextlib.AsyncExitStack() as stack:
        world = await stack.enter_async_context(a_world(tmp_path))
        await world.want(a_pod("p"))
        identity = AUTHORITY.identity(node_subject("n1"), NOW, [node_host("n1")])
        meter = Meter(Gauges(world.clock, tmp_path), Disks(world.runtime, world.clock, in_place), world.clock, in_place)
        (tmp_path / "log").mkdir()
        about = About("n1", "127.0.0.1", {"maxPods": 110}, tmp_path / "log")
        service = NodeService(world.manager, world.runtime, meter, world.clock, dial_host, about)
        images = NodeImagesService(world.runtime, lambda _: None)
        worker, port = await serve(service, images, "127.0.0.1:0", identity.server_credentials())
        stack.push_async_callback(worker.stop, None)
        master = AUTHORITY.identity(master_subject("m1"), NOW)
        channels = NodeChannels(dialer(lambda: master), SystemClock())
        stack.push_async_callback(channels.close)
        await describe(bench, port)
        proxy = Proxy(Client(bench.registry.as_user(ADMIN)), channels, random.Random(1))

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            info = request_info(request.method, request.raw_path.partition("?")[0])
            try:
                return await proxy(RestCall(request, info, ADMIN))
            except ApiError as error:
                return web.Response(status=error.code, body=msgspec.json.encode(error.status()))

        door = await stack.enter_async_context(a_server(answer))
        backend.port = await stack.enter_async_context(a_server(backend.answer))
        session = await stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
        site = Site(bench, session, f"http://127.0.0.1:{door}", backend)
        site.log_dir = tmp_path / "log"
        yield site


async def describe(bench: Bench, port: int) -> None:
    """The node and the pod, as the masters know them."""
    addresses = [{"type": "InternalIP", "address": "127.0.0.1"}]
    status = {"addresses": addresses, "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}
    await bench.create("nodes", {"metadata": {"name": "n1"}, "status": status}, "")
    await bench.create("pods", {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}})
    await bench.bind("p", "n1")
    await bench.patch("pods", "p", {"status": {"podIP": "10.244.0.2", "podIPs": [{"ip": "10.244.0.2"}]}}, "status")


async def expose(bench: Bench, port: int, ready: bool = True) -> None:
    ports = [{"name": "http", "port": 80, "targetPort": port}]
    await bench.create("services", {"metadata": {"name": "web"}, "spec": {"selector": {"a": "b"}, "ports": ports}})
    reference = {"kind": "Pod", "namespace": "default", "name": "p"}
    slice_ = {
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": port}],
        "endpoints": [{"addresses": ["10.244.0.2"], "targetRef": reference, "conditions": {"ready": ready}}],
    }
    await bench.create("endpointslices", slice_)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_every_method_reaches_a_pod_with_path_and_query_as_they_came(tmp_path: Path, method: str) -> None:
    async with a_site(tmp_path) as site:
        path = f"{PODS}/p:{site.backend.port}/proxy/a%2Fb/c?x=%20y&x"
        async with site.ask(path, method, headers={"X-Own": "1"}) as response:
            told = await response.json()
    assert (told["method"], told["path"]) == (method, "/a%2Fb/c?x=%20y&x")
    assert ["X-Own", "1"] in told["headers"]


async def test_who_calls_stays_at_the_door(tmp_path: Path) -> None:
    sent = {
        "Authorization": "Bearer secret", "Impersonate-User": "a", "Impersonate-Extra-Scopes": "b",
        "X-Remote-User": "c", "Te": "trailers", "Connection": "keep-alive, X-Hop", "X-Hop": "1",
        "X-Forwarded-For": "1.2.3.4", "Cookie": "a=b",
    }  # fmt: skip
    async with a_site(tmp_path) as site, site.ask(f"{PODS}/p:{site.backend.port}/proxy/x/", headers=sent) as response:
        told = {name.lower(): value for name, value in (await response.json())["headers"]}
    assert not told.keys() & {
        "authorization",
        "impersonate-user",
        "impersonate-extra-scopes",
        "x-remote-user",
        "te",
        "x-hop",
    }
    assert told["cookie"] == "a=b"
    assert told["x-forwarded-for"] == "1.2.3.4, 127.0.0.1"
    assert told["x-forwarded-uri"] == f"{PODS}/p:{site.backend.port}/proxy/x/"
    assert told["host"] == site.base.removeprefix("http://")


async def test_bodies_go_both_ways_whole(tmp_path: Path) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b"y" * 65536

    async with a_site(tmp_path) as site:
        at = f"{PODS}/p:{site.backend.port}/proxy"
        body = random.Random(2).randbytes(300_000)
        async with site.ask(f"{at}/echo", "POST", data=body) as response:
            assert await response.read() == body
            assert (response.headers["X-Kept"], response.headers.get("Keep-Alive")) == ("1", None)
        assert await site.told(f"{at}/count", method="POST", data=pieces()) == (200, str(64 * 65536))
        async with site.ask(f"{at}/echo", "HEAD") as response:
            assert (response.status, await response.read()) == (200, b"")


async def test_an_empty_path_is_sent_on_to_one_with_a_slash(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site, site.ask(f"{PODS}/p:{site.backend.port}/proxy?a=b") as response:
        assert response.status == 301
        assert response.headers["Location"] == f"{PODS}/p:{site.backend.port}/proxy/?a=b"


async def test_redirects_come_back_through_the_proxy(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site, site.ask(f"{PODS}/p:{site.backend.port}/proxy/moved") as response:
        assert response.status == 302
        assert response.headers["Location"] == f"{PODS}/p:{site.backend.port}/proxy/there/?a=b"
        assert response.headers["Set-Cookie"] == "a=b; Path=/"


@pytest.mark.parametrize("packed", [False, True])
async def test_links_of_a_page_come_back_through_the_proxy(tmp_path: Path, packed: bool) -> None:
    headers = {"Accept-Encoding": "gzip" if packed else "identity"}
    async with a_site(tmp_path) as site:
        at = f"{PODS}/p:{site.backend.port}/proxy"
        page = f'<!DOCTYPE html><link href="{at}/style.css"><a href="there">there</a>'
        async with site.ask(f"{at}/page", headers=headers) as response:
            assert (response.headers.get("Content-Encoding") == "gzip") is packed
            body = await response.read()
            assert (gzip.decompress(body) if packed else body).decode() == page
        async with site.ask(f"{at}/page", method="HEAD", headers=headers) as response:
            assert (response.status, await response.read()) == (200, b"")


async def test_a_service_is_asked_by_port_name_or_number(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        await expose(site.bench, site.backend.port)
        for name in ("web:http", "web:80", "http:web:80"):
            assert (await site.told(f"{SERVICES}/{name}/proxy/x"))[0] == 200
        assert await site.told(f"{SERVICES}/web:81/proxy/") == (503, 'no service port 81 found for service "web"')
        assert await site.told(f"{SERVICES}/web:other/proxy/") == (
            503,
            'no endpoints available for service "web:other"',
        )
        assert await site.told(f"{SERVICES}/none:http/proxy/") == (404, 'services "none" not found')


async def test_a_service_without_a_ready_pod_is_unavailable(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        await expose(site.bench, site.backend.port, ready=False)
        said = 'no endpoints available for service "web:http"'
        assert await site.told(f"{SERVICES}/web:http/proxy/") == (503, said)


async def test_nobody_at_the_port_is_said_in_kubernetes_words(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        said = "dial tcp 10.244.0.2:1: connect: connection refused"
        assert await site.told(f"{PODS}/p:1/proxy/") == (503, f"error trying to reach service: {said}")
        upgrade = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1"}
        assert await site.told(f"{PODS}/p:1/proxy/", headers=upgrade) == (500, f"error dialing backend: {said}")
        assert await site.told(f"{PODS}/ftp:p:1/proxy/") == (400, 'invalid pod request "ftp:p:1"')
        assert await site.told(f"{PODS}/none:1/proxy/") == (404, 'pods "none" not found')


async def test_what_is_no_http_is_said(tmp_path: Path) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail ready\r\n\r\n")
        # A connection that is closed with something unread in it is reset.
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with a_site(tmp_path) as site, server:
        code, said = await site.told(f"{PODS}/p:{port}/proxy/")
    assert code == 503
    assert said.startswith("error trying to reach service: malformed HTTP response")


async def test_a_caller_that_leaves_ends_the_backend(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:

        async def ask(path: str) -> None:
            async with site.ask(f"{PODS}/p:{site.backend.port}/proxy/{path}") as response:
                await response.content.readexactly(100_000)

        for path in ("forever", "hang"):
            site.backend.asked, site.backend.gone = asyncio.Event(), asyncio.Event()
            asking = asyncio.create_task(ask(path))
            async with asyncio.timeout(30):
                await site.backend.asked.wait()
                if path == "forever":
                    await asking
                asking.cancel()
                await site.backend.gone.wait()
            assert asking.done()


async def test_websockets_pass_without_the_token_among_their_protocols(tmp_path: Path) -> None:
    protocols = ("base64url.bearer.authorization.k8s.io.c2VjcmV0", "chat")
    async with a_site(tmp_path) as site, asyncio.timeout(30):
        url = f"{site.base}{PODS}/p:{site.backend.port}/proxy/socket"
        async with site.session.ws_connect(url, protocols=protocols) as socket:
            for word in ("one", "two" * 50_000):
                await socket.send_str(word)
                assert await socket.receive_str() == word.upper()
            assert (socket.protocol, site.backend.protocols) == ("chat", "chat")


async def test_any_other_upgrade_becomes_a_tunnel(tmp_path: Path) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Upgrade: raw/1\r\n" in head
        assert b"Connection: Upgrade\r\n" in head
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw/1\r\n\r\nfirst")
        writer.write((await reader.readexactly(4)).upper())
        await writer.drain()
        ended.set_result(await reader.read())
        writer.close()

    ended: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with a_site(tmp_path) as site, server, asyncio.timeout(30):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(site.base.rpartition(":")[2]))
        head = f"GET {PODS}/p:{port}/proxy/up HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: raw/1\r\n\r\n"
        writer.write(head.encode())
        answered = await reader.readuntil(b"\r\n\r\n")
        assert answered == b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw/1\r\n\r\n"
        writer.write(b"ping")
        assert await reader.readexactly(9) == b"firstPING"
        writer.close()
        assert await ended == b""


async def test_https_backends_are_asked_whoever_they_are(tmp_path: Path) -> None:
    identity = AUTHORITY.identity(node_subject("x"), NOW, ["x"])
    (tmp_path / "cert").write_bytes(identity.cert_pem)
    (tmp_path / "key").write_bytes(identity.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    backend = Backend()
    async with a_site(tmp_path) as site, a_server(backend.answer, context) as port:
        body = random.Random(3).randbytes(200_000)
        async with site.ask(f"{PODS}/https:p:{port}/proxy/echo", "POST", data=body) as response:
            assert await response.read() == body
        code, said = await site.told(f"{PODS}/https:p:{site.backend.port}/proxy/")
        assert code == 503
        assert said.startswith("error trying to reach service: ")


async def test_a_port_of_the_node_itself(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        code, said = await site.told(f"{NODES}/n1:{site.backend.port}/proxy/x")
        assert (code, json.loads(said)["path"]) == (200, "/x")
        said = "error trying to reach service: dial tcp 127.0.0.1:1: connect: connection refused"
        assert await site.told(f"{NODES}/n1:1/proxy/x") == (503, said)


async def test_what_listens_on_the_loopback_of_a_node_is_not_reached() -> None:
    backend = Backend()
    async with a_server(backend.answer) as port:
        (await forwarding.dial_node("127.0.0.1", port))[1].close()
        with pytest.raises(ConnectionRefusedError):
            await forwarding.dial_node("127.0.0.2", port)


async def test_a_node_tells_what_a_kubelet_does(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        at = f"{NODES}/n1/proxy"
        assert await site.told(f"{at}/healthz") == (200, "ok")
        pods = json.loads((await site.told(f"{at}/pods"))[1])
        assert (pods["kind"], [pod["metadata"]["name"] for pod in pods["items"]]) == ("PodList", ["p"])
        summary = json.loads((await site.told(f"{at}/stats/summary"))[1])
        assert (summary["node"]["nodeName"], summary["pods"][0]["podRef"]["name"]) == ("n1", "p")
        assert json.loads((await site.told(f"{at}/configz"))[1]) == {"kubeletconfig": {"maxPods": 110}}
        for path, line in (
            ("metrics", 'kubelet_node_name{node="n1"} 1'),
            ("metrics/resource", "# TYPE node_cpu_usage_seconds_total counter"),
            ("metrics/cadvisor", "# TYPE machine_memory_bytes gauge"),
        ):
            assert line in (await site.told(f"{at}/{path}"))[1].splitlines()
        log = await site.told(f"{at}/containerLogs/default/p/web?tailLines=1")
        assert log == (200, "log of barque_web_p_default_uid-p_0\n")
        assert (await site.told(f"{at}/containerLogs/default/none/web"))[0] == 404
        assert await site.told(f"{at}/run/default/p/web") == (404, "404 page not found\n")
        assert (await site.told(f"{at}/healthz", method="POST"))[0] == 405


async def test_log_files_of_a_node_and_no_others(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        (site.log_dir / "a<b").write_text("x")
        (site.log_dir / "syslog").write_text("line\n")
        (tmp_path / "secret").write_text("no")
        (site.log_dir / "out").symlink_to(tmp_path / "secret")
        listed = '<pre>\n<a href="a%3Cb">a&lt;b</a>\n<a href="out">out</a>\n<a href="syslog">syslog</a>\n</pre>\n'
        assert await site.told(f"{NODES}/n1/proxy/logs/") == (200, listed)
        assert await site.told(f"{NODES}/n1/proxy/logs/syslog") == (200, "line\n")
        for path in ("out", "%2e%2e/secret", "..%2fsecret", "%00"):
            assert (await site.told(f"{NODES}/n1/proxy/logs/{path}"))[0] == 404
