"""Probes: whether containers live and are ready, with Kubernetes' delays, periods and thresholds.

`Tally` decides (pure), `Prober` asks (`actions.HostProber` is the real one), `Probes` runs one task per probe of each
running container and tells the pod's runner when a result changes.
"""

from __future__ import annotations

import asyncio
import random as _random
from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

from barque.api.types import core_v1
from barque.client.clock import Clock

Kind = Literal["Startup", "Liveness", "Readiness"]

DEFAULT_PERIOD_S, DEFAULT_FAILURES, DEFAULT_SUCCESSES = 10, 3, 1
# Half of the first pause between the attempts of a probe that has not succeeded yet, doubling up to its period.
EAGER_PAUSE_S = 0.025


class Outcome(NamedTuple):
    """`doubtful`: it counts as a success, but the user should hear of `message`."""

    ok: bool
    message: str = ""
    doubtful: bool = False


class Target(NamedTuple):
    """The container a probe is about, and where its pod is reached."""

    id: str
    container: core_v1.Container
    address: str


class Prober(Protocol):
    """Does once what a probe or a lifecycle hook says. Never raises for what the container does wrong."""

    async def ask(self, target: Target, probe: core_v1.Probe) -> Outcome: ...

    async def run_hook(self, target: Target, handler: core_v1.LifecycleHandler) -> Outcome:
        """A hook's command or request; it takes as long as it takes."""
        ...


class Tally:
    """Consecutive outcomes against thresholds; `result` is what holds."""

    def __init__(self, probe: core_v1.Probe, result: bool) -> None:
        self.result = result
        self._needed = {
            True: probe.successThreshold or DEFAULT_SUCCESSES,
            False: probe.failureThreshold or DEFAULT_FAILURES,
        }
        self._last: bool | None = None
        self._run = 0

    def record(self, ok: bool) -> bool:
        """Count one outcome; returns whether enough of its kind have come in a row for it to hold."""
        self._run = self._run + 1 if ok == self._last else 1
        self._last = ok
        if self._run < self._needed[ok]:
            return False
        self.result = ok
        return True


Told = Callable[[Kind, str, bool, str], None]


class Probes:
    """The probe tasks of one pod. `told(kind, container id, holds, message)` hears every result that holds;
    `noted(kind, container, outcome)` hears every failure and every doubtful success, for the pod's events.
    """

    def __init__(
        self,
        prober: Prober,
        clock: Clock,
        told: Told,
        noted: Callable[[Kind, str, Outcome], None],
        random: Callable[[], float] = _random.random,
    ) -> None:
        self._prober = prober
        self._clock = clock
        self._told = told
        self._noted = noted
        self._random = random
        self._tasks: dict[tuple[str, Kind], asyncio.Task[None]] = {}

    def keep(
        self,
        group: asyncio.TaskGroup,
        running: dict[str, Target],
        started: set[str],
        adopted: set[str],
        ready: set[str],
    ) -> None:
        """Probe exactly the containers in `running` (by id). Until a container is in `started` only its startup probe
        runs; those in `adopted` ran before this worker did, so their first probes are spread over a period.
        """
        wanted = {
            (target.id, kind): (target, probe)
            for target in running.values()
            for kind, probe in _probes_of(target.container, target.id in started)
        }
        for key in [key for key in self._tasks if key not in wanted]:
            self._tasks.pop(key).cancel()
        for key, (target, probe) in wanted.items():
            if key not in self._tasks:
                kind = key[1]
                spread = self._random() if target.id in adopted else 0.0
                holds = kind == "Liveness" or (kind == "Readiness" and target.id in ready)
                work = self._run(kind, target, probe, Tally(probe, holds), spread)
                self._tasks[key] = group.create_task(work, name=f"{kind} probe of {target.id[:12]}")

    def stop(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()

    async def _run(self, kind: Kind, target: Target, probe: core_v1.Probe, tally: Tally, spread: float) -> None:
        period_s = probe.periodSeconds or DEFAULT_PERIOD_S
        delay_s = (probe.initialDelaySeconds or 0) if not spread else spread * period_s
        if delay_s:
            await self._clock.sleep(delay_s)
        eager = kind != "Liveness" and not tally.result and not spread and probe.exec is None
        first = await self._ask_eagerly(target, probe, period_s) if eager else None
        while True:
            before = tally.result
            outcome, first = first or await self._prober.ask(target, probe), None
            if not outcome.ok or outcome.doubtful:
                self._noted(kind, target.container.name, outcome)
            if tally.record(outcome.ok):
                if tally.result != before or kind == "Startup" or not tally.result:
                    self._told(kind, target.id, tally.result, outcome.message)
                # A failed liveness or startup probe ends this container; a succeeded startup probe has done its work.
                if kind == "Startup" or (kind == "Liveness" and not tally.result):
                    return
            await self._clock.sleep(period_s)

    async def _ask_eagerly(self, target: Target, probe: core_v1.Probe, period_s: float) -> Outcome:
        """The first outcome that counts: a success as soon as there is one, or what is found after one period.

        A process needs a moment to listen. Without this, one that is not there within the first milliseconds would wait
        a whole period to be found ready.
        """
        waited_s, pause_s = 0.0, EAGER_PAUSE_S
        while True:
            outcome = await self._prober.ask(target, probe)
            if outcome.ok or waited_s >= period_s:
                return outcome
            pause_s = min(pause_s * 2, period_s - waited_s)
            await self._clock.sleep(pause_s)
            waited_s += pause_s


def _probes_of(container: core_v1.Container, started: bool) -> list[tuple[Kind, core_v1.Probe]]:
    if container.startupProbe is not None and not started:
        return [("Startup", container.startupProbe)]
    found: list[tuple[Kind, core_v1.Probe]] = []
    if container.livenessProbe is not None:
        found.append(("Liveness", container.livenessProbe))
    if container.readinessProbe is not None:
        found.append(("Readiness", container.readinessProbe))
    return found
