"""Several masters, real gRPC and TLS between: dead hosts, masters without a leader, lists of masters that change."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import msgspec
import pytest

from barque.api.errors import ApiError
from barque.api.types.core_v1 import ConfigMap
from barque.api.types.meta_v1 import StatusDetails
from barque.cli.session import Session
from barque.client import channels as client_channels
from barque.client import pki
from barque.client import profile as profiles
from barque.client.channels import Channels
from barque.client.client import target_of
from barque.client.clock import SystemClock
from barque.client.masters import learn_masters
from barque.client.profile import Profile
from barque.client.remote import Connection, connect
from barque.client.verbs import WriteOptions
from barque.deploy import membership
from barque.master.apiserver.heartbeat_relay import HeartbeatRelay, dialer
from barque.master.apiserver.sessions import PATIENCE_S, Sessions
from barque.proto import cluster_pb2, resources_pb2, sessions_pb2, sessions_pb2_grpc
from barque.worker.sessions import Heartbeat
from tests.integration.test_remote import Context, FakeMaster, Sea, _abort, a_config, free_port, refusal
from tests.support.clock import FakeClock

# Much less than what the client waits for a silent host (`slow_to_give_up`), and more than a busy machine takes.
SOON_S = 20.0
NO_LEADER = ApiError(503, "ServiceUnavailable", "no leader: 1 of 3 masters answer", StatusDetails(retryAfterSeconds=1))


class GroupMaster(FakeMaster):
    """A master of a group. `undone` calls are refused as without a leader; a `broken` verb is done, and the connection
    breaks before the answer; `told` are the masters it names, `members` those of a group.
    """

    def __init__(self) -> None:
        super().__init__()
        self.undone = 0
        self.broken = ""
        self.told: list[str] = []
        self.members: list[cluster_pb2.Member] = []

    async def Status(self, request: Any, context: Context) -> cluster_pb2.StatusReply:
        if self.members:
            return cluster_pb2.StatusReply(members=self.members, group=cluster_pb2.Group(term=1))
        return cluster_pb2.StatusReply(members=[cluster_pb2.Member(address=address) for address in self.told])

    async def Patch(self, request: Any, context: Context) -> resources_pb2.Object:
        await self._come("patch", context)
        return resources_pb2.Object(json=request.patch)

    async def Delete(self, request: Any, context: Context) -> resources_pb2.Object:
        await self._come("delete", context)
        return resources_pb2.Object(json=b"{}")

    async def _come(self, verb: str, context: Context) -> None:
        await super()._come(verb, context)
        if self.undone:
            self.undone -= 1
            await _abort(context, grpc.StatusCode.UNAVAILABLE, NO_LEADER)
        if self.broken == verb:
            self._stopping = asyncio.create_task(self.stop())
            await asyncio.Event().wait()


class GroupSea(Sea):
    async def member(self) -> GroupMaster:
        master = GroupMaster()
        await master.start(self.pki.master.server_credentials())
        self.masters.append(master)
        return master

    async def three(self) -> list[GroupMaster]:
        return [await self.member() for _ in range(3)]

    def to(self, masters: list[GroupMaster], **options: Any) -> Connection:
        return self.connect(*(master.port for master in masters), **options)


@pytest.fixture
async def sea(tmp_path: Path) -> AsyncIterator[GroupSea]:
    sea = GroupSea(tmp_path)
    try:
        yield sea
    finally:
        await sea.close()


@contextlib.contextmanager
def a_silent_host() -> Iterator[int]:
    """A port at which connections are taken and nothing ever answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        yield port


@pytest.fixture
def slow_to_give_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_channels, "READY_TIMEOUT_S", 90.0)


@pytest.mark.usefixtures("slow_to_give_up")
async def test_a_silent_host_costs_its_head_start_and_is_named(sea: GroupSea) -> None:
    alive = await sea.member()
    said: list[str] = []
    with a_silent_host() as silent:
        connection = sea.connect(silent, alive.port, say=said.append)
        begun = time.monotonic()
        await connection.client.create(a_config("a"))
        took_s = time.monotonic() - begun
        await connection.client.get(ConfigMap, "a", "default")
    assert client_channels.HEAD_START_S <= took_s < SOON_S
    assert said == [f"master 127.0.0.1:{silent} does not answer, trying 127.0.0.1:{alive.port}"]


