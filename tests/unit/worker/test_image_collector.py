"""Which images go when the disk fills up, and which never do."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Mapping
from pathlib import Path

from barque.worker.images.collector import (
    LOOK_S,
    PERIOD_S,
    Disk,
    ImageCollector,
    Seen,
    bytes_to_free,
    plan_removals,
)
from barque.worker.runtime.fake import FakeRuntime
from barque.worker.runtime.port import ContainerSpec, ImageUsage, RuntimeFault
from tests.support.clock import FakeClock
from tests.support.worker_world import in_place

MIB = 1024 * 1024


class Host:
    """A disk of 100 MiB, of which images take what they take, and the collector that watches it."""

    def __init__(self, tmp_path: Path, images: dict[str, int], other: int = 0) -> None:
        self.clock = FakeClock()
        self.runtime = FakeRuntime(self.clock, images=tuple(images))
        self.runtime.sizes = {name: size * MIB for name, size in images.items()} | {self.runtime.sandbox_image: 0}
        self.other = other
        self.said: list[tuple[str, str]] = []
        self.collector = ImageCollector(self.runtime, tmp_path / "images.json", self.clock, in_place)
        self.collector.watch(self.disk, lambda reason, message: self.said.append((reason, message)))

    async def disk(self) -> Disk:
        used = sum(self.runtime.sizes.get(name, 0) for name in self.runtime.images_here) + self.other * MIB
        return Disk(100 * MIB - used, 100 * MIB)

    async def run_for_a_moment(self, image: str) -> None:
        """A pod of ours uses the image for as long as it takes to look."""
        made = await self.runtime.create(ContainerSpec(f"c-{image}", image, {}))
        await self.collector.look()
        await self.runtime.remove(made)

    def left(self) -> set[str]:
        return set(self.runtime.images_here) - {self.runtime.sandbox_image}


def test_what_must_go() -> None:
    assert bytes_to_free(Disk(16, 100)) == 0
    assert bytes_to_free(Disk(15, 100)) == 5
    assert bytes_to_free(Disk(0, 1000)) == 200
    assert bytes_to_free(Disk(0, 0)) == 0


def test_the_longest_unused_goes_first_and_some_never() -> None:
    held = [ImageUsage((name,), 1, name) for name in ("new", "late", "early", "used", "young", "foreign")]
    seen = {"new": Seen(50), "late": Seen(0, 90), "early": Seen(0, 80), "used": Seen(0, 10), "young": Seen(950)}
    found = plan_removals(held, seen, {"used": True}, 1000, 120)
    assert [image.id for image in found] == ["new", "early", "late"]


async def test_images_go_until_the_disk_is_at_eighty_percent(tmp_path: Path) -> None:
    host = Host(tmp_path, {"a:1": 10, "b:1": 10, "c:1": 10}, other=57)
    for image in ("b:1", "c:1", "a:1"):
        await host.run_for_a_moment(image)
        await host.clock.advance(10)
    await host.clock.advance(120)
    assert await host.collector.collect() == 10 * MIB
    assert host.left() == {"a:1", "c:1"}
    assert await host.collector.collect() == 0
    assert host.said == []


async def test_images_in_use_of_others_and_of_sandboxes_stay_and_that_is_told(tmp_path: Path) -> None:
    host = Host(tmp_path, {"used:1": 30, "theirs:1": 30, "ours:1": 5}, other=30)
    await host.runtime.create(ContainerSpec("running", "used:1", {}))
    await host.run_for_a_moment("ours:1")
    await host.clock.advance(300)
    assert await host.collector.collect() == 5 * MIB
    assert host.left() == {"used:1", "theirs:1"}
    assert host.runtime.sandbox_image in host.runtime.images_here
    words = "Failed to garbage collect required amount of images. Attempted to free 15728640 bytes, "
    assert host.said == [("FreeDiskSpaceFailed", words + "but only found 5242880 bytes eligible to free.")]


async def test_what_was_pulled_a_moment_ago_stays_unless_the_node_is_short(tmp_path: Path) -> None:
    host = Host(tmp_path, {"a:1": 50}, other=45)
    host.collector.note("sha256:a:1")
    assert await host.collector.collect() == 0
    assert host.left() == {"a:1"}
    assert await host.collector.collect_all() == 50 * MIB
    assert host.left() == set()


async def test_what_is_pulled_while_images_are_looked_through_is_remembered(tmp_path: Path) -> None:
    host = Host(tmp_path, {"a:1": 1})
    asked = host.runtime.images_in_use

    async def pulled_meanwhile() -> Mapping[str, bool]:
        host.runtime.images_here["b:1"] = "sha256:b:1"
        host.collector.note("sha256:b:1")
        return await asked()

    host.runtime.images_in_use = pulled_meanwhile  # type: ignore[method-assign]
    await host.collector.look()
    assert await host.collector.collect_all() > 0
    assert host.left() == {"a:1"}


async def test_a_disk_that_takes_nothing_more_keeps_no_image_from_going(tmp_path: Path) -> None:
    host = Host(tmp_path / "absent", {"a:1": 90})
    host.collector.note("sha256:a:1")
    assert await host.collector.collect_all() == 90 * MIB


async def test_an_image_that_stays_keeps_no_other_from_going(tmp_path: Path) -> None:
    host = Host(tmp_path, {"a:1": 30, "b:1": 30}, other=30)
    for image in ("a:1", "b:1"):
        await host.run_for_a_moment(image)
    await host.clock.advance(300)
    remove = host.runtime.remove_image

    async def refuse_one(reference: str) -> None:
        if reference == "a:1":
            raise RuntimeFault("driver failed to remove root filesystem: device or resource busy")
        await remove(reference)

    host.runtime.remove_image = refuse_one  # type: ignore[method-assign]
    assert await host.collector.collect() == 30 * MIB
    assert host.left() == {"a:1"}


async def test_a_collection_that_failed_is_made_up_for_at_the_next_look(tmp_path: Path) -> None:
    host = Host(tmp_path, {"a:1": 90})
    running = asyncio.create_task(host.collector.run())
    await host.run_for_a_moment("a:1")
    measured = [OSError(errno.EIO, "input/output error")]

    async def disk() -> Disk:
        if measured:
            raise measured.pop()
        return await host.disk()

    host.collector.watch(disk, lambda reason, message: None)
    await host.clock.advance(PERIOD_S)
    assert (host.left(), measured) == ({"a:1"}, [])
    await host.clock.advance(LOOK_S)
    assert host.left() == set()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_notes_that_cannot_be_read_stop_nothing(tmp_path: Path) -> None:
    (tmp_path / "images.json").mkdir()
    host = Host(tmp_path, {"a:1": 1})
    await host.collector.load()
    assert await host.collector.collect_all() == 0


async def test_a_restarted_worker_remembers_what_is_its_own(tmp_path: Path) -> None:
    before = Host(tmp_path, {"a:1": 1})
    await before.run_for_a_moment("a:1")
    after = Host(tmp_path, {"a:1": 1, "theirs:1": 1})
    await after.collector.load()
    await after.collector.collect_all()
    assert after.left() == {"theirs:1"}
    (tmp_path / "images.json").write_text("{")
    damaged = Host(tmp_path, {"a:1": 1})
    await damaged.collector.load()
    assert await damaged.collector.collect_all() == 0
