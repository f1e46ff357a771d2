"""Between the requests and the log: a bounded queue, and the thread that empties it into the log.

`AuditWriter.put` never waits: it takes a line in, or counts it as lost where the queue is full. The thread renders and
writes what has gathered, some twenty times a second; what the log refuses it keeps, and tries again every second.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from barque.master.audit.events import Line
from barque.master.audit.log_file import Sink

log = logging.getLogger(__name__)

# What may wait: some seconds' worth of a busy door.
MAX_LINES = 50_000
MAX_BYTES = 64 * 1024 * 1024
_GATHER_S = 0.05
_RETRY_S = 1.0
_CLOSE_S = 5.0
# How much is rendered and written at a time, so that the interpreter is soon free for others again.
_AT_ONCE = 256
# How often losses are said in the daemon's log, at most.
_SAY_EVERY_S = 10.0


class Counts(NamedTuple):
    """Of events since the start; `failures` are writes that the log refused."""

    written: int
    lost: int
    waiting: int
    failures: int


class AuditWriter:
    """`start` it, `put` lines from one thread, `close` it: what waits then still gets `_CLOSE_S` seconds."""

    def __init__(
        self,
        sink: Sink,
        max_lines: int = MAX_LINES,
        max_bytes: int = MAX_BYTES,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sink = sink
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        self._monotonic = monotonic
        self._queue: deque[Line] = deque()
        # Bytes that came and bytes that went: each counter has one thread that writes it.
        self._bytes_in = self._bytes_out = 0
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit log", daemon=True)
        self._written = self._lost = self._failures = 0
        self._said_lost = 0
        self._said_at = -_SAY_EVERY_S
        self._fault = ""

    def start(self) -> None:
        self._thread.start()

    def put(self, line: Line) -> None:
        """Take the line, or count it as lost."""
        size = line.size
        if len(self._queue) >= self._max_lines or self._bytes_in - self._bytes_out + size > self._max_bytes:
            self._lost += 1
            self._say_losses()
            return
        self._bytes_in += size
        self._queue.append(line)
        if not self._wake.is_set():
            self._wake.set()

    def counts(self) -> Counts:
        return Counts(self._written, self._lost, len(self._queue), self._failures)

    def close(self) -> None:
        """Write what waits, within bounds; what cannot be written is lost."""
        self._closing.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(_CLOSE_S)
        self._lost += len(self._queue)
        self._queue.clear()
        if self._lost > self._said_lost:
            log.error("audit log: %d events were lost in all%s", self._lost, f": {self._fault}" if self._fault else "")

    def _say_losses(self) -> None:
        now = self._monotonic()
        if now - self._said_at < _SAY_EVERY_S:
            return
        why = self._fault or "it is slower than the requests come"
        log.error("audit log: %d events are lost so far: %s", self._lost, why)
        self._said_at, self._said_lost = now, self._lost

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.wait()
            self._wake.clear()
            while self._queue and self._write():
                pass
            self._closing.wait(_RETRY_S if self._fault else _GATHER_S)
            if self._queue:
                self._wake.set()
        while self._queue and self._write():
            pass
        self._sink.close()

    def _write(self) -> bool:
        """Bring the oldest lines into the log; whether they are there."""
        waiting = [self._queue[index] for index in range(min(len(self._queue), _AT_ONCE))]
        try:
            count = self._sink.write([line.render() for line in waiting])
        except OSError as error:
            self._failures += 1
            if not self._fault:
                log.error("audit log: cannot be written, up to %d events wait: %s", self._max_lines, error)
            self._fault = str(error)
            return False
        if self._fault:
            log.warning("audit log: is written again")
            self._fault = ""
        for line in waiting[:count]:
            self._queue.popleft()
            self._bytes_out += line.size
        self._written += count
        return True
