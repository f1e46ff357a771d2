"""What a script cannot say well: counting, refusing, remembering, resting."""

from __future__ import annotations

import random

import pytest

from barque.master.raft import configuration as configurations
from barque.master.raft import quorum
from barque.master.raft.core import Core
from barque.master.raft.log import Log
from barque.master.raft.messages import (
    Append,
    AppendReply,
    Configuration,
    Entry,
    HardState,
    Heartbeat,
    HeartbeatReply,
    Message,
    ReadReply,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from barque.master.raft.ready import CoreSettings, DivergedError, NotLeaderError, ReadState, Role, Start
from tests.support.raft import FixedPatience, a_configuration


def a_core(
    voters: str = "abc", member: str = "a", entries: list[Entry] | None = None, base: tuple[int, int] = (0, 0)
) -> Core:
    entries = entries or []
    term = max([base[1], *(entry.term for entry in entries)])
    start = Start(HardState(term), a_configuration(list(voters)), *base, entries, base[0])
    core = Core(member, start, CoreSettings(), FixedPatience(0.0), 0.0)
    core.ready()
    return core


def a_leader(voters: str = "abc", settled: bool = True) -> Core:
    """Leads in term 1; everything up to its first entry is written and answered by b."""
    core = a_core(voters)
    core.campaign()
    for pre in (True, False):
        for other in voters[1:]:
            core.step(VoteReply("a", other, 1, True, pre), 0.0)
        core.ready()
    write(core)
    if settled:
        for other in voters[1:]:
            core.step(AppendReply("a", other, 1, 1), 0.0)
        core.ready()
    assert core.role is Role.LEADER
    return core


def write(core: Core) -> None:
    last = core.last_index
    core.persisted(last, core.term_at(last) or 0)


def sent(core: Core) -> list[Message]:
    ready = core.ready()
    return [*ready.now, *ready.durable]


def some_entries(*terms: int, size: int = 0) -> list[Entry]:
    return [Entry(index, term, 1, b"x" * size) for index, term in enumerate(terms, 1)]


# Majorities


@pytest.mark.parametrize(
    ("reached", "agreed"),
    [((7,), 7), ((7, 5), 5), ((7, 5, 1), 5), ((7, 5, 5, 1), 5), ((7, 6, 1, 1), 1), ((9, 8, 7, 1, 1), 7)],
)
def test_agreed_is_what_more_than_half_have(reached: tuple[int, ...], agreed: int) -> None:
    voters = [f"m{number}" for number in range(len(reached))]
    assert quorum.agreed(a_configuration(voters), dict(zip(voters, reached, strict=True)).__getitem__) == agreed


@pytest.mark.parametrize(("granted", "won"), [(1, None), (2, None), (3, True)])
def test_half_of_an_even_group_is_no_majority(granted: int, won: bool | None) -> None:
    votes = dict.fromkeys("abc"[:granted], True)
    assert quorum.outcome(a_configuration(list("abcd")), votes) is won


def test_a_vote_is_lost_when_it_cannot_be_won_any_more() -> None:
    votes = {"a": True, "b": False, "c": False}
    assert quorum.outcome(a_configuration(list("abcd")), votes) is False
    assert quorum.outcome(a_configuration(list("abcde")), votes) is None


def test_a_joint_configuration_needs_both_majorities() -> None:
    joint = a_configuration(["a", "d", "e"], outgoing=["a", "b", "c"])
    indexes = {"a": 9, "b": 3, "c": 2, "d": 9, "e": 8}
    assert quorum.agreed(joint, indexes.__getitem__) == 3
    assert quorum.outcome(joint, {"a": True, "d": True}) is None
    assert quorum.outcome(joint, {"a": True, "d": True, "b": True}) is True
    assert quorum.outcome(joint, {"a": True, "d": True, "e": True, "b": False, "c": False}) is False


# Configurations


def test_voters_change_through_a_joint_configuration_that_knows_everybody() -> None:
    current = a_configuration(["a", "b"], ["d"])
    joint = configurations.next_step(current, a_configuration(["b", "d"]))
    assert (joint.voters, joint.outgoing, joint.learners, joint.removed) == (("b", "d"), ("a", "b"), (), ())
    assert [info.id for info in joint.members] == ["b", "d", "a"]
    after = configurations.left(joint)
    assert (after.voters, after.outgoing, after.removed) == (("b", "d"), (), ("a",))
    assert [info.id for info in after.members] == ["b", "d"]


def test_a_voter_may_become_a_learner() -> None:
    joint = configurations.next_step(a_configuration(["a", "b"]), a_configuration(["a"], ["b"]))
    assert (joint.voters, joint.outgoing, joint.learners) == (("a",), ("a", "b"), ("b",))
    assert configurations.left(joint) == a_configuration(["a"], ["b"])


def test_learners_and_addresses_change_in_one_step() -> None:
    wanted = a_configuration(["a", "b"], ["c"])
    assert configurations.next_step(a_configuration(["a", "b"]), wanted) == wanted


def test_few_removed_members_are_remembered_the_newest_last() -> None:
    configuration = a_configuration(["a"])
    for number in range(70):
        with_learner = configurations.next_step(
            configuration,
            Configuration(("a",), (), (f"l{number}",), a_configuration(["a"], [f"l{number}"]).members),
        )
        configuration = configurations.next_step(with_learner, a_configuration(["a"]))
    assert len(configuration.removed) == 64
    assert configuration.removed[-1] == "l69"


def test_only_present_voters_are_outgoing() -> None:
    with pytest.raises(ValueError, match="outgoing"):
        configurations.next_step(a_configuration(["a", "b"]), a_configuration(["a", "c"], outgoing=["a", "c"]))
    with pytest.raises(ValueError, match="nothing is told of z"):
        configurations.next_step(
            a_configuration(["a"]), Configuration(("a", "z"), members=a_configuration(["a"]).members)
        )


# The log


def test_a_write_that_was_overwritten_is_not_durable_though_the_same_came_again() -> None:
    log = Log(Start(HardState(), a_configuration(["a"]), 0, 0, [], 0))
    for entries in ([Entry(1, 1)], [Entry(1, 2)], [Entry(1, 1)]):
        log.accept(0, entries)
        log.take_unwritten()
    log.persisted(1, 1)
    assert log.durable == 0
    log.persisted(1, 2)
    assert log.durable == 0
    log.persisted(1, 1)
    assert log.durable == 1


def test_writes_done_in_one_go_are_told_by_the_last() -> None:
    log = Log(Start(HardState(), a_configuration(["a"]), 0, 0, [], 0))
    log.accept(0, [Entry(1, 1), Entry(2, 1)])
    log.take_unwritten()
    log.accept(1, [Entry(2, 2)])
    log.take_unwritten()
    log.persisted(2, 2)
    assert log.durable == 2


def test_bytes_are_bounded_by_compaction_but_never_beyond_what_is_applied() -> None:
    core = a_core("a", entries=some_entries(*[1] * 10, size=100))
    core.campaign()
    core.ready()
    write(core)
    core.ready()
    core.applied(6)
    assert core.log_bytes == 1000
    assert [core.bytes_index(limit) for limit in (1000, 999, 900, 500, 0)] == [0, 1, 1, 5, 6]
    core.compact(core.bytes_index(500))
    assert (core.base_index, core.log_bytes, core.term_at(5), core.term_at(4)) == (5, 500, 1, None)
    assert [core.bytes_index(limit) for limit in (500, 499)] == [5, 6]
    core.compact(11)
    assert core.base_index == 6


def test_what_is_committed_is_never_replaced() -> None:
    core = a_core(member="b")
    core.step(Append("b", "a", 1, 0, 0, 2, tuple(some_entries(1, 1))), 0.0)
    with pytest.raises(DivergedError):
        core.step(Append("b", "c", 2, 0, 0, 0, tuple(some_entries(2, 2))), 0.0)


def test_a_follower_commits_only_what_it_shares() -> None:
    core = a_core(member="b", entries=some_entries(1, 1, 1, 1))
    core.step(Append("b", "a", 2, 2, 1, 4, ()), 0.0)
    assert core.commit == 2


def test_the_hint_for_the_disk_is_never_ahead_of_it() -> None:
    core = a_core(member="b")
    core.step(Append("b", "a", 1, 0, 0, 2, tuple(some_entries(1, 1))), 0.0)
    ready = core.ready()
    assert ready.hard_state == HardState(1, "", 0)
    assert ready.committed == []


def test_log_of_an_older_snapshot_is_not_taken_for_a_newer() -> None:
    core = a_core(member="b", entries=some_entries(1, 1, 1))
    assert core.needs(5, 1)
    assert core.needs(3, 2)
    assert not core.needs(3, 1)
    with pytest.raises(DivergedError):
        core.installed(3, 1, a_configuration(["a"]))


def test_only_what_is_not_durable_is_taken_back() -> None:
    core = a_leader("a")
    core.propose([b"x"])
    core.ready()
    write(core)
    core.propose([b"y", b"z"])
    assert [entry.data for entry in core.retract(1)] == [b"y", b"z"]
    assert (core.last_index, core.commit, core.role) == (2, 2, Role.LEADER)


# Strangers, ghosts and late news


def test_messages_for_others_and_from_strangers_do_no_harm() -> None:
    core = a_leader()
    for message in (
        AppendReply("a", "z", 1, 1),
        HeartbeatReply("a", "z", 1, 5),
        AppendReply("b", "c", 1, 1),
        TimeoutNow("a", "b", 1),
        VoteReply("a", "z", 1, True),
        ReadReply("a", "b", 1, 77, 1),
        AppendReply("a", "b", 1, 99),
    ):
        core.step(message, 0.1)
        assert not core.has_ready, message
    assert (core.role, core.term, core.commit) == (Role.LEADER, 1, 1)


def test_two_leaders_in_a_term_stop_the_member() -> None:
    core = a_core(member="b")
    core.step(Heartbeat("b", "a", 1, 0), 0.0)
    with pytest.raises(DivergedError):
        core.step(Heartbeat("b", "c", 1, 0), 0.0)
    with pytest.raises(DivergedError):
        a_leader().step(Append("a", "b", 1, 0, 0, 0), 0.0)


def test_a_leader_knows_of_no_lease_of_others() -> None:
    core = a_leader()
    core.step(VoteRequest("a", "b", 2, 9, 1), 0.5)
    assert core.term == 1
    core.step(VoteRequest("a", "b", 2, 9, 1, False, True), 0.5)
    assert (core.term, core.role) == (2, Role.FOLLOWER)


def test_a_vote_is_refused_in_a_term_whose_leader_is_known() -> None:
    core = a_core(member="b")
    core.step(Heartbeat("b", "a", 1, 0), 0.0)
    core.ready()
    core.step(VoteRequest("b", "c", 1, 9, 1), 0.0)
    assert sent(core) == [VoteReply("c", "b", 1, False)]


def test_an_older_round_confirms_no_read() -> None:
    core = a_leader()
    core.read(1)
    core.ready()
    core.step(HeartbeatReply("a", "b", 1, 1), 0.0)
    core.read(2)
    assert core.ready().reads == [ReadState(1, 1)]
    core.step(HeartbeatReply("a", "c", 1, 1), 0.0)
    assert core.ready().reads == []
    core.step(HeartbeatReply("a", "c", 1, 2), 0.0)
    assert core.ready().reads == [ReadState(2, 1)]


def test_a_read_is_not_answered_before_an_entry_of_the_term_is_committed() -> None:
    core = a_leader(settled=False)
    core.read(1)
    for other in "bc":
        core.step(HeartbeatReply("a", other, 1), 0.0)
    assert core.ready().reads == []
    core.step(AppendReply("a", "b", 1, 1), 0.0)
    core.ready()
    core.step(HeartbeatReply("a", "b", 1, 1), 0.0)
    assert core.ready().reads == [ReadState(1, 1)]


def test_a_follower_asks_no_longer_when_its_leader_changes() -> None:
    core = a_core(member="b")
    core.step(Heartbeat("b", "a", 1, 0), 0.0)
    core.read(7)
    core.ready()
    core.step(Heartbeat("b", "c", 2, 0), 0.1)
    assert core.ready().reads == [ReadState(7, -1)]
    core.step(ReadReply("b", "a", 2, 7, 3), 0.1)
    assert core.ready().reads == []


def test_reads_that_wait_are_bounded() -> None:
    core = a_leader(settled=False)
    for context in range(1, 5000):
        core.read(context)
    refused = core.ready().reads
    assert refused
    assert all(read.index == -1 for read in refused)


def test_a_refusal_that_comes_late_starts_nothing_anew() -> None:
    core = a_leader()
    core.propose([b"x"])
    core.ready()
    core.step(AppendReply("a", "b", 1, 2), 0.0)
    sent(core)
    core.step(AppendReply("a", "b", 1, 1, True, 0, 0), 0.0)
    assert not core.has_ready


# A member at rest


def test_at_rest_there_are_heartbeats_and_nothing_else() -> None:
    core = a_leader()
    now, messages, wakings = 0.0, [], 0
    while core.deadline < 1.05:
        now, wakings = core.deadline, wakings + 1
        core.tick(now)
        messages += sent(core)
        for other in "bc":
            core.step(HeartbeatReply("a", other, 1), now)
        assert not core.has_ready
    assert wakings == 10
    assert messages == [Heartbeat(other, "a", 1, 1) for _ in range(10) for other in "bc"]


def test_a_tick_too_early_does_nothing() -> None:
    core = a_core()
    core.tick(0.99)
    assert not core.has_ready
    assert core.deadline == 1.0
    core.tick(1.0)
    assert core.role is Role.PRE_CANDIDATE


def test_timeouts_are_drawn_between_the_shortest_and_its_double() -> None:
    drawn = []
    rng = random.Random(1)
    for _ in range(100):
        start = Start(HardState(), a_configuration(["a", "b"]), 0, 0, [], 0)
        drawn.append(Core("a", start, CoreSettings(), rng, 10.0).deadline)
    assert 11.0 <= min(drawn) < 11.1
    assert 11.9 < max(drawn) <= 12.0


def test_a_leader_that_slept_too_long_steps_down_at_once() -> None:
    core = a_leader()
    core.tick(30.0)
    assert core.role is Role.FOLLOWER
    assert core.leader == ""


def test_a_new_leader_is_given_an_election_timeout_to_hear_of_the_others() -> None:
    core = a_leader()
    core.tick(0.95)
    assert core.role is Role.LEADER


def test_only_the_leader_takes_proposals() -> None:
    core = a_core(member="b")
    core.step(Heartbeat("b", "a", 1, 0), 0.0)
    with pytest.raises(NotLeaderError) as refused:
        core.propose([b"x"])
    assert refused.value.leader == "a"


def test_proposals_between_two_readies_are_one_message_each() -> None:
    core = a_leader()
    assert [core.propose([b"%d" % number]) for number in range(64)] == list(range(2, 66))
    appends = [message for message in sent(core) if isinstance(message, Append)]
    assert [(message.to, len(message.entries)) for message in appends] == [("b", 64), ("c", 64)]
    assert not core.has_ready
