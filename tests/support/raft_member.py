"""Members of a group with real logs on a real disk, on a loop whose time is a number and a network in memory.

`run(story)` runs a coroutine on such a loop: nothing waits, time jumps to whatever is next. `Ledger` is the smallest
application: a list of bytes.
"""

from __future__ import annotations

import asyncio
import datetime
import random
import selectors
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from barque.client.clock import Clock
from barque.master.raft.disk import Disk
from barque.master.raft.member import Member, MemberSettings
from barque.master.raft.messages import Configuration, Entry, Kind, MemberInfo, Message
from barque.master.raft.ports import Ground, Lane, SnapshotHead
from barque.master.raft.ready import CoreSettings, Role, Standing, Start
from barque.master.raft.wal import Wal, open_wal

T = TypeVar("T")

PIECE_BYTES = 256 * 1024


class _Jump(selectors.DefaultSelector):
    """Instead of waiting, time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise AssertionError("nothing is left that could ever happen")
        self.now += max(timeout, 0.0)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now


def run(story: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(story)


class LoopClock:
    """Implements `client.clock.Clock` on the running loop's time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def monotonic(self) -> float:
        return self._loop.time()

    def wall(self) -> datetime.datetime:
        return datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(seconds=self._loop.time())

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class VirtualLane:
    """Implements `ports.Lane`: each job is done `seconds` after the one before it."""

    def __init__(self) -> None:
        self.seconds = 0.001
        self.jobs = 0
        self._loop = asyncio.get_running_loop()
        self._free_at = 0.0

    def put(self, job: Callable[[], T], done: Callable[[T | None, BaseException | None], None]) -> None:
        self.jobs += 1
        self._free_at = max(self._free_at, self._loop.time()) + self.seconds
        self._loop.call_at(self._free_at, self._do, job, done)

    def close(self) -> None:
        pass

    def _do(self, job: Callable[[], T], done: Callable[[T | None, BaseException | None], None]) -> None:
        result: Any = None
        failure = None
        try:
            result = job()
            if isinstance(result, tuple):
                # An append, which took no time on a clock that stands still meanwhile.
                result = (result[0], self.seconds)
        except BaseException as e:
            failure = e
        done(result, failure)


class Network:
    """Carries messages in a millisecond. `cut(a)` isolates a member; `lost` decides about each message."""

    def __init__(self) -> None:
        self.members: dict[str, Callable[[Message], None]] = {}
        self.isolated: set[str] = set()
        # Whom no door lets in: they are not answered for having called.
        self.refused: set[str] = set()
        self.sent: list[Message] = []
        self.lost: Callable[[Message], bool] = lambda message: False

    def connector(self, member: str) -> Callable[[Callable[[Message], None]], _Line]:
        def connect(receive: Callable[[Message], None]) -> _Line:
            self.members[member] = receive
            return _Line(self, member)

        return connect

    def carry(self, message: Message) -> None:
        self.sent.append(message)
        if not self.lost(message):
            # In order: the loop's own order of one moment is any.
            delay = 0.001 + len(self.sent) * 1e-9
            asyncio.get_running_loop().call_later(delay, self._arrive, message)

    def of(self, kind: type[T], to: str | None = None) -> list[T]:
        """The messages of a kind that were sent so far."""
        return [m for m in self.sent if isinstance(m, kind) and to in (None, m.to)]  # type: ignore[attr-defined]

    def callers(self, member: str) -> set[str]:
        return {message.sender for message in self.sent if message.to == member} - self.refused

    def _arrive(self, message: Message) -> None:
        if message.to in self.members and not {message.to, message.sender} & self.isolated:
            self.members[message.to](message)


class _Line:
    """Implements `ports.Transport`."""

    def __init__(self, network: Network, member: str) -> None:
        self._network = network
        self._member = member
        self.peers: Sequence[MemberInfo] = ()

    def send(self, message: Message) -> None:
        assert message.to != self._member
        # Who speaks can be answered, even by one who does not know of it yet.
        if any(info.id == message.to for info in self.peers) or message.to in self._network.callers(self._member):
            self._network.carry(message)

    def connect(self, peers: Sequence[MemberInfo]) -> None:
        self.peers = tuple(peers)

    def faults(self) -> dict[str, str]:
        return {}

    async def close(self) -> None:
        self._network.members.pop(self._member, None)