async def test_a_write_that_was_not_done_is_done_elsewhere(sea: GroupSea) -> None:
    first, second, _ = masters = await sea.three()
    first.undone = 1
    said: list[str] = []
    connection = sea.to(masters, say=said.append)
    await connection.client.create(a_config("a"))
    assert (first.calls, second.calls) == (["create"], ["create"])
    assert list(first.objects) == []
    assert list(second.objects) == ["a"]
    assert said == [
        f"master 127.0.0.1:{first.port} cannot serve (no leader: 1 of 3 masters answer), trying 127.0.0.1:{second.port}"
    ]


async def test_without_a_leader_each_master_is_asked_once_and_the_reason_told(sea: GroupSea) -> None:
    masters = await sea.three()
    for master in masters:
        master.undone = 9
    refused = await refusal(sea.to(masters).client.create(a_config("a")))
    assert (refused.code, refused.message) == (503, "no leader: 1 of 3 masters answer")
    assert [master.calls for master in masters] == [["create"]] * 3


async def test_patience_waits_for_the_election(sea: GroupSea) -> None:
    masters = await sea.three()
    for master in masters:
        master.undone = 2
    said: list[str] = []
    await sea.to(masters, say=said.append, patience_s=60.0).client.create(a_config("a"))
    assert sum(len(master.objects) for master in masters) == 1
    assert "no master can serve (no leader: 1 of 3 masters answer), trying again" in said


async def test_patience_ends(sea: GroupSea) -> None:
    masters = await sea.three()
    for master in masters:
        master.undone = 99
    begun = time.monotonic()
    refused = await refusal(sea.to(masters, patience_s=0.6).client.create(a_config("a")))
    assert refused.code == 503
    assert 0.6 <= time.monotonic() - begun < SOON_S


@pytest.mark.parametrize(
    ("verb", "options", "again"),
    [
        ("create", "", False),
        ("create", "dry run", True),
        ("patch", "", False),
        ("patch", "apply", True),
        ("patch", "apply of a revision", False),
        ("delete", "", False),
        ("delete", "uid", True),
    ],
)
async def test_what_may_have_been_done_is_repeated_only_where_twice_does_no_harm(
    sea: GroupSea, verb: str, options: str, again: bool
) -> None:
    first, second, _ = masters = await sea.three()
    first.broken = verb
    client = sea.to(masters).client
    target = target_of(ConfigMap, "a", "default")
    body = msgspec.json.encode({"metadata": {"name": "a", **({"resourceVersion": "1"} if "of a" in options else {})}})
    match verb:
        case "create":
            call = client.verbs.create(target._replace(name=""), body, WriteOptions(dry_run=bool(options)))
        case "patch":
            kind = "application/apply-patch+yaml" if options else "application/merge-patch+json"
            call = client.verbs.patch(target, kind, body)
        case _:
            call = client.verbs.delete(target, b'{"preconditions":{"uid":"u"}}' if options else b"")
    if again:
        await call
        assert second.calls == [verb]
    else:
        refused = await refusal(call)
        assert (refused.code, refused.message.startswith("outcome unknown: ")) == (504, True)
        assert second.calls == []


async def test_doubt_about_a_write_is_not_forgotten_when_nobody_else_answers(sea: GroupSea) -> None:
    """Applied, perhaps, on the first; the others have no leader: it may still have been done."""
    first, second, third = masters = await sea.three()
    first.broken = "patch"
    second.undone = third.undone = 9
    body = b'{"metadata":{"name":"a"}}'
    call = sea.to(masters).client.verbs.patch(
        target_of(ConfigMap, "a", "default"), "application/apply-patch+yaml", body
    )
    assert (await refusal(call)).code == 504


