"""Probes: thresholds, periods, and what is told when."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from barque.api.types import core_v1
from barque.worker.probes import Kind, Outcome, Probes, Tally, Target
from tests.support.clock import FakeClock
from tests.support.worker_world import FakeProber, a_container

OK, BAD = Outcome(True), Outcome(False, "no")


def test_a_result_holds_after_enough_in_a_row() -> None:
    tally = Tally(core_v1.Probe(failureThreshold=3, successThreshold=2), result=True)
    assert [tally.record(ok) for ok in (False, False, True, False, False, False)] == [False] * 5 + [True]
    assert tally.result is False
    assert [tally.record(ok) for ok in (True, False, True, True)] == [False, False, False, True]
    assert tally.result is True


class Bench:
    """One container's probes on a fake clock."""

    def __init__(self, **probes: core_v1.Probe) -> None:
        self.clock = FakeClock()
        self.prober = FakeProber()
        self.told: list[tuple[Kind, bool]] = []
        self.failures = self.doubts = 0
        self.target = Target("c1", a_container(**probes), "10.0.0.2")
        self.probes = Probes(self.prober, self.clock, self._tell, self._note, random=lambda: 0.5)

    def _tell(self, kind: Kind, container_id: str, holds: bool, message: str) -> None:
        self.told.append((kind, holds))

    def _note(self, kind: Kind, container: str, outcome: Outcome) -> None:
        self.failures += not outcome.ok
        self.doubts += outcome.ok

    async def run(self, seconds: float, **keep: Any) -> None:
        given: dict[str, Any] = {"started": {"c1"}, "adopted": set(), "ready": set()}
        async with asyncio.TaskGroup() as group:
            self.probes.keep(group, {"c1": self.target}, **(given | keep))
            await self.clock.advance(seconds)
            self.probes.stop()


def http(**fields: Any) -> core_v1.Probe:
    return core_v1.Probe(httpGet=core_v1.HTTPGetAction(port=80), **fields)


async def test_liveness_waits_its_delay_and_fails_after_its_threshold() -> None:
    bench = Bench(livenessProbe=http(initialDelaySeconds=5, periodSeconds=10, failureThreshold=3))
    bench.prober.answers["httpGet"] = BAD
    await bench.run(4)
    assert bench.prober.asked == []
    await bench.run(25)
    assert (bench.told, bench.failures) == ([("Liveness", False)], 3)


async def test_a_failed_liveness_probe_asks_no_more() -> None:
    bench = Bench(livenessProbe=http(periodSeconds=1, failureThreshold=1))
    bench.prober.answers["httpGet"] = BAD
    await bench.run(10)
    assert len(bench.prober.asked) == 1


async def test_readiness_is_found_within_moments_of_listening() -> None:
    bench = Bench(readinessProbe=http(periodSeconds=10))
    bench.prober.answers["httpGet"] = BAD

    async def listen_later() -> None:
        await bench.clock.sleep(0.3)
        bench.prober.answers["httpGet"] = OK

    task = asyncio.create_task(listen_later())
    await bench.run(1)
    await task
    assert (bench.told, bench.failures) == ([("Readiness", True)], 0)


async def test_readiness_that_does_not_come_fails_once_a_period() -> None:
    bench = Bench(readinessProbe=http(periodSeconds=10, failureThreshold=1))
    bench.prober.answers["httpGet"] = BAD
    await bench.run(35)
    assert bench.failures == 3
    assert ("Readiness", True) not in bench.told


async def test_until_started_only_the_startup_probe_runs() -> None:
    bench = Bench(startupProbe=core_v1.Probe(tcpSocket=core_v1.TCPSocketAction(port=1)), livenessProbe=http())
    await bench.run(1, started=set())
    assert (bench.prober.asked, bench.told) == (["tcpSocket"], [("Startup", True)])


async def test_probes_of_adopted_containers_are_spread_and_keep_what_held() -> None:
    bench = Bench(readinessProbe=http(periodSeconds=10, failureThreshold=2))
    bench.prober.answers["httpGet"] = BAD
    await bench.run(4, adopted={"c1"}, ready={"c1"})
    assert bench.prober.asked == []
    await bench.run(16, adopted={"c1"}, ready={"c1"})
    assert bench.told == [("Readiness", False)]


async def test_a_container_that_is_no_more_is_not_probed() -> None:
    bench = Bench(livenessProbe=http(periodSeconds=1))
    async with asyncio.TaskGroup() as group:
        bench.probes.keep(group, {"c1": bench.target}, {"c1"}, set(), set())
        await bench.clock.advance(3)
        asked = len(bench.prober.asked)
        bench.probes.keep(group, {}, set(), set(), set())
        await bench.clock.advance(3)
    assert asked > 0
    assert len(bench.prober.asked) == asked
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0)


async def test_a_doubtful_success_counts_and_is_told() -> None:
    bench = Bench(readinessProbe=http(periodSeconds=10))
    bench.prober.answers["httpGet"] = Outcome(True, "Probe terminated redirects", doubtful=True)
    await bench.run(25)
    assert (bench.told, bench.failures, bench.doubts) == ([("Readiness", True)], 0, 3)