class _Source:
    """Implements `ports.SnapshotSource`."""

    def __init__(self, head: SnapshotHead, data: bytes) -> None:
        self.head = head
        self._data = data
        self.closed = False

    async def pieces(self, start: int) -> AsyncIterator[bytes]:
        for offset in range(start * PIECE_BYTES, len(self._data), PIECE_BYTES):
            yield self._data[offset : offset + PIECE_BYTES]

    def close(self) -> None:
        self.closed = True


class _Sink:
    """Implements `ports.SnapshotSink`."""

    def __init__(self, ledger: Ledger, head: SnapshotHead) -> None:
        self._ledger = ledger
        self._head = head
        self.pieces: list[bytes] = []

    async def add(self, piece: bytes) -> None:
        self.pieces.append(piece)

    async def install(self) -> None:
        ledger, head = self._ledger, self._head
        ledger.keep(head, b"".join(self.pieces))
        await asyncio.sleep(0.05)
        ledger.load(head, b"".join(self.pieces))
        ledger.wal.skip_to(head.index)
        await ledger.member.in_log(ledger.wal.roll)

    def abort(self) -> None:
        self.pieces = []


class Ledger:
    """Implements `ports.Application`: `lines` is every DATA entry in order."""

    def __init__(self, path: Path, disk: Disk, wal: Wal) -> None:
        self.lines: list[bytes] = []
        self.wal = wal
        self.member: Member
        self.index = self.term = 0
        self.configuration = Configuration()
        self.applies: list[int] = []
        self.refused: list[tuple[list[bytes], bool]] = []
        self.standings: list[Standing] = []
        self.received: list[tuple[str, bytes]] = []
        self.failure: BaseException | None = None
        self.offered = 0
        # Proposed when the log has nothing in hand.
        self.waiting: list[bytes] = []
        self._file = path / "state.snap"
        self._disk = disk

    def apply(self, entries: Sequence[Entry]) -> None:
        self.applies.append(len(entries))
        for entry in entries:
            assert entry.index == self.index + 1
            self.index, self.term = entry.index, entry.term
            if entry.kind == Kind.DATA:
                if entry.data == b"poison":
                    raise RuntimeError("the state machine broke")
                self.lines.append(entry.data)

    def seal(self, entry: Entry) -> bytes:
        return entry.data

    def retracted(self, entries: Sequence[Entry], why: str, *, undone: bool) -> None:
        self.refused.append(([entry.data for entry in entries], undone))

    def drained(self) -> None:
        if self.waiting:
            waiting, self.waiting = self.waiting, []
            self.member.propose(waiting)

    def receive(self, sender: str, data: bytes) -> None:
        self.received.append((sender, data))

    def stands(self, standing: Standing) -> None:
        self.standings.append(standing)

    async def offer(self, after: int) -> _Source:
        assert self.index >= after
        self.offered += 1
        head = SnapshotHead(self.index, self.term, self.member.standing.configuration)
        return _Source(head, msgspec.msgpack.encode(self.lines))

    async def accept(self, head: SnapshotHead) -> _Sink:
        return _Sink(self, head)

    def failed(self, failure: BaseException) -> None:
        self.failure = failure

    def keep(self, head: SnapshotHead, data: bytes) -> None:
        self._disk.write_file(self._file, msgspec.msgpack.encode((head, data)))

    def load(self, head: SnapshotHead, data: bytes) -> None:
        self.lines = msgspec.msgpack.decode(data, type=list[bytes])
        self.index, self.term = head.index, head.term

    def recover(self, founding: Configuration) -> Start:
        head = SnapshotHead(0, 0, founding)
        if self._file.exists():
            head, data = msgspec.msgpack.decode(self._file.read_bytes(), type=tuple[SnapshotHead, bytes])
            self.load(head, data)
            if self.wal.last_index < head.index:
                self.wal.skip_to(head.index)
        entries = [Entry(r.index, r.term, r.kind, r.data) for r in self.wal.entries(head.index)]
        return Start(self.wal.hard_state, head.configuration, head.index, head.term, entries, head.index)