async def test_a_watch_goes_to_another_master_when_its_own_is_gone(sea: GroupSea) -> None:
    first, second, _ = masters = await sea.three()
    connection = sea.to(masters)
    watch = connection.verbs.watch(target_of(ConfigMap, "", "default"), resource_version="4")
    await anext(watch)
    await anext(watch)
    await first.stop()
    assert (await refusal(anext(watch))).code == 503  # type: ignore[arg-type]
    again = connection.verbs.watch(target_of(ConfigMap, "", "default"), resource_version="6")
    await anext(again)
    assert second.calls == ["watch"]
    await again.aclose()  # type: ignore[attr-defined]


async def test_masters_that_are_told_of_are_used_and_kept(sea: GroupSea, tmp_path: Path) -> None:
    first, second, _ = await sea.three()
    connection = sea.connect(first.port)
    first.told = [f"127.0.0.1:{port}" for port in (first.port, second.port)]
    assert await learn_masters(connection) == first.told
    assert await learn_masters(connection) is None
    second.objects["a"] = msgspec.json.encode(a_config("a"))
    await first.stop()
    assert (await connection.client.get(ConfigMap, "a", "default")).metadata.name == "a"


async def test_who_came_another_way_keeps_the_way(sea: GroupSea) -> None:
    master = await sea.member()
    master.told = ["10.0.0.1:7443", "10.0.0.2:7443"]
    connection = sea.connect(master.port)
    assert await learn_masters(connection) is None
    assert connection.channels.masters == (f"127.0.0.1:{master.port}",)


async def test_a_learned_list_keeps_the_master_in_use() -> None:
    channels = Channels(["a:1", "b:1"], lambda: None)  # type: ignore[arg-type, return-value]  # never connected
    channels.move_on("a:1")
    channels.learn(["c:1", "b:1", "a:1"])
    assert channels.master == "b:1"
    channels.learn(["c:1", "d:1"])
    assert channels.master == "c:1"


@pytest.mark.usefixtures("slow_to_give_up")
async def test_nobody_there_names_every_master_at_once(sea: GroupSea) -> None:
    ports = [free_port() for _ in range(3)]
    begun = time.monotonic()
    refused = await refusal(sea.connect(*ports).client.get(ConfigMap, "a", "default"))
    told = "; ".join(f"127.0.0.1:{port}: connection refused" for port in ports)
    assert refused.message == f"no master is reachable ({told})"
    assert time.monotonic() - begun < SOON_S


class Screen:
    """What a command prints."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def waiting(self, text: str) -> None:
        """No terminal."""

    def quiet(self) -> None:
        """Nothing to take away."""


def a_session(path: Path) -> tuple[Session, Screen]:
    screen = Screen()
    return Session(config=str(path), screen=screen), screen  # type: ignore[arg-type]  # all that is used of one


def as_command(session: Session, body: Any) -> Any:
    """A command as it runs, but for the signals, which are the main thread's."""
    return session.connected(body)


async def test_a_command_learns_of_masters_and_keeps_them_in_an_old_profile(sea: GroupSea, tmp_path: Path) -> None:
    first, second, _ = await sea.three()
    path = tmp_path / "config"
    known = [f"127.0.0.1:{first.port}"]
    Profile.of(known, sea.pki.admin).save(path)
    told = first.told = [f"127.0.0.1:{port}" for port in (first.port, second.port)]

    async def body(connection: Any) -> None:
        await connection.client.list(ConfigMap)

    await as_command(a_session(path)[0], body)
    assert profiles.load(path).masters == known, "a profile that was written a moment ago is believed"
    os.utime(path, (1.0, 1.0))
    await as_command(a_session(path)[0], body)
    assert profiles.load(path).masters == told
    os.utime(path, (1.0, 1.0))
    await as_command(a_session(path)[0], body)
    assert path.stat().st_mtime > time.time() - 60


async def test_a_command_says_which_master_it_goes_on_with(sea: GroupSea, tmp_path: Path) -> None:
    first, second, _ = masters = await sea.three()
    for master in masters[:2]:
        master.undone = 1
    path = tmp_path / "config"
    Profile.of([f"127.0.0.1:{master.port}" for master in masters], sea.pki.admin).save(path)
    session, screen = a_session(path)

    async def body(connection: Any) -> None:
        await connection.client.list(ConfigMap)

    await as_command(session, body)
    assert [line.split(" (")[0] for line in screen.notes] == [
        f"master 127.0.0.1:{first.port} cannot serve",
        f"master 127.0.0.1:{second.port} cannot serve",
    ]


