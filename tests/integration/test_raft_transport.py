"""Members that talk through real gRPC with real certificates on loopback, their logs on a real disk."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import grpc.aio
import msgspec
import pytest

from barque.client import wire
from barque.client.clock import SystemClock
from barque.client.pki import MASTER_HOST, Authority, Identity, Subject, create_authority, master_subject, node_subject
from barque.master.raft.admission import refusal
from barque.master.raft.disk import Disk
from barque.master.raft.lanes import ThreadLane
from barque.master.raft.member import Member, MemberSettings
from barque.master.raft.messages import Append, Configuration, Entry, Heartbeat, MemberInfo, Message, encode_messages
from barque.master.raft.ready import Role, Standing
from barque.master.raft.transport import PeerDoor
from barque.master.raft.wal import open_wal
from barque.proto import raft_pb2
from tests.support.raft_member import Ledger, a_configuration, a_ground

NOW = datetime.datetime.now(datetime.UTC)
AUTHORITY = create_authority(NOW)
CLUSTER = "c1"
MIB = 1024 * 1024
# Some seconds, where the machine has other things to do as well.
SOON_S = 20.0


def an_identity(subject: Subject, authority: Authority = AUTHORITY) -> Identity:
    return authority.identity(subject, NOW, [MASTER_HOST])


class Relay:
    """A TCP connection's way, which can be cut without either end being told."""

    def __init__(self) -> None:
        self.port = 0
        self.target = 0
        self._whole = asyncio.Event()
        self._whole.set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        self._whole.clear()

    def mend(self) -> None:
        self._whole.set()

    async def close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        writers = [writer]
        try:
            await self._whole.wait()
            onward = await asyncio.open_connection("127.0.0.1", self.target)
            writers.append(onward[1])
            await asyncio.gather(self._pump(reader, onward[1]), self._pump(onward[0], writer))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            for each in writers:
                each.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self._whole.wait()
            writer.write(data)
            await writer.drain()
        raise ConnectionError("the other end has closed")


class Ship:
    """One member behind a relay; `board` starts it."""

    def __init__(self, name: str, path: Path, relay: Relay) -> None:
        self.name = name
        self.info = MemberInfo(name, f"m-{name}", "127.0.0.1", relay.port)
        self.relay = relay
        self.identity = an_identity(master_subject(self.info.name))
        self._path = path / name
        self._path.mkdir()

    async def board(self, founding: Configuration, settings: MemberSettings = MemberSettings()) -> None:
        disk = Disk()
        self.wal = open_wal(self._path, disk, create=True)
        self.ledger = Ledger(self._path, disk, self.wal)
        start = self.ledger.recover(founding)
        self.door = PeerDoor(lambda: self.identity)
        self.relay.target = await self.door.listen("127.0.0.1:0", self.identity.server_credentials())
        ground = a_ground(SystemClock(), disk, ThreadLane, random.Random(self.name))
        member = Member(self.name, start, self.wal, self.ledger, ground, self.door.attach, settings)
        self.member = self.ledger.member = member
        self.door.serve(
            CLUSTER, self.info, lambda cluster, who, subject: refusal(member.standing, CLUSTER, cluster, who, subject)
        )
        member.start()

    async def leave(self) -> None:
        await self.member.close()
        await self.door.close()
        await asyncio.sleep(0)
        self.wal.close()
        assert self.ledger.failure is None


class Fleet:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.ships: dict[str, Ship] = {}

    async def ship(self, name: str) -> Ship:
        relay = Relay()
        await relay.start()
        ship = self.ships[name] = Ship(name, self._path, relay)
        return ship

    @property
    def configuration(self) -> Configuration:
        return Configuration(tuple(self.ships), members=tuple(ship.info for ship in self.ships.values()))

    async def leader(self, among: str = "abc") -> Ship:
        async with asyncio.timeout(30):
            while True:
                for name in among:
                    ship = self.ships[name]
                    following = [x for x in among if self.ships[x].member.standing.leader == name]
                    if ship.member.standing.role is Role.LEADER and len(following) == len(among):
                        return ship
                await asyncio.sleep(0.02)

    async def write(self, lines: list[bytes], among: str = "abc") -> None:
        """And wait until all of them have applied it."""
        (await self.leader(among)).member.propose(lines)
        await until(lambda: all(self.ships[name].ledger.lines[-1:] == lines[-1:] for name in among))


