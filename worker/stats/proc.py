"""The node's own use of CPU and memory, a network namespace's traffic, and the size of directories."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from barque.worker.host import parse_meminfo

# /proc/stat counts in hundredths of a second, on every architecture.
_TICK_NS = 10_000_000
# The columns of `Traffic` in /proc/PID/net/dev: eight of what is received, then what is sent.
_COUNTED = (0, 8, 2, 10)


class HostUsage(NamedTuple):
    cpu_ns: int
    memory_bytes: int
    working_set_bytes: int
    rss_bytes: int
    capacity_bytes: int


class Traffic(NamedTuple):
    received_bytes: int = 0
    sent_bytes: int = 0
    receive_errors: int = 0
    send_errors: int = 0


def parse_host(stat: str, meminfo: str) -> HostUsage:
    """What all processes of the host use, from /proc/stat and /proc/meminfo."""
    # user nice system idle iowait irq softirq steal; guests' time is in user's and nice's already (proc(5)).
    user, nice, system, _, _, irq, softirq, steal = map(int, stat.splitlines()[0].split()[1:9])
    memory = parse_meminfo(meminfo)
    used = memory["MemTotal"] - memory["MemFree"]
    return HostUsage(
        cpu_ns=(user + nice + system + irq + softirq + steal) * _TICK_NS,
        memory_bytes=used,
        working_set_bytes=max(0, used - memory.get("Inactive(file)", 0)),
        rss_bytes=memory.get("AnonPages", 0),
        capacity_bytes=memory["MemTotal"],
    )


def parse_traffic(net_dev: bytes) -> Traffic:
    """The sum over all interfaces but loopback, from /proc/PID/net/dev."""
    total = [0, 0, 0, 0]
    for line in net_dev.splitlines()[2:]:
        name, _, counted = line.rpartition(b":")
        if name.strip() == b"lo":
            continue
        fields = counted.split()
        for at, column in enumerate(_COUNTED):
            total[at] += int(fields[column])
    return Traffic(*total)


def size_of(path: Path) -> int:
    """Bytes on disk of a file, or of all that is below a directory, as du(1) counts: a file with several names once,
    other file systems not at all. What vanishes meanwhile does not count. Blocks.
    """
    total, waiting, seen = 0, [os.fspath(path)], set[int]()
    device = path.stat().st_dev if path.is_dir() else 0
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(here) as entries:
                for entry in entries:
                    try:
                        about = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    if about.st_dev != device or about.st_ino in seen:
                        continue
                    if about.st_nlink > 1:
                        seen.add(about.st_ino)
                    total += about.st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except NotADirectoryError:
            total += os.lstat(here).st_blocks * 512
        except FileNotFoundError:
            continue
    return total