# -- heartbeats: whichever master a worker beats to, the leader hears of it -------------------------------------------


class SessionsMaster:
    """A master's door for heartbeats, and its relay, which the test has look."""

    def __init__(self, sea: GroupSea) -> None:
        self.sea = sea
        self.clock = FakeClock()
        self.leads = False
        self.leader = ""
        self.samples: list[tuple[str, bytes]] = []
        self.sessions = Sessions(
            self.clock, leads=lambda: self.leads, on_usage=lambda *sample: self.samples.append(sample), interval_s=0.05
        )
        self.relay = HeartbeatRelay(
            self.sessions, lambda: self.leads, lambda: self.leader, dialer(lambda: sea.pki.master), self.clock
        )
        self.address = ""
        self._server = grpc.aio.server()

    async def open(self) -> SessionsMaster:
        sessions_pb2_grpc.add_SessionsServicer_to_server(self.sessions, self._server)
        port = self._server.add_secure_port("127.0.0.1:0", self.sea.pki.master.server_credentials())
        await self._server.start()
        self.address = f"127.0.0.1:{port}"
        return self

    async def close(self) -> None:
        await self.relay._reach("")
        await self._server.stop(None)

    async def beats(self, count: int) -> None:
        """Wait for so many more."""
        for _ in range(count):
            await self.clock.advance(1)
            async with asyncio.timeout(60):
                while self.sessions.last_seen("n1") != self.clock.monotonic():
                    await asyncio.sleep(0.01)

    async def until_seen(self, node: str) -> float:
        async with asyncio.timeout(60):
            while (seen := self.sessions.last_seen(node)) is None:
                await asyncio.sleep(0.01)
        return seen


@pytest.fixture
async def pair(sea: GroupSea) -> AsyncIterator[tuple[SessionsMaster, SessionsMaster]]:
    """A leader and a follower that knows it."""
    leader, follower = await SessionsMaster(sea).open(), await SessionsMaster(sea).open()
    leader.leads, follower.leader = True, leader.address
    try:
        yield leader, follower
    finally:
        await leader.close()
        await follower.close()


@contextlib.asynccontextmanager
async def a_worker(
    sea: GroupSea, node: str, *masters: SessionsMaster, usage: Callable[[], bytes] = bytes
) -> AsyncIterator[tuple[Connection, list[bool]]]:
    now = SystemClock().wall()
    identity = sea.pki.authority.identity(pki.node_subject(node), now)
    sessions: list[bool] = []
    async with connect(Profile.of([master.address for master in masters], identity)) as connection:
        beating = Heartbeat(connection, node, lambda: "uid", sessions.append, SystemClock(), usage)
        task = asyncio.create_task(beating.run())
        try:
            yield connection, sessions
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_the_leader_hears_of_a_worker_at_a_follower(
    sea: GroupSea, pair: tuple[SessionsMaster, SessionsMaster]
) -> None:
    leader, follower = pair
    await leader.clock.advance(100)
    async with a_worker(sea, "n1", follower):
        await follower.until_seen("n1")
    await follower.clock.advance(1.5)
    await follower.relay.look()
    # Ages travel, not times: the two clocks have nothing to do with each other.
    assert leader.sessions.last_seen("n1") == pytest.approx(98.5)
    assert follower.sessions.untold() == {}


async def test_what_the_leader_has_not_taken_is_told_the_next_one(
    sea: GroupSea, pair: tuple[SessionsMaster, SessionsMaster]
) -> None:
    leader, follower = pair
    async with a_worker(sea, "n1", follower):
        await follower.until_seen("n1")
    leader.leads = False
    await follower.relay.look()
    assert leader.sessions.last_seen("n1") is None
    assert list(follower.sessions.untold()) == ["n1"]
    leader.leads = True
    await follower.relay.look()
    assert leader.sessions.last_seen("n1") is not None