async def until(holds: Callable[[], bool], seconds: float = 30.0) -> float:
    """Wait; returns how long."""
    began = asyncio.get_running_loop().time()
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.01)
    return asyncio.get_running_loop().time() - began


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    fleet = Fleet(tmp_path)
    yield fleet
    for ship in fleet.ships.values():
        ship.relay.mend()
        with contextlib.suppress(AttributeError):
            await ship.leave()
        await ship.relay.close()


async def test_three_members_elect_replicate_lose_one_and_take_it_back(fleet: Fleet) -> None:
    for name in "abc":
        await fleet.ship(name)
    for ship in fleet.ships.values():
        await ship.board(fleet.configuration)
    await fleet.write([b"%d" % number for number in range(1000)])
    assert all(len(ship.ledger.lines) == 1000 for ship in fleet.ships.values())
    gone = await fleet.leader()
    await gone.leave()
    rest = "".join(name for name in "abc" if name != gone.name)
    await fleet.write([b"more"], rest)
    survivor = await fleet.leader(rest)
    await until(lambda: list(survivor.member.figures().faults) == [f"peer m-{gone.name}"])
    await gone.board(fleet.configuration)
    assert await until(lambda: gone.ledger.lines[-1:] == [b"more"]) < SOON_S
    assert gone.ledger.lines == survivor.ledger.lines
    await until(lambda: survivor.member.figures().faults == {})
    # Reads of a follower reach the leader and come back.
    assert await gone.member.read_index() == survivor.ledger.index


async def test_a_cut_link_is_noticed_and_mended(fleet: Fleet) -> None:
    for name in "abc":
        await fleet.ship(name)
    for ship in fleet.ships.values():
        await ship.board(fleet.configuration)
    await fleet.write([b"one"])
    leader = await fleet.leader()
    cut = next(ship for ship in fleet.ships.values() if ship is not leader)
    cut.relay.cut()
    assert await until(lambda: f"peer {cut.info.name}" in leader.member.figures().faults) < SOON_S
    leader.member.propose([b"two"])
    await until(lambda: leader.ledger.lines == [b"one", b"two"])
    assert cut.ledger.lines == [b"one"]
    cut.relay.mend()
    assert await until(lambda: cut.ledger.lines == [b"one", b"two"]) < SOON_S
    assert (await fleet.leader()).name == leader.name


async def test_a_snapshot_of_20_mib_goes_on_after_a_cut(fleet: Fleet) -> None:
    settings = MemberSettings(kept_bytes=MIB, kept_for_laggards_bytes=2 * MIB)
    first = await fleet.ship("a")
    await first.board(fleet.configuration, settings)
    for number in range(20):
        await fleet.write([b"%02d" % number + bytes(MIB)], "a")
    learner = await fleet.ship("b")
    await learner.board(Configuration(), settings)

    def with_learner(configuration: Configuration) -> Configuration:
        members = (*configuration.members, learner.info)
        return msgspec.structs.replace(configuration, learners=("b",), members=members)

    await first.member.change(with_learner)
    received = learner.member._receiver
    await until(lambda: received._current is not None and received._current.next >= 20)
    assert received._current is not None
    transfer = received._current.offer.transfer
    learner.relay.cut()
    first.relay.cut()
    await asyncio.sleep(2.5)
    at = received._current.next
    assert 20 <= at < 80
    learner.relay.mend()
    first.relay.mend()
    seen = set()
    while received._current is not None:
        seen.add((received._current.offer.transfer, received._current.next >= at))
        await asyncio.sleep(0)
    assert seen == {(transfer, True)}
    await until(lambda: first.member.standing.configuration.voters == ("a", "b"))
    assert learner.ledger.lines == first.ledger.lines
    assert first.ledger.offered == 1


