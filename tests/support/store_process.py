"""A real `barque master run` on loopback, killed and started again on the same directory; and who writes to it.

`MasterProcess` is the process; `Crew` writes ConfigMaps and Secrets through it from several tasks and watches them,
through every death, remembering what was acknowledged and what was seen.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from barque.api import resources
from barque.api.errors import ApiError
from barque.client.pki import Identity
from barque.client.profile import Profile
from barque.client.remote import Connection, connect
from barque.client.verbs import RawEvent, Target
from tests.support.ports import free_ports

START_TIMEOUT_S = 120.0


class MasterProcess:
    def __init__(self, directory: Path, wrapper: Sequence[str] = ()) -> None:
        """`wrapper` is put before the command (`unshare …`)."""
        self.directory = directory
        self.data = directory / "data"
        self._log = directory / "master.log"
        self._wrapper = wrapper
        self._ports = free_ports(5)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._ports[0]}"

    @property
    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    async def start(self) -> None:
        """Start it and wait until it serves."""
        await self.launch()
        process = self._process
        assert process is not None
        async with asyncio.timeout(START_TIMEOUT_S):
            while b"serving on" not in self._log.read_bytes()[self._began :]:
                assert process.returncode is None, self.log[-2000:]
                await asyncio.sleep(0.02)

    async def launch(self) -> None:
        """Start it."""
        self._began = len(self._log.read_bytes()) if self._log.exists() else 0
        with self._log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self._wrapper, sys.executable, "-m", "barque.cli", "master", "run", *self.options(), stdout=output,
                stderr=output, env={**os.environ, "HOME": str(self.directory)},
            )  # fmt: skip

    def options(self) -> list[str]:
        """Of `barque master run`."""
        grpc, https, bus, *_ = map(str, self._ports)
        return [
            "--data-dir", str(self.data), "--name", "m1", "--address", "127.0.0.1", "--listen", "127.0.0.1",
            "--grpc-port", grpc, "--https-port", https, "--bus-port", bus, "--peer-port", "0",
        ]  # fmt: skip

    async def ended(self) -> tuple[int, str]:
        """Wait for its own end: the exit status, and what it said since it was started."""
        assert self._process is not None
        status = await asyncio.wait_for(self._process.wait(), START_TIMEOUT_S)
        self._process = None
        return status, self._log.read_bytes()[self._began :].decode()

    async def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
            await process.wait()

    def connect(self, data: Path | None = None, patience_s: float = 30.0) -> Connection:
        """As the administrator, whose certificate is in `data` (the master's own directory)."""
        identity = Identity.load((data or self.data) / "pki", "admin")
        return connect(Profile.of([self.address], identity), patience_s=patience_s)

    def seen_inside(self, path: Path) -> Path:
        """`path` as the running master sees it, whatever is mounted for it alone."""
        assert self._process is not None
        return Path(f"/proc/{self._process.pid}/root{path}")


def of(plural: str, name: str = "") -> Target:
    return Target(resources.by_word(plural), "default", name)


class Crew:
    """Writers and a watcher that outlive the master. `go(connection)` after each start, `rest()` before an end."""

    KINDS = ("configmaps", "secrets")

    def __init__(self, writers: int = 8) -> None:
        self._writers = writers
        # By kind and name: the revision and text acknowledged last; None once a delete was.
        self.acknowledged: dict[tuple[str, str], tuple[int, str] | None] = {}
        # What was not answered, and so may hold: a text, or None for a delete.
        self.open: dict[tuple[str, str], str | None] = {}
        self.revisions: dict[str, list[int]] = {kind: [] for kind in self.KINDS}
        self.writes = 0
        # Per kind: revisions as the watch told them, and what the events make of the state.
        self.seen: dict[str, list[int]] = {kind: [] for kind in self.KINDS}
        self.state: dict[str, dict[str, int]] = {kind: {} for kind in self.KINDS}
        self._began: dict[str, str] = dict.fromkeys(self.KINDS, "")
        self._numbers = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def go(self, connection: Connection, *, write: bool = True) -> None:
        for kind in self.KINDS:
            if not self._began[kind]:
                listed = await connection.verbs.list(of(kind))
                self._began[kind] = listed.resource_version
                self.state[kind] = {_meta(item)["name"]: _revision(item) for item in listed.items}
        self._tasks = [
            asyncio.create_task(self._write(connection, self.KINDS[n % 2]))
            for n in range(self._writers if write else 0)
        ]
        self._tasks += [asyncio.create_task(self._watch(connection, kind)) for kind in self.KINDS]

    async def rest(self) -> None:
        """Stop; the master is gone, or nothing is wanted of it any more. Raises what a task has found wrong."""
        for task in self._tasks:
            task.cancel()
        outcomes = await asyncio.gather(*self._tasks, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, asyncio.CancelledError):
                raise outcome

    async def check(self, connection: Connection) -> None:
        """Every acknowledged write is there, none that was not sent is, and the watches have told of all of it."""
        for kind in self.KINDS:
            found = await _texts(connection, kind)
            for (of_kind, name), acknowledged in self.acknowledged.items():
                if of_kind != kind:
                    continue
                if (kind, name) not in self.open:
                    assert found.get(name) == acknowledged, name
                elif self.open[kind, name] is not None or name in found:
                    assert acknowledged is not None
                    assert found[name] == acknowledged or found[name][0] > acknowledged[0], name
            known = {name for of_kind, name in (*self.acknowledged, *self.open) if of_kind == kind}
            assert {name for name in found if name.startswith("n")} <= known
            async with asyncio.timeout(60):
                while self.state[kind] != {name: revision for name, (revision, _) in found.items()}:
                    await asyncio.sleep(0.02)
            assert set(self.revisions[kind]) <= set(self.seen[kind])

    async def _write(self, connection: Connection, kind: str) -> None:
        """Create, change and at times delete objects of its own. One that the master did not answer for, because it is
        gone or stood still for seconds, is left as it is.
        """
        while True:
            self._numbers += 1
            number, name = self._numbers, f"n{self._numbers}"
            try:
                await self._put(connection, kind, name, "first", create=True)
                await self._put(connection, kind, name, "second", create=False)
                if number % 3 == 0:
                    await self._delete(connection, kind, name)
            except ApiError as error:
                await _pause_after(error)

    async def _put(self, connection: Connection, kind: str, name: str, text: str, *, create: bool) -> None:
        field = "stringData" if kind == "secrets" else "data"
        body = msgspec.json.encode({"metadata": {"name": name}, field: {"text": text + "x" * 500}})
        self.open[kind, name] = text
        if create:
            answer = await connection.verbs.create(of(kind), body)
        else:
            answer = await connection.verbs.update(of(kind, name), body)
        del self.open[kind, name]
        self.acknowledged[kind, name] = (_revision(answer), text)
        self.revisions[kind].append(_revision(answer))
        self.writes += 1

    async def _delete(self, connection: Connection, kind: str, name: str) -> None:
        self.open[kind, name] = None
        await connection.verbs.delete(of(kind, name))
        del self.open[kind, name]
        self.acknowledged[kind, name] = None
        self.writes += 1

    async def _watch(self, connection: Connection, kind: str) -> None:
        """Resumed where it breaks off."""
        while True:
            seen = self.seen[kind]
            since = str(seen[-1]) if seen else self._began[kind]
            try:
                async for batch in connection.verbs.watch(of(kind), resource_version=since):
                    for event in batch:
                        if event.type != "BOOKMARK":
                            self._see(kind, event)
            except ApiError as error:
                await _pause_after(error)

    def _see(self, kind: str, event: RawEvent) -> None:
        seen, state = self.seen[kind], self.state[kind]
        assert not seen or event.revision > seen[-1], f"revision {event.revision} after {seen[-1]}"
        seen.append(event.revision)
        name = _meta(event.json)["name"]
        assert (event.type == "ADDED") == (name not in state), f"{event.type} {name}"
        if event.type == "DELETED":
            del state[name]
        else:
            state[name] = event.revision


async def _pause_after(error: ApiError) -> None:
    """503: certainly not done; 504: nobody knows. Anything else is raised."""
    if error.code not in (503, 504):
        raise error
    await asyncio.sleep(0.05)


async def _texts(connection: Connection, kind: str) -> dict[str, tuple[int, str]]:
    """The revision and text of each object."""
    items = (await connection.verbs.list(of(kind))).items
    return {_meta(item)["name"]: (_revision(item), _text(item)) for item in items}


def _meta(json: bytes) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(json)["metadata"]
    return found


def _revision(json: bytes) -> int:
    return int(_meta(json)["resourceVersion"])


def _text(json: bytes) -> str:
    decoded = msgspec.json.decode(json)
    value: str = decoded.get("data", {}).get("text", "")
    if decoded["kind"] == "Secret":
        value = base64.b64decode(value).decode()
    return value.rstrip("x")
