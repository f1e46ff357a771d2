"""Appending away from the loop: the lane's order and answers, sealing, and what the figures say."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from barque.master.raft.lanes import ThreadLane
from barque.master.raft.log_writer import LogWriter
from barque.master.raft.messages import Entry, HardState, Kind
from barque.master.raft.wal import LogWriteError, Wal
from tests.support.clock import FakeClock
from tests.support.faulty_disk import FaultyDisk
from tests.support.raft_log import numbered, opened, payloads

TIMEOUT_S = 60.0


class Bench:
    """A writer on a thread; `answers` are the failures of its appends, None for those that hold."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.disk = FaultyDisk()
        self.wal: Wal = opened(path, self.disk)
        self.clock = SlowDiskClock()
        self.writer = LogWriter(self.wal, self._seal, self.clock, ThreadLane("log"))
        self.answers: list[BaseException | None] = []
        self.seconds: list[float] = []
        self.sealed_in: list[str] = []
        self.seal: Callable[[Entry], bytes] = lambda entry: b"sealed " + entry.data
        self._answered = asyncio.Event()

    def append(self, *entries: Entry, state: HardState | None = None) -> None:
        self.writer.append(entries, state, self._appended)

    async def until(self, count: int) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            while len(self.answers) < count:
                self._answered.clear()
                await self._answered.wait()

    def _appended(self, failure: BaseException | None, seconds: float) -> None:
        assert threading.current_thread() is threading.main_thread()
        self.answers.append(failure)
        self.seconds.append(seconds)
        self._answered.set()

    def _seal(self, entry: Entry) -> bytes:
        self.sealed_in.append(threading.current_thread().name)
        return self.seal(entry)


class SlowDiskClock(FakeClock):
    """Moves on by one, two, three … hundredths of a second from one question to the next but one."""

    def __init__(self) -> None:
        super().__init__()
        self._asked = 0

    def monotonic(self) -> float:
        self._asked += 1
        if self._asked % 2 == 0:
            self._now += self._asked / 200
        return self._now


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.writer.close()
    bench.wal.close()


async def test_an_append_is_durable_and_sealed_when_it_is_answered(bench: Bench) -> None:
    configuration, empty = Entry(2, 1, Kind.CONFIGURATION, b"who"), Entry(3, 1, Kind.EMPTY)
    bench.append(Entry(1, 1, data=b"a"), configuration, empty, state=HardState(1, "x", 0))
    assert bench.answers == []
    await bench.until(1)
    assert bench.answers == [None]
    assert payloads(bench.path) == [b"sealed a", b"who", b""]
    assert bench.wal.hard_state == HardState(1, "x", 0)
    assert bench.sealed_in == ["log"], "the loop has other things to do"


async def test_appends_and_jobs_keep_their_order(bench: Bench) -> None:
    bench.append(*numbered(0, [b"a"]))
    seen = asyncio.create_task(bench.writer.run(lambda: bench.wal.last_index))
    await asyncio.sleep(0)
    bench.append(*numbered(1, [b"b", b"c"]))
    await bench.until(2)
    assert await seen == 1
    assert payloads(bench.path) == [b"sealed a", b"sealed b", b"sealed c"]


async def test_a_failed_append_is_answered_and_the_same_one_may_follow(bench: Bench) -> None:
    def locked(entry: Entry) -> bytes:
        raise LookupError("no key")

    bench.disk.failing = {"write"}
    bench.append(*numbered(0, [b"a"]))
    await bench.until(1)
    bench.disk.failing = set()
    bench.seal, seal = locked, bench.seal
    bench.append(*numbered(0, [b"a"]))
    await bench.until(2)
    bench.seal = seal
    bench.append(*numbered(1, [b"behind one that failed"]))
    bench.append(*numbered(0, [b"a"]))
    await bench.until(4)
    refused, unsealed, gap, held = bench.answers
    assert isinstance(refused, LogWriteError)
    assert refused.undone
    assert (type(unsealed), type(gap), held) == (LookupError, ValueError, None)
    assert payloads(bench.path) == [b"sealed a"]


async def test_a_job_gives_its_result_or_its_failure_and_may_be_left(bench: Bench) -> None:
    def fails() -> None:
        raise OSError("full")

    assert await bench.writer.run(lambda: 7) == 7
    with pytest.raises(OSError, match="full"):
        await bench.writer.run(fails)
    left = asyncio.create_task(bench.writer.run(lambda: 7))
    await asyncio.sleep(0)
    left.cancel()
    assert await bench.writer.run(lambda: 8) == 8


async def test_the_figures_are_of_appends_that_hold(bench: Bench) -> None:
    assert bench.writer.percentile_ms(99) == 0.0
    for number in range(10):
        bench.append(*numbered(number, [b"x"]))
    await bench.until(10)
    assert [round(seconds, 3) for seconds in bench.seconds] == [n / 100 for n in range(1, 11)]
    bench.disk.failing = {"write"}
    bench.append(*numbered(10, [b"x"]))
    await bench.until(11)
    assert bench.seconds[-1] > 0.1
    assert round(bench.writer.percentile_ms(50)) == 60
    assert round(bench.writer.percentile_ms(99)) == 100


async def test_closing_waits_for_what_was_handed_in(bench: Bench) -> None:
    held = threading.Event()
    bench.seal = lambda entry: b"late" if held.wait(TIMEOUT_S) else b"never"
    bench.append(*numbered(0, [b"a"]))
    held.set()
    bench.writer.close()
    bench.writer.close()
    assert bench.answers == []
    await asyncio.sleep(0)
    assert bench.answers == [None]
    assert payloads(bench.path) == [b"late"]


async def test_a_closed_lane_takes_nothing() -> None:
    lane = ThreadLane("log")
    lane.close()
    with pytest.raises(RuntimeError, match="the lane log is closed"):
        lane.put(lambda: 1, lambda result, failure: None)


async def test_a_lane_hands_on_whatever_a_job_raises() -> None:
    answers: asyncio.Queue[tuple[int | None, BaseException | None]] = asyncio.Queue()

    def leaves() -> int:
        raise SystemExit(3)

    lane = ThreadLane("log")
    try:
        lane.put(leaves, lambda result, failure: answers.put_nowait((result, failure)))
        lane.put(lambda: 4, lambda result, failure: answers.put_nowait((result, failure)))
        async with asyncio.timeout(TIMEOUT_S):
            result, failure = await answers.get()
            assert (result, type(failure)) == (None, SystemExit)
            assert await answers.get() == (4, None)
    finally:
        lane.close()
