"""`LogWriter`: appends to the log in its lane, and nothing decided.

Entries that wait together come as one group: one append, one fdatasync. They are sealed there too, so that encryption
costs the event loop nothing. Other work on the log's files (a new segment, removing old ones) runs between two groups.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

from barque.client.clock import Clock
from barque.master.raft.lanes import done_in
from barque.master.raft.messages import Entry, HardState, Kind
from barque.master.raft.ports import Lane
from barque.master.raft.wal import Wal

T = TypeVar("T")

# A plain number: to compare with an enum's costs a tenth of what an entry does.
_DATA = Kind.DATA.value
# The newest appends, for the figures.
_TIMES = 1024


class LogWriter:
    """Call everything from the event loop's thread; `appended` is called there.

    `seal(entry)` gives the bytes to write for an entry of kind DATA; it is called in the lane, once per attempt.
    """

    def __init__(self, wal: Wal, seal: Callable[[Entry], bytes], clock: Clock, lane: Lane) -> None:
        self._wal = wal
        self._seal = seal
        self._clock = clock
        self._lane = lane
        # Seconds per append that succeeded.
        self._times: deque[float] = deque(maxlen=_TIMES)

    def append(
        self,
        entries: Sequence[Entry],
        hard_state: HardState | None,
        appended: Callable[[BaseException | None, float], None],
    ) -> None:
        """As `Wal.append`, then `appended(failure, seconds)`, where `failure` is mostly a `LogWriteError`.

        Wait for that before the next one is handed in: behind an append that fails, its entries would leave a gap.
        """

        def job() -> tuple[BaseException | None, float]:
            began = self._clock.monotonic()
            failure: BaseException | None = None
            try:
                self._wal.append(self._sealed(entries), hard_state)
            except BaseException as e:
                failure = e
            return failure, self._clock.monotonic() - began

        def done(result: tuple[BaseException | None, float] | None, lane_failure: BaseException | None) -> None:
            failure, seconds = result or (lane_failure, 0.0)
            if failure is None:
                self._times.append(seconds)
            appended(failure, seconds)

        self._lane.put(job, done)

    async def run(self, job: Callable[[], T]) -> T:
        """Run `job` in the lane, after what was handed in before; returns or raises what it does."""
        return await done_in(self._lane, job)

    def percentile_ms(self, percent: int) -> float:
        """Of the newest appends; 0.0 before the first."""
        times = sorted(self._times)
        return times[len(times) * percent // 100] * 1000 if times else 0.0

    def close(self) -> None:
        """Wait for what was handed in; its answers come in the loop's next turn. May be called again."""
        self._lane.close()

    def _sealed(self, entries: Sequence[Entry]) -> list[Entry]:
        seal = self._seal
        return [
            entry
            if entry.kind != _DATA or (data := seal(entry)) is entry.data
            else Entry(entry.index, entry.term, _DATA, data)
            for entry in entries
        ]
