"""Containers without an engine: processes in control groups of the test's own, named as Docker names them; and what the
kernel has counted of any container, read without the code under test.

On version 1 and version 2 alike, whichever this machine has; root is needed. Everything is gone afterwards.
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from barque.worker.pods.observed import Instance
from barque.worker.stats import cgroups
from tests.support.expecting import expect_soon
from tests.support.host import dying_with_parent

_CONTROLLERS = ("cpuacct", "memory")


def _parents(name: str) -> set[Path]:
    """Where the groups stand: one directory a hierarchy."""
    mounts = cgroups.parse_mounts(Path("/proc/self/mountinfo").read_text())
    found = set()
    for controller in _CONTROLLERS:
        point = Path(mounts[controller if controller in mounts else cgroups.UNIFIED].point)
        parent = point / name
        if controller not in mounts:
            for above in (point, parent):
                above.mkdir(exist_ok=True)
                (above / "cgroup.subtree_control").write_text("+cpu +memory")
        found.add(parent)
    return found


@contextmanager
def containers(count: int, command: Sequence[str] = ("sleep", "600")) -> Iterator[list[Instance]]:
    """So many running containers, each one process."""
    parents = _parents(f"barque-test-{secrets.token_hex(4)}")
    with ExitStack() as stack:
        for parent in parents:
            stack.callback(_remove, parent)
        made = []
        for number in range(count):
            container_id = secrets.token_hex(32)
            for parent in parents:
                (parent / container_id).mkdir(parents=True)
                stack.callback(_remove, parent / container_id)
            process = subprocess.Popen(
                [*dying_with_parent("KILL"), *command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
            stack.callback(_end, process)
            for parent in parents:
                (parent / container_id / "cgroup.procs").write_text(str(process.pid))
            made.append(Instance(id=container_id, name=f"c{number}", attempt=0, state="running", pid=process.pid))
        yield made


class Counters:
    """A container's, found by nothing but the name of its groups."""

    def __init__(self, container_id: str) -> None:
        # Groups of others come and go meanwhile, which `os.walk` bears.
        self._groups = [
            Path(above, name) for above, names, _ in os.walk("/sys/fs/cgroup") for name in names if container_id in name
        ]

    def cpu_ns(self) -> int:
        for group in self._groups:
            if (group / "cpuacct.usage").exists():
                return int((group / "cpuacct.usage").read_text())
        return 1000 * self._number("cpu.stat", r"usage_usec (\d+)")

    def memory_bytes(self) -> int:
        """The working set."""
        if any((group / "memory.current").exists() for group in self._groups):
            return self._number("memory.current", r"(\d+)") - self._number("memory.stat", r"inactive_file (\d+)")
        used = self._number("memory.usage_in_bytes", r"(\d+)")
        return used - self._number("memory.stat", r"total_inactive_file (\d+)")

    def _number(self, file: str, pattern: str) -> int:
        (text,) = ((group / file).read_text() for group in self._groups if (group / file).exists())
        found = re.search(f"^{pattern}", text, re.MULTILINE)
        assert found is not None, (file, text)
        return int(found[1])


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(60)


def _remove(group: Path) -> None:
    def gone() -> bool:
        with suppress(OSError):
            group.rmdir()
        return not group.exists()

    expect_soon(gone, 60, f"{group} is gone")
