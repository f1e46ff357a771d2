"""The command at a real terminal: raw mode and its end, the window's size, the waiting line, Ctrl-C."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
# The command against a cluster in memory; its `exec` echoes what is typed, and ends with 7 on Ctrl-D.
PROGRAM = """
import asyncio, sys
from barque.cli.main import cli
from barque.proto import pods_pb2
from tests.support.builders import DeploymentBuilder, PodBuilder
from tests.support.registry_cluster import ClusterVerbs, RegistryCluster, a_session

class Echo:
    async def Exec(self, inputs):
        start = (await anext(inputs)).start
        yield pods_pb2.ExecOutput(stdout=f"size {start.size.columns}x{start.size.rows}\\r\\n".encode())
        async for each in inputs:
            if each.stdin == b"\\x04":
                break
            resized = f"resized {each.resize.columns}x{each.resize.rows}".encode()
            yield pods_pb2.ExecOutput(stdout=b"<" + each.stdin + b">" if each.stdin else resized)
        yield pods_pb2.ExecOutput(exit_code=7)

async def never(*_, **options):
    await asyncio.get_running_loop().create_future()

if "pods" in sys.argv:
    ClusterVerbs.list = ClusterVerbs.table = never
cluster = RegistryCluster(PodBuilder("web-1", "default").on("n1").running().build())
cluster.pods = Echo()
cli(obj=a_session(cluster), prog_name="barque")
"""


class Terminal:
    """A pseudo-terminal with the command in it."""

    def __init__(self, *arguments: str) -> None:
        self.shown = ""
        self.descriptor, end = pty.openpty()
        self.resize(80, 24)
        # A shell that has put the tests into the background may have them ignore the signal.
        own = ["setsid", "--ctty", "env", "--default-signal=INT"]
        self._process = subprocess.Popen(
            [*own, sys.executable, "-c", PROGRAM, *arguments], stdin=end, stdout=end, stderr=end, cwd=ROOT,
            env={**os.environ, "TERM": "xterm", "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        os.close(end)

    @property
    def pid(self) -> int:
        return self._process.pid

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, data: bytes) -> None:
        os.write(self.descriptor, data)

    def is_raw(self) -> bool:
        return not termios.tcgetattr(self.descriptor)[3] & termios.ICANON

    def await_text(self, text: str, timeout_s: float = 90) -> None:
        end = time.monotonic() + timeout_s
        while text not in self.shown:
            assert time.monotonic() < end, f"{text!r} was not shown: {self.shown!r}"
            self._read(0.2)

    def end(self, timeout_s: float = 90) -> int:
        """The exit code, once it has ended."""
        end = time.monotonic() + timeout_s
        while True:
            ended = self._process.poll()
            # What it said at the last is there by then.
            said = self._read(0.05)
            if ended is not None and not said:
                return ended
            assert time.monotonic() < end, f"it does not end: {self.shown!r}"

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self.descriptor)

    def _read(self, timeout_s: float) -> bool:
        """Whether there was something."""
        if not select.select([self.descriptor], [], [], timeout_s)[0]:
            return False
        try:
            said = os.read(self.descriptor, 65536)
        except OSError:
            return False  # the other end is closed
        self.shown += said.decode(errors="replace")
        return True


@pytest.fixture
def opened() -> Iterator[list[Terminal]]:
    terminals: list[Terminal] = []
    yield terminals
    for terminal in terminals:
        terminal.close()


def a_terminal(opened: list[Any], *arguments: str) -> Terminal:
    opened.append(Terminal(*arguments))
    found: Terminal = opened[-1]
    return found


def test_exec_has_the_terminal_and_gives_it_back(opened: list[Any]) -> None:
    terminal = a_terminal(opened, "exec", "-it", "web-1", "--", "sh")
    terminal.await_text("size 80x24")
    assert terminal.is_raw()
    terminal.type(b"\x03")
    terminal.await_text("<\x03>")
    terminal.resize(100, 30)
    terminal.await_text("resized 100x30")
    terminal.type(b"\x04")
    assert terminal.end() == 7
    assert not terminal.is_raw()
    assert "command terminated with exit code 7" in terminal.shown


def test_exec_that_is_terminated_gives_the_terminal_back(opened: list[Any]) -> None:
    terminal = a_terminal(opened, "exec", "-it", "web-1", "--", "sh")
    terminal.await_text("size")
    assert terminal.is_raw()
    os.kill(terminal.pid, signal.SIGTERM)
    assert terminal.end() == 143
    assert not terminal.is_raw()
    assert "Traceback" not in terminal.shown


def test_a_long_wait_is_told_and_ctrl_c_ends_it_quietly(opened: list[Any]) -> None:
    terminal = a_terminal(opened, "get", "pods")
    terminal.await_text("waiting for an answer of 10.0.0.1:7443")
    terminal.type(b"\x03")
    assert terminal.end() == 130
    assert "\x1b[?25h" in terminal.shown
    assert "Traceback" not in terminal.shown