class Crew:
    """A group of members by name; `member("a")` and `ledger("a")` after `await sail("a")`."""

    def __init__(self, path: Path, *names: str, settings: MemberSettings | None = None) -> None:
        self.network = Network()
        self.disks: dict[str, Disk] = {}
        self.lanes: dict[str, VirtualLane] = {}
        self.ledgers: dict[str, Ledger] = {}
        self.configuration = a_configuration(*names)
        self._path = path
        self._settings = settings or MemberSettings(CoreSettings())
        self._runs = 0

    def sail(self, *names: str, founding: Configuration | None = None) -> None:
        """Start these members, for the first time or again."""
        for name in names:
            self._runs += 1
            path = self._path / name
            disk = self.disks.setdefault(name, Disk())
            path.mkdir(exist_ok=True)
            ledger = Ledger(path, disk, open_wal(path, disk, create=True))
            start = ledger.recover(self.configuration if founding is None else founding)
            lane = self.lanes[name] = VirtualLane()
            seed = random.Random(f"{name}{self._runs}")
            ground = a_ground(LoopClock(), disk, lambda _, lane=lane: lane, seed)  # type: ignore[misc]
            ledger.member = Member(
                name, start, ledger.wal, ledger, ground, self.network.connector(name), self._settings
            )
            self.ledgers[name] = ledger
            ledger.member.start()

    def member(self, name: str) -> Member:
        return self.ledgers[name].member

    def sink(self, name: str) -> None:
        """It is gone from one moment to the next; its disk stays."""
        ledger = self.ledgers.pop(name)
        ledger.member._stop("sunk")
        self.network.members.pop(name, None)
        ledger.wal.close()

    async def leader(self) -> str:
        """The leader that a majority follows, once there is one."""
        while True:
            for name, ledger in self.ledgers.items():
                if name in self.network.isolated or ledger.member.standing.role is not Role.LEADER:
                    continue
                following = [other for other in self.ledgers.values() if other.member.standing.leader == name]
                if 2 * len(following) > len(ledger.member.standing.configuration.voters):
                    return name
            await asyncio.sleep(0.05)

    async def write(self, *lines: bytes) -> str:
        """Propose on the leader and wait until it has applied them; returns the leader."""
        name = await self.leader()
        self.member(name).propose(lines)
        await self.until(lambda: set(lines) <= set(self.ledgers[name].lines))
        return name

    async def until(self, holds: Callable[[], bool], seconds: float = 60.0) -> None:
        async with asyncio.timeout(seconds):
            while not holds():
                await asyncio.sleep(0.01)

    async def agree(self, *names: str) -> list[bytes]:
        """What all of them hold, once they hold the same as the leader."""
        leader = self.ledgers[await self.leader()]
        await self.until(lambda: all(self.ledgers[name].lines == leader.lines for name in names or self.ledgers))
        return leader.lines

    async def close(self) -> None:
        for ledger in self.ledgers.values():
            await ledger.member.close()
        await asyncio.sleep(1)
        for ledger in self.ledgers.values():
            ledger.wal.close()
            assert ledger.failure is None


def a_ground(clock: Clock, disk: Disk, lanes: Callable[[str], Lane], seed: random.Random) -> Ground:
    return Ground(clock, disk, lanes, random.Random(seed.random()), seed.randbytes)


def an_info(name: str, port: int = 7444) -> MemberInfo:
    return MemberInfo(name, f"m-{name}", "127.0.0.1", port)


def a_configuration(*names: str) -> Configuration:
    return Configuration(tuple(names), members=tuple(an_info(name) for name in names))


KIB = 1024
# So little stays in memory that whoever misses some entries needs a snapshot.
SHORT = MemberSettings(kept_bytes=16 * KIB, kept_for_laggards_bytes=32 * KIB)


def lines(count: int, size: int = 8, start: int = 0) -> list[bytes]:
    return [b"%08d" % number + b"x" * (size - 8) for number in range(start, start + count)]


def with_learner(name: str):
    def change(configuration: Configuration) -> Configuration:
        learners, members = (*configuration.learners, name), (*configuration.members, an_info(name))
        return msgspec.structs.replace(configuration, learners=learners, members=members)

    return change


def without(name: str):
    def change(configuration: Configuration) -> Configuration:
        return msgspec.structs.replace(
            configuration,
            voters=tuple(voter for voter in configuration.voters if voter != name),
            members=tuple(info for info in configuration.members if info.id != name),
        )

    return change
