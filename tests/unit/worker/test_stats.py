"""What containers, the node and its network use, read from recorded trees of both versions of control groups."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from barque.worker.pods.observed import Instance
from barque.worker.stats import cgroups, proc
from barque.worker.stats.cgroups import Memory, Mounted
from barque.worker.stats.files import field
from barque.worker.stats.gauges import Gauges
from tests.support.clock import FakeClock

ID = "4f6c2b"
V1_MOUNTS = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
V1_GROUPS = f"""\
9:name=systemd:/docker/{ID}
5:memory:/docker/{ID}
2:cpu,cpuacct:/docker/{ID}
0::/system.slice/docker.service
"""
V2_MOUNTS = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V2_GROUPS = f"0::/system.slice/docker-{ID}.scope\n"
NET_DEV = (
    "Inter-|   Receive                                                |  Transmit\n"
    " face |bytes    packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier\n"
    "    lo: 999 9 9 0 0 0 0 0 999 9 9 0 0 0 0 0\n"
    "  eth0: 100 2 1 0 0 0 0 0 200 3 4 0 0 0 0 0\n"
    "eth1:0:   1 1 0 0 0 0 0 0   2 1 0 0 0 0 0 0\n"
)


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def version_1(root: Path, limit: str = "9223372036854771712", path: str = f"/docker/{ID}") -> None:
    group = f"sys/fs/cgroup/memory/docker/{ID}"
    stat = "cache 900\nrss 400\ninactive_file 1\ntotal_rss 500\ntotal_inactive_file 300\n"
    write(
        root,
        {
            "proc/self/mountinfo": V1_MOUNTS,
            "proc/77/cgroup": V1_GROUPS.replace(f"/docker/{ID}", path),
            f"{group}/memory.usage_in_bytes": "1000\n",
            f"{group}/memory.limit_in_bytes": f"{limit}\n",
            f"{group}/memory.stat": stat,
            f"sys/fs/cgroup/cpu,cpuacct/docker/{ID}/cpuacct.usage": "123456789\n",
        },
    )


def version_2(root: Path, limit: str = "max", path: str = "") -> None:
    group = f"sys/fs/cgroup/system.slice/docker-{ID}.scope"
    write(
        root,
        {
            "proc/self/mountinfo": V2_MOUNTS,
            "proc/77/cgroup": V2_GROUPS.replace(".scope", f".scope{path}"),
            f"{group}/memory.current": "2000\n",
            f"{group}/memory.max": f"{limit}\n",
            f"{group}/memory.stat": "anon 700\nfile 1200\ninactive_file 1100\n",
            f"{group}/cpu.stat": "usage_usec 5000\nuser_usec 4000\nsystem_usec 1000\n",
        },
    )


def hybrid(root: Path) -> None:
    """Memory counted by version 1, the rest by version 2: as some hosts boot."""
    version_1(root)
    mounts = "".join(line for line in V1_MOUNTS.splitlines(keepends=True) if "cpuacct" not in line)
    group = f"sys/fs/cgroup/unified/docker/{ID}"
    write(
        root,
        {
            "proc/self/mountinfo": mounts,
            "proc/77/cgroup": f"5:memory:/docker/{ID}\n0::/docker/{ID}\n",
            f"{group}/cpu.stat": "usage_usec 7\n",
        },
    )


def an_instance(container_id: str = ID, pid: int = 77, name: str = "app") -> Instance:
    return Instance(id=container_id, name=name, attempt=0, state="running", pid=pid)


def gauges(root: Path) -> Gauges:
    return Gauges(FakeClock(), root, root)


@pytest.mark.parametrize("made", [version_1, version_2])
@pytest.mark.parametrize("below", ["", "/init.scope"])
def test_both_versions_and_groups_of_the_containers_own(tmp_path: Path, made: Any, below: str) -> None:
    made(tmp_path, path=f"/docker/{ID}{below}" if made is version_1 else below)
    found = gauges(tmp_path).container(an_instance())
    assert found is not None
    expected = (123456789, Memory(1000, 700, 500)) if made is version_1 else (5_000_000, Memory(2000, 900, 700))
    assert (found.cpu_ns, found.memory) == expected


def test_version_1_beside_version_2(tmp_path: Path) -> None:
    hybrid(tmp_path)
    found = gauges(tmp_path).container(an_instance())
    assert found is not None
    assert (found.cpu_ns, found.memory) == (7000, Memory(1000, 700, 500))


@pytest.mark.parametrize(
    ("made", "limit", "found"),
    [
        (version_1, "9223372036854771712", 0),
        (version_1, "4096", 4096),
        (version_2, "max", 0),
        (version_2, "8192", 8192),
    ],
)
def test_the_limit_of_memory(tmp_path: Path, made: Any, limit: str, found: int) -> None:
    made(tmp_path, limit)
    assert gauges(tmp_path).limit_bytes(an_instance()) == found


def test_a_process_that_ended_or_is_another_by_now_is_not_measured(tmp_path: Path) -> None:
    version_2(tmp_path)
    here = gauges(tmp_path)
    assert here.container(an_instance(pid=78)) is None
    assert here.container(an_instance("another")) is None
    assert here.working_set(an_instance()) == 900


def test_where_a_container_is_counted_is_looked_up_once(tmp_path: Path) -> None:
    """And again where it has moved; what is damaged is left out until it is whole."""
    version_2(tmp_path)
    here = gauges(tmp_path)
    assert here.working_set(an_instance()) == 900
    (tmp_path / "proc/77/cgroup").unlink()
    assert here.working_set(an_instance()) == 900
    write(tmp_path, {f"sys/fs/cgroup/system.slice/docker-{ID}.scope/memory.stat": "anon 7"})
    assert here.working_set(an_instance()) is None
    version_2(tmp_path)
    assert here.working_set(an_instance()) == 900
    slices = tmp_path / "sys/fs/cgroup"
    (slices / "system.slice").rename(slices / "other.slice")
    write(tmp_path, {"proc/77/cgroup": V2_GROUPS.replace("system", "other")})
    assert [here.working_set(an_instance()) for _ in range(2)] == [None, 900]
    here.retain([])
    (tmp_path / "proc/77/cgroup").unlink()
    assert here.working_set(an_instance()) is None


def test_traffic_is_told_by_any_container_that_is_still_itself(tmp_path: Path) -> None:
    version_2(tmp_path)
    write(tmp_path, {"proc/77/net/dev": NET_DEV, "proc/78/net/dev": NET_DEV.replace("100", "999"),
                     "proc/78/cgroup": "0::/another.scope\n"})  # fmt: skip
    here = gauges(tmp_path)
    ended, taken_over = an_instance("c1", pid=79), an_instance("c2", pid=78)
    assert here.traffic([ended, taken_over, an_instance()]) == proc.Traffic(101, 202, 1, 4)
    assert here.traffic([ended, taken_over]) is None


@pytest.mark.parametrize(
    ("root", "path", "found"),
    [
        ("/", "/docker/x", "/cg/docker/x"),
        ("/docker/outer", "/docker/outer/docker/x", "/cg/docker/x"),
        ("/docker/outer", "/docker/outerly/x", "/cg/docker/outerly/x"),
        ("/", "/../docker/x", None),
    ],
)
def test_a_mount_may_show_a_part_of_the_hierarchy(root: str, path: str, found: str | None) -> None:
    place = cgroups.directory("memory", {"": path}, {"": Mounted("/cg", root)})
    assert place == ((found, True) if found else None)


def test_the_node_as_a_whole() -> None:
    stat = "cpu  100 10 50 9999 777 5 6 7 3 2\ncpu0 1 2 3 4 5 6 7 8 9 10\n"
    meminfo = "MemTotal: 1000 kB\nMemFree: 300 kB\nInactive(file): 100 kB\nAnonPages: 250 kB\n"
    found = proc.parse_host(stat, meminfo)
    assert found.cpu_ns == 178 * 10_000_000
    assert (found.memory_bytes, found.working_set_bytes) == (700 * 1024, 600 * 1024)
    assert (found.rss_bytes, found.capacity_bytes) == (250 * 1024, 1000 * 1024)


def test_traffic_without_loopback() -> None:
    assert proc.parse_traffic(NET_DEV.encode()) == proc.Traffic(101, 202, 1, 4)


def test_a_number_is_found_by_its_whole_name() -> None:
    flat = b"rss 1\ntotal_rss 22\nrss_huge 3"
    assert [field(flat, name) for name in (b"rss", b"total_rss", b"rss_huge")] == [1, 22, 3]
    with pytest.raises(ValueError, match="no huge among 29 bytes"):
        field(flat, b"huge")


def test_the_size_of_what_was_written(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "one").write_bytes(b"x" * 10_000)
    (tmp_path / "a" / "b" / "two").write_bytes(b"x" * 5000)
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    whole = proc.size_of(tmp_path / "a")
    assert 15_000 <= whole <= 40_000
    assert 10_000 <= proc.size_of(tmp_path / "a" / "one") < whole
    assert proc.size_of(tmp_path / "nowhere") == 0


def test_a_file_that_vanishes_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Vanished:
        def stat(self, *, follow_symlinks: bool) -> os.stat_result:
            raise FileNotFoundError

    (tmp_path / "stays").write_bytes(b"x" * 10_000)
    scan = os.scandir

    @contextlib.contextmanager
    def scandir(path: str) -> Iterator[list[object]]:
        with scan(path) as entries:
            yield [Vanished(), *entries]

    monkeypatch.setattr(os, "scandir", scandir)
    assert proc.size_of(tmp_path) >= 10_000
