"""A container's use of CPU and memory, from its control groups: version 1, version 2, or both side by side.

Which directory counts a process is read from /proc (cgroups(7)), so neither Docker's cgroup driver nor its parent
group need be known. The working set is what the kubelet reports: what is used without inactive file pages, which the
kernel would give up first.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

# The memory limit of version 1 that means none is the largest multiple of a page in 63 bits.
_NO_LIMIT = 2**62
# By this name the hierarchy of version 2, which carries all its controllers.
UNIFIED = ""


class Usage(NamedTuple):
    """`limit_bytes` is 0 for no limit."""

    cpu_ns: int
    memory_bytes: int
    working_set_bytes: int
    rss_bytes: int
    limit_bytes: int


class Mounted(NamedTuple):
    """Where a hierarchy is mounted, and which of its groups is there."""

    point: Path
    root: str


def parse_mounts(mountinfo: str) -> dict[str, Mounted]:
    """The hierarchies by controller from /proc/self/mountinfo; the first mount of each counts."""
    found: dict[str, Mounted] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind, *rest = after.split()
        fields = before.split()
        if kind == "cgroup2":
            found.setdefault(UNIFIED, Mounted(Path(fields[4]), fields[3]))
        elif kind == "cgroup":
            for controller in rest[-1].split(","):
                found.setdefault(controller, Mounted(Path(fields[4]), fields[3]))
    return found


def parse_membership(text: str) -> dict[str, str]:
    """The groups of a process by controller, from its /proc/PID/cgroup."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = path
    return found


def directory(controller: str, groups: Mapping[str, str], mounts: Mapping[str, Mounted]) -> tuple[Path, bool] | None:
    """Where a controller counts the process, and whether that is version 2; None where it cannot be seen from here."""
    name = controller if controller in groups and controller in mounts else UNIFIED
    if name not in groups or name not in mounts or groups[name].startswith("/.."):
        return None
    mounted, path = mounts[name], groups[name]
    if mounted.root != "/" and (path == mounted.root or path.startswith(f"{mounted.root}/")):
        path = path[len(mounted.root) :]
    return mounted.point / path.lstrip("/"), name == UNIFIED


def read_usage(pid: int, container_id: str, mounts: Mapping[str, Mounted], proc: Path = Path("/proc")) -> Usage | None:
    """What the container of a process uses; None where it has ended, or its groups cannot be seen from here.

    A process id may have gone to another process meanwhile: its groups must be named for the container.
    """
    try:
        groups = parse_membership((proc / str(pid) / "cgroup").read_text())
        memory, cpu = directory("memory", groups, mounts), directory("cpuacct", groups, mounts)
        if memory is None or cpu is None or not all(container_id in str(path) for path, _ in (memory, cpu)):
            return None
        return _memory(*memory)._replace(cpu_ns=_cpu_ns(*cpu))
    except (OSError, ValueError, KeyError):
        return None


def _cpu_ns(group: Path, unified: bool) -> int:
    if unified:
        return _flat(group / "cpu.stat")["usage_usec"] * 1000
    return int((group / "cpuacct.usage").read_text())


def _memory(group: Path, unified: bool) -> Usage:
    stat = _flat(group / "memory.stat")
    if unified:
        used, limit = int((group / "memory.current").read_text()), (group / "memory.max").read_text().strip()
        inactive, rss, most = stat["inactive_file"], stat["anon"], 0 if limit == "max" else int(limit)
    else:
        used = int((group / "memory.usage_in_bytes").read_text())
        most = int((group / "memory.limit_in_bytes").read_text())
        inactive, rss, most = stat["total_inactive_file"], stat["total_rss"], 0 if most >= _NO_LIMIT else most
    return Usage(0, used, max(0, used - inactive), rss, most)


def _flat(path: Path) -> dict[str, int]:
    """A flat keyed file, a name and a number a line."""
    return {name: int(value) for name, value in (line.split() for line in path.read_text().splitlines())}
