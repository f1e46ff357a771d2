"""Joining over real HTTPS, and a worker's heartbeats with the certificate it got."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import grpc.aio
import msgspec
import pytest

from barque.api.errors import ApiError
from barque.client import joining, pki, wire
from barque.client.clock import SystemClock
from barque.client.joining import JOIN_PATH, JoinError
from barque.client.pki import Identity
from barque.client.profile import Profile
from barque.client.remote import connect
from barque.master.apiserver.rest.joining import MAX_BODY_BYTES
from barque.master.apiserver.sessions import Sessions
from barque.master.auth.ca import MasterPki
from barque.master.auth.joining import Joining
from barque.master.auth.tokens import JoinTokens
from barque.proto import sessions_pb2, sessions_pb2_grpc
from tests.support.expecting import expect_soon_async
from tests.support.fake_verbs import FakeVerbs
from tests.support.ports import free_port
from tests.support.rest import joining_door, served
from tests.support.wild_input import BODIES


class Port:
    """One master's HTTPS and gRPC doors, with a cluster in memory behind them."""

    def __init__(self, directory: Path, silence_s: float = 60.0) -> None:
        self.clock = SystemClock()
        self.pki = MasterPki.open(directory, "m1", ["127.0.0.1"], self.clock.wall(), "lab")
        self.tokens = JoinTokens(FakeVerbs(self.clock).client, self.clock)
        self.sessions = Sessions(self.clock, interval_s=0.5, silence_s=silence_s)
        self.fault = ""
        self.server = grpc.aio.server(options=wire.SERVER_OPTIONS)
        self._open = contextlib.AsyncExitStack()
        self.https_port = 0
        self.grpc_port = 0

    async def open(self) -> None:
        sessions_pb2_grpc.add_SessionsServicer_to_server(self.sessions, self.server)
        self.grpc_port = self.server.add_secure_port("127.0.0.1:0", self.pki.master.server_credentials())
        await self.server.start()
        masters = [f"127.0.0.1:{self.grpc_port}"]
        joins = Joining(self.pki, self.tokens, self.sessions.connected, self.clock, lambda: masters)
        door = joining_door(self.pki.ca_pem, joins.join, fault=lambda: self.fault)
        self.https_port = await self._open.enter_async_context(served(door, self.pki.master.server_context()))

    async def close(self) -> None:
        await self._open.aclose()
        await self.server.stop(None)

    async def join(self, node: str = "n1", **changed: str) -> joining.Joined:
        token = changed.get("token") or (await self.tokens.create()).token
        return await joining.join(f"127.0.0.1:{self.https_port}", token, changed.get("pin", self.pki.pin), node)

    async def request(self, method: str, path: str, **options: Any) -> tuple[int, str]:
        context = pki.trust(self.pki.ca_pem)
        async with (
            aiohttp.ClientSession(f"https://127.0.0.1:{self.https_port}") as session,
            session.request(method, path, ssl=context, server_hostname="localhost", **options) as answer,
        ):
            return answer.status, await answer.text()


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[Port]:
    port = Port(tmp_path / "pki")
    await port.open()
    try:
        yield port
    finally:
        await port.close()


async def refusal(work: Any) -> str:
    with pytest.raises(JoinError) as refused:
        await work
    message = str(refused.value)
    assert "\n" not in message
    return message


async def test_a_worker_joins_and_is_who_it_said(port: Port, tmp_path: Path) -> None:
    joined = await port.join("n1")
    assert joined.identity.subject == pki.node_subject("n1")
    assert (joined.masters, joined.cluster) == ([f"127.0.0.1:{port.grpc_port}"], "lab")
    joined.identity.save(tmp_path / "worker", "worker")
    assert Identity.load(tmp_path / "worker", "worker") == joined.identity


async def test_the_wrong_pin_sends_no_token(port: Port) -> None:
    wrong = "sha256:" + "0" * 64
    message = await refusal(port.join(pin=wrong))
    assert message.startswith(f"the CA of the master at 127.0.0.1:{port.https_port} is {port.pki.pin}, not the pinned")
    assert "wrong --ca-pin" in message


async def test_the_wrong_token_is_one_clear_line(port: Port) -> None:
    message = await refusal(port.join(token="abcdef.0123456789abcdef"))
    assert message == (
        "the master refuses: the join token is wrong or has expired: make a new one with `barque token create`"
    )


