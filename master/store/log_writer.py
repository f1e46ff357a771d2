"""`LogWriter`: the thread that appends to the log, and nothing decided.

Entries that wait together come as one group: one append, one fdatasync. The thread is handed work through a queue and
answers with one callback on the event loop; a future, a task and their wake-ups in between would cost a single writer
a tenth of its time. Other work on the log's files (a new segment, removing old ones) runs between two groups.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import NamedTuple, TypeVar

from barque.client.clock import Clock
from barque.master.raft.wal import Wal
from barque.master.store.keyring import KeyRing
from barque.master.store.port import Op
from barque.master.store.records import seal_entry

T = TypeVar("T")

# The newest appends, for the figures.
_TIMES = 1024


class Entry(NamedTuple):
    """One entry to append. `payload` is its plain bytes, "" where it holds Secrets and is sealed as it is written."""

    ops: list[Op]
    payload: bytes


class LogWriter:
    """Call everything from the event loop's thread; `appended` is called there."""

    def __init__(self, wal: Wal, ring: KeyRing, clock: Clock) -> None:
        self._wal = wal
        self._ring = ring
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        # Seconds per append and sync; written by the thread.
        self._times: deque[float] = deque(maxlen=_TIMES)
        self._thread = threading.Thread(target=self._work, name="store-log", daemon=True)
        self._thread.start()

    def append(self, entries: Sequence[Entry], appended: Callable[[BaseException | None, float], None]) -> None:
        """Append and sync the entries; then `appended(failure, seconds)`, where `failure` is mostly `LogWriteError`."""

        def job() -> None:
            failure: BaseException | None = None
            began = self._clock.monotonic()
            try:
                self._write(entries)
            except BaseException as e:
                failure = e
            took = self._clock.monotonic() - began
            if failure is None:
                self._times.append(took)
            self._loop.call_soon_threadsafe(appended, failure, took)

        self._jobs.put(job)

    async def run(self, job: Callable[[], T]) -> T:
        """Run `job` in the thread, after what was handed in before; returns or raises what it does."""
        answer: asyncio.Future[T] = self._loop.create_future()

        def settle(result: T | None, failure: BaseException | None) -> None:
            if answer.done():
                return
            if failure is not None:
                answer.set_exception(failure)
            else:
                answer.set_result(result)  # type: ignore[arg-type]  # T may be None

        def work() -> None:
            result, failure = None, None
            try:
                result = job()
            except BaseException as e:
                failure = e
            self._loop.call_soon_threadsafe(settle, result, failure)

        self._jobs.put(work)
        return await answer

    def percentile_ms(self, percent: int) -> float:
        """Of the newest appends; 0.0 before the first."""
        times = sorted(self._times.copy())
        return times[len(times) * percent // 100] * 1000 if times else 0.0

    def close(self) -> None:
        """Wait for what was handed in; its answers come in the loop's next turn. May be called again."""
        self._jobs.put(None)
        self._thread.join()

    def _write(self, entries: Sequence[Entry]) -> None:
        if not all(entry.payload for entry in entries):
            self._ring.reserve_uses()
        payloads = [
            entry.payload or seal_entry(entry.ops, index, self._ring)
            for index, entry in enumerate(entries, self._wal.last_index + 1)
        ]
        self._wal.append(payloads)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
