"""A log whose machine stops between any two changes of its files, or whose disk refuses: what was acknowledged is there
at the next start, what was given up never comes back, and no promise is forgotten.
"""

from __future__ import annotations

import itertools
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from barque.master.raft.disk import Disk
from barque.master.raft.messages import Entry, HardState, Kind
from barque.master.raft.wal import LogWriteError, Wal
from tests.support.faulty_disk import Crash, CrashingDisk, FaultyDisk, QuickDisk
from tests.support.raft_log import LogModel, LogState, opened

SEGMENT_BYTES = 900
_MEMORY = Path("/dev/shm")
FAULTS = ("write", "sync", "truncate", "rename", "create", "remove", "sync_directory")


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """In memory where the machine has such a place, for the thousands of files that are made here."""
    if not _MEMORY.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=_MEMORY) as directory:
        yield Path(directory)


class Append(NamedTuple):
    """`count` entries in the place of all after entry `after` (None: at the end), and with them a new hard state."""

    count: int
    after: int | None = None
    state: HardState | None = None
    size: int = 120


class Roll(NamedTuple):
    pass


class Skip(NamedTuple):
    """A snapshot of everything up to `index` was installed."""

    index: int


class Release(NamedTuple):
    through: int


class Restart(NamedTuple):
    pass


Step = Append | Roll | Skip | Release | Restart


class Ship:
    """A log and the model of it, which do the same steps."""

    def __init__(self, path: Path, disk: Disk) -> None:
        self._path = path
        self._disk = disk
        self.model = LogModel()
        self.wal: Wal | None = None
        self._terms = itertools.count(1)

    def sail(self, steps: Sequence[Step]) -> None:
        for step in steps:
            self.take(step)

    def take(self, step: Step) -> None:
        """Raises `Crash`; what the disk refuses is noted."""
        wal = self.wal or self.start()
        try:
            self._take(step, wal)
        except LogWriteError as e:
            self.model.failed(undone=e.undone)
        except OSError:
            self.model.failed(undone=False)

    def start(self) -> Wal:
        self.close()
        self.wal = opened(self._path, self._disk, SEGMENT_BYTES)
        self.model.go_on_from(self.model.started(self.wal))
        return self.wal

    def _take(self, step: Step, wal: Wal) -> None:
        model = self.model
        match step:
            case Append():
                entries = self._entries(model.now.last_index if step.after is None else step.after, step)
                model.try_append(entries, step.state)
                wal.append(entries, step.state)
                model.held()
                assert wal.hard_state == model.now.hard_state
            case Roll():
                model.try_roll()
                wal.roll()
                model.held()
            case Skip():
                model.try_skip(step.index)
                wal.skip_to(step.index)
            case Release():
                model.try_release(step.through)
                wal.release(step.through)
                model.held()
            case Restart():
                wal = self.start()
        assert wal.last_index == model.now.last_index

    def _entries(self, after: int, step: Append) -> list[Entry]:
        # A term of its own makes every append's entries unlike any others, also where their bytes are as many.
        term = next(self._terms)
        kinds = (Kind.DATA, Kind.DATA, Kind.EMPTY, Kind.CONFIGURATION)
        return [
            Entry(index, term, kind := kinds[index % 4], b"" if kind == Kind.EMPTY else b"%0*d" % (step.size, index))
            for index in range(after + 1, after + 1 + step.count)
        ]

    def close(self) -> None:
        if self.wal is not None:
            self.wal.close()
            self.wal = None


def vote(term: int, commit: int = 0) -> HardState:
    return HardState(term, f"{term:016x}", commit)


# Segments are full after some four entries, so most replacements reach over several.
HISTORY: tuple[Step, ...] = (
    Append(1, state=vote(1)),
    Append(3),
    Append(5, state=vote(2, commit=2)),
    Append(0, state=vote(3, commit=3)),
    Append(4),
    Append(4),
    Append(2, after=12),  # In the newest segment.
    Append(3, after=5, state=vote(4, commit=3)),  # Over several; and below that, two more in a row.
    Append(1, after=4),
    Append(6, after=3, state=vote(5, commit=3)),
    Append(0, state=vote(6, commit=9)),
    Restart(),
    Append(5),
    Append(5),
    Append(1, after=13),
    Release(9),
    Append(4, after=10, state=vote(7, commit=10)),
    Roll(),
    Roll(),
    Append(2, after=12),
    Append(2, after=12),  # At the first index of a segment, which the new one replaces.
    Append(0, state=vote(8, commit=11)),
    Skip(20),
    Append(6),
    Release(24),
    Restart(),
    Append(2, after=25, state=vote(9, commit=26)),
    Skip(26),  # Behind the log's end.
    Roll(),
    Append(9),
    Release(30),
    Append(1),
)


def test_the_history_goes_over_many_segments(tmp_path: Path) -> None:
    """What the tests below rely on."""
    ship = Ship(tmp_path, QuickDisk())
    counts = []
    for step in HISTORY:
        ship.take(step)
        counts.append(len(list(tmp_path.glob("*.wal"))))
    ship.close()
    assert max(counts) >= 4
    assert sum(later < before for before, later in itertools.pairwise(counts)) >= 4
    assert ship.model.find(tmp_path).last_index == 36


