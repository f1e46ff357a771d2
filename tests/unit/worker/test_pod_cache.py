"""The pods on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from barque.worker.desired import RETRY_S, PodCache, write_durably
from tests.support.clock import FakeClock
from tests.support.worker_world import a_pod


def a_cache(folder: Path, cluster: str) -> PodCache:
    return PodCache(folder, cluster, FakeClock())


def names(cache: PodCache) -> list[str]:
    return [pod.metadata.name for pod in cache.load()]


async def written(cache: PodCache) -> None:
    """Let the writer write what is dirty."""
    taken, cache._dirty = cache._dirty, {}
    await asyncio.to_thread(cache._write, taken)


async def until(holds: Callable[[], bool]) -> None:
    """Let the thread that writes get there."""
    while not holds():
        await asyncio.sleep(0)


async def test_pods_survive_a_restart(tmp_path: Path) -> None:
    cache = a_cache(tmp_path, "c1")
    cache.load()
    cache.put(a_pod("a"))
    cache.put(a_pod("b"))
    await written(cache)
    cache.drop("uid-a")
    await written(cache)
    assert names(a_cache(tmp_path, "c1")) == ["b"]


async def test_another_clusters_pods_are_not_read(tmp_path: Path) -> None:
    cache = a_cache(tmp_path, "c1")
    cache.load()
    cache.put(a_pod("a"))
    await written(cache)
    assert names(a_cache(tmp_path, "c2")) == []


async def test_a_status_alone_is_not_written(tmp_path: Path) -> None:
    cache = a_cache(tmp_path, "c1")
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
    cache = a_cache(tmp_path, "c1")
    cache.load()
    cache.put(a_pod("a"))
    await written(cache)
    (tmp_path / "c1/uid-b.json").write_bytes(b'{"metadata":')
    (tmp_path / "c1/uid-c.tmp").write_bytes(b"half")
    assert names(a_cache(tmp_path, "c1")) == ["a"]
    assert not (tmp_path / "c1/uid-c.tmp").exists()


async def test_what_the_first_sync_does_not_name_is_dropped(tmp_path: Path) -> None:
    cache = a_cache(tmp_path, "c1")
    cache.load()
    cache.put(a_pod("a"))
    cache.put(a_pod("b"))
    cache.retain({"uid-b"})
    await written(cache)
    assert names(a_cache(tmp_path, "c1")) == ["b"]


async def test_what_a_full_disk_did_not_take_is_written_once_there_is_room(tmp_path: Path) -> None:
    clock = FakeClock()
    cache = PodCache(tmp_path, "c1", clock)
    cache.load()
    (tmp_path / "c1").rmdir()
    running = asyncio.create_task(cache.run())
    cache.put(a_pod("a"))
    await until(lambda: bool(clock._sleepers))
    cache.put(a_pod("b"))
    (tmp_path / "c1").mkdir()
    await clock.advance(RETRY_S)
    await until((tmp_path / "c1/uid-b.json").exists)
    running.cancel()
    assert names(a_cache(tmp_path, "c1")) == ["a", "b"]


def test_a_durable_write_replaces_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_durably(path, b"old")
    write_durably(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
