"""What a Docker that goes away, or is none, answers on its long-lived connections: recorded heads over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from barque.worker.runtime import docker_images
from barque.worker.runtime.docker_runtime import DockerRuntime
from barque.worker.runtime.docker_streams import open_stream
from barque.worker.runtime.port import (
    ContainerNotFoundError,
    LogOptions,
    LogRecord,
    PullError,
    RuntimeUnavailableError,
)

STAMP = "2026-01-01T00:00:00.000000001Z"
MISSING = json.dumps({"message": "No such container: größer"}, ensure_ascii=False).encode()
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n" % len(MISSING)


class ADocker:
    """Answers a request by its path, in pieces that arrive one after the other; then its connection ends."""

    def __init__(self) -> None:
        self.answers: dict[str, list[bytes]] = {}
        self.holds = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split(" ")[1].partition("?")[0]
        name = next(name for name in self.answers if path.endswith(name))
        for piece in self.answers[name]:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.02)
        # As Docker keeps the connection of a request that wants to go on in another protocol.
        if not self.holds and "Upgrade" not in head:
            writer.close()

    def tell(self, name: str, body: Any) -> None:
        data = json.dumps(body).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\nConnection: close"
        self.answers[name] = [head.encode() + b"\r\n\r\n" + data]


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[tuple[ADocker, str]]:
    made = ADocker()
    server = await asyncio.start_unix_server(made.serve, tmp_path / "docker.sock")
    yield made, f"unix://{tmp_path / 'docker.sock'}"
    server.close()


@pytest.mark.parametrize("upgrade", [False, True])
async def test_a_refusal_is_read_whole_in_whatever_pieces_it_comes(engine: tuple[ADocker, str], upgrade: bool) -> None:
    docker, host = engine
    docker.answers["/attach"] = [NOT_FOUND, MISSING[:-6], MISSING[-6:]]
    with pytest.raises(ContainerNotFoundError, match="No such container: größer"):
        await open_stream(host, "POST", "/containers/c/attach", upgrade=upgrade)


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH\r\n\r\n", b"\r\n\r\n", b"HTTP/1.1 OK\r\n\r\n"])
async def test_what_does_not_speak_http_is_no_docker(engine: tuple[ADocker, str], answer: bytes) -> None:
    docker, host = engine
    docker.answers["/events"] = [answer]
    with pytest.raises(RuntimeUnavailableError, match="it does not speak HTTP"):
        await open_stream(host, "GET", "/events")


async def test_a_silent_registry_does_not_hold_a_pull_for_ever(
    engine: tuple[ADocker, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_images, "PULL_SILENCE_S", 0.1)
    docker, host = engine
    docker.answers["/images/create"] = [b"HTTP/1.1 200 OK\r\n\r\n", b'{"status":"Pulling"}\r\n', *[b" "] * 5]
    async with asyncio.timeout(10):
        await docker_images.pull(host, "web:1", None)
    docker.holds = True
    async with asyncio.timeout(10):
        with pytest.raises(PullError, match="the pull made no progress for"):
            await docker_images.pull(host, "web:1", None)


def a_container(status: str) -> dict[str, Any]:
    state = {
        "Status": status, "ExitCode": 0, "Error": "", "Pid": 7, "OOMKilled": False, "StartedAt": STAMP,
        "FinishedAt": STAMP,
    }  # fmt: skip
    config = {"Image": "web:1", "Tty": True, "Labels": {}}
    return {"Id": "c1", "Name": "/c1", "Image": "sha256:1", "Created": STAMP, "State": state, "Config": config}


@pytest.mark.parametrize("status", ["running", "exited", ""])
async def test_a_followed_log_ends_with_its_container_alone(engine: tuple[ADocker, str], status: str) -> None:
    """Of one that goes on Docker has gone away for a moment, and whoever follows must take it up again."""
    docker, host = engine
    docker.tell("/version", {"ApiVersion": "1.41", "Version": "20.10.24"})
    docker.tell("/c1/json", a_container("running"))
    docker.answers["/logs"] = [b"HTTP/1.1 200 OK\r\n\r\n", f"{STAMP} one\n".encode()]
    runtime = DockerRuntime(host, "c", "n1")
    found: list[LogRecord] = []

    async def read(*, follow: bool) -> None:
        found.clear()
        async for record in runtime.logs("c1", LogOptions(follow=follow)):
            found.append(record)
            if status:
                docker.tell("/c1/json", a_container(status))
            else:
                docker.answers["/c1/json"] = [NOT_FOUND, MISSING]

    try:
        if status == "running":
            with pytest.raises(RuntimeUnavailableError, match="the log of a container that goes on running"):
                await read(follow=True)
            await read(follow=False)
        else:
            await read(follow=True)
        assert found == [LogRecord(STAMP, b"one\n")]
    finally:
        await runtime.close()
