"""What containers, the node and its network use, read from recorded trees of both versions of control groups."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from barque.worker.stats import cgroups, proc
from barque.worker.stats.cgroups import Mounted, Usage

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


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def here(mounts: str, root: Path) -> dict[str, Mounted]:
    """The mounts as they stand below a recorded tree."""
    return {
        name: mounted._replace(point=root / str(mounted.point).lstrip("/"))
        for name, mounted in cgroups.parse_mounts(mounts).items()
    }


def version_1(root: Path, limit: str = "9223372036854771712") -> dict[str, Mounted]:
    group = f"sys/fs/cgroup/memory/docker/{ID}"
    stat = "cache 900\nrss 400\ninactive_file 1\ntotal_rss 500\ntotal_inactive_file 300\n"
    write(
        root,
        {
            "proc/77/cgroup": V1_GROUPS,
            f"{group}/memory.usage_in_bytes": "1000\n",
            f"{group}/memory.limit_in_bytes": f"{limit}\n",
            f"{group}/memory.stat": stat,
            f"sys/fs/cgroup/cpu,cpuacct/docker/{ID}/cpuacct.usage": "123456789\n",
        },
    )
    return here(V1_MOUNTS, root)


def version_2(root: Path, limit: str = "max") -> dict[str, Mounted]:
    group = f"sys/fs/cgroup/system.slice/docker-{ID}.scope"
    write(
        root,
        {
            "proc/77/cgroup": V2_GROUPS,
            f"{group}/memory.current": "2000\n",
            f"{group}/memory.max": f"{limit}\n",
            f"{group}/memory.stat": "anon 700\nfile 1200\ninactive_file 1100\n",
            f"{group}/cpu.stat": "usage_usec 5000\nuser_usec 4000\nsystem_usec 1000\n",
        },
    )
    return here(V2_MOUNTS, root)


def test_version_1(tmp_path: Path) -> None:
    mounts = version_1(tmp_path)
    assert cgroups.read_usage(77, ID, mounts, tmp_path / "proc") == Usage(123456789, 1000, 700, 500, 0)
    mounts = version_1(tmp_path, "4096")
    assert cgroups.read_usage(77, ID, mounts, tmp_path / "proc") == Usage(123456789, 1000, 700, 500, 4096)


def test_version_2(tmp_path: Path) -> None:
    mounts = version_2(tmp_path)
    assert cgroups.read_usage(77, ID, mounts, tmp_path / "proc") == Usage(5_000_000, 2000, 900, 700, 0)
    mounts = version_2(tmp_path, "8192")
    assert cgroups.read_usage(77, ID, mounts, tmp_path / "proc") == Usage(5_000_000, 2000, 900, 700, 8192)


def test_a_process_that_ended_or_is_another_by_now_is_not_measured(tmp_path: Path) -> None:
    mounts = version_2(tmp_path)
    assert cgroups.read_usage(78, ID, mounts, tmp_path / "proc") is None
    assert cgroups.read_usage(77, "another", mounts, tmp_path / "proc") is None


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
    place = cgroups.directory("memory", {"": path}, {"": Mounted(Path("/cg"), root)})
    assert place == ((Path(found), True) if found else None)


def test_the_node_as_a_whole() -> None:
    stat = "cpu  100 10 50 9999 777 5 6 7 3 2\ncpu0 1 2 3 4 5 6 7 8 9 10\n"
    meminfo = "MemTotal: 1000 kB\nMemFree: 300 kB\nInactive(file): 100 kB\nAnonPages: 250 kB\n"
    found = proc.parse_host(stat, meminfo)
    assert found.cpu_ns == 178 * 10_000_000
    assert (found.memory_bytes, found.working_set_bytes) == (700 * 1024, 600 * 1024)
    assert (found.rss_bytes, found.capacity_bytes) == (250 * 1024, 1000 * 1024)


def test_traffic_without_loopback() -> None:
    net_dev = (
        "Inter-|   Receive                                                |  Transmit\n"
        " face |bytes    packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier\n"
        "    lo: 999 9 9 0 0 0 0 0 999 9 9 0 0 0 0 0\n"
        "  eth0: 100 2 1 0 0 0 0 0 200 3 4 0 0 0 0 0\n"
        "  eth1:   1 1 0 0 0 0 0 0   2 1 0 0 0 0 0 0\n"
    )
    assert proc.parse_traffic(net_dev) == proc.Traffic(101, 202, 1, 4)


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
