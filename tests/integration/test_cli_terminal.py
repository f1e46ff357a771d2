"""The command at a real terminal: raw mode and its end, the window's size, the waiting line, Ctrl-C."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
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
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            os.chdir(ROOT)
            # A shell that has put the tests into the background may have them ignore it.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            environment = {**os.environ, "TERM": "xterm", "PYTHONPATH": str(ROOT)}
            os.execve(sys.executable, [sys.executable, "-c", PROGRAM, *arguments], environment)
        self.resize(80, 24)

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, data: bytes) -> None:
        os.write(self.descriptor, data)

    def is_raw(self) -> bool:
        return not termios.tcgetattr(self.descriptor)[3] & termios.ICANON

    def await_text(self, text: str, timeout_s: float = 60) -> None:
        end = time.monotonic() + timeout_s
        while text not in self.shown:
            assert time.monotonic() < end, f"{text!r} was not shown: {self.shown!r}"
            self._read(0.2)

    def end(self, timeout_s: float = 60) -> int:
        """The exit code, once it has ended."""
        end = time.monotonic() + timeout_s
        while True:
            self._read(0.05)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
            assert time.monotonic() < end, f"it does not end: {self.shown!r}"

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.descriptor)

    def _read(self, timeout_s: float) -> None:
        if select.select([self.descriptor], [], [], timeout_s)[0]:
            try:
                self.shown += os.read(self.descriptor, 65536).decode(errors="replace")
            except OSError:
                return  # the other end is closed


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
