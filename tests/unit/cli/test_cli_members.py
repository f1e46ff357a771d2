"""`barque cluster` about the group: members, add, remove, transfer, recover-quorum, and keys on every master."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from barque.api.errors import ApiError, bad_request, unavailable
from barque.master.apiserver.group_status import GroupView
from barque.proto import cluster_pb2
from tests.support.memory_group import MemoryGroup, a_configuration, a_member
from tests.support.registry_cluster import RegistryCluster, run

IDS = {name: a_member(name).id for name in ("m1", "m2", "m3")}


class Master:
    """One master's Cluster service, of a group in memory as it sees it."""

    def __init__(self, name: str, leader: str = "m1", silent: tuple[str, ...] = ()) -> None:
        self.name = name
        leads = IDS.get(leader, "")
        self.group = MemoryGroup(a_configuration("m1", "m2", "m3"), IDS[name], leads, set(silent))
        self.asked: list[Any] = []
        self.refusal: ApiError | None = None
        self.restored = b""

    async def Status(self, _: Any) -> Any:
        view = GroupView(self.group.configuration, self.group.group_figures())
        return cluster_pb2.StatusReply(
            cluster_id="c-1", version="0.1.0", revision=42, https_port=6443, members=view.members(), group=view.status()
        )

    async def CreateJoinToken(self, request: Any) -> Any:
        self._ask(request)
        return cluster_pb2.CreateJoinTokenReply(token="abcdef.0", ca_pin="sha256:0", expires="2026-01-02T00:00:00Z")

    async def RemoveMember(self, request: Any) -> Any:
        self._ask(request)
        await self.group.remove_member(request.member)
        voters = [m.name for m in self.group.configuration.members]
        return cluster_pb2.RemoveMemberReply(name=request.member, id="x", voters=voters)

    async def TransferLeadership(self, request: Any) -> Any:
        self._ask(request)
        return cluster_pb2.TransferLeadershipReply(leader=request.to or "m2", took_ms=119.6)

    async def RecoverQuorum(self, request: Any) -> Any:
        self._ask(request)
        return cluster_pb2.RecoverQuorumReply(revision=1_000_000_042, objects=12)

    async def RotateKey(self, request: Any) -> Any:
        self._ask(request)
        return cluster_pb2.RotateKeyReply(key_id=f"k-{self.name}", secrets=7)

    async def RestoreSnapshot(self, chunks: AsyncIterator[Any]) -> Any:
        self.restored = b"".join([chunk.data async for chunk in chunks])
        self._ask(chunks)
        return cluster_pb2.RestoreSnapshotReply(revision=1_000_000_042, objects=12)

    def _ask(self, request: Any) -> None:
        self.asked.append(request)
        if self.refusal is not None:
            raise self.refusal


class Fleet(RegistryCluster):
    """Three masters, of which the profile names m1; None for one that is away."""

    def __init__(self, **masters: Master | None) -> None:
        super().__init__()
        for name in IDS:
            self.masters[a_member(name).grpc_address] = masters.get(name)

    def __getitem__(self, name: str) -> Master:
        master: Master = self.masters[a_member(name).grpc_address]
        return master


def healthy(leader: str = "m1") -> Fleet:
    return Fleet(**{name: Master(name, leader) for name in IDS})


# --- members


def test_members_as_the_leader_sees_them() -> None:
    fleet = Fleet(m1=Master("m1", "m2"), m2=Master("m2", "m2", silent=("m3",)))
    result = run(fleet, "cluster", "members")
    assert result.stdout == (
        "NAME   ID                 ADDRESS         ROLE     MATCH   LAG   HEARD    STATE\n"
        "m1     0000000000000001   10.0.0.1:7444   voter    90      10    0s ago   ok\n"
        "m2     0000000000000002   10.0.0.2:7444   leader   100     0     -        ok\n"
        "m3     0000000000000003   10.0.0.3:7444   voter    -       -     -        silent\n"
    )
    assert result.stderr == (
        "term 7, as the leader m2 sees it\n"
        "Warning: m3 does not answer. One more loss, and nothing can be changed. Start it, or replace it: `barque "
        "cluster remove-member m3`, then `barque cluster add-member`\n"
    )
    assert result.exit_code == 0


def test_members_where_the_leader_does_not_answer() -> None:
    result = run(Fleet(m1=Master("m1", "m2")), "cluster", "members")
    assert result.stderr == "term 7, as m1 sees it; the leader m2 did not answer\n"
    assert result.stdout.splitlines()[3].split() == [
        "m3",
        IDS["m3"],
        "10.0.0.3:7444",
        "voter",
        "90",
        "10",
        "0s",
        "ago",
        "-",
    ]


