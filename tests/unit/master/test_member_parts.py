"""The pure parts of a member's shell."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from barque.client.pki import Subject, master_subject, node_subject
from barque.master.raft.admission import refusal
from barque.master.raft.append_queue import AppendQueue
from barque.master.raft.learners import Learners, promoted
from barque.master.raft.messages import (
    Append,
    AppendReply,
    Entry,
    HardState,
    Heartbeat,
    Parcel,
    SnapshotChunk,
    VoteReply,
)
from barque.master.raft.outbox import FRAME_BYTES, Outbox
from barque.master.raft.pace import Pace
from barque.master.raft.ports import UnavailableError
from barque.master.raft.reads import Reads
from barque.master.raft.ready import ReadState, Ready, Role, Standing
from tests.support.raft_member import a_configuration, run

KIB = 1024


def a_ready(
    *entries: Entry, hard_state: HardState | None = None, durable: tuple[AppendReply | VoteReply, ...] = ()
) -> Ready:
    return Ready([], hard_state, list(entries), list(durable), [], [], [], None)


def an_entry(index: int, term: int = 1) -> Entry:
    return Entry(index, term, data=b"%d/%d" % (index, term))


# What waits for the log


def test_what_gathers_is_one_append_in_which_later_entries_replace_earlier_ones() -> None:
    queue = AppendQueue(HardState(1, "a", 0))
    first, second = AppendReply("a", "b", 1, 7), AppendReply("c", "b", 2, 6)
    queue.add(a_ready(an_entry(5), an_entry(6), an_entry(7), durable=(first,)))
    queue.add(a_ready(an_entry(6, term=2), hard_state=HardState(2, "c", 4), durable=(second,)))
    batch = queue.take()
    assert batch.entries == [an_entry(5), an_entry(6, term=2)]
    assert (batch.hard_state, batch.messages) == (HardState(2, "c", 4), [first, second])
    assert batch.ends == [(7, 1), (6, 2)]
    assert not queue.due()


def test_what_was_not_written_comes_before_what_waits() -> None:
    queue = AppendQueue(HardState())
    queue.add(a_ready(an_entry(5), an_entry(6), hard_state=HardState(1, "a", 0)))
    failed = queue.take()
    queue.add(a_ready(an_entry(6, term=2), an_entry(7, term=2)))
    queue.give_back(failed)
    batch = queue.take()
    assert batch.entries == [an_entry(5), an_entry(6, term=2), an_entry(7, term=2)]
    assert batch.hard_state == HardState(1, "a", 0)
    assert batch.ends == [(6, 1), (7, 2)]


def test_a_commit_index_alone_is_worth_no_append() -> None:
    queue = AppendQueue(HardState(1, "a", 0))
    reply = AppendReply("a", "b", 1, 3)
    queue.add(a_ready(hard_state=HardState(1, "a", 9), durable=(reply,)))
    assert not queue.due()
    assert queue.messages() == [reply]
    queue.add(a_ready(an_entry(10)))
    assert queue.due()
    assert queue.take().hard_state == HardState(1, "a", 9)
    queue.add(a_ready(hard_state=HardState(2, "", 9)))
    assert queue.due()


def test_a_snapshot_takes_back_what_was_promised_of_the_log_but_no_vote() -> None:
    queue = AppendQueue(HardState())
    vote = VoteReply("a", "b", 2, granted=True)
    queue.add(a_ready(an_entry(5), hard_state=HardState(2, "a", 0), durable=(AppendReply("a", "b", 1, 5), vote)))
    queue.restart()
    batch = queue.take()
    assert (batch.entries, batch.messages, batch.hard_state) == ([], [vote], HardState(2, "a", 0))


# What waits for a peer


def a_chunk(number: int) -> SnapshotChunk:
    return SnapshotChunk("b", "a", 1, "t", number, bytes(200 * KIB))


def test_heartbeats_leave_before_pieces_that_came_first_and_frames_are_bounded() -> None:
    outbox = Outbox()
    beat = Heartbeat("b", "a", 1, 0)
    for message in (a_chunk(0), a_chunk(1), beat):
        assert outbox.put(message)
    assert outbox.take() == [beat, a_chunk(0)]
    assert outbox.take() == [a_chunk(1)]
    assert outbox.take() == []
    appends = [Append("b", "a", 1, n, 1, 0, (Entry(n + 1, 1, data=bytes(FRAME_BYTES // 2)),)) for n in range(3)]
    for append in appends:
        outbox.put(append)
    assert [outbox.take(), outbox.take(), outbox.take()] == [[append] for append in appends]


def test_a_full_outbox_drops_what_comes() -> None:
    outbox = Outbox(max_messages=2, max_bytes=100 * KIB)
    assert outbox.put(Parcel("b", "a", 1, bytes(90 * KIB)))
    assert not outbox.put(Parcel("b", "a", 1, bytes(20 * KIB)))
    assert outbox.put(Heartbeat("b", "a", 1, 0))
    assert not outbox.put(Heartbeat("b", "a", 1, 0))
    outbox.take()
    assert outbox.put(Parcel("b", "a", 1, bytes(90 * KIB)))


# Time


def test_one_slow_sync_of_many_is_not_usual_and_slow_times_are_forgotten() -> None:
    pace = Pace(1.0)
    for _ in range(99):
        pace.note_sync(0.001, 0.0)
    pace.note_sync(5.0, 0.0)
    assert pace.election_s(0.0) == 1.0
    for _ in range(5):
        pace.note_sync(0.3, 1.0)
    assert 3.0 <= pace.election_s(1.0) <= 3.6
    assert pace.election_s(59.0) > 3.0
    assert pace.election_s(200.0) == 1.0
    for _ in range(10):
        pace.note_stall(60.0, 200.0)
    assert pace.election_s(200.0) == 10.0


# Reads


def test_readers_that_come_later_wait_for_the_next_question_and_late_answers_count_for_those_who_asked() -> None:
    async def story() -> None:
        reads = Reads(1000, timeout_s=5.0, retry_s=0.3, why=lambda: "no leader")
        first = reads.add(0.0)
        assert reads.turn(0.0) == 1000
        second = reads.add(0.1)
        assert reads.turn(0.1) is None
        assert reads.turn(0.3) == 1001
        # The answer to the first question says nothing to who came after it.
        reads.answered(ReadState(1000, 7))
        reads.applied(6)
        assert not first.done()
        reads.applied(7)
        assert (await first, second.done()) == (7, False)
        # An answer that was meant for an earlier run, or is none.
        reads.answered(ReadState(5000, 1))
        reads.answered(ReadState(1001, -1))
        reads.applied(9)
        assert not second.done()
        reads.turn(5.2)
        with pytest.raises(UnavailableError, match="no leader"):
            await second
        assert not reads

    run(story())


def test_a_reader_that_went_away_is_forgotten() -> None:
    async def story() -> None:
        reads = Reads(1, timeout_s=5.0, retry_s=0.3, why=lambda: "")
        reads.add(0.0).cancel()
        await asyncio.sleep(0)
        assert reads.turn(0.0) is None
        assert not reads

    run(story())


# Learners


def test_a_learner_has_caught_up_once_it_finishes_a_round_in_time() -> None:
    learners = Learners()
    assert learners.caught_up({"l": 0}, 1000, 0.0, 1.0) == ""
    # This round took too long; the next one did not.
    assert learners.caught_up({"l": 1000}, 2000, 5.0, 1.0) == ""
    assert learners.caught_up({"l": 1999}, 2500, 5.5, 1.0) == ""
    assert learners.caught_up({"l": 2000}, 2500, 5.9, 1.0) == "l"
    # One that is not heard begins anew.
    assert learners.caught_up({}, 2500, 6.0, 1.0) == ""
    assert learners.caught_up({"l": 2500}, 2500, 6.1, 1.0) == ""
    assert learners.caught_up({"l": 2500}, 2500, 6.2, 1.0) == "l"


def test_a_learner_that_is_promoted_is_one_no_more() -> None:
    configuration = msgspec.structs.replace(a_configuration("a", "b", "l"), voters=("a", "b"), learners=("l",))
    assert promoted(configuration, "l") == a_configuration("a", "b", "l")


# Who is heard


@pytest.mark.parametrize(
    ("leader", "cluster", "member", "subject", "why"),
    [
        ("a", "c1", "b", master_subject("m-b"), ""),
        ("a", "c1", "b", master_subject("m-c"), "member b is the master m-b, and the certificate is of"),
        ("a", "c2", "b", master_subject("m-b"), "this is a master of the cluster c1, not of c2"),
        ("a", "c1", "old", master_subject("m-old"), "was removed from the cluster"),
        ("a", "c1", "new", master_subject("m-new"), "is not known to the cluster"),
        # It may be the leader that this member has to learn from.
        ("", "c1", "new", master_subject("m-new"), ""),
        ("new", "c1", "new", master_subject("m-new"), ""),
        ("", "c1", "old", master_subject("m-old"), "was removed from the cluster"),
        ("", "c1", "b", node_subject("m-b"), "is no master"),
        ("", "c1", "b", Subject("barque:master:m-b", ("system:masters",)), "is no master"),
        ("", "c1", "b", Subject("m-b", ("barque:masters",)), "is no master"),
    ],
)
def test_who_is_heard(leader: str, cluster: str, member: str, subject: Subject, why: str) -> None:
    configuration = msgspec.structs.replace(a_configuration("a", "b"), removed=("old",))
    said = refusal(Standing(Role.FOLLOWER, 1, leader, configuration), "c1", cluster, member, subject)
    assert why in said
    assert bool(said) == bool(why)
