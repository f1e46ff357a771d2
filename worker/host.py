"""Facts about this host for its Node: identity and size. Reads /proc, /etc and statvfs; blocking but quick."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import NamedTuple

MIB = 1024 * 1024
# What is kept back from pods: below it, they are ended for want of memory.
MIN_AVAILABLE_BYTES = 100 * MIB


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
    # The size of the file system that holds pods.
    disk_bytes: int = 0


class Pressure(NamedTuple):
    """What is running out."""

    memory: bool = False
    disk: bool = False
    pids: bool = False


def read_facts(architecture: str, disk: Path, root: Path = Path("/")) -> HostFacts:
    """The facts of the host whose files stand under `root`; `disk` is any directory on the file system of the pods."""
    stat = os.statvfs(disk)
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
        disk_bytes=stat.f_blocks * stat.f_frsize,
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


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        # Not every host has every one of these; the Node then says nothing about it.
        return ""