def test_members_without_a_quorum() -> None:
    result = run(Fleet(m1=Master("m1", "", silent=("m2", "m3"))), "cluster", "members")
    assert result.exit_code == 1
    assert result.stderr.startswith(
        "term 7, as m1 sees it; there is no leader\nWarning: no leader: 1 of 3 masters answer."
    )
    assert "barque cluster recover-quorum m1" in result.stderr


def test_status_without_a_quorum() -> None:
    fleet = Fleet(m1=Master("m1", "", silent=("m2", "m3")))
    fleet["m1"].group.faults = {"log": "no space left on device"}
    result = run(fleet, "cluster", "status")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[:9] == [
        "Cluster:         c-1",
        "Version:         0.1.0",
        "Revision:        42",
        "Answered by:     m1",
        "Leader:          none, term 7",
        "Log:             entry 100, committed 95, applied 94",
        "Election after:  1000 ms (stalls 12.0 ms, syncs 4.0 ms)",
        "Fault:           log: no space left on device",
        "",
    ]
    assert result.stdout.splitlines()[9:13] == [
        "MASTER   ADDRESS         ROLE    STATE",
        "m1       10.0.0.1:7443   voter   ok",
        "m2       10.0.0.2:7443   voter   silent",
        "m3       10.0.0.3:7443   voter   silent",
    ]
    assert result.stdout.splitlines()[-1].startswith("Warning: no leader: 1 of 3 masters answer.")


# --- one more, one less, who leads


def test_add_member_prints_the_whole_command() -> None:
    fleet = healthy()
    result = run(fleet, "cluster", "add-member", "--ttl", "1h")
    assert result.stdout == "barque master join 10.0.0.1:6443 --token abcdef.0 --ca-pin sha256:0\n"
    assert result.stderr == "The token is good for one master, until 2026-01-02T00:00:00Z.\n"
    (request,) = fleet["m1"].asked
    assert (request.for_master, request.ttl_s) == (True, 3600)
    named = run(fleet, "cluster", "add-member", "--master", "m1.lab")
    assert named.stdout.startswith("barque master join m1.lab --token")
    assert run(fleet, "cluster", "add-member", "--ttl", "0s").exit_code == 1


def test_remove_member_is_asked_of_the_leader() -> None:
    fleet = healthy(leader="m3")
    result = run(fleet, "cluster", "remove-member", "m2", "--force")
    assert result.stdout == "master m2 removed; m1 and m3 vote now\n"
    assert result.stderr == (
        "2 masters bear no more losses than 1 would: `barque cluster add-member` makes them more\n"
    )
    assert (fleet["m1"].asked, fleet["m3"].asked[0].force) == ([], True)
    fleet["m3"].refusal = ApiError(409, "Conflict", "without m1, only 1 of 2 masters would answer")
    refused = run(fleet, "cluster", "remove-member", "m1")
    assert refused.stderr == "Error from server (Conflict): without m1, only 1 of 2 masters would answer\n"


def test_remove_member_goes_through_any_master_where_the_leader_is_away() -> None:
    fleet = Fleet(m1=Master("m1", "m2"))
    assert run(fleet, "cluster", "remove-member", "m3").exit_code == 0
    assert fleet["m1"].asked[0].member == "m3"


def test_transfer() -> None:
    fleet = healthy()
    assert run(fleet, "cluster", "transfer", "m3").stdout == "m3 leads now (120 ms)\n"
    assert run(fleet, "cluster", "transfer").stdout == "m2 leads now (120 ms)\n"
    assert [request.to for request in fleet["m1"].asked] == ["m3", ""]
    fleet["m1"].refusal = unavailable("no leader: 1 of 3 masters answer")
    refused = run(fleet, "cluster", "transfer")
    assert refused.stderr == "Error from server (ServiceUnavailable): no leader: 1 of 3 masters answer\n"


# --- going on alone


def lost(*left: str, leader: str = "") -> Fleet:
    return Fleet(**{n: Master(n, leader, silent=tuple(IDS.keys() - set(left))) for n in left})