async def test_a_bad_name_is_refused_before_anything_is_sent(port: Port) -> None:
    assert "is not a lower-case DNS name" in await refusal(port.join("N_1"))


async def test_nobody_there(port: Port) -> None:
    free = free_port()
    message = await refusal(joining.join(f"127.0.0.1:{free}", "a.b", port.pki.pin, "n1"))
    assert message.startswith(f"cannot reach the master at 127.0.0.1:{free}: connection refused; is the address right")
    assert "is not host:port" in await refusal(joining.join("https://m1/", "a.b", port.pki.pin, "n1"))


async def test_a_server_without_tls_is_named(port: Port) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        plain = server.sockets[0].getsockname()[1]
        message = await refusal(joining.join(f"127.0.0.1:{plain}", "a.b", port.pki.pin, "n1"))
    assert f"the master at 127.0.0.1:{plain}" in message


async def test_somebody_in_between_who_copies_the_ca_gets_no_token(port: Port) -> None:
    """Anyone can serve the CA's certificate; only a master has a certificate of it."""
    asked = []

    async def join(request: Any, _: str) -> Any:
        asked.append(request)

    stranger = pki.create_authority(datetime.datetime.now(datetime.UTC))
    identity = stranger.identity(pki.master_subject("m1"), datetime.datetime.now(datetime.UTC), port.pki.hosts)
    door = joining_door(port.pki.ca_pem, join)
    async with served(door, identity.server_context()) as between:
        message = await refusal(joining.join(f"127.0.0.1:{between}", "a.b", port.pki.pin, "n1"))
    assert "does not speak TLS as a master of this cluster" in message
    assert asked == []


async def test_health_is_text_and_follows_the_store(port: Port) -> None:
    for path in ("/healthz", "/livez", "/readyz"):
        assert await port.request("GET", path) == (200, "ok")
    port.fault = "no leader"
    assert await port.request("GET", "/livez") == (200, "ok")
    text = "[+]ping ok\n[-]store failed: reason withheld\nreadyz check failed\n"
    assert await port.request("GET", "/readyz") == (500, text)


@pytest.mark.parametrize(
    ("method", "path", "options", "code", "reason"),
    [
        ("GET", "/api/v1/pods", {}, 401, "Unauthorized"),
        ("DELETE", "/cacerts", {}, 405, "MethodNotAllowed"),
        ("POST", "/barque/v1/join", {"data": b"{"}, 400, "BadRequest"),
        ("POST", "/barque/v1/join", {"json": {"token": "x"}}, 400, "BadRequest"),
        ("POST", "/barque/v1/join", {"data": b"\xff\xfe"}, 400, "BadRequest"),
        ("POST", "/barque/v1/join", {"data": b"x" * (MAX_BODY_BYTES + 1)}, 413, "RequestEntityTooLarge"),
    ],
)
async def test_bad_requests_get_a_status(
    port: Port, method: str, path: str, options: dict[str, Any], code: int, reason: str
) -> None:
    status, text = await port.request(method, path, **options)
    assert (status, f'"reason":"{reason}"' in text, '"kind":"Status"' in text) == (code, True, True)


async def test_a_taken_port_is_an_os_error(port: Port) -> None:
    second = joining_door(port.pki.ca_pem, lambda *_: None)
    with pytest.raises(OSError, match=r"cannot listen on .*: the port is taken"):
        await second.start(f"127.0.0.1:{port.https_port}", port.pki.master.server_context())


async def beats(node: str, count: int = 1000, gap_s: float = 0.05) -> AsyncIterator[sessions_pb2.Beat]:
    for sequence in range(1, count + 1):
        yield sessions_pb2.Beat(node=node, sequence=sequence)
        await asyncio.sleep(gap_s)


async def drained(call: Any) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


def worker(port: Port, identity: Identity) -> Any:
    return connect(Profile.of([f"127.0.0.1:{port.grpc_port}"], identity))


async def heartbeat_refusal(port: Port, identity: Identity, node: str) -> ApiError:
    async with worker(port, identity) as connection, asyncio.timeout(60):
        while True:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                async for _ in connection.sessions.Heartbeat(beats(node)):
                    pass
            # gRPC's client may take a refusal that comes while it sends for a fault of its own.
            if refused.value.code() is not grpc.StatusCode.INTERNAL:
                return wire.api_error(refused.value)


