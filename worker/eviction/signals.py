"""What of the host may run out, and the thresholds that matter. `met` is pure; `read_signals` reads /proc and statvfs.

Thresholds are Kubernetes' hard ones; what is below them ends pods at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from barque.worker.host import MIN_AVAILABLE_BYTES, parse_meminfo

SignalName = Literal[
    "memory.available",
    "nodefs.available",
    "nodefs.inodesFree",
    "imagefs.available",
    "imagefs.inodesFree",
    "pid.available",
]
Condition = Literal["MemoryPressure", "DiskPressure", "PIDPressure"]


class Signal(NamedTuple):
    """Bytes, inodes or process ids."""

    available: int
    capacity: int


class Threshold(NamedTuple):
    """Met below `amount`, or below `share` of the capacity."""

    signal: SignalName
    amount: int = 0
    share: float = 0.0

    def quantity(self, capacity: int) -> int:
        return self.amount or int(capacity * self.share)


THRESHOLDS = (
    Threshold("memory.available", amount=MIN_AVAILABLE_BYTES),
    Threshold("nodefs.available", share=0.10),
    Threshold("nodefs.inodesFree", share=0.05),
    Threshold("imagefs.available", share=0.15),
    Threshold("imagefs.inodesFree", share=0.05),
    # Not one of Kubernetes' defaults: a condition only, no pod is ended for it.
    Threshold("pid.available", share=0.10),
)
CONDITIONS: dict[SignalName, Condition] = {
    "memory.available": "MemoryPressure",
    "nodefs.available": "DiskPressure",
    "nodefs.inodesFree": "DiskPressure",
    "imagefs.available": "DiskPressure",
    "imagefs.inodesFree": "DiskPressure",
    "pid.available": "PIDPressure",
}
# What messages call that which is short.
RESOURCES: dict[SignalName, str] = {
    "memory.available": "memory",
    "nodefs.available": "ephemeral-storage",
    "nodefs.inodesFree": "inodes",
    "imagefs.available": "ephemeral-storage",
    "imagefs.inodesFree": "inodes",
    "pid.available": "pids",
}


class Met(NamedTuple):
    """A threshold that is met, with what was measured."""

    signal: SignalName
    quantity: int
    available: int


def met(signals: Mapping[SignalName, Signal], thresholds: tuple[Threshold, ...] = THRESHOLDS) -> list[Met]:
    """The thresholds below which something is, memory first, since it runs out fastest."""
    found: list[Met] = []
    for threshold in thresholds:
        signal = signals.get(threshold.signal)
        if signal is not None and signal.capacity and signal.available < threshold.quantity(signal.capacity):
            found.append(Met(threshold.signal, threshold.quantity(signal.capacity), signal.available))
    return found


def read_signals(pods: Path, images: Path, root: Path = Path("/")) -> dict[SignalName, Signal]:
    """What there is at this moment; `pods` and `images` are any directories on the disks that hold these. Blocking."""
    memory = parse_meminfo((root / "proc/meminfo").read_text())
    found: dict[SignalName, Signal] = {
        "memory.available": Signal(memory.get("MemAvailable", 0), memory.get("MemTotal", 0))
    }
    found |= _disk(pods, "nodefs.available", "nodefs.inodesFree")
    if images.is_dir():
        found |= _disk(images, "imagefs.available", "imagefs.inodesFree")
    most = int((root / "proc/sys/kernel/pid_max").read_text())
    running = int((root / "proc/loadavg").read_text().split()[3].partition("/")[2])
    found["pid.available"] = Signal(max(0, most - running), most)
    return found


def _disk(path: Path, bytes_name: SignalName, inodes_name: SignalName) -> dict[SignalName, Signal]:
    stat = os.statvfs(path)
    return {
        bytes_name: Signal(stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize),
        # Some file systems count no inodes: capacity 0, which is never short.
        inodes_name: Signal(stat.f_favail, stat.f_files),
    }