def test_the_only_one_left_goes_on_once_the_clusters_id_was_typed() -> None:
    fleet = lost("m2")
    fleet.masters["10.0.0.1:7443"] = fleet["m2"]  # the profile's address leads there
    result = run(fleet, "cluster", "recover-quorum", stdin="c-1\n")
    assert result.stdout == "m2 goes on alone with 12 objects, at revision 1000000042\n"
    assert "This makes m2 the only master of cluster c-1" in result.stderr
    assert "be sure that m1 and m3 do not run any more" in result.stderr
    assert [request.member for request in fleet["m2"].asked] == [IDS["m2"]]


def test_without_that_nothing_is_recovered() -> None:
    fleet = lost("m1")
    result = run(fleet, "cluster", "recover-quorum", stdin="yes\n")
    assert (result.exit_code, fleet["m1"].asked) == (1, [])
    assert result.stderr.endswith("error: not confirmed; nothing was changed\n")


def test_where_several_answer_one_must_be_named() -> None:
    fleet = lost("m1", "m2")
    fleet["m2"].group.group_figures = _further(fleet["m2"].group)  # type: ignore[method-assign]
    refused = run(fleet, "cluster", "recover-quorum", "--yes")
    assert refused.stderr == (
        "error: m1 and m2 answer: name the one that goes on alone; m2 has most (entries up to 99)\n"
    )
    assert run(fleet, "cluster", "recover-quorum", "m3", "--yes").stderr == (
        "error: master m3 does not answer; of the masters, m1 and m2 does\n"
    )
    assert run(fleet, "cluster", "recover-quorum", "m2", "--yes").exit_code == 0
    assert (fleet["m1"].asked, len(fleet["m2"].asked)) == ([], 1)


def _further(group: MemoryGroup) -> Any:
    figures = group.group_figures()._replace(commit=99)
    return lambda: figures


def test_a_group_with_a_leader_is_not_recovered() -> None:
    fleet = healthy()
    result = run(fleet, "cluster", "recover-quorum", "--yes")
    assert result.stderr == ("error: the group has a leader, m1, so a majority answers: there is nothing to recover\n")
    assert all(not fleet[name].asked for name in IDS)


# --- keys and snapshots, of which each master has its own


def test_the_key_is_rotated_on_every_master() -> None:
    fleet = healthy()
    result = run(fleet, "cluster", "rotate-key")
    assert result.stdout == "".join(f"{n}: key rotated: k-{n} seals 7 secrets now\n" for n in IDS)
    assert result.exit_code == 0


def test_a_master_that_did_not_rotate_is_named() -> None:
    fleet = healthy()
    fleet["m2"].refusal = unavailable("the disk is full")
    fleet.masters["10.0.0.3:7443"] = None
    result = run(fleet, "cluster", "rotate-key")
    assert result.stdout == "m1: key rotated: k-m1 seals 7 secrets now\n"
    assert result.stderr == (
        "error: m2: the disk is full; its key stays: run this again once it is well\n"
        "error: m3: no master is reachable (10.0.0.3:7443: connection refused); its key stays: run this again once it "
        "is well\n"
    )
    assert result.exit_code == 1


def test_a_snapshot_is_restored_by_the_master_that_has_its_key(tmp_path: Any) -> None:
    file = tmp_path / "monday"
    file.write_bytes(b"snapshot")
    fleet = healthy()
    fleet["m1"].refusal = bad_request("the snapshot is refused: sealed with key k-m2, which is not in the key ring")
    result = run(fleet, "cluster", "snapshot", "restore", str(file), "--yes")
    assert result.stdout == "restored 12 objects; the cluster is at revision 1000000042 now\n"
    assert result.stderr.endswith("is not in the key ring; asking m2\n")
    assert (fleet["m2"].restored, fleet["m3"].restored) == (b"snapshot", b"")
    for name in ("m2", "m3"):
        fleet[name].refusal = bad_request(f"refused by {name}")
    refused = run(fleet, "cluster", "snapshot", "restore", str(file), "--yes")
    assert (refused.exit_code, refused.stderr.splitlines()[-1]) == (1, "Error from server (BadRequest): refused by m3")
    fleet["m1"].refusal = unavailable("no leader: 1 of 3 masters answer")
    again = run(fleet, "cluster", "snapshot", "restore", str(file), "--yes")
    assert again.stderr == "Error from server (ServiceUnavailable): no leader: 1 of 3 masters answer\n"


@pytest.mark.parametrize("verb", ["members", "add-member", "remove-member", "transfer", "recover-quorum", "rotate-key"])
def test_each_verb_says_what_it_does_and_what_it_needs(verb: str) -> None:
    shown = run(healthy(), "cluster", verb, "--help").stdout
    assert f"barque cluster {verb}" in shown.split("Examples")[1]
    assert "majority" in shown
