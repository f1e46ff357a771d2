"""Streams into pods at the REST door, by every protocol of Kubernetes' clients, against a worker's node API."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from kubernetes import client as official
from kubernetes.stream import portforward, stream

from barque.master.apiserver.grpc_calls import Bounds
from barque.master.apiserver.streams import idle, spdy_processes
from barque.master.apiserver.streams import spdy_frames as spdy
from barque.master.apiserver.streams.channels import V1, V1_BASE64, V4, V4_BASE64, V5
from barque.master.apiserver.streams.service import PodStreams
from barque.master.apiserver.streams.spdy_forwarding import PROTOCOL as FORWARD
from barque.master.apiserver.streams.spdy_forwarding import TUNNEL_PROTOCOL
from tests.support.clock import FakeClock
from tests.support.expecting import expect_soon_async
from tests.support.spdy_client import SpdyClient, UpgradedClient, break_off, upgrade
from tests.support.stream_door import StreamDoor

pytestmark = pytest.mark.asyncio(loop_scope="module")

SPDY_EXEC = ("v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io")
# What sockets and HTTP/2's windows hold, and no more: gRPC widens these where answers take long.
HELD_BYTES = 64 * 1024 * 1024
STATUS_7 = {"reason": "NonZeroExitCode", "details": {"causes": [{"reason": "ExitCode", "message": "7"}]}}


async def until(holds: Callable[[], object]) -> None:
    await expect_soon_async(holds, 30, "what the test waits for")


async def still(count: Callable[[], int]) -> int:
    """What a counter stands at once it no longer grows."""
    before = -1
    async with asyncio.timeout(30):
        while not before or before != count():
            before = count()
            await asyncio.sleep(0.2)
    return before


def no_streams_left(door: StreamDoor) -> bool:
    return not door.bounds._running


async def messages(socket: aiohttp.ClientWebSocketResponse) -> list[bytes]:
    """All that comes until the server closes."""
    return [m.data if isinstance(m.data, bytes) else m.data.encode() async for m in socket]


def by_channel(said: list[bytes]) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for message in said:
        found[message[0]] = found.get(message[0], b"") + message[1:]
    return found


def path(pod: str, subresource: str, query: str) -> str:
    return f"/api/v1/namespaces/default/pods/{pod}/{subresource}?{query}"


# Exec and attach by WebSocket.


@pytest.mark.parametrize("protocol", [V5, V4])
async def test_a_command_by_websocket(door: StreamDoor, http: aiohttp.ClientSession, protocol: str) -> None:
    url = door.url("web", "exec", "command=both&command=-l&container=b&stdout=1&stderr=1")
    async with http.ws_connect(url, protocols=[protocol]) as socket:
        said = await messages(socket)
    assert socket.protocol == protocol
    # The first message says that it may begin.
    assert said[0] == b"\x01"
    assert by_channel(said).keys() == {1, 2, 3}
    assert (by_channel(said)[1], by_channel(said)[2]) == (b"out\n", b"err\n")
    assert json.loads(by_channel(said)[3])["status"] == "Success"
    start = door.worker.asked[0].start
    assert (start.namespace, start.pod, start.container, list(start.command)) == ("default", "web", "b", ["both", "-l"])
    assert socket.close_code == 1000
    await until(lambda: no_streams_left(door))


@pytest.mark.parametrize("protocol", [V5, V4])
async def test_how_a_command_failed(door: StreamDoor, http: aiohttp.ClientSession, protocol: str) -> None:
    url = door.url("alone", "exec", "command=exit&command=7&stdout=1")
    async with http.ws_connect(url, protocols=[protocol]) as socket:
        status = json.loads(by_channel(await messages(socket))[3])
    assert {name: status[name] for name in STATUS_7} == STATUS_7
    assert status["message"].startswith("command terminated with non-zero exit code")


async def test_only_what_was_asked_for_is_sent(door: StreamDoor, http: aiohttp.ClientSession) -> None:
    async with http.ws_connect(door.url("alone", "exec", "command=both&stderr=1"), protocols=[V4]) as socket:
        said = await messages(socket)
    assert said[0] == b"\x02"
    assert by_channel(said).keys() == {2, 3}


async def test_input_sizes_and_the_end_of_the_input(door: StreamDoor, http: aiohttp.ClientSession) -> None:
    url = door.url("alone", "exec", "command=cat&stdin=1&stdout=1&tty=1")
    async with http.ws_connect(url, protocols=[V5]) as socket:
        assert await socket.receive_bytes() == b"\x01"
        await socket.send_bytes(b'\x04{"Width":100,"Height":40}')
        assert await socket.receive_bytes() == b"\x01100x40\n"
        await socket.send_bytes(b"\x00abc")
        assert await socket.receive_bytes() == b"\x01abc"
        await socket.send_bytes(b"\x09nothing")
        await socket.send_bytes(b"\xff\x00")
        assert json.loads(by_channel(await messages(socket))[3])["status"] == "Success"
    assert door.worker.asked[0].start.tty


async def test_before_v5_no_message_ends_the_input(door: StreamDoor, http: aiohttp.ClientSession) -> None:
    url = door.url("alone", "exec", "command=cat&stdin=1&stdout=1")
    async with http.ws_connect(url, protocols=[V4]) as socket:
        await socket.send_bytes(b"\xff\x00")
        await socket.send_bytes(b"\x00abc")
        assert [await socket.receive_bytes(), await socket.receive_bytes()] == [b"\x01", b"\x01abc"]
    await asyncio.wait_for(door.worker.ended.wait(), 30)


@pytest.mark.parametrize("protocol", [V1, ""])
async def test_the_oldest_protocol_tells_failures_in_words(
    door: StreamDoor, http: aiohttp.ClientSession, protocol: str
) -> None:
    for command, words in (("exit&command=7", b"command terminated with non-zero exit code"), ("both", b"")):
        url = door.url("alone", "exec", f"command={command}&stdout=1")
        async with http.ws_connect(url, protocols=[protocol] if protocol else []) as socket:
            assert by_channel(await messages(socket)).get(3, b"").startswith(words)


@pytest.mark.parametrize("protocol", [V1_BASE64, V4_BASE64])
async def test_commands_in_base64(door: StreamDoor, http: aiohttp.ClientSession, protocol: str) -> None:
    url = door.url("alone", "exec", "command=cat&stdin=1&stdout=1")
    async with http.ws_connect(url, protocols=[protocol]) as socket:
        assert await socket.receive_str() == "1"
        await socket.send_str("0" + base64.b64encode(b"\x00bytes\xff").decode())
        assert await socket.receive_str() == "1" + base64.b64encode(b"\x00bytes\xff").decode()
        await socket.send_str("0?")
        assert await messages(socket) == []


async def test_attach_by_websocket(door: StreamDoor, http: aiohttp.ClientSession) -> None:
    url = door.url("alone", "attach", "stdin=1&stdout=1&command=both")
    async with http.ws_connect(url, protocols=[V5]) as socket:
        await socket.send_bytes(b"\x00hi")
        assert [await socket.receive_bytes(), await socket.receive_bytes()] == [b"\x01", b"\x01hi"]
    assert list(door.worker.asked[0].start.command) == []


async def test_what_the_worker_refuses_is_told_on_the_error_channel(
    door: StreamDoor, http: aiohttp.ClientSession
) -> None:
    async with http.ws_connect(door.url("alone", "exec", "command=refuse&stdout=1"), protocols=[V5]) as socket:
        status = json.loads(by_channel(await messages(socket))[3])
    assert (status["status"], status["message"]) == ("Failure", 'container not found ("main")')


async def test_a_client_that_goes_away_lets_go(door: StreamDoor, http: aiohttp.ClientSession) -> None:
    socket = await http.ws_connect(door.url("alone", "exec", "command=cat&stdin=1&stdout=1"), protocols=[V5])
    assert await socket.receive_bytes() == b"\x01"
    await until(lambda: door.worker.asked)
    break_off(socket._response.connection.transport)  # type: ignore[union-attr]
    await asyncio.wait_for(door.worker.ended.wait(), 30)
    await until(lambda: no_streams_left(door))


async def test_a_client_that_reads_slowly_slows_the_command(door: StreamDoor, http: aiohttp.ClientSession) -> None:
    url = door.url("alone", "exec", "command=flood&stdout=1")
    async with http.ws_connect(url, protocols=[V5], max_msg_size=0) as socket:
        assert await socket.receive_bytes() == b"\x01"
        assert await still(lambda: door.worker.sent) * 65536 < HELD_BYTES
        before = door.worker.sent
        for _ in range(600):
            await socket.receive_bytes()
        assert await still(lambda: door.worker.sent) > before


async def test_a_command_that_reads_nothing_slows_the_client(door: StreamDoor, http: aiohttp.ClientSession) -> None:
    sent = 0
    async with http.ws_connect(door.url("alone", "exec", "command=deaf&stdin=1&stdout=1"), protocols=[V5]) as socket:

        async def flood() -> None:
            nonlocal sent
            while True:
                await socket.send_bytes(b"\x00" + b"x" * 65535)
                sent += 1

        flooding = asyncio.create_task(flood())
        assert await still(lambda: sent) * 65536 < HELD_BYTES
        flooding.cancel()
        await asyncio.gather(flooding, return_exceptions=True)
        break_off(socket._response.connection.transport)  # type: ignore[union-attr]
    # Nothing is read from it, and still it is noticed.
    await asyncio.wait_for(door.worker.ended.wait(), 30)
    await until(lambda: no_streams_left(door))


async def test_a_stream_without_a_sign_of_life_ends(door: StreamDoor, http: aiohttp.ClientSession) -> None:
    clock = FakeClock()
    assert idle.IDLE_S == 4 * 3600
    door.streams = PodStreams(door.places, door.bounds, clock, idle_s=5.0)
    async with http.ws_connect(door.url("alone", "exec", "command=cat&stdin=1&stdout=1"), protocols=[V5]) as socket:
        assert await socket.receive_bytes() == b"\x01"
        await until(lambda: door.worker.asked)
        reading = asyncio.create_task(messages(socket))

        async def over() -> bool:
            await clock.advance(5)
            return reading.done()

        await expect_soon_async(over, 30, "the stream is given up")
        assert await reading == []
    await asyncio.wait_for(door.worker.ended.wait(), 30)


# Refusals before the upgrade.


@pytest.mark.parametrize(
    ("pod", "query", "protocols", "code", "message"),
    [
        ("gone", "command=ls&stdout=1", [V5], 404, 'pods "gone" not found'),
        ("homeless", "command=ls&stdout=1", [V5], 400, "pod homeless does not have a host assigned"),
        (
            "web", "command=ls&stdout=1", [V5], 400,
            "a container name must be specified for pod web, choose one of: [a b]",
        ),
        ("web", "command=ls&stdout=1&container=x", [V5], 400, "container x is not valid for pod web"),
        ("alone", "command=ls", [V5], 400, "you must specify at least 1 of stdin, stdout, stderr"),
        ("alone", "stdout=1", [V5], 400, "you must specify at least one command for the container"),
        (
            "alone", "command=ls&stdout=1", ["v9.channel.k8s.io"], 403,
            "unable to upgrade: unable to negotiate protocol: client supports [v9.channel.k8s.io], server accepts "
            "[v5.channel.k8s.io v4.channel.k8s.io v4.base64.channel.k8s.io channel.k8s.io base64.channel.k8s.io]",
        ),
    ],
)  # fmt: skip
async def test_refusals_come_as_a_status(
    door: StreamDoor, http: aiohttp.ClientSession, pod: str, query: str, protocols: list[str], code: int, message: str
) -> None:
    headers = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(b"0" * 16).decode(), "Sec-WebSocket-Protocol": ", ".join(protocols),
    }  # fmt: skip
    async with http.get(door.url(pod, "exec", query), headers=headers) as answer:
        assert (answer.status, (await answer.json())["message"]) == (code, message)
    assert no_streams_left(door)


async def test_an_upgrade_is_required(door: StreamDoor, http: aiohttp.ClientSession) -> None:
    for subresource in ("exec", "attach", "portforward"):
        async with http.post(door.url("alone", subresource, "command=ls&stdout=1")) as answer:
            assert (answer.status, (await answer.json())["message"]) == (400, "Upgrade request required")


async def test_a_broken_handshake_is_refused(door: StreamDoor, http: aiohttp.ClientSession) -> None:
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "x"}
    async with http.get(door.url("alone", "exec", "command=ls&stdout=1"), headers=headers) as answer:
        assert (answer.status, (await answer.json())["reason"]) == (400, "BadRequest")


async def test_a_user_has_so_many_streams(door: StreamDoor, http: aiohttp.ClientSession) -> None:
    door.streams = PodStreams(door.places, Bounds(max_streams=1), door.clock)
    async with http.ws_connect(door.url("alone", "exec", "command=cat&stdin=1&stdout=1"), protocols=[V5]) as socket:
        assert await socket.receive_bytes() == b"\x01"
        async with http.get(door.url("alone", "log")) as answer:
            assert (answer.status, (await answer.json())["reason"]) == (429, "TooManyRequests")


# Exec and attach by SPDY.


async def spdy_exec(
    door: StreamDoor, query: str, *kinds: str, protocols: tuple[str, ...] = SPDY_EXEC, windows: bool = False
) -> tuple[UpgradedClient, dict[str, int]]:
    client = await upgrade(door.port, path("alone", "exec", query), *protocols, windows=windows)
    assert client.head.startswith("HTTP/1.1 101 Switching Protocols\r\n"), client.head
    return client, {kind: await client.open(streamType=kind) for kind in kinds}


def error_of(client: UpgradedClient, streams: dict[str, int]) -> Any:
    return json.loads(client.received[streams["error"]])


async def test_a_command_by_spdy(door: StreamDoor) -> None:
    client, streams = await spdy_exec(door, "command=both&stdout=1&stderr=1", "error", "stdout", "stderr")
    await client.read(lambda: client.frames and isinstance(client.frames[-1], spdy.GoAway))
    assert "X-Stream-Protocol-Version: v4.channel.k8s.io\r\n" in client.head
    assert "Upgrade: SPDY/3.1\r\n" in client.head
    assert client.received[streams["stdout"]] == b"out\n"
    assert client.received[streams["stderr"]] == b"err\n"
    assert error_of(client, streams)["status"] == "Success"
    assert client.ended == set(streams.values())
    assert client.frames[-1] == spdy.GoAway(5)
    client.close()
    await until(lambda: no_streams_left(door))


async def test_input_by_spdy_and_its_end(door: StreamDoor) -> None:
    query = "command=cat&stdin=1&stdout=1&tty=1"
    client, streams = await spdy_exec(door, query, "error", "stdin", "stdout", "resize")
    await client.send(spdy.Data(streams["resize"], b'{"Width":90,"Height":30}\n'))
    await client.read(lambda: client.received.get(streams["stdout"]) == b"90x30\n")
    sent = b"0123456789" * 50_000
    for at in range(0, len(sent), 32768):
        await client.send(spdy.Data(streams["stdin"], sent[at : at + 32768]))
    await client.send(spdy.Data(streams["stdin"], b"", fin=True))
    await client.send(spdy.Ping(1))
    await client.read(lambda: streams["error"] in client.ended)
    assert client.received[streams["stdout"]] == b"90x30\n" + sent
    assert error_of(client, streams)["status"] == "Success"
    assert spdy.Ping(1) in client.frames
    client.close()


@pytest.mark.parametrize(("version", "as_json"), [("v4.", True), ("v3.", False), ("v2.", False), ("", False)])
async def test_older_versions_tell_failures_in_words(door: StreamDoor, version: str, as_json: bool) -> None:
    protocol = f"{version}channel.k8s.io"
    client, streams = await spdy_exec(
        door, "command=exit&command=7&stdout=1", "error", "stdout", protocols=("v9.x", protocol)
    )
    assert f"X-Stream-Protocol-Version: {protocol}\r\n" in client.head
    await client.read(lambda: streams["error"] in client.ended)
    said = client.received[streams["error"]]
    assert (said[:1] == b"{") is as_json
    assert b"command terminated with non-zero exit code: command terminated with exit code 7" in said
    client.close()


async def test_a_terminal_of_v2_has_no_sizes(door: StreamDoor) -> None:
    client, streams = await spdy_exec(
        door, "command=both&stdout=1&tty=1", "error", "stdout", protocols=("v2.channel.k8s.io",)
    )
    await client.read(lambda: streams["error"] in client.ended)
    assert client.received[streams["stdout"]] == b"out\n"
    client.close()


async def test_streams_that_nobody_asked_for_are_refused(door: StreamDoor) -> None:
    client, _ = await spdy_exec(door, "command=cat&stdin=1&stdout=1", "stdout", "stdout", "stderr", "x")
    await client.read(lambda: len(client.frames) == 4)
    resets = [frame.stream for frame in client.frames if isinstance(frame, spdy.RstStream)]
    assert resets == [3, 5, 7]
    client.close()


async def test_streams_that_do_not_come_are_not_waited_for(door: StreamDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spdy_processes, "STREAMS_TIMEOUT_S", 0.05)
    client, _ = await spdy_exec(door, "command=cat&stdin=1&stdout=1", "error")
    await client.read_to_end()
    assert door.worker.asked == []
    await until(lambda: no_streams_left(door))


@pytest.mark.parametrize("windows", [False, True])
async def test_much_output_by_spdy(door: StreamDoor, windows: bool) -> None:
    client, streams = await spdy_exec(door, "command=flood&command=40&stdout=1", "error", "stdout", windows=windows)
    await client.read(lambda: streams["error"] in client.ended and streams["stdout"] in client.ended)
    assert len(client.received[streams["stdout"]]) == 40 * 65536
    client.close()


async def test_a_slow_spdy_client_slows_the_command(door: StreamDoor) -> None:
    client, _ = await spdy_exec(door, "command=flood&stdout=1", "error", "stdout")
    assert await still(lambda: door.worker.sent) * 65536 < HELD_BYTES
    client.close()
    await asyncio.wait_for(door.worker.ended.wait(), 30)


async def test_a_command_that_reads_nothing_slows_a_spdy_client(door: StreamDoor) -> None:
    client, streams = await spdy_exec(door, "command=deaf&stdin=1&stdout=1", "error", "stdin", "stdout")
    sent = 0

    async def flood() -> None:
        nonlocal sent
        while True:
            await client.send(spdy.Data(streams["stdin"], b"x" * 65536))
            sent += 1

    flooding = asyncio.create_task(flood())
    assert await still(lambda: sent) * 65536 < HELD_BYTES
    flooding.cancel()
    await asyncio.gather(flooding, return_exceptions=True)
    client.close()
    await until(lambda: no_streams_left(door))


async def test_bytes_that_are_no_spdy_end_the_connection(door: StreamDoor) -> None:
    client, _ = await spdy_exec(door, "command=cat&stdin=1&stdout=1")
    await client._write(b"\xff" * 100)
    await client.read_to_end()
    assert client.frames == [spdy.GoAway(0, spdy.GOAWAY_PROTOCOL_ERROR)]


@pytest.mark.parametrize(
    ("protocols", "code", "words"),
    [
        ((), 400, "unable to upgrade: X-Stream-Protocol-Version is required"),
        (("v9.x",), 403, "unable to upgrade: unable to negotiate protocol: client supports [v9.x], server accepts"),
    ],
)
async def test_spdy_is_refused_as_a_status(
    door: StreamDoor, http: aiohttp.ClientSession, protocols: tuple[str, ...], code: int, words: str
) -> None:
    for subresource in ("exec", "portforward"):
        client = await upgrade(door.port, path("alone", subresource, "command=ls&stdout=1"), *protocols)
        assert client.head.startswith(f"HTTP/1.1 {code} ")
        body = await client._read_some()
        assert json.loads(body)["message"].startswith(words)
        client.close()


# Port-forward.


async def raw_forward(door: StreamDoor) -> SpdyClient:
    client = await upgrade(door.port, path("alone", "portforward", ""), FORWARD)
    assert f"X-Stream-Protocol-Version: {FORWARD}\r\n" in client.head
    return client


async def pair(client: SpdyClient, port: int | str, number: str = "") -> tuple[int, int]:
    """A forwarded connection: its error stream and its data stream."""
    shared = {"port": str(port)} | ({"requestID": number} if number else {})
    return await client.open(streamType="error", **shared), await client.open(streamType="data", **shared)


async def use_forward(client: SpdyClient) -> None:
    """Several connections at once, one that ends by itself, one that is refused."""
    pairs = [await pair(client, 80, str(number)) for number in range(5)]
    for number, (error, data) in enumerate(pairs):
        await client.send(spdy.Data(error, b"", fin=True))
        await client.send(spdy.Data(data, b"ship %d" % number))
        await client.send(spdy.Data(data, b"", fin=True))
    hello, hello_data = await pair(client, 82)
    refused, refused_data = await pair(client, 81, "r")
    everything = {stream for both in pairs for stream in both} | {hello, hello_data, refused, refused_data}
    await client.read(lambda: everything <= client.ended)
    assert [client.received[data] for _, data in pairs] == [b"SHIP %d" % number for number in range(5)]
    assert {client.received.get(error) for error, _ in pairs} == {b""}
    assert (client.received[hello_data], client.received[hello]) == (b"hello", b"")
    assert client.received[refused] == b"error forwarding port 81 to pod alone: connection refused"


async def test_port_forward_by_spdy(door: StreamDoor) -> None:
    client = await raw_forward(door)
    await use_forward(client)
    client.close()  # type: ignore[attr-defined]
    await until(lambda: no_streams_left(door))
    assert not door.unexpected


async def test_port_forward_in_a_tunnel(door: StreamDoor, http: aiohttp.ClientSession) -> None:
    async with http.ws_connect(door.url("alone", "portforward"), protocols=[TUNNEL_PROTOCOL]) as socket:
        assert socket.protocol == TUNNEL_PROTOCOL

        async def receive() -> bytes:
            message = await socket.receive()
            return message.data if message.type is aiohttp.WSMsgType.BINARY else b""

        await use_forward(SpdyClient(socket.send_bytes, receive))
    await until(lambda: no_streams_left(door))


async def test_streams_that_make_no_pair_are_refused(door: StreamDoor) -> None:
    client = await raw_forward(door)
    wrong: list[dict[str, str]] = [
        {"streamType": "data"}, {"streamType": "data", "port": "0"}, {"streamType": "x", "port": "80"},
        {"streamType": "data", "port": "65536"}, {"port": "80"},
    ]  # fmt: skip
    for headers in wrong:
        await client.open(**headers)
    error = await client.open(streamType="error", port="80", requestID="1")
    again = await client.open(streamType="error", port="80", requestID="1")
    await client.read(lambda: again in client.ended)
    assert client.ended == {1, 3, 5, 7, 9, again}
    assert spdy.SynReply(error, {}) in client.frames
    client.close()  # type: ignore[attr-defined]


async def test_a_forwarded_connection_that_is_broken_off_is_let_go(door: StreamDoor) -> None:
    client = await raw_forward(door)
    error, data = await pair(client, 80, "1")
    await client.send(spdy.Data(data, b"x"))
    await client.read(lambda: client.received.get(data))
    await client.send(spdy.RstStream(data, spdy.CANCEL))
    await client.read(lambda: error in client.ended)
    assert client.received[error] == b""
    await asyncio.wait_for(door.worker.ended.wait(), 30)
    # The others go on.
    _, other = await pair(client, 80, "2")
    await client.send(spdy.Data(other, b"y"))
    await client.read(lambda: client.received.get(other) == b"Y")
    client.close()  # type: ignore[attr-defined]


async def test_a_slow_client_of_a_forwarded_port_slows_the_pod(door: StreamDoor) -> None:
    client = await raw_forward(door)
    await pair(client, 83)
    assert await still(lambda: door.worker.sent) * 65536 < HELD_BYTES
    client.close()  # type: ignore[attr-defined]
    await asyncio.wait_for(door.worker.ended.wait(), 30)
    await until(lambda: no_streams_left(door))


async def test_forwarded_connections_count(door: StreamDoor) -> None:
    door.streams = PodStreams(door.places, Bounds(max_streams=2), door.clock)
    client = await raw_forward(door)
    await pair(client, 80, "1")
    error, _ = await pair(client, 80, "2")
    await client.read(lambda: error in client.ended)
    assert client.received[error] == b"alice has 2 streams under way: too many at once"
    client.close()  # type: ignore[attr-defined]


async def test_port_forward_by_channels(door: StreamDoor, http: aiohttp.ClientSession) -> None:
    async with http.ws_connect(door.url("alone", "portforward", "ports=80,81&ports=82"), protocols=[V4]) as socket:
        first = [await socket.receive_bytes() for _ in range(6)]
        ports = (80, 80, 81, 81, 82, 82)
        assert first == [bytes([channel]) + struct.pack("<H", port) for channel, port in enumerate(ports)]
        await socket.send_bytes(b"\x00ship")
        said = by_channel([await socket.receive_bytes() for _ in range(3)])
        assert said == {
            0: b"SHIP", 3: b"error forwarding port 81 to pod alone: connection refused", 4: b"hello"
        }  # fmt: skip
        await socket.send_bytes(b"\x02to one that is over")
        await socket.send_bytes(b"\x00go on")
        assert await socket.receive_bytes() == b"\x00GO ON"
    await until(lambda: no_streams_left(door))


async def test_channels_close_once_every_connection_is_over(door: StreamDoor, http: aiohttp.ClientSession) -> None:
    async with http.ws_connect(door.url("alone", "portforward", "ports=82"), protocols=[V4]) as socket:
        assert (await messages(socket))[2:] == [b"\x00hello"]
    async with http.ws_connect(door.url("alone", "portforward", "ports=82"), protocols=[V4_BASE64]) as socket:
        assert await messages(socket) == [b"0UgA=", b"1UgA=", b"0aGVsbG8="]


# The official client.


async def test_the_official_python_client(door: StreamDoor) -> None:
    """Its own protocol is v4 over WebSocket."""

    def use() -> tuple[Any, ...]:
        configuration = official.Configuration(host=f"http://127.0.0.1:{door.port}")
        api = official.CoreV1Api(official.ApiClient(configuration))
        shared = {"stdout": True, "stderr": True, "stdin": False, "tty": False}
        said = stream(api.connect_get_namespaced_pod_exec, "alone", "default", command=["both"], **shared)
        shell = stream(
            official.CoreV1Api(official.ApiClient(configuration)).connect_get_namespaced_pod_exec, "alone", "default",
            command=["exit", "7"], _preload_content=False, **shared,
        )  # fmt: skip
        shell.run_forever(timeout=60)
        forwarded = portforward(
            official.CoreV1Api(official.ApiClient(configuration)).connect_get_namespaced_pod_portforward,
            "alone", "default", ports="80",
        )  # fmt: skip
        local = forwarded.socket(80)
        local.sendall(b"ship")
        answer = local.recv(4)
        local.close()
        return said, shell.returncode, answer

    said, code, answer = await asyncio.to_thread(use)
    assert sorted(said.split()) == ["err", "out"]
    assert (code, answer) == (7, b"SHIP")
