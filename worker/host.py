"""Facts about this host for its Node: identity, size, pressure. Reads /proc, /etc and statvfs; blocking but quick."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import NamedTuple

MIB = 1024 * 1024
# Kubernetes' eviction thresholds.
MIN_AVAILABLE_BYTES = 100 * MIB
MIN_DISK_SHARE = 0.10
MIN_PID_SHARE = 0.10


class HostFacts(NamedTuple):
    """What does not change while the worker runs."""

    hostname: str
    machine_id: str
    boot_id: str
    system_uuid: str
    os_image: str
    kernel: str
    architecture: str
    cpus: int
    memory_bytes: int


class Pressure(NamedTuple):
    """What is running out; `disk_bytes` is the size of the file system that holds pods."""

    memory: bool = False
    disk: bool = False
    pids: bool = False
    disk_bytes: int = 0


def read_facts(architecture: str, root: Path = Path("/")) -> HostFacts:
    """The facts of the host whose files stand under `root`."""
    memory = parse_meminfo(_read(root / "proc/meminfo"))
    return HostFacts(
        hostname=platform.node(),
        machine_id=_read(root / "etc/machine-id"),
        boot_id=_read(root / "proc/sys/kernel/random/boot_id"),
        system_uuid=_read(root / "sys/class/dmi/id/product_uuid"),
        os_image=parse_os_release(_read(root / "etc/os-release")),
        kernel=platform.release(),
        architecture=architecture,
        cpus=len(os.sched_getaffinity(0)),
        memory_bytes=memory.get("MemTotal", 0),
    )


def read_pressure(disk: Path, root: Path = Path("/")) -> Pressure:
    """What is short at this moment; `disk` is any directory on the file system of the pods."""
    available = parse_meminfo(_read(root / "proc/meminfo")).get("MemAvailable", MIN_AVAILABLE_BYTES)
    stat = os.statvfs(disk)
    free, size = stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize
    most = int(_read(root / "proc/sys/kernel/pid_max") or 0)
    running = _processes(_read(root / "proc/loadavg"))
    return Pressure(
        memory=available < MIN_AVAILABLE_BYTES,
        disk=free < size * MIN_DISK_SHARE,
        pids=bool(most) and most - running < most * MIN_PID_SHARE,
        disk_bytes=size,
    )


def parse_meminfo(text: str) -> dict[str, int]:
    """/proc/meminfo in bytes."""
    found: dict[str, int] = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdecimal():
            found[name] = int(words[0]) * (1024 if words[1:] == ["kB"] else 1)
    return found


def parse_os_release(text: str) -> str:
    """The system's name for people."""
    for line in text.splitlines():
        name, _, value = line.partition("=")
        if name == "PRETTY_NAME":
            return value.strip().strip("\"'")
    return "Linux"


def _processes(loadavg: str) -> int:
    """The number of tasks, from the fourth field of /proc/loadavg: running/total."""
    fields = loadavg.split()
    return int(fields[3].partition("/")[2]) if len(fields) > 3 else 0


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        # Not every host has every one of these; the Node then says nothing about it.
        return ""