async def test_who_comes_back_with_another_address_is_answered(fleet: Fleet) -> None:
    for name in "ab":
        await fleet.ship(name)
    for ship in fleet.ships.values():
        await ship.board(fleet.configuration)
    await fleet.write([b"one"], "ab")
    moved, founding = fleet.ships["b"], fleet.configuration
    await moved.leave()
    moved.relay.cut()
    await fleet.ships["a"].leave()
    # Its old door stays shut; the new one is known to nobody but itself.
    relay = Relay()
    await relay.start()
    old, moved.relay = moved.relay, relay
    moved.info = msgspec.structs.replace(moved.info, peer_port=relay.port)
    await moved.board(founding)
    await fleet.ships["a"].board(founding)
    await fleet.write([b"two"], "ab")
    assert moved.ledger.lines == [b"one", b"two"]
    old.mend()
    await old.close()


# Who is refused


class Hall:
    """A door of member `b` alone, and what comes through it."""

    def __init__(self) -> None:
        self.received: list[Message] = []
        self.identity = an_identity(master_subject("m-b"))
        self.why: Callable[[str, str, Subject], str] = lambda cluster, member, subject: ""

    async def open(self) -> None:
        self.door = PeerDoor(lambda: self.identity)
        port = await self.door.listen("127.0.0.1:0", self.identity.server_credentials())
        self.info = MemberInfo("b", "m-b", "127.0.0.1", port)
        self.door.attach(self.received.append)
        self.door.connect([])
        self.door.serve(CLUSTER, self.info, lambda *claims: self.why(*claims))

    async def call(self, *frames: bytes, identity: Identity, end: bool = True, **said: str) -> str:
        """Speak to it as a; returns how that ended. Without `end` it is left to the door to end it."""
        member = MemberInfo(said.get("member", "a"), "m-a", "127.0.0.1", 1)
        metadata = (
            ("barque-cluster", said.get("cluster", CLUSTER)),
            ("barque-member-bin", msgspec.msgpack.encode(member)),
            ("barque-peer", said.get("peer", "b")),
        )
        options = list({**dict(wire.channel_options(MASTER_HOST)), "grpc.max_send_message_length": -1}.items())
        async with grpc.aio.secure_channel(self.info.peer_address, identity.channel_credentials(), options) as channel:
            call = channel.stream_unary("/barque.v1.Raft/Deliver")(metadata=metadata)
            admitted = "barque-admitted" in dict(await call.initial_metadata())
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                for frame in frames if admitted else ():
                    await call.write(frame)
                if admitted and end:
                    await call.done_writing()
            async with asyncio.timeout(30):
                return f"{(await call.code()).name}: {await call.details()}"

    async def refused(self, frame: bytes) -> str:
        """How a stream of a master ends that sends this and would go on. gRPC's client may take a refusal that comes
        while it sends for a fault of its own, and is asked again.
        """
        identity = an_identity(master_subject("m-a"))
        async with asyncio.timeout(30):
            while (told := await self.call(frame, identity=identity, end=False)).startswith("INTERNAL: "):
                pass
        return told


@pytest.fixture
async def hall() -> AsyncIterator[Hall]:
    hall = Hall()
    await hall.open()
    yield hall
    await hall.door.close()


def a_frame(*messages: Message) -> bytes:
    return raft_pb2.Frame(messages=encode_messages(list(messages))).SerializeToString()


async def test_a_master_is_heard(hall: Hall) -> None:
    beats = [Heartbeat("b", "a", term, 0) for term in range(3)]
    assert await hall.call(a_frame(*beats), identity=an_identity(master_subject("m-a"))) == "OK: "
    assert hall.received == beats


@pytest.mark.parametrize(
    "frame",
    [
        b"\xff\xff\xff not a message",
        raft_pb2.Frame(messages=b"not MessagePack").SerializeToString(),
        raft_pb2.Frame(messages=msgspec.msgpack.encode([[99, "b", "a", 1]])).SerializeToString(),
        a_frame(Heartbeat("b", "c", 1, 0)),
        a_frame(Heartbeat("c", "a", 1, 0)),
        a_frame(Append("b", "a", 1, 0, 0, 0, (Entry(2, 1),))),
        random.Random(1).randbytes(100_000),
    ],
)
async def test_garbage_ends_its_stream_and_nothing_else(hall: Hall, frame: bytes) -> None:
    identity = an_identity(master_subject("m-a"))
    assert (await hall.refused(frame)).startswith("INVALID_ARGUMENT: ")
    assert hall.received == []
    await hall.call(a_frame(Heartbeat("b", "a", 1, 0)), identity=identity)
    assert len(hall.received) == 1


