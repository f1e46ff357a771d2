"""What is told of the group: who answers, what is wrong, and whether a master can be spared."""

from __future__ import annotations

import pytest

from barque.master.apiserver.group_status import GroupView
from tests.support.memory_group import MemoryGroup, a_configuration, a_member


def a_group(*names: str, leader: str = "m1", silent: tuple[str, ...] = ()) -> MemoryGroup:
    """As m1 sees it."""
    leads = a_member(leader).id if leader else ""
    return MemoryGroup(a_configuration(*names), leader=leads, silent=set(silent))


def view(group: MemoryGroup) -> GroupView:
    return GroupView(group.configuration, group.group_figures())


def states(group: MemoryGroup) -> list[tuple[str, bool, bool, str]]:
    return [(m.name, m.voter, m.leader, m.state) for m in view(group).members()]


async def test_the_leader_knows_of_all() -> None:
    group = a_group("m2", "m1", "m3", silent=("m3",))
    await group.add_member(a_member("m4"))
    assert states(group) == [
        ("m1", True, True, "ok"),
        ("m2", True, False, "ok"),
        ("m3", True, False, "silent"),
        ("m4", False, False, "catching up"),
    ]
    own, second, third, _ = view(group).members()
    assert (own.match, own.HasField("silent_s"), own.peer_address) == (100, False, "10.0.0.1:7444")
    assert (second.match, second.silent_s, second.address) == (90, 0.25, "10.0.0.2:7443")
    assert (third.match, third.HasField("silent_s")) == (0, False)


def test_a_follower_knows_of_itself_and_the_leader() -> None:
    assert states(a_group("m1", "m2", "m3", leader="m2", silent=("m3",))) == [
        ("m1", True, False, "ok"),
        ("m2", True, True, "ok"),
        ("m3", True, False, ""),
    ]


def test_figures_are_told_with_their_units() -> None:
    group = a_group("m1")
    group.faults = {"log": "no space left on device"}
    told = view(group).status()
    assert (told.member, told.leader, told.term) == (a_member("m1").id, a_member("m1").id, 7)
    assert (told.last_index, told.commit, told.applied) == (100, 95, 94)
    assert (told.election_timeout_ms, told.stall_ms, told.fsync_ms) == (1000, 12, 4)
    assert (list(told.faults), told.quorum_lost, told.advice) == (["log: no space left on device"], False, "")


@pytest.mark.parametrize(
    ("group", "lost", "advice"),
    [
        (a_group("m1", "m2", "m3"), False, ""),
        (a_group("m1", "m2", "m3", leader="m2", silent=("m3",)), False, ""),
        (
            a_group("m1", "m2", "m3", silent=("m3",)),
            False,
            "m3 does not answer. One more loss, and nothing can be changed. Start it, or replace it: `barque cluster "
            "remove-member m3`, then `barque cluster add-member`",
        ),
        (
            a_group("m1", "m2", "m3", "m4", "m5", silent=("m5",)),
            False,
            "m5 does not answer. Start it, or replace it: `barque cluster remove-member m5`, then `barque cluster "
            "add-member`",
        ),
        (
            a_group("m1", "m2", "m3", leader="", silent=("m3",)),
            False,
            "no leader at this moment: 2 of 3 masters answer, an election is under way",
        ),
        (
            a_group("m1", "m2", "m3", leader="", silent=("m3", "m2")),
            True,
            "no leader: 1 of 3 masters answer. Nothing can be changed, and only reads that allow old data succeed "
            "(resourceVersion=0), until 2 of them do: start m2 and m3 again. Only where that is impossible for good: "
            "`barque cluster recover-quorum m1`",
        ),
        (
            a_group(leader=""),
            False,
            "this master has joined and waits until the leader reaches it: is its address open to the others?",
        ),
        (
            a_group("m2", leader="m2"),
            False,
            "this master was removed from the cluster: stop it; to bring it back, empty its data directory first",
        ),
    ],
)
def test_what_is_wrong_and_what_to_do(group: MemoryGroup, lost: bool, advice: str) -> None:
    told = view(group).status()
    assert (told.quorum_lost, told.advice) == (lost, advice)


def test_a_member_that_is_needed_is_not_removed_unasked() -> None:
    group = a_group("m1", "m2", "m3", silent=("m3",))
    assert view(group).removal_risk(a_member("m2")) == (
        "without m2, only 1 of 2 masters would answer (m3 does not), and nothing could be changed any more: start m3 "
        "or remove that one first (--force insists)"
    )
    assert view(group).removal_risk(a_member("m3")) == ""
    assert view(a_group("m1", "m2", "m3")).removal_risk(a_member("m2")) == ""


async def test_a_learner_is_never_needed() -> None:
    group = a_group("m1", "m2", "m3", silent=("m3",))
    await group.add_member(a_member("m4"))
    assert view(group).removal_risk(a_member("m4")) == ""