def test_a_stop_between_any_two_changes_of_files(tmp_path: Path) -> None:
    """A kill, a cut of power, and cuts that left some sectors and names on the medium; then once more, while the start
    that follows is under way.
    """
    whole = 0
    for stop_at in itertools.count():
        home = tmp_path / str(stop_at)
        crashed, ship, disk = stopped(home, HISTORY, stop_at)
        for number, image in enumerate(images(home, disk, random.Random(stop_at))):
            found = ship.model.find(copied(image))
            if number < 2:
                stop_the_start(image, ship.model, found)
            go_on(image, ship.model, found)
            whole += 1
        start_before_the_cut(home, disk, ship.model, random.Random(stop_at))
        shutil.rmtree(home)
        if not crashed:
            break
    assert stop_at > 100
    assert whole > 400


@pytest.mark.parametrize("seed", range(80))
def test_a_stop_in_a_history_of_chance(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    home = tmp_path / "log"
    _, ship, disk = stopped(home, None, dice.randrange(1, 120), dice)
    for image in images(home, disk, dice):
        found = ship.model.find(copied(image))
        assert ship.model.find(copied(image)) == found, "a start changes nothing that the next one finds"
        go_on(image, ship.model, found)


@pytest.mark.parametrize("seed", range(120))
def test_a_disk_that_refuses_by_chance(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    disk = FaultyDisk()
    ship = Ship(tmp_path / "log", disk)
    disk.make_directory(tmp_path / "log")
    ship.start()
    for _ in range(dice.randrange(10, 80)):
        if dice.random() < 0.3:
            disk.failing = set(dice.sample(FAULTS, dice.randrange(3)))
            disk.loses = dice.random() < 0.5
            disk.space = None if dice.random() < 0.6 else dice.randrange(1_500)
        step = a_step(ship.model.now, dice)
        if isinstance(step, Restart):
            disk.failing, disk.space = set(), None
        ship.take(step)
        ship.model.find(copied(tmp_path / "log"))
    disk.failing, disk.space = set(), None
    ship.take(Append(2))
    assert len(ship.model.allowed) == 1, "it goes on by itself once the disk does"
    ship.close()
    ship.model.find(tmp_path / "log")


def stopped(
    home: Path, steps: Sequence[Step] | None, stop_at: int, dice: random.Random | None = None
) -> tuple[bool, Ship, CrashingDisk]:
    """A log in `home` that went through the steps (None: by chance) to the given change; whether it stopped there."""
    home.mkdir()
    disk = CrashingDisk(home, stop_at)
    ship = Ship(home, disk)
    chance = (a_step(ship.model.now, dice) for _ in range(200)) if dice else iter(())
    try:
        for step in steps or chance:
            ship.take(step)
    except Crash:
        return True, ship, disk
    finally:
        ship.close()
    return False, ship, disk


def images(home: Path, disk: CrashingDisk, dice: random.Random) -> Iterator[Path]:
    """What may be on the medium after the stop: after a kill, and after cuts of power."""
    yield copied(home)
    for number, chance in enumerate((None, dice, dice)):
        yield disk.power_cut(home.with_name(f"{home.name}-cut-{number}"), chance)


def start_before_the_cut(home: Path, disk: CrashingDisk, model: LogModel, dice: random.Random) -> None:
    """After a kill, names and sectors may not be on the medium that the next start sees; power fails during that."""
    found = model.find(copied(home))
    disk.stop_at = disk.changes + dice.randrange(8)
    try:
        opened(home, disk).close()
        model.go_on_from(found)
    except Crash:
        pass
    for number in range(3):
        model.find(disk.power_cut(home.with_name(f"{home.name}-late-{number}"), dice))


def stop_the_start(image: Path, model: LogModel, found: LogState) -> None:
    """Stopped at any of its changes, it finds the same the next time."""
    for stop_at in itertools.count():
        again = copied(image)
        disk = CrashingDisk(again, stop_at)
        try:
            opened(again, disk).close()
        except Crash:
            cut = disk.power_cut(again.with_name("cut"))
            assert model.find(cut) == model.find(again) == found
            shutil.rmtree(cut)
        else:
            return


def go_on(image: Path, model: LogModel, found: LogState) -> None:
    """The log that was found takes more, in the place of its last entry too, and gives it back."""
    ship = Ship(image, QuickDisk())
    ship.model.go_on_from(found)
    last = found.last_index
    ship.sail([Append(1, state=vote(99, commit=found.after)), Append(3, after=last), Restart(), Append(5)])
    ship.close()
    assert ship.model.find(image).last_index == last + 8
    shutil.rmtree(image)


_copies = itertools.count()


def copied(path: Path) -> Path:
    return Path(shutil.copytree(path, path.with_name(f"{path.name}-copy-{next(_copies)}")))


def a_step(now: LogState, dice: random.Random) -> Step:
    committed = max(now.after, min(now.hard_state.commit, now.last_index))
    choices: list[tuple[int, Callable[[], Step]]] = [
        (50, lambda: _append(now, dice, None, committed)),
        (25, lambda: _append(now, dice, dice.randint(committed, now.last_index), committed)),
        (5, Roll),
        (7, lambda: Release(dice.randint(now.after, committed))),
        (4, lambda: Skip(dice.randint(committed, now.last_index + 5))),
        (5, Restart),
    ]
    return dice.choices([choice for _, choice in choices], [weight for weight, _ in choices])[0]()


def _append(now: LogState, dice: random.Random, after: int | None, committed: int) -> Append:
    count = dice.randrange(5)
    last = (now.last_index if after is None else after) + count
    state = None
    if dice.random() < 0.5 or not count:
        state = vote(now.hard_state.term + dice.randrange(2), dice.randint(committed, max(committed, last)))
    if not count:
        after = None
    return Append(count, after, state, size=dice.randrange(1, 700))