async def test_heartbeats_are_seen_forgotten_and_end(port: Port) -> None:
    joined = await port.join("n1")
    before = port.clock.monotonic()
    async with worker(port, joined.identity) as connection:
        call = connection.sessions.Heartbeat(beats("n1"))
        reply = await call.read()
        assert (reply.sequence, reply.interval_ms) == (1, 500)
        seen = port.sessions.last_seen("n1")
        assert seen is not None
        assert before <= seen <= port.clock.monotonic()
        assert port.sessions.connected("n1")
        port.sessions.forget_all()
        assert port.sessions.last_seen("n1") is None
        await call.read()
        assert port.sessions.last_seen("n1") is not None
        call.cancel()
        async with asyncio.timeout(60):
            while port.sessions.connected("n1"):
                await asyncio.sleep(0.01)


async def test_nobody_beats_for_another_node(port: Port) -> None:
    joined = await port.join("n1")
    refused = await heartbeat_refusal(port, joined.identity, "n2")
    assert (refused.code, refused.message) == (403, "the certificate is of node 'n1', the beat of 'n2'")
    assert port.sessions.last_seen("n2") is None
    assert (await heartbeat_refusal(port, port.pki.admin, "n1")).code == 403


async def test_a_silent_stream_is_closed(tmp_path: Path) -> None:
    port = Port(tmp_path / "pki", silence_s=1.0)
    await port.open()
    try:
        joined = await port.join("n1")
        async with worker(port, joined.identity) as connection:
            call = connection.sessions.Heartbeat(beats("n1", gap_s=300))
            await call.read()
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call.read()
        assert wire.api_error(refused.value).message == "no heartbeat for 1 s"
        await expect_soon_async(lambda: not port.sessions.connected("n1"), 30, "it is not connected")
    finally:
        await port.close()


async def test_a_newer_stream_takes_over(port: Port) -> None:
    joined = await port.join("n1")
    async with worker(port, joined.identity) as first, worker(port, joined.identity) as second:
        older = first.sessions.Heartbeat(beats("n1", gap_s=0.8))
        await older.read()
        newer = second.sessions.Heartbeat(beats("n1"))
        await newer.read()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await drained(older)
        assert wire.api_error(refused.value).message == "another connection of node 'n1' has taken over"
        await newer.read()
        assert port.sessions.connected("n1")


async def test_a_name_in_use_is_refused_and_a_free_one_may_be_taken_again(port: Port) -> None:
    joined = await port.join("n1")
    async with worker(port, joined.identity) as connection:
        call = connection.sessions.Heartbeat(beats("n1"))
        await call.read()
        assert "a worker named 'n1' is connected" in await refusal(port.join("n1"))
    async with asyncio.timeout(60):
        while port.sessions.connected("n1"):
            await asyncio.sleep(0.01)
    assert (await port.join("n1")).identity.name == "system:node:n1"


async def test_a_certificate_of_another_ca_cannot_connect(port: Port) -> None:
    stranger = pki.create_authority(datetime.datetime.now(datetime.UTC))
    forged = stranger.identity(pki.node_subject("n1"), datetime.datetime.now(datetime.UTC))
    refused = await heartbeat_refusal(port, Identity(forged.cert_pem, forged.key_pem, port.pki.ca_pem), "n1")
    assert refused.code == 503
    assert not port.sessions.connected("n1")


async def test_no_request_is_an_internal_error(port: Port) -> None:
    token, csr = (await port.tokens.create()).token, pki.create_request(pki.node_subject("n1")).csr_pem.decode()
    asked = {"token": token, "csr": csr, "node": "n1"}
    wrong: list[object] = [None, 1, [], {}, "", "\0", "ä", "\udfff", "x" * 500, csr.replace("A", "B"), token[:-1]]
    deep = b'{"x":' + b"[" * 8000
    bodies = [*BODIES, deep, *(json.dumps({**asked, field: value}).encode() for field in asked for value in wrong)]
    for body in bodies:
        status, text = await port.request("POST", JOIN_PATH, data=body)
        assert (status // 100, msgspec.json.decode(text)["kind"]) == (4, "Status"), body[:80]
    for method, path in (("GET", JOIN_PATH), ("POST", "/healthz"), ("PUT", "/"), ("GET", "/../x"), ("GET", "/%00")):
        status, text = await port.request(method, path)
        assert (status // 100, msgspec.json.decode(text)["kind"]) == (4, "Status"), path
