"""The Cluster service's group verbs over real gRPC with mutual TLS: who may, what is refused and in which words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import grpc.aio
import pytest

from barque.api.errors import ApiError
from barque.client import pki, wire
from barque.client.clock import SystemClock
from barque.client.pki import Identity
from barque.client.profile import Profile
from barque.client.remote import Connection, connect
from barque.master.apiserver.cluster_service import ClusterService, ClusterState
from barque.master.auth.ca import MasterPki
from barque.master.auth.tokens import JoinTokens
from barque.master.stalls import StallMonitor
from barque.master.store.group import GroupError
from barque.master.store.port import StoreFigures
from barque.proto import cluster_pb2 as pb
from barque.proto import cluster_pb2_grpc
from tests.support.fake_verbs import FakeVerbs
from tests.support.memory_group import NO_QUORUM, MemoryGroup, a_configuration, a_member


class Door:
    """The Cluster service of the master m1, which leads m2 and m3."""

    def __init__(self, directory: Path) -> None:
        clock = SystemClock()
        self.pki = MasterPki.open(directory, "m1", ["127.0.0.1"], clock.wall())
        self.group = MemoryGroup(a_configuration("m1", "m2", "m3"))
        self.tokens = JoinTokens(FakeVerbs(clock).client, clock)
        figures = StoreFigures(7, 0, 0, 0.0, 0.0, "k-1", "2026-01-01T00:00:00Z")
        store: Any = SimpleNamespace(cluster_id="c-1", revision=42, figures=lambda: figures)
        state = ClusterState("1", lambda: [pb.Member(name="m1")], list, lambda: 6443, StallMonitor(clock).figures)
        self.service = ClusterService(state, store, self.tokens, self.pki, clock, group=self.group)
        self.server = grpc.aio.server()
        self.connections: list[Connection] = []

    async def open(self) -> None:
        cluster_pb2_grpc.add_ClusterServicer_to_server(self.service, self.server)
        self.port = self.server.add_secure_port("127.0.0.1:0", self.pki.master.server_credentials())
        await self.server.start()

    def connect(self, identity: Identity | None = None) -> Any:
        self.connections.append(connect(Profile.of([f"127.0.0.1:{self.port}"], identity or self.pki.admin)))
        return self.connections[-1].cluster

    async def close(self) -> None:
        for connection in self.connections:
            await connection.close()
        await self.server.stop(None)


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    made = Door(tmp_path)
    await made.open()
    try:
        yield made
    finally:
        await made.close()


async def refusal(call: Any) -> ApiError:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return wire.api_error(refused.value)


async def test_status_tells_of_the_group_to_every_certificate(door: Door) -> None:
    door.group.silent = {"m3"}
    identity = door.pki.authority.identity(pki.node_subject("n1"), SystemClock().wall())
    reply = await door.connect(identity).Status(pb.StatusRequest())
    assert [(m.name, m.state) for m in reply.members] == [("m1", "ok"), ("m2", "ok"), ("m3", "silent")]
    assert (reply.group.term, reply.group.leader, reply.group.quorum_lost) == (7, a_member("m1").id, False)
    door.group.leader, door.group.silent = "", {"m2", "m3"}
    reply = await door.connect().Status(pb.StatusRequest())
    assert (reply.group.quorum_lost, reply.revision) == (True, 42)


async def test_only_administrators_change_the_group(door: Door) -> None:
    worker = door.connect(door.pki.authority.identity(pki.node_subject("n1"), SystemClock().wall()))
    for call in (
        worker.RemoveMember(pb.RemoveMemberRequest(member="m2")),
        worker.TransferLeadership(pb.TransferLeadershipRequest()),
        worker.RecoverQuorum(pb.RecoverQuorumRequest(member="m1")),
        worker.CreateJoinToken(pb.CreateJoinTokenRequest(for_master=True)),
    ):
        refused = await refusal(call)
        assert (refused.code, 'User "system:node:n1" cannot' in refused.message) == (403, True)
    assert door.group.asked == []


async def test_a_token_is_for_whom_it_was_asked(door: Door) -> None:
    cluster = door.connect()
    masters = await cluster.CreateJoinToken(pb.CreateJoinTokenRequest(for_master=True))
    workers = await cluster.CreateJoinToken(pb.CreateJoinTokenRequest())
    await door.tokens.check(masters.token, "10.0.0.9", "master")
    await door.tokens.check(workers.token, "10.0.0.9", "worker")
    with pytest.raises(ApiError):
        await door.tokens.check(workers.token, "10.0.0.9", "master")


async def test_a_member_is_removed_by_name_or_id(door: Door) -> None:
    cluster = door.connect()
    reply = await cluster.RemoveMember(pb.RemoveMemberRequest(member="m2"))
    assert (reply.name, reply.id, list(reply.voters)) == ("m2", a_member("m2").id, ["m1", "m3"])
    reply = await cluster.RemoveMember(pb.RemoveMemberRequest(member=a_member("m3").id))
    assert list(reply.voters) == ["m1"]
    last = await refusal(cluster.RemoveMember(pb.RemoveMemberRequest(member="m1", force=True)))
    assert (last.code, last.reason, last.message) == (409, "Conflict", "m1 is the last voter")
    unknown = await refusal(cluster.RemoveMember(pb.RemoveMemberRequest(member="m2")))
    assert (unknown.code, unknown.message) == (404, 'master "m2" not found; there are m1')


async def test_one_that_is_needed_is_removed_only_by_force(door: Door) -> None:
    door.group.silent = {"m3"}
    cluster = door.connect()
    refused = await refusal(cluster.RemoveMember(pb.RemoveMemberRequest(member="m2")))
    assert (refused.code, "only 1 of 2 masters would answer (m3 does not)" in refused.message) == (409, True)
    assert door.group.asked == []
    assert (await cluster.RemoveMember(pb.RemoveMemberRequest(member="m2", force=True))).name == "m2"


async def test_leadership_is_handed_over(door: Door) -> None:
    cluster = door.connect()
    reply = await cluster.TransferLeadership(pb.TransferLeadershipRequest(to="m3"))
    assert (reply.leader, door.group.asked) == ("m3", [("transfer", a_member("m3").id)])
    assert (await cluster.TransferLeadership(pb.TransferLeadershipRequest())).leader == "m1"
    unknown = await refusal(cluster.TransferLeadership(pb.TransferLeadershipRequest(to="m9")))
    assert (unknown.code, unknown.message) == (404, 'master "m9" not found; there are m1, m2, m3')


@pytest.mark.parametrize(
    ("refused", "code", "reason"),
    [(GroupError("another change is under way"), 409, "Conflict"), (NO_QUORUM, 503, "ServiceUnavailable")],
)
async def test_what_the_group_refuses(door: Door, refused: Exception, code: int, reason: str) -> None:
    cluster = door.connect()
    door.group.refusal = refused
    for call in (
        cluster.RemoveMember(pb.RemoveMemberRequest(member="m2")),
        cluster.TransferLeadership(pb.TransferLeadershipRequest()),
        cluster.RecoverQuorum(pb.RecoverQuorumRequest(member="m1")),
    ):
        told = await refusal(call)
        assert (told.code, told.reason, told.message) == (code, reason, str(refused))


async def test_only_the_named_master_goes_on_alone(door: Door) -> None:
    cluster = door.connect()
    refused = await refusal(cluster.RecoverQuorum(pb.RecoverQuorumRequest(member="m2")))
    assert (refused.code, refused.message) == (409, "this is the master m1, not m2: nothing was changed")
    assert door.group.asked == []
    reply = await cluster.RecoverQuorum(pb.RecoverQuorumRequest(member=a_member("m1").id))
    assert (reply.revision, reply.objects) == (1_000_000_042, 12)


async def test_masters_on_etcd_do_not_vote(door: Door) -> None:
    """Nothing is told of terms and logs, and what a group would do is refused by the engine, whichever master is asked
    for; one more may join.
    """
    door.service._votes = False
    door.group.refusal = GroupError("the state is in etcd")
    cluster = door.connect()
    status = await cluster.Status(pb.StatusRequest())
    assert (status.HasField("group"), [m.name for m in status.members]) == (False, ["m1"])
    for call in (
        cluster.RemoveMember(pb.RemoveMemberRequest(member="m1")),
        cluster.TransferLeadership(pb.TransferLeadershipRequest()),
        cluster.RecoverQuorum(pb.RecoverQuorumRequest()),
    ):
        refused = await refusal(call)
        assert (refused.code, refused.message) == (409, "the state is in etcd")
    made = await cluster.CreateJoinToken(pb.CreateJoinTokenRequest(for_master=True))
    await door.tokens.check(made.token, "10.0.0.9", "master")


async def test_a_store_without_other_masters(door: Door) -> None:
    door.service._group = None
    cluster = door.connect()
    status = await cluster.Status(pb.StatusRequest())
    assert (status.HasField("group"), [m.name for m in status.members]) == (False, ["m1"])
    refused = await refusal(cluster.RemoveMember(pb.RemoveMemberRequest(member="m1")))
    assert (refused.code, refused.message) == (409, "this master's store is no group of masters")
