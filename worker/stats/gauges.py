"""`Gauges`: what the kernel counts of a container, of a pod's network and of the node, read at this moment.

The only reader of usage: the sampler, `Stats` and the evictor all ask here. Where a container is counted is looked up
once in its life; its directory carries its id, so it can never be another's, and it goes when the container ends.
Everything blocks, for as long as the kernel takes to sum up its counters; calls from several threads do no harm.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from barque.client.clock import Clock
from barque.worker.pods.observed import Instance
from barque.worker.stats import cgroups, proc
from barque.worker.stats.cgroups import Groups, Memory, Mounted
from barque.worker.stats.files import read
from barque.worker.stats.proc import HostUsage, Traffic


class Usage(NamedTuple):
    """`cpu_ns` is since the container started, as counted at `read_s` in monotonic seconds."""

    cpu_ns: int
    read_s: float
    memory: Memory


class Filesystem(NamedTuple):
    used_bytes: int
    capacity_bytes: int
    available_bytes: int


class Gauges:
    """`disk` is a directory on the file system of the pods, `root` where the host's files stand."""

    def __init__(self, clock: Clock, disk: Path, root: Path = Path("/")) -> None:
        self._clock = clock
        self._disk = disk
        self._root = "" if root == Path("/") else str(root)
        self._known: dict[str, Groups] = {}

    def container(self, instance: Instance) -> Usage | None:
        """What a container uses; None where it has ended, or its groups cannot be seen from here."""
        groups = self._groups(instance)
        if groups is None:
            return None
        try:
            cpu_ns, read_s = groups.cpu_ns(), self._clock.monotonic()
            return Usage(cpu_ns, read_s, groups.memory_use())
        except (OSError, ValueError):
            self._known.pop(instance.id, None)
            return None

    def limit_bytes(self, instance: Instance) -> int:
        """How much memory a container may use; 0 for no limit, and for one that has ended."""
        groups = self._groups(instance)
        try:
            return groups.limit_bytes() if groups is not None else 0
        except (OSError, ValueError):
            return 0

    def working_set(self, instance: Instance) -> int | None:
        """Bytes in use, without what the kernel could drop at once; None where the container has ended."""
        found = self.container(instance)
        return found.memory.working_set_bytes if found is not None else None

    def traffic(self, instances: Iterable[Instance]) -> Traffic | None:
        """What went through the network that these containers of one pod share: any of them can tell.

        None where all have ended. A process id may have gone to another process, in another network: once the counts
        are read, the process must still be in the container's groups.
        """
        for instance in instances:
            process = f"{self._root}/proc/{instance.pid}"
            try:
                counted = proc.parse_traffic(read(f"{process}/net/dev"))
                if instance.id.encode() in read(f"{process}/cgroup"):
                    return counted
            except (OSError, ValueError, IndexError):
                continue
        return None

    def node(self) -> HostUsage:
        """What all processes of the host use. Raises OSError, ValueError."""
        return proc.parse_host(self._text("proc/stat"), self._text("proc/meminfo"))

    def filesystem(self) -> Filesystem:
        """The file system of the pods. Raises OSError."""
        stat = os.statvfs(self._disk)
        size = stat.f_blocks * stat.f_frsize
        return Filesystem(size - stat.f_bfree * stat.f_frsize, size, stat.f_bavail * stat.f_frsize)

    def retain(self, ids: Collection[str]) -> None:
        """Forget where all other containers are counted."""
        for gone in self._known.keys() - ids:
            self._known.pop(gone, None)

    def _groups(self, instance: Instance) -> Groups | None:
        found = self._known.get(instance.id)
        if found is None:
            try:
                membership = self._text(f"proc/{instance.pid}/cgroup")
                found = cgroups.locate(membership, instance.id, self._mounts)
            except (OSError, ValueError):
                return None
            if found is not None:
                self._known[instance.id] = found
        return found

    @functools.cached_property
    def _mounts(self) -> Mapping[str, Mounted]:
        """Control groups are mounted when the host starts, and stay where they are."""
        found = cgroups.parse_mounts(self._text("proc/self/mountinfo"))
        return {name: mounted._replace(point=self._root + mounted.point) for name, mounted in found.items()}

    def _text(self, path: str) -> str:
        return read(f"{self._root}/{path}").decode()
