"""A container's use of CPU and memory, from its control groups: version 1, version 2, or both side by side.

Which directory counts a process is read from /proc (cgroups(7)), so neither Docker's cgroup driver nor its parent
group need be known. The working set is what the kubelet reports: what is used without inactive file pages, which the
kernel would give up first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from barque.worker.stats.files import field, read

# The memory limit of version 1 that means none is the largest multiple of a page in 63 bits.
_NO_LIMIT = 2**62
# By this name the hierarchy of version 2, which carries all its controllers.
UNIFIED = ""


class Memory(NamedTuple):
    used_bytes: int
    working_set_bytes: int
    rss_bytes: int


class Mounted(NamedTuple):
    """Where a hierarchy is mounted, and which of its groups is there."""

    point: str
    root: str


class Group(NamedTuple):
    """A directory that counts for one controller."""

    path: str
    unified: bool


class Groups(NamedTuple):
    """Where a container is counted. Reading raises OSError once the container has ended, ValueError for what is no
    number.
    """

    cpu: Group
    memory: Group

    def cpu_ns(self) -> int:
        """CPU time since the container started."""
        if self.cpu.unified:
            return field(read(f"{self.cpu.path}/cpu.stat"), b"usage_usec") * 1000
        return int(read(f"{self.cpu.path}/cpuacct.usage"))

    def memory_use(self) -> Memory:
        path, unified = self.memory
        used = int(read(f"{path}/{'memory.current' if unified else 'memory.usage_in_bytes'}"))
        stat = read(f"{path}/memory.stat")
        inactive = field(stat, b"inactive_file" if unified else b"total_inactive_file")
        return Memory(used, max(0, used - inactive), field(stat, b"anon" if unified else b"total_rss"))

    def limit_bytes(self) -> int:
        """How much memory the container may use; 0 for no limit."""
        path, unified = self.memory
        if unified:
            said = read(f"{path}/memory.max").strip()
            return 0 if said == b"max" else int(said)
        most = int(read(f"{path}/memory.limit_in_bytes"))
        return 0 if most >= _NO_LIMIT else most


def parse_mounts(mountinfo: str) -> dict[str, Mounted]:
    """The hierarchies by controller from /proc/self/mountinfo; the first mount of each counts."""
    found: dict[str, Mounted] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind, *rest = after.split()
        fields = before.split()
        if kind == "cgroup2":
            found.setdefault(UNIFIED, Mounted(fields[4], fields[3]))
        elif kind == "cgroup":
            for controller in rest[-1].split(","):
                found.setdefault(controller, Mounted(fields[4], fields[3]))
    return found


def parse_membership(text: str) -> dict[str, str]:
    """The groups of a process by controller, from its /proc/PID/cgroup."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = path
    return found


def directory(controller: str, groups: Mapping[str, str], mounts: Mapping[str, Mounted]) -> Group | None:
    """Where a controller counts the process; None where it cannot be seen from here."""
    name = controller if controller in groups and controller in mounts else UNIFIED
    if name not in groups or name not in mounts or groups[name].startswith("/.."):
        return None
    mounted, path = mounts[name], groups[name]
    if mounted.root != "/" and (path == mounted.root or path.startswith(f"{mounted.root}/")):
        path = path[len(mounted.root) :]
    return Group(f"{mounted.point.rstrip('/')}/{path.lstrip('/')}", name == UNIFIED)


def locate(membership: str, container_id: str, mounts: Mapping[str, Mounted]) -> Groups | None:
    """Where the container of a process is counted; None where that cannot be seen from here.

    A process id may have gone to another process meanwhile: its groups must be named for the container. A process that
    moved into a group of its own making, as an init system does, is counted with the whole container.
    """
    groups = parse_membership(membership)
    cpu = _group_of(container_id, directory("cpuacct", groups, mounts))
    memory = _group_of(container_id, directory("memory", groups, mounts))
    return Groups(cpu, memory) if cpu is not None and memory is not None else None


def _group_of(container_id: str, group: Group | None) -> Group | None:
    before, named, after = group.path.partition(container_id) if group is not None else ("", "", "")
    if group is None or not named:
        return None
    return group._replace(path=before + named + after.partition("/")[0])
