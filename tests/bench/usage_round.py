"""What one round of a worker's sampling costs: CPU time for so many pods of one container each, in real control groups.

A round is all that happens every ten seconds: the pods listed, every counter read, the rates worked out, the sample
encoded. Beside it, as the floor, the same files read in the barest way and thrown away.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from barque.client.usage import SAMPLE_INTERVAL_S, decode
from barque.worker.pods.observed import Instance, Observed
from barque.worker.stats.cgroups import Groups, locate, parse_mounts
from barque.worker.stats.disks import Disks
from barque.worker.stats.gauges import Gauges
from barque.worker.stats.sampler import Sampler
from tests.bench.report import Figure, line, median
from tests.support.clock import FakeClock
from tests.support.control_groups import containers
from tests.support.worker_world import a_pod, in_place

_ROUNDS = 15


class Round(NamedTuple):
    """Medians over some rounds, in milliseconds of CPU time, the kernel's part included."""

    cpu_ms: float
    floor_ms: float


def measure(pods: int) -> Round:
    """A steady round over so many pods; needs root."""
    with containers(pods) as running:
        return asyncio.run(_measure(running))


async def _measure(running: Sequence[Instance]) -> Round:
    clock = FakeClock()
    uids = [str(uuid.uuid4()) for _ in running]
    pods = [
        (a_pod(f"web-{uid[:13]}", uid=uid), Observed(containers={each.name: [each]}))
        for uid, each in zip(uids, running, strict=True)
    ]
    # Disk use is only looked up here: the walks are no part of a round.
    disks = Disks(None, clock, in_place)  # type: ignore[arg-type]
    sampler = Sampler(lambda: pods, Gauges(clock, Path("/")), disks, clock, in_place)
    paths = [path for each in running for path in _files(each)]
    await sampler.look()
    ours, floor = [], []
    for _ in range(_ROUNDS):
        await clock.advance(SAMPLE_INTERVAL_S)
        begun = time.thread_time()
        await sampler.look()
        sample = sampler.take()
        ours.append(time.thread_time() - begun)
        floor.append(_cost(lambda: _read_barely(paths)))
        assert len(decode(sample).pods) == len(running), "every pod has a rate"
    return Round(median(ours) * 1000, median(floor) * 1000)


def _files(instance: Instance) -> list[str]:
    """What a round reads of a container."""
    process = Path(f"/proc/{instance.pid}")
    mounts = parse_mounts(Path("/proc/self/mountinfo").read_text())
    groups = locate((process / "cgroup").read_text(), instance.id, mounts)
    assert isinstance(groups, Groups)
    cpu = "cpu.stat" if groups.cpu.unified else "cpuacct.usage"
    used = "memory.current" if groups.memory.unified else "memory.usage_in_bytes"
    memory = [f"{groups.memory.path}/{name}" for name in (used, "memory.stat")]
    return [f"{groups.cpu.path}/{cpu}", *memory, f"{process}/net/dev", f"{process}/cgroup"]


def _read_barely(paths: Sequence[str]) -> None:
    for path in paths:
        file = os.open(path, os.O_RDONLY)
        os.read(file, 8192)
        os.close(file)


def _cost(work: Callable[[], None]) -> float:
    begun = time.thread_time()
    work()
    return time.thread_time() - begun


def main() -> None:
    for pods in map(int, sys.argv[1:] or ["50"]):
        found = measure(pods)
        goal = "<= 20" if pods == 50 else ""
        remark = f"bare reads {found.floor_ms:.2f} ms"
        ratio = found.cpu_ms / found.floor_ms
        print(line(Figure(f"sample_{pods}_pods_cpu_ms", found.cpu_ms, "ms", "bare reads", ratio, goal, remark)))


if __name__ == "__main__":
    main()