async def test_a_frame_that_is_too_large_ends_its_stream(hall: Hall) -> None:
    identity = an_identity(master_subject("m-a"))
    huge = bytes(wire.MAX_MESSAGE_BYTES + 1)
    assert (await hall.refused(huge)).startswith("RESOURCE_EXHAUSTED")
    assert (await hall.call(a_frame(), identity=identity)) == "OK: "


async def test_others_are_refused_with_a_sentence(hall: Hall) -> None:
    configuration = a_configuration("a", "b")
    configuration = msgspec.structs.replace(configuration, removed=("old",))
    standing = Standing(Role.FOLLOWER, 1, "b", configuration)
    hall.why = lambda cluster, member, subject: refusal(standing, CLUSTER, cluster, member, subject)
    frame = a_frame(Heartbeat("b", "a", 1, 0))
    master, worker = an_identity(master_subject("m-a")), an_identity(node_subject("w1"))
    assert await hall.call(frame, identity=worker) == (
        "PERMISSION_DENIED: system:node:w1 is no master: only masters of the cluster may speak here"
    )
    assert await hall.call(frame, identity=master, cluster="c2") == (
        "PERMISSION_DENIED: this is a master of the cluster c1, not of c2"
    )
    assert await hall.call(frame, identity=master, member="old") == (
        "PERMISSION_DENIED: member old was removed from the cluster; empty its data directory and join it anew"
    )
    assert await hall.call(frame, identity=master, member="x") == (
        "PERMISSION_DENIED: member x is not known to the cluster; add it with `barque master join`"
    )
    assert await hall.call(frame, identity=master, peer="c") == (
        "FAILED_PRECONDITION: member c of c1 is not here: this is member b of c1"
    )
    stranger = an_identity(master_subject("m-a"), create_authority(NOW))
    assert (await hall.call(frame, identity=stranger)).startswith("UNAVAILABLE: ")
    assert hall.received == []


async def test_a_refused_member_says_why_once(hall: Hall, caplog: pytest.LogCaptureFixture) -> None:
    hall.why = lambda cluster, member, subject: "you were removed"
    identity = an_identity(master_subject("m-a"))
    door = PeerDoor(lambda: identity)
    port = await door.listen("127.0.0.1:0", identity.server_credentials())
    door.attach(lambda message: None)
    door.connect([hall.info])
    with caplog.at_level(logging.WARNING):
        door.serve(CLUSTER, MemberInfo("a", "m-a", "127.0.0.1", port), lambda *claims: "")
        await until(lambda: door.faults() != {})
        await asyncio.sleep(0.5)
    assert door.faults() == {"m-b": "it refuses this member: you were removed"}
    own = [record for record in caplog.records if record.name.startswith("barque")]
    assert [record.message.partition(": ")[2] for record in own] == ["it refuses this member: you were removed"]
    # Admitted later, and thrown out when that changes.
    hall.why = lambda cluster, member, subject: ""
    await until(lambda: door.faults() == {})
    hall.why = lambda cluster, member, subject: "removed again"
    hall.door.connect([])
    await until(lambda: door.faults() == {"m-b": "it refuses this member: removed again"})
    await door.close()


async def test_a_renewed_certificate_serves_the_next_connection(hall: Hall) -> None:
    seen: list[Subject] = []
    hall.why = lambda cluster, member, subject: seen.append(subject) or ""  # type: ignore[func-returns-value]
    identity = an_identity(master_subject("m-a"))
    door = PeerDoor(lambda: identity)
    port = await door.listen("127.0.0.1:0", identity.server_credentials())
    door.attach(lambda message: None)
    door.connect([hall.info])
    door.serve(CLUSTER, MemberInfo("a", "m-a", "127.0.0.1", port), lambda *claims: "")
    await until(lambda: len(seen) == 1)
    identity = an_identity(master_subject("m-a-renewed"))

    hall.why = lambda cluster, member, subject: "come again"
    hall.door.connect([])
    await until(lambda: door.faults() != {})
    hall.why = lambda cluster, member, subject: seen.append(subject) or ""  # type: ignore[func-returns-value]
    await until(lambda: len(seen) == 2)
    assert [subject.name for subject in seen] == ["barque:master:m-a", "barque:master:m-a-renewed"]
    await door.close()
