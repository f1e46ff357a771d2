"""`Meter`: what the node and each container of its pods use, as `Stats` tells it when somebody asks.

CPU, memory and traffic are read anew each time; disk use, which takes a walk over the files, is at most
`disks.DISK_AGE_S` old. What has ended between the asking and the reading is left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from barque.api.types import core_v1
from barque.client.clock import Clock
from barque.proto import node_pb2 as pb
from barque.worker.pods.observed import Instance, Observed
from barque.worker.stats.cgroups import Memory
from barque.worker.stats.disks import Disks
from barque.worker.stats.gauges import Gauges

Blocking = Callable[..., Awaitable[Any]]


class Meter:
    """`blocking` runs what reads files off the event loop."""

    def __init__(self, gauges: Gauges, disks: Disks, clock: Clock, blocking: Blocking = asyncio.to_thread) -> None:
        self._gauges = gauges
        self._disks = disks
        self._clock = clock
        self._blocking = blocking

    async def read(self, pods: Sequence[tuple[core_v1.Pod, Observed]]) -> pb.StatsReply:
        """The use at this moment."""
        running = [(pod, observed.running()) for pod, observed in pods]
        await self._disks.refresh([instance.id for _, instances in running for instance in instances])
        reply: pb.StatsReply = await self._blocking(self._read, running)
        return reply

    def _read(self, running: Sequence[tuple[core_v1.Pod, Sequence[Instance]]]) -> pb.StatsReply:
        return pb.StatsReply(node=self._node(), pods=[self._pod(pod, found) for pod, found in running])

    def _node(self) -> pb.NodeStats:
        found, disk = self._gauges.node(), self._gauges.filesystem()
        return pb.NodeStats(
            cpu=pb.CpuStats(time=self._now(), usage_core_ns=found.cpu_ns),
            memory=_memory(Memory(found.memory_bytes, found.working_set_bytes, found.rss_bytes), found.capacity_bytes),
            filesystem=pb.FilesystemStats(**disk._asdict()),
        )

    def _pod(self, pod: core_v1.Pod, running: Sequence[Instance]) -> pb.PodStats:
        meta = pod.metadata
        stats = pb.PodStats(namespace=meta.namespace, name=meta.name, uid=meta.uid)
        now = self._now()
        cpu_ns, total = 0, Memory(0, 0, 0)
        for instance in running:
            usage = self._gauges.container(instance)
            if usage is None:
                continue
            cpu_ns += usage.cpu_ns
            total = Memory(*(a + b for a, b in zip(total, usage.memory, strict=True)))
            stats.containers.append(
                pb.ContainerStats(
                    name=instance.name,
                    started_at=instance.started_at,
                    cpu=pb.CpuStats(time=now, usage_core_ns=usage.cpu_ns),
                    memory=_memory(usage.memory, self._gauges.limit_bytes(instance)),
                    filesystem=pb.FilesystemStats(used_bytes=self._disks.used_bytes(instance.id)),
                )
            )
        stats.cpu.CopyFrom(pb.CpuStats(time=now, usage_core_ns=cpu_ns))
        stats.memory.CopyFrom(_memory(total))
        traffic = self._gauges.traffic(running) if not pod.spec.hostNetwork else None
        if traffic is not None:
            stats.network.CopyFrom(pb.NetworkStats(**traffic._asdict()))
        return stats

    def _now(self) -> str:
        return self._clock.wall().isoformat().replace("+00:00", "Z")


def _memory(found: Memory, limit_bytes: int = 0) -> pb.MemoryStats:
    return pb.MemoryStats(
        usage_bytes=found.used_bytes,
        working_set_bytes=found.working_set_bytes,
        rss_bytes=found.rss_bytes,
        limit_bytes=limit_bytes,
    )
