"""How much memory a container uses, as its control groups say, without asking the engine. Blocking."""

from __future__ import annotations

from pathlib import Path

from barque.worker.pods.observed import Instance
from barque.worker.stats import cgroups

MOUNTINFO = Path("/proc/self/mountinfo")


def working_set(instance: Instance) -> int | None:
    """Bytes in use, without what the kernel could drop at once; None where the container has ended."""
    found = cgroups.read_usage(instance.pid, instance.id, cgroups.parse_mounts(MOUNTINFO.read_text()))
    return found.working_set_bytes if found is not None else None
