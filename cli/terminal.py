"""The user's terminal while a remote command has it: raw mode, its size, its bytes. Always given back as it was."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator

CHUNK_BYTES = 32 * 1024


def is_terminal() -> bool:
    """Whether standard input is a terminal."""
    return sys.stdin is not None and sys.stdin.isatty()


def size() -> tuple[int, int]:
    """(columns, rows) of the terminal; (0, 0) where it has none."""
    try:
        columns, rows = os.get_terminal_size(sys.stdin.fileno())
    except OSError:
        return 0, 0
    return columns, rows


@contextlib.contextmanager
def raw(on_resize: Callable[[], None]) -> Iterator[None]:
    """Raw mode as long as the body runs; `on_resize` is called in the event loop when the window changes."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGWINCH, on_resize)
    try:
        tty.setraw(descriptor, termios.TCSADRAIN)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        loop.remove_signal_handler(signal.SIGWINCH)


class Input:
    """Standard input as chunks, read in a thread of its own: a slow file or pipe must not hold the event loop.

    The thread is a daemon: a read that never returns does not keep the process alive.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()
        # One chunk waits at most: the remote command sets the pace.
        self._chunks: asyncio.Queue[bytes] = asyncio.Queue(maxsize=1)
        self._thread = threading.Thread(target=self._read, name="stdin", daemon=True)

    def start(self) -> None:
        self._thread.start()

    async def get(self) -> bytes:
        """The next chunk; empty at the end of input."""
        return await self._chunks.get()

    def _read(self) -> None:
        chunk = b"-"
        while chunk:
            try:
                chunk = os.read(self._descriptor, CHUNK_BYTES)
            except OSError:
                chunk = b""
            try:
                asyncio.run_coroutine_threadsafe(self._chunks.put(chunk), self._loop).result()
            except (RuntimeError, asyncio.CancelledError):
                return  # the event loop has ended, and with it whoever wanted the rest