async def test_a_sample_goes_once_to_a_master_and_the_newest_to_the_next(
    sea: GroupSea, pair: tuple[SessionsMaster, SessionsMaster]
) -> None:
    first, second = pair
    waiting = [b"older", b"newer"]
    async with (
        a_worker(sea, "n1", first, second, usage=lambda: waiting.pop(0) if waiting else b""),
        asyncio.timeout(60),
    ):
        while len(first.samples) < 2:
            await asyncio.sleep(0.01)
        await first.beats(3)
        assert first.samples == [("n1", b"older"), ("n1", b"newer")]
        await first.close()
        while not second.samples:
            await asyncio.sleep(0.01)
        await second.beats(3)
        assert second.samples == [("n1", b"newer")]


async def test_only_masters_pass_heartbeats_on(sea: GroupSea, pair: tuple[SessionsMaster, SessionsMaster]) -> None:
    leader, _ = pair
    async with a_worker(sea, "n1", leader) as (connection, _):
        await leader.until_seen("n1")
        heard = sessions_pb2.Heard(nodes=[sessions_pb2.NodeHeard(node="n2")])
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await sessions_pb2_grpc.SessionsStub(connection.channels.channel).Relay(heard)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert leader.sessions.last_seen("n2") is None


async def test_a_master_apart_from_the_leader_sends_its_workers_away_with_their_watches(
    sea: GroupSea, pair: tuple[SessionsMaster, SessionsMaster]
) -> None:
    leader, follower = pair
    async with a_worker(sea, "n1", follower, leader) as (connection, sessions):
        await follower.until_seen("n1")
        old = connection.channels.channel
        follower.leader = ""
        await follower.clock.advance(PATIENCE_S - 0.1)
        await follower.relay.look()
        assert follower.sessions.connected("n1")
        await follower.clock.advance(0.2)
        await follower.relay.look()
        await leader.until_seen("n1")
        assert connection.channels.master == leader.address
        # The leader has heard the worker before the worker hears that.
        async with asyncio.timeout(60):
            while old.get_state() is not grpc.ChannelConnectivity.SHUTDOWN or len(sessions) < 3:
                await asyncio.sleep(0.01)
        assert not follower.sessions.connected("n1")
        assert sessions == [True, False, True]


async def test_beside_an_unreachable_leader_a_follower_gives_up_too(
    sea: GroupSea, pair: tuple[SessionsMaster, SessionsMaster]
) -> None:
    _, follower = pair
    follower.leader = f"127.0.0.1:{free_port()}"
    async with a_worker(sea, "n1", follower):
        await follower.until_seen("n1")
        await follower.clock.advance(PATIENCE_S + 0.1)
        await follower.relay.look()
        async with asyncio.timeout(60):
            while follower.sessions.connected("n1"):
                await asyncio.sleep(0.01)
    follower.leads = True
    await follower.relay.look()
    async with a_worker(sea, "n2", follower):
        assert await follower.until_seen("n2") == follower.clock.monotonic()


# -- what a lab asks of the masters ------------------------------------------------------------------------------------


async def test_a_lab_waits_until_one_leads_and_all_vote(sea: GroupSea) -> None:
    master = await sea.member()
    profile = Profile.of([f"127.0.0.1:{master.port}"], sea.pki.admin)
    master.members = [
        cluster_pb2.Member(name="m1", address="10.0.0.1:7443", voter=True),
        cluster_pb2.Member(name="m2", address="10.0.0.2:7443"),
    ]

    async def late(*names: str) -> str:
        """What is missing; on a busy machine nobody has answered so soon."""
        for patience_s in (0.2, 3.0, 30.0):
            with pytest.raises(membership.MembershipError) as late:
                await membership.wait_masters(profile, names, patience_s, lambda: "")
            why = str(late.value).removeprefix(f"the masters do not serve after {patience_s:.0f} s: ")
            if why != "no master answers":
                break
        return why

    assert await late("m1") == "no master leads"
    master.members[0].leader = True
    assert await membership.wait_masters(profile, ["m1"], 60.0, lambda: "") == "m1"
    assert await late("m1", "m2", "m3") == "no vote yet: m2, m3"
    with pytest.raises(membership.MembershipError, match="the master of m2 ended"):
        await membership.wait_masters(profile, ["m2"], 60.0, lambda: "the master of m2 ended")
    assert await membership.words(profile, 60.0) == {"m1": "leader", "m2": "learner"}
