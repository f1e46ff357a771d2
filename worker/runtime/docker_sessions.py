"""Processes in Docker's containers, talked to: commands run beside the container's own process, and that itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Literal, TypeAlias

import docker

from barque.worker.runtime import docker_streams
from barque.worker.runtime.docker_streams import Stream
from barque.worker.runtime.port import ExecOptions, RuntimeFault, RuntimeUnavailableError

log = logging.getLogger(__name__)

# Docker lets go of a terminal at Ctrl-P Ctrl-Q and holds a Ctrl-P back until the next key; kubectl's users know of
# neither. Docker must have some such keys: these nobody types.
DETACH_KEYS = "ctrl-^,ctrl-^,ctrl-^,ctrl-@"
_NOT_RUN = b"OCI runtime exec failed"
# The exit codes that Docker gives to what it could not run.
_NOT_RUN_CODES = (126, 127)
# One short call to Docker in a thread; raises the port's errors.
Call: TypeAlias = Callable[[Callable[[docker.APIClient], Any]], Awaitable[Any]]


class DockerSession:
    """Implements `Session` on a two-way stream."""

    def __init__(self, stream: Stream, resize: Callable[[int, int], Awaitable[Any]], *, tty: bool) -> None:
        self._stream = stream
        self._resize = resize
        self._tty = tty

    async def output(self) -> AsyncGenerator[tuple[Literal["stdout", "stderr"], bytes], None]:
        try:
            async with aclosing(docker_streams.frames(self._stream, tty=self._tty)) as pieces:
                async for piece in pieces:
                    yield piece
        except OSError as error:
            raise RuntimeUnavailableError(f"the connection to the process broke: {error}") from error

    async def write(self, data: bytes) -> None:
        self._stream.writer.write(data)
        await self._stream.writer.drain()

    async def end_input(self) -> None:
        if self._stream.writer.can_write_eof():
            self._stream.writer.write_eof()

    async def resize(self, columns: int, rows: int) -> None:
        try:
            await self._resize(columns, rows)
        except RuntimeUnavailableError:
            raise
        except RuntimeFault as error:
            # A short command has ended before its terminal got its size; its output and exit code are still to come.
            log.debug("no terminal to resize: %s", error)

    async def close(self) -> None:
        await self._stream.close()


class DockerExec(DockerSession):
    """Implements `ExecSession`."""

    def __init__(self, call: Call, exec_id: str, stream: Stream, *, tty: bool) -> None:
        super().__init__(stream, self._resize_exec, tty=tty)
        self._call = call
        self._id = exec_id

    async def output(self) -> AsyncGenerator[tuple[Literal["stdout", "stderr"], bytes], None]:
        """Raises `RuntimeFault` for a command that could not be run: Docker tells it as if the command had said it."""
        async with aclosing(super().output()) as pieces:
            async for stream, data in pieces:
                if data.startswith(_NOT_RUN) and not await self._was_run():
                    raise RuntimeFault(data.decode(errors="replace").strip())
                yield stream, data

    async def exit_code(self) -> int:
        # The output may end a moment before Docker has noted the exit code, and on a busy host that moment is long.
        for pause_s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0):
            found = await self._look()
            if not found["Running"]:
                return int(found["ExitCode"] or 0)
            await asyncio.sleep(pause_s)
        raise RuntimeFault("the command closed its output but goes on running")

    async def _was_run(self) -> bool:
        # A quick command speaks, and even ends, before Docker has noted its pid: a missing pid alone says nothing.
        found = await self._look()
        return bool(found["Running"] or found["Pid"] or found["ExitCode"] not in _NOT_RUN_CODES)

    async def _look(self) -> Any:
        return await self._call(lambda api: api.exec_inspect(self._id))

    async def _resize_exec(self, columns: int, rows: int) -> None:
        await self._call(lambda api: api.exec_resize(self._id, height=rows, width=columns))


async def run(call: Call, host: str, container_id: str, options: ExecOptions) -> DockerExec:
    """Begin a command. Raises what `open_stream` raises."""
    body = {
        "Cmd": list(options.command),
        "AttachStdin": options.stdin,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": options.tty,
        "DetachKeys": DETACH_KEYS,
    }
    created = await call(lambda api: _post_json(api, f"/containers/{container_id}/exec", body))
    exec_id = str(created["Id"])
    stream = await docker_streams.open_stream(
        host, "POST", f"/exec/{exec_id}/start", body={"Detach": False, "Tty": options.tty}, upgrade=True
    )
    session = DockerExec(call, exec_id, stream, tty=options.tty)
    if options.tty and options.columns and options.rows:
        try:
            await session.resize(options.columns, options.rows)
        except BaseException:
            await session.close()
            raise
    return session


async def attach(call: Call, host: str, container_id: str, *, stdin: bool, tty: bool) -> DockerSession:
    """Talk to a container's own process. Raises what `open_stream` raises."""

    async def resize(columns: int, rows: int) -> None:
        await call(lambda api: api.resize(container_id, height=rows, width=columns))

    query = {"stream": 1, "stdin": int(stdin), "stdout": 1, "stderr": 1, "detachKeys": DETACH_KEYS}
    stream = await docker_streams.open_stream(host, "POST", f"/containers/{container_id}/attach", query, upgrade=True)
    return DockerSession(stream, resize, tty=tty)


def _post_json(api: docker.APIClient, path: str, body: dict[str, Any]) -> Any:
    raw: Any = api
    return raw._result(raw._post_json(raw._url(path), data=body), json=True)
