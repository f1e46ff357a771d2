"""`Meter`: what the node and each container of its pods use, read when somebody asks.

CPU, memory and traffic are read anew each time; disk use, which takes a walk over the files, is at most `DISK_AGE_S`
old. What has ended between the asking and the reading is left out.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from barque.api.types import core_v1
from barque.client.clock import Clock
from barque.proto import node_pb2 as pb
from barque.worker.pods.observed import Instance, Observed
from barque.worker.runtime.port import Runtime, RuntimeFault
from barque.worker.stats import cgroups, proc

DISK_AGE_S = 60.0

Blocking = Callable[..., Awaitable[Any]]


class _Disk(NamedTuple):
    used_bytes: int
    read_s: float


class Meter:
    """`disk` is a directory on the file system of the pods; `blocking` runs what reads files off the event loop."""

    def __init__(
        self,
        runtime: Runtime,
        disk: Path,
        clock: Clock,
        root: Path = Path("/"),
        blocking: Blocking = asyncio.to_thread,
    ) -> None:
        self._runtime = runtime
        self._disk = disk
        self._clock = clock
        self._proc = root / "proc"
        self._blocking = blocking
        self._disks: dict[str, _Disk] = {}

    async def read(self, pods: Sequence[tuple[core_v1.Pod, Observed]]) -> pb.StatsReply:
        """The use at this moment."""
        running = [(pod, [i for i in observed.instances() if i.running]) for pod, observed in pods]
        await self._measure_disks([instance.id for _, instances in running for instance in instances])
        reply: pb.StatsReply = await self._blocking(self._read, running)
        return reply

    def _read(self, running: Sequence[tuple[core_v1.Pod, Sequence[Instance]]]) -> pb.StatsReply:
        mounts = cgroups.parse_mounts((self._proc / "self/mountinfo").read_text())
        return pb.StatsReply(node=self._node(), pods=[self._pod(pod, found, mounts) for pod, found in running])

    def _node(self) -> pb.NodeStats:
        found = proc.parse_host((self._proc / "stat").read_text(), (self._proc / "meminfo").read_text())
        stat = os.statvfs(self._disk)
        size, free = stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize
        return pb.NodeStats(
            cpu=pb.CpuStats(time=self._now(), usage_core_ns=found.cpu_ns),
            memory=pb.MemoryStats(
                usage_bytes=found.memory_bytes,
                working_set_bytes=found.working_set_bytes,
                rss_bytes=found.rss_bytes,
                limit_bytes=found.capacity_bytes,
            ),
            filesystem=pb.FilesystemStats(
                used_bytes=size - stat.f_bfree * stat.f_frsize, capacity_bytes=size, available_bytes=free
            ),
        )

    def _pod(self, pod: core_v1.Pod, running: Sequence[Instance], mounts: dict[str, cgroups.Mounted]) -> pb.PodStats:
        meta = pod.metadata
        stats = pb.PodStats(namespace=meta.namespace, name=meta.name, uid=meta.uid)
        total = cgroups.Usage(0, 0, 0, 0, 0)
        now = self._now()
        for instance in running:
            usage = cgroups.read_usage(instance.pid, instance.id, mounts, self._proc)
            if usage is None:
                continue
            total = cgroups.Usage(*(a + b for a, b in zip(total, usage, strict=True)))
            disk = self._disks.get(instance.id)
            stats.containers.append(
                pb.ContainerStats(
                    name=instance.name,
                    started_at=instance.started_at,
                    cpu=pb.CpuStats(time=now, usage_core_ns=usage.cpu_ns),
                    memory=_memory(usage),
                    filesystem=pb.FilesystemStats(used_bytes=disk.used_bytes if disk else 0),
                )
            )
        stats.cpu.CopyFrom(pb.CpuStats(time=now, usage_core_ns=total.cpu_ns))
        stats.memory.CopyFrom(_memory(total._replace(limit_bytes=0)))
        if not pod.spec.hostNetwork:
            self._add_traffic(stats, running)
        return stats

    def _add_traffic(self, stats: pb.PodStats, running: Sequence[Instance]) -> None:
        """All containers of a pod share its network: any of them can tell."""
        for instance in running:
            try:
                found = proc.parse_traffic((self._proc / str(instance.pid) / "net/dev").read_text())
            except OSError:
                continue
            stats.network.CopyFrom(pb.NetworkStats(**found._asdict()))
            return

    async def _measure_disks(self, ids: Sequence[str]) -> None:
        now = self._clock.monotonic()
        self._disks = {i: self._disks[i] for i in ids if i in self._disks}
        for container_id in ids:
            known = self._disks.get(container_id)
            if known is not None and now - known.read_s < DISK_AGE_S:
                continue
            try:
                record = await self._runtime.inspect(container_id)
            except RuntimeFault:
                continue
            used = sum([await self._blocking(proc.size_of, Path(path)) for path in record.written])
            self._disks[container_id] = _Disk(used, now)

    def _now(self) -> str:
        return self._clock.wall().isoformat().replace("+00:00", "Z")


def _memory(usage: cgroups.Usage) -> pb.MemoryStats:
    return pb.MemoryStats(
        usage_bytes=usage.memory_bytes,
        working_set_bytes=usage.working_set_bytes,
        rss_bytes=usage.rss_bytes,
        limit_bytes=usage.limit_bytes,
    )
