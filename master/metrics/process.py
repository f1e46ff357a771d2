"""The process itself, as Prometheus' clients name it, its build, and how long its event loop was held."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from barque.master.metrics.exposition import Family, counter, gauge, histogram_samples, render_labels, sample
from barque.master.stalls import StallMonitor

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def process_families() -> Iterator[Family]:
    """Processor time, memory and open files, by /proc."""
    # After the command, which may hold anything but its closing bracket; the first is the third of proc(5).
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    user, system, started, virtual_bytes, resident_pages = (int(fields[number - 3]) for number in (14, 15, 22, 23, 24))
    yield counter(
        "process_cpu_seconds_total", "User and system processor time, in seconds.", (user + system) / _TICKS_PER_S
    )
    yield gauge("process_resident_memory_bytes", "Resident memory.", resident_pages * _PAGE_BYTES)
    yield gauge("process_virtual_memory_bytes", "Virtual memory.", virtual_bytes)
    yield gauge(
        "process_start_time_seconds", "When the process started, since the epoch.", _boot_s() + started / _TICKS_PER_S
    )
    # One of them is the descriptor by which they are listed.
    yield gauge("process_open_fds", "Open file descriptors.", len(os.listdir("/proc/self/fd")) - 1)
    yield gauge("process_max_fds", "The most that may be open.", resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def build_families(git_version: str, barque_version: str) -> Iterator[Family]:
    """`git_version` is the version of Kubernetes' API that is served, as `/version` tells it."""
    name = "kubernetes_build_info"
    build = render_labels({"git_version": git_version, "platform": f"linux/{platform.machine()}"})
    yield Family(name, "gauge", "The version of Kubernetes' API that is served.", (sample(name, 1, build),))
    name = "barque_build_info"
    build = render_labels({"version": barque_version, "python": platform.python_version()})
    yield Family(name, "gauge", "The release of Barque.", (sample(name, 1, build),))


def loop_families(stalls: StallMonitor) -> Iterator[Family]:
    """How late the event loop came to a timer, as the monitor measured it."""
    delays = stalls.delays()
    name = "barque_event_loop_delay_seconds"
    lines = histogram_samples(name, "", delays.bounds_s, delays.counts, delays.total_s)
    yield Family(name, "histogram", "How late the event loop came to a timer, in seconds.", lines)
    longest_s = stalls.figures().max_ms / 1000
    yield gauge("barque_event_loop_delay_max_seconds", "The longest of these delays, in seconds.", longest_s)


@cache
def _boot_s() -> float:
    """When the machine started, in seconds since the epoch."""
    lines = Path("/proc/stat").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("btime ")))
