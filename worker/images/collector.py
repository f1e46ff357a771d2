"""`ImageCollector`: removes images that nobody uses when the disk that holds them fills up.

As in Kubernetes' image garbage collector: every five minutes, above 85 % use of the disk, images go until it is at
80 %: those unused for longest first, none younger than two minutes, none that a container was made of. Unlike there,
Docker may have other users on this host: only images that this worker pulled, loaded or ran are ever removed, which the
file `images.json` remembers. `plan_removals` and `bytes_to_free` are pure.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from barque.client.clock import Clock
from barque.worker.desired import write_durably
from barque.worker.runtime.port import (
    ImageInUseError,
    ImageMissingError,
    ImageUsage,
    Runtime,
    RuntimeFault,
    RuntimeUnavailableError,
)

log = logging.getLogger(__name__)

PERIOD_S = 300.0
# Usage is looked at more often, so that an image in use for a moment counts as used.
LOOK_S = 60.0
HIGH_PERCENT, LOW_PERCENT = 85, 80
MIN_AGE_S = 120.0

Say = Callable[[str, str], None]


class Disk(NamedTuple):
    """A file system, in bytes."""

    available: int
    capacity: int


class Seen(msgspec.Struct):
    """When an image was noted first and used last, in seconds since the epoch."""

    first_s: float
    used_s: float = 0.0


def bytes_to_free(disk: Disk, high: int = HIGH_PERCENT, low: int = LOW_PERCENT) -> int:
    """How much must go for the disk to be at `low` percent; 0 while it is below `high`."""
    if disk.capacity <= 0 or 100 - disk.available * 100 // disk.capacity < high:
        return 0
    return max(0, disk.capacity * (100 - low) // 100 - disk.available)


def plan_removals(
    held: Iterable[ImageUsage], seen: Mapping[str, Seen], in_use: Iterable[str], now_s: float, min_age_s: float
) -> list[ImageUsage]:
    """The images that may go, in the order in which they should."""
    used = set(in_use)
    free = [
        image
        for image in held
        if image.id in seen and image.id not in used and now_s - seen[image.id].first_s >= min_age_s
    ]
    return sorted(free, key=lambda image: (seen[image.id].used_s, seen[image.id].first_s))


class ImageCollector:
    """`path` is the file that remembers."""

    def __init__(
        self,
        runtime: Runtime,
        path: Path,
        clock: Clock,
        blocking: Callable[..., Awaitable[Any]] = asyncio.to_thread,
    ) -> None:
        self._runtime = runtime
        self._path = path
        self._clock = clock
        self._disk: Callable[[], Awaitable[Disk]] | None = None
        self._say: Say = lambda reason, message: None
        self._blocking = blocking
        self._seen: dict[str, Seen] = {}
        self._saved = b""

    def watch(self, disk: Callable[[], Awaitable[Disk]], say: Say) -> None:
        """From now on `disk` measures what holds the images, and `say(reason, message)` tells the node's warnings."""
        self._disk, self._say = disk, say

    def note(self, image_id: str) -> None:
        """This worker pulled or loaded the image."""
        self._seen.setdefault(image_id, Seen(self._now()))

    async def load(self) -> None:
        """Take up what an earlier run noted; a file that cannot be read only means that images stay longer."""
        try:
            self._saved = await self._blocking(self._path.read_bytes)
            self._seen = msgspec.json.decode(self._saved, type=dict[str, Seen]) | self._seen
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError) as error:
            log.warning("%s is damaged and begun anew: %s", self._path, error)

    async def run(self) -> None:
        """Until cancelled."""
        await self.load()
        due_s = self._clock.monotonic() + PERIOD_S
        while True:
            try:
                await self.look()
                if self._clock.monotonic() >= due_s:
                    await self.collect()
                    due_s = self._clock.monotonic() + PERIOD_S
            except (RuntimeFault, OSError) as error:
                log.debug("images are not looked through: %s", error)
            await self._clock.sleep(LOOK_S)

    async def look(self) -> tuple[Sequence[ImageUsage], Mapping[str, bool]]:
        """Note which images there are and which are in use. Raises `RuntimeFault`."""
        # What is noted from here on may be missing from the list, and is there all the same.
        known = set(self._seen)
        held = [image for image in await self._runtime.images() if self._runtime.sandbox_image not in image.names]
        in_use = await self._runtime.images_in_use()
        now = self._now()
        for image_id, ours in in_use.items():
            if ours:
                self._seen.setdefault(image_id, Seen(now)).used_s = now
        for image_id in known - {image.id for image in held}:
            self._seen.pop(image_id, None)
        await self._save()
        return held, in_use

    async def _save(self) -> None:
        data = msgspec.json.encode(self._seen)
        if data == self._saved:
            return
        try:
            await self._blocking(write_durably, self._path, data)
            self._saved = data
        except OSError as error:
            # The disk is full: then nothing is more wanted than that images go.
            log.warning("%s cannot be written: %s", self._path, error)

    async def collect(self) -> int:
        """Free what the disk needs; the bytes freed. Raises `RuntimeFault`."""
        disk = await self._disk() if self._disk else Disk(0, 0)
        wanted = bytes_to_free(disk)
        if not wanted:
            return 0
        percent = 100 - disk.available * 100 // disk.capacity
        log.info("the disk of images is %d %% full: freeing %d bytes", percent, wanted)
        freed = await self._free(wanted, MIN_AGE_S)
        if freed < wanted:
            self._say(
                "FreeDiskSpaceFailed",
                f"Failed to garbage collect required amount of images. Attempted to free {wanted} bytes, "
                f"but only found {freed} bytes eligible to free.",
            )
        return freed

    async def collect_all(self) -> int:
        """Remove every image that nobody uses, however young; the bytes freed. Raises `RuntimeFault`."""
        return await self._free(None, 0.0)

    async def _free(self, wanted: int | None, min_age_s: float) -> int:
        held, in_use = await self.look()
        freed = 0
        for image in plan_removals(held, self._seen, in_use, self._now(), min_age_s):
            if wanted is not None and freed >= wanted:
                break
            if await self._remove(image):
                freed += image.size_bytes
        return freed

    async def _remove(self, image: ImageUsage) -> bool:
        """By each of its names, as an image with several is not removed by its id. One that stays keeps no other from
        going.
        """
        for name in image.names or (image.id,):
            try:
                await self._runtime.remove_image(name)
            except ImageMissingError:
                # The last tag took the digests with it.
                continue
            except ImageInUseError as error:
                # Somebody made a container of it this moment.
                log.debug("image %s stays: %s", image.id, error)
                return False
            except RuntimeUnavailableError:
                raise
            except RuntimeFault as error:
                log.warning("image %s cannot be removed: %s", image.names[0] if image.names else image.id, error)
                return False
        log.info("removed image %s", image.names[0] if image.names else image.id)
        return True

    def _now(self) -> float:
        return self._clock.wall().timestamp()
