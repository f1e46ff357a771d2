"""The pods on disk."""

from __future__ import annotations

import asyncio
from pathlib import Path

from barque.worker.desired import PodCache, write_durably
from tests.support.worker_world import a_pod


def names(cache: PodCache) -> list[str]:
    return [pod.metadata.name for pod in cache.load()]


async def written(cache: PodCache) -> None:
    """Let the writer write what is dirty."""
    taken, cache._dirty = cache._dirty, {}
    await asyncio.to_thread(cache._write, taken)


async def test_pods_survive_a_restart(tmp_path: Path) -> None:
    cache = PodCache(tmp_path, "c1")
    cache.load()
    cache.put(a_pod("a"))
    cache.put(a_pod("b"))
    await written(cache)
    cache.drop("uid-a")
    await written(cache)
    assert names(PodCache(tmp_path, "c1")) == ["b"]


async def test_another_clusters_pods_are_not_read(tmp_path: Path) -> None:
    cache = PodCache(tmp_path, "c1")
    cache.load()
    cache.put(a_pod("a"))
    await written(cache)
    assert names(PodCache(tmp_path, "c2")) == []


async def test_a_status_alone_is_not_written(tmp_path: Path) -> None:
    cache = PodCache(tmp_path, "c1")
    cache.load()
    cache.put(a_pod("a"))
    await written(cache)
    pod = a_pod("a")
    pod.status.podIP, pod.metadata.resourceVersion = "10.0.0.2", "99"
    cache.put(pod)
    assert cache._dirty == {}
    pod.metadata.deletionTimestamp = "2026-01-01T00:00:00Z"
    cache.put(pod)
    assert list(cache._dirty) == ["uid-a"]


async def test_a_torn_or_damaged_file_harms_no_other_pod(tmp_path: Path) -> None:
    cache = PodCache(tmp_path, "c1")
    cache.load()
    cache.put(a_pod("a"))
    await written(cache)
    (tmp_path / "c1/uid-b.json").write_bytes(b'{"metadata":')
    (tmp_path / "c1/uid-c.tmp").write_bytes(b"half")
    assert names(PodCache(tmp_path, "c1")) == ["a"]
    assert not (tmp_path / "c1/uid-c.tmp").exists()


async def test_what_the_first_sync_does_not_name_is_dropped(tmp_path: Path) -> None:
    cache = PodCache(tmp_path, "c1")
    cache.load()
    cache.put(a_pod("a"))
    cache.put(a_pod("b"))
    cache.retain({"uid-b"})
    await written(cache)
    assert names(PodCache(tmp_path, "c1")) == ["b"]


def test_a_durable_write_replaces_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_durably(path, b"old")
    write_durably(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
