"""A machine's disk in memory: what a stop leaves of it is decided by the seed, as far as POSIX leaves it open.

`Medium` outlives its machine's processes; each process has a `SimDisk` of its own on it, which is dead once the process
is. A file has what the page cache shows and what is durable. A write is cached; a sync makes the file's bytes durable,
`sync_directory` its name. A *kill* loses nothing that was written. A *power cut* keeps of what was not synced nothing,
everything, or any 512-byte sectors, fresh ones that were not written reading as zeros; of the changes of names in a
directory it keeps the first few, as a journalling file system does. A sync that *fails* has, as on Linux, written any
part and marked all of it clean: the next sync succeeds without it, and the cache may still show it, or no longer.
"""

from __future__ import annotations

import errno
import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from barque.master.raft.disk import Disk
from tests.simulation.harness.loop import Process

_SECTOR_BYTES = 512

# What calls take, in seconds: a sync goes to the medium, a write of a few KiB to the cache.
_SYNC_S = (0.0005, 0.003)
_WRITE_S = 0.00002


class MachineStoppedError(BaseException):
    """The process was killed in the middle of what it does; nothing may catch this."""


class _File:
    """`dirty` and `unsure` are ranges of bytes: written and not synced; given up by a sync that failed."""

    __slots__ = ("cache", "dirty", "durable", "unsure")

    def __init__(self) -> None:
        self.cache = bytearray()
        self.durable = bytearray()
        self.dirty: list[tuple[int, int]] = []
        self.unsure: list[tuple[int, int]] = []

    def write(self, data: bytes, offset: int) -> None:
        end = offset + len(data)
        if len(self.cache) < offset:
            self.cache.extend(bytes(offset - len(self.cache)))
        self.cache[offset:end] = data
        self.dirty.append((offset, end))

    def truncate(self, size: int) -> None:
        for content in (self.cache, self.durable):
            del content[size:]
        self.cache.extend(bytes(size - len(self.cache)))
        self.dirty = [(low, min(high, size)) for low, high in self.dirty if low < size]

    def sync(self) -> None:
        self.durable.extend(bytes(max(0, len(self.cache) - len(self.durable))))
        for low, high in self.dirty:
            # The page cache writes whole sectors.
            low -= low % _SECTOR_BYTES
            high += -high % _SECTOR_BYTES
            self.durable[low:high] = self.cache[low:high]
        self.dirty.clear()

    def settle(self, choice: random.Random) -> None:
        """Write any part of what is dirty to the medium."""
        if not self.dirty:
            return
        sectors = sorted(
            {at for low, high in self.dirty for at in range(low // _SECTOR_BYTES, -(-high // _SECTOR_BYTES))}
        )
        fate = choice.random()
        kept = [at for at in sectors if fate < 0.3 or (fate < 0.7 and choice.random() < 0.5)]
        size = choice.randint(min(len(self.durable), len(self.cache)), len(self.cache)) if fate < 0.7 else 0
        for at in kept:
            size = max(size, min((at + 1) * _SECTOR_BYTES, len(self.cache)))
        self.durable.extend(bytes(max(0, size - len(self.durable))))
        for at in kept:
            low, high = at * _SECTOR_BYTES, min((at + 1) * _SECTOR_BYTES, len(self.cache))
            self.durable[low:high] = self.cache[low:high]

    def give_up(self, choice: random.Random) -> None:
        """A sync has failed."""
        self.settle(choice)
        self.durable.extend(bytes(max(0, len(self.cache) - len(self.durable))))
        self.unsure += self.dirty
        self.dirty.clear()

    def forget_unsure(self) -> None:
        """The cache lets go of pages that it took for written."""
        for low, high in self.unsure:
            low -= low % _SECTOR_BYTES
            high += -high % _SECTOR_BYTES
            self.cache[low:high] = self.durable[low:high]
        self.unsure.clear()


class _Names:
    """One directory. `pending` are the states of `cached` after each change since the last sync."""

    __slots__ = ("cached", "durable", "pending")

    def __init__(self) -> None:
        self.cached: dict[str, _File] = {}
        self.durable: dict[str, _File] = {}
        self.pending: list[dict[str, _File]] = []

    def changed(self) -> None:
        self.pending.append(dict(self.cached))

    def sync(self) -> None:
        self.durable = dict(self.cached)
        self.pending.clear()


class Medium:
    """What a machine keeps. `space` bytes may still be written (None: any number); while `failing`, syncs fail;
    a sync takes `slow_s` longer; `stop_in`: the process is killed before its so-manieth change from now (None: never).
    """

    def __init__(self, choice: random.Random, fired: Counter[str]) -> None:
        self.space: int | None = None
        self.failing = False
        self.slow_s = 0.0
        self.stop_in: int | None = None
        # The planted fault "no fsync": says that it did, and did not.
        self.lying = False
        # Called when `stop_in` has run out; it kills the process.
        self.stop: Callable[[], None] = lambda: None
        self.fired = fired
        self._choice = choice
        self._directories: dict[str, _Names] = {}
        self._locks: dict[str, Process] = {}

    def power_cut(self) -> None:
        """The machine has stopped."""
        for names in self._directories.values():
            if names.pending:
                kept = self._choice.randint(0, len(names.pending))
                if kept:
                    names.durable = names.pending[kept - 1]
                names.pending = []
            names.cached = dict(names.durable)
            for file in names.cached.values():
                if file.dirty:
                    self.fired["file unsynced at a power cut"] += 1
                file.settle(self._choice)
                file.cache = bytearray(file.durable)
                file.dirty.clear()
                file.unsure.clear()
        self._locks.clear()

    def killed(self) -> None:
        """Only the process has stopped; the machine goes on."""
        for names in self._directories.values():
            for file in names.cached.values():
                if file.unsure and self._choice.random() < 0.5:
                    file.forget_unsure()
        self._locks.clear()

    def wipe(self) -> None:
        """A new disk."""
        self._directories.clear()
        self._locks.clear()

    def flip_bit(self) -> Callable[[], None] | None:
        """Change one bit of the log or of a snapshot that is durable; returns what puts it back, None where nothing
        is there yet.
        """
        files = [
            file
            for _, names in sorted(self._directories.items())
            for name, file in sorted(names.durable.items())
            if name.endswith((".wal", ".snap")) and file.durable
        ]
        if not files:
            return None
        file = self._choice.choice(files)
        at, mask = self._choice.randrange(len(file.durable)), 1 << self._choice.randrange(8)

        def flip() -> None:
            for content in (file.durable, file.cache):
                if at < len(content):
                    content[at] ^= mask

        flip()
        return flip

    def directory(self, path: Path) -> _Names:
        names = self._directories.get(str(path))
        if names is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return names

    def make_directory(self, path: Path) -> None:
        self._directories.setdefault(str(path), _Names())

    def has_directory(self, path: Path) -> bool:
        return str(path) in self._directories

    def lock(self, path: Path, process: Process) -> bool:
        holder = self._locks.get(str(path))
        if holder is not None and holder.alive:
            return False
        self._locks[str(path)] = process
        return True

    def unlock(self, path: Path) -> None:
        self._locks.pop(str(path), None)

    def chance(self, low: float, high: float) -> float:
        return self._choice.uniform(low, high)

    def fail_sync(self, file: _File) -> None:
        file.give_up(self._choice)
        self.fired["sync failed"] += 1


class SimDisk(Disk):
    """`Disk` on a medium, for one process. While a lane's job is `metered`, `spent_s` grows by what each call takes."""

    def __init__(self, medium: Medium, process: Process) -> None:
        self.metered = False
        self.spent_s = 0.0
        self._medium = medium
        self._process = process
        self._open: dict[int, tuple[Path, _File]] = {}
        self._locked: dict[int, Path] = {}
        self._fds = 2

    def make_directory(self, path: Path) -> None:
        if not self._medium.has_directory(path):
            self._change()
            self._medium.make_directory(path)

    def names(self, directory: Path) -> list[str]:
        return sorted(self._medium.directory(directory).cached)

    def size(self, path: Path) -> int:
        return len(self._file(path).cache)

    def read(self, path: Path, size: int = -1) -> bytes:
        content = self._file(path).cache
        return bytes(content if size < 0 else content[:size])

    def create(self, path: Path) -> int:
        self._change()
        if self._medium.space is not None and self._medium.space <= 0:
            raise self._full()
        names = self._medium.directory(path.parent)
        file = names.cached.get(path.name)
        if file is None:
            file = names.cached[path.name] = _File()
            names.changed()
        else:
            file.truncate(0)
        return self._opened(path, file)

    def open(self, path: Path) -> int:
        return self._opened(path, self._file(path))

    def lock(self, path: Path) -> int:
        self._change()
        if not self._medium.lock(path, self._process):
            raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK), str(path))
        names = self._medium.directory(path.parent)
        if path.name not in names.cached:
            names.cached[path.name] = _File()
            names.changed()
        fd = self._opened(path, names.cached[path.name])
        self._locked[fd] = path
        return fd

    def write(self, fd: int, data: bytes, offset: int) -> None:
        _, file = self._open[fd]
        medium = self._medium
        if medium.stop_in == 1 and self._process.alive:
            file.write(data[: len(data) // 2], offset)
        self._change()
        self._spend(_WRITE_S)
        growth = max(0, offset + len(data) - len(file.cache))
        if medium.space is not None and growth > medium.space:
            file.write(data[: len(data) - growth + medium.space], offset)
            medium.space = 0
            raise self._full()
        if medium.space is not None:
            medium.space -= growth
        file.write(data, offset)

    def sync(self, fd: int) -> None:
        self._change()
        self._sync(self._open[fd][1])

    def truncate(self, fd: int, size: int) -> None:
        self._change()
        file = self._open[fd][1]
        file.truncate(size)
        self._sync(file)

    def close(self, fd: int) -> None:
        self._open.pop(fd, None)
        path = self._locked.pop(fd, None)
        if path is not None and self._process.alive:
            self._medium.unlock(path)

    def rename(self, old: Path, new: Path) -> None:
        self._change()
        names = self._medium.directory(old.parent)
        if new.parent != old.parent or old.name not in names.cached:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(old))
        names.cached[new.name] = names.cached.pop(old.name)
        names.changed()
        if new.suffix == ".snap":
            self._medium.fired["snapshot taken"] += 1
        self.sync_directory(new.parent)

    def remove(self, path: Path) -> None:
        self._file(path)
        self._change()
        names = self._medium.directory(path.parent)
        del names.cached[path.name]
        names.changed()

    def sync_directory(self, path: Path) -> None:
        self._change()
        self._spend(self._medium.chance(*_SYNC_S))
        if not self._medium.lying:
            self._medium.directory(path).sync()

    def _sync(self, file: _File) -> None:
        medium = self._medium
        self._spend(medium.chance(*_SYNC_S))
        if medium.slow_s:
            medium.fired["sync slow"] += 1
            self._spend(medium.slow_s)
        if medium.failing:
            medium.fail_sync(file)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if not medium.lying:
            file.sync()

    def _spend(self, seconds: float) -> None:
        if self.metered:
            self.spent_s += seconds

    def _file(self, path: Path) -> _File:
        file = self._medium.directory(path.parent).cached.get(path.name)
        if file is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return file

    def _opened(self, path: Path, file: _File) -> int:
        self._fds += 1
        self._open[self._fds] = path, file
        return self._fds

    def _full(self) -> OSError:
        self._medium.fired["disk full"] += 1
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _change(self) -> None:
        """Before each change: is there still somebody to make it?"""
        if not self._process.alive:
            raise MachineStoppedError
        medium = self._medium
        if medium.stop_in is not None:
            medium.stop_in -= 1
            if medium.stop_in <= 0:
                medium.stop_in = None
                medium.fired["power cut inside a change"] += 1
                medium.stop()
                raise MachineStoppedError
