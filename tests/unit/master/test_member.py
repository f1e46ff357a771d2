"""The shell of a member: real cores and logs, a network in memory, time that jumps."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from barque.master.raft.messages import (
    Append,
    AppendReply,
    Configuration,
    ReadRequest,
    SnapshotOffer,
    VoteReply,
)
from barque.master.raft.ports import MAX_PAYLOAD_BYTES, UnavailableError
from barque.master.raft.ready import BusyError, NotLeaderError, Role
from tests.support.faulty_disk import FaultyDisk
from tests.support.raft_member import KIB, SHORT, Crew, lines, run, with_learner, without


def test_a_group_of_one_leads_at_once_and_finds_its_entries_again(tmp_path: Path) -> None:
    async def story() -> None:
        crew = Crew(tmp_path, "a")
        crew.sail("a")
        await crew.write(b"one", b"two")
        assert asyncio.get_running_loop().time() < 0.1
        crew.sink("a")
        crew.sail("a")
        await crew.write(b"three")
        assert crew.ledgers["a"].lines == [b"one", b"two", b"three"]
        await crew.close()

    run(story())


def test_three_members_agree_and_go_on_without_their_leader(tmp_path: Path) -> None:
    async def story() -> None:
        crew = Crew(tmp_path, "a", "b", "c")
        crew.sail("a", "b", "c")
        first = await crew.write(b"one")
        assert await crew.agree() == [b"one"]
        crew.sink(first)
        second = await crew.write(b"two")
        assert second != first
        crew.sail(first)
        assert await crew.agree() == [b"one", b"two"]
        await crew.close()

    run(story())


def test_proposals_of_one_turn_and_those_made_during_an_append_share_one_each(tmp_path: Path) -> None:
    async def story() -> None:
        crew = Crew(tmp_path, "a")
        crew.sail("a")
        await crew.write(b"warm")
        member, lane = crew.member("a"), crew.lanes["a"]
        before = lane.jobs
        for line in lines(50):
            member.propose([line])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert member.busy
        for line in lines(50, start=50):
            member.propose([line])
            await asyncio.sleep(0)
        crew.ledgers["a"].waiting = lines(1, start=100)
        await crew.until(lambda: len(crew.ledgers["a"].lines) == 102)
        assert lane.jobs - before == 2
        assert crew.ledgers["a"].lines[1:] == lines(101)
        await crew.close()

    run(story())


def test_followers_commit_while_the_leader_still_syncs(tmp_path: Path) -> None:
    async def story() -> None:
        crew = Crew(tmp_path, "a", "b", "c")
        crew.sail("a", "b", "c")
        leader = await crew.write(b"one")
        crew.lanes[leader].seconds = 2.0
        crew.member(leader).propose([b"two"])
        began = asyncio.get_running_loop().time()
        others = [crew.ledgers[name] for name in "abc" if name != leader]
        await crew.until(lambda: all(b"two" in other.lines for other in others))
        assert asyncio.get_running_loop().time() - began < 0.5
        # What is not durable here is not applied here.
        assert b"two" not in crew.ledgers[leader].lines
        await crew.agree()
        await crew.close()

    run(story())


def test_nothing_is_answered_before_it_is_durable(tmp_path: Path) -> None:
    async def story() -> None:
        crew = Crew(tmp_path, "a", "b", "c")
        crew.sail("a", "b", "c")
        leader = await crew.write(b"one")
        follower = next(name for name in "abc" if name != leader)
        crew.lanes[follower].seconds = 3.0
        crew.network.sent.clear()
        await crew.write(b"two")
        await asyncio.sleep(0.5)
        last = crew.ledgers[leader].index
        answers = [reply for reply in crew.network.of(AppendReply) if reply.sender == follower]
        assert all(reply.index < last for reply in answers)
        crew.network.sent.clear()
        crew.sink(leader)
        await asyncio.sleep(2.9)
        assert [reply for reply in crew.network.of(VoteReply) if reply.sender == follower and not reply.pre] == []
        await crew.close()

    run(story())


def test_what_is_committed_is_applied_in_slices(tmp_path: Path) -> None:
    async def story() -> None:
        crew = Crew(tmp_path, "a")
        crew.sail("a")
        await crew.write(b"warm")
        crew.ledgers["a"].applies.clear()
        crew.member("a").propose(lines(1000))
        await crew.until(lambda: len(crew.ledgers["a"].lines) == 1001)
        assert crew.ledgers["a"].applies == [256, 256, 256, 232]
        crew.ledgers["a"].applies.clear()
        crew.member("a").propose(lines(10, size=100 * KIB))
        await crew.until(lambda: len(crew.ledgers["a"].lines) == 1011)
        assert crew.ledgers["a"].applies == [3, 3, 3, 1]
        await crew.close()

    run(story())


def test_an_entry_that_no_message_could_carry_is_refused(tmp_path: Path) -> None:
    async def story() -> None:
        crew = Crew(tmp_path, "a")
        crew.sail("a")
        await crew.write(b"one")
        with pytest.raises(ValueError, match="is larger than"):
            crew.member("a").propose([bytes(MAX_PAYLOAD_BYTES + 1)])
        await crew.close()

    run(story())


# Reads


def test_reads_share_a_question_and_wait_for_the_state(tmp_path: Path) -> None:
    async def story() -> None:
        crew = Crew(tmp_path, "a", "b", "c")
        crew.sail("a", "b", "c")
        leader = await crew.write(b"one")
        follower = next(name for name in "abc" if name != leader)
        await crew.agree()
        crew.lanes[follower].seconds = 0.4
        await crew.write(b"two")
        crew.network.sent.clear()
        reads = [asyncio.ensure_future(crew.member(follower).read_index()) for _ in range(100)]
        for answer in await asyncio.gather(*reads):
            assert answer == crew.ledgers[leader].index
        assert crew.ledgers[follower].lines == [b"one", b"two"]
        assert len(crew.network.of(ReadRequest)) == 1
        await crew.close()

    run(story())


def test_a_read_whose_question_was_lost_asks_again(tmp_path: Path) -> None:
    async def story() -> None:
        crew = Crew(tmp_path, "a", "b", "c")
        crew.sail("a", "b", "c")
        leader = await crew.write(b"one")
        follower = next(name for name in "abc" if name != leader)
        crew.network.sent.clear()
        crew.network.lost = lambda message: isinstance(message, ReadRequest) and len(crew.network.of(ReadRequest)) == 1
        began = asyncio.get_running_loop().time()
        await crew.member(follower).read_index()
        assert 0.3 <= asyncio.get_running_loop().time() - began < 0.5
        await crew.close()

    run(story())


def test_a_read_without_a_majority_says_why_in_time(tmp_path: Path) -> None:
    async def story() -> None:
        crew = Crew(tmp_path, "a", "b", "c")
        crew.sail("a", "b", "c")
        await crew.write(b"one")
        crew.sink("b")
        crew.sink("c")
        await asyncio.sleep(10)
        began = asyncio.get_running_loop().time()
        with pytest.raises(UnavailableError, match=r"^no leader: 1 of 3 masters answer$"):
            await crew.member("a").read_index()
        assert 5.0 <= asyncio.get_running_loop().time() - began < 5.5
        await crew.close()

    run(story())


def test_a_leader_that_was_cut_off_answers_no_read(tmp_path: Path) -> None:
    async def story() -> None:
        crew = Crew(tmp_path, "a", "b", "c")
        crew.sail("a", "b", "c")
        leader = await crew.write(b"one")
        crew.network.isolated = {leader}
        assert crew.member(leader).standing.role is Role.LEADER
        reading = asyncio.ensure_future(crew.member(leader).read_index())
        await crew.write(b"two")
        crew.network.isolated = set()
        assert await reading >= crew.ledgers[await crew.leader()].index - 1
        assert crew.ledgers[leader].lines == [b"one", b"two"]
        await crew.close()

    run(story())


# Disks that refuse


def test_alone_what_the_disk_refuses_is_taken_back(tmp_path: Path) -> None:
    async def story() -> None:
        crew = Crew(tmp_path, "a")
        disk = crew.disks["a"] = FaultyDisk()
        crew.sail("a")
        await crew.write(b"one")
        disk.space = 10
        crew.member("a").propose([b"two" * 100])
        crew.ledgers["a"].waiting = [b"more"]
        await crew.until(lambda: len(crew.ledgers["a"].refused) == 2)
        assert crew.ledgers["a"].refused == [([b"two" * 100], True), ([b"more"], True)]
        assert "No space left" in crew.member("a").figures().faults["disk"]
        disk.space = None
        await crew.write(b"three")
        assert crew.ledgers["a"].lines == [b"one", b"three"]
        assert crew.member("a").figures().faults == {}
        crew.sink("a")
        crew.sail("a")
        await crew.write(b"four")
        assert crew.ledgers["a"].lines == [b"one", b"three", b"four"]
        await crew.close()

    run(story())


def test_what_was_proposed_behind_a_failed_append_is_certainly_undone(tmp_path: Path) -> None:
    async def story() -> None:
        crew = Crew(tmp_path, "a")
        disk = crew.disks["a"] = FaultyDisk()
        crew.sail("a")
        await crew.write(b"one")
        disk.failing = {"sync", "create"}
        crew.member("a").propose([b"two"])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert crew.member("a").busy
        crew.member("a").propose([b"three"])
        await crew.until(lambda: len(crew.ledgers["a"].refused) == 2)
        assert crew.ledgers["a"].refused == [([b"two"], False), ([b"three"], True)]
        disk.failing = set()
        await crew.write(b"four")
        assert crew.ledgers["a"].lines == [b"one", b"four"]
        await crew.close()

    run(story())


def test_a_leader_whose_disk_refuses_hands_over_and_writes_later(tmp_path: Path) -> None:
    async def story() -> None:
        crew = Crew(tmp_path, "a", "b", "c")
        disks = {name: FaultyDisk() for name in "abc"}
        crew.disks.update(disks)
        crew.sail("a", "b", "c")
        leader = await crew.write(b"one")
        disks[leader].failing = {"write", "truncate", "create"}
        crew.member(leader).propose([b"two"])
        began = asyncio.get_running_loop().time()
        await crew.until(lambda: crew.member(leader).standing.role is not Role.LEADER)
        assert asyncio.get_running_loop().time() - began < 0.5
        assert crew.ledgers[leader].refused == []
        assert "disk" in crew.member(leader).figures().faults
        second = await crew.write(b"three")
        assert second != leader
        assert crew.ledgers[second].lines == [b"one", b"two", b"three"]
        disks[leader].failing = set()
        assert await crew.agree() == [b"one", b"two", b"three"]
        assert crew.member(leader).figures().faults == {}
        await crew.close()

    run(story())


def test_a_leader_that_cannot_write_and_finds_no_heir_refuses_proposals(tmp_path: Path) -> None:
    async def story() -> None:
        crew = Crew(tmp_path, "a", "b", "c")
        disks = {name: FaultyDisk() for name in "abc"}
        crew.disks.update(disks)
        crew.sail("a", "b", "c")
        leader = await crew.write(b"one")
        crew.network.isolated = {leader}
        disks[leader].failing = {"write", "truncate", "create"}
        crew.member(leader).propose([b"two"])
        await asyncio.sleep(0.1)
        with pytest.raises(BusyError, match=r"log segment|write to the log"):
            crew.member(leader).propose([b"three"])
        await crew.close()

    run(story())


def test_a_follower_whose_disk_refuses_is_silent_and_catches_up(tmp_path: Path) -> None:
    async def story() -> None:
        crew = Crew(tmp_path, "a", "b", "c")
        disks = {name: FaultyDisk() for name in "abc"}
        crew.disks.update(disks)
        crew.sail("a", "b", "c")
        leader = await crew.write(b"one")
        follower = next(name for name in "abc" if name != leader)
        disks[follower].failing = {"sync", "create"}
        await crew.write(b"two")
        match = next(peer.match for peer in crew.member(leader).figures().peers if peer.info.id == follower)
        assert match < crew.ledgers[leader].index
        assert crew.ledgers[follower].lines == [b"one"]
        await asyncio.sleep(5)
        assert crew.member(leader).standing.role is Role.LEADER
        disks[follower].failing = set()
        assert await crew.agree() == [b"one", b"two"]
        crew.sink(follower)
        crew.sail(follower)
        assert await crew.agree() == [b"one", b"two"]
        await crew.close()

    run(story())


def test_a_fault_of_ours_stops_the_member_and_is_told(tmp_path: Path) -> None:
    async def story() -> None:
        crew = Crew(tmp_path, "a")
        crew.sail("a")
        await crew.write(b"one")
        ledger = crew.ledgers["a"]
        ledger.member.propose([b"poison"])
        await crew.until(lambda: ledger.failure is not None)
        assert repr(ledger.failure) == "RuntimeError('the state machine broke')"
        with pytest.raises(UnavailableError, match="the state machine broke"):
            await ledger.member.read_index()
        with pytest.raises(BusyError, match="the state machine broke"):
            ledger.member.propose([b"two"])
        await ledger.member.close()

    run(story())


# Pauses, time


def test_in_a_pause_nothing_is_appended_or_applied(tmp_path: Path) -> None:
    async def story() -> None:
        crew = Crew(tmp_path, "a", "b", "c")
        crew.sail("a", "b", "c")
        leader = await crew.write(b"one")
        follower = next(name for name in "abc" if name != leader)
        member, ledger = crew.member(follower), crew.ledgers[follower]
        await crew.agree()
        crew.lanes[follower].seconds = 0.2
        crew.member(leader).propose([b"two"])
        await crew.until(lambda: member.busy)
        async with member.paused():
            assert not member.busy
            jobs, index = crew.lanes[follower].jobs, ledger.index
            await crew.write(b"three")
            await asyncio.sleep(3)
            assert (crew.lanes[follower].jobs, ledger.index) == (jobs, index)
            assert member.standing.leader == leader
        assert await crew.agree() == [b"one", b"two", b"three"]
        await crew.close()

    run(story())


def test_what_is_committed_during_a_pause_is_applied_after_it(tmp_path: Path) -> None:
    async def story() -> None:
        crew = Crew(tmp_path, "a", "b", "c")
        crew.sail("a", "b", "c")
        leader = await crew.write(b"one")
        await crew.agree()
        follower, other = (name for name in "abc" if name != leader)
        crew.sink(other)
        # The follower has it durably long before the leader, and with it the majority, does.
        crew.lanes[leader].seconds = 0.5
        crew.member(leader).propose([b"two"])
        await asyncio.sleep(0.2)
        async with crew.member(follower).paused():
            await crew.until(lambda: crew.ledgers[leader].lines == [b"one", b"two"])
            await asyncio.sleep(0.5)
            assert crew.member(follower)._core.commit > crew.member(follower).applied_index
            assert crew.ledgers[follower].lines == [b"one"]
        await crew.agree()
        await crew.close()

    run(story())


def test_a_slow_disk_and_a_slow_loop_make_elections_patient(tmp_path: Path) -> None:
    async def story() -> None:
        crew = Crew(tmp_path, "a")
        crew.sail("a")
        await crew.write(b"one")
        assert crew.member("a").figures().election_s == 1.0
        crew.lanes["a"].seconds = 0.2
        for line in lines(20):
            await crew.write(line)
        figures = crew.member("a").figures()
        assert 0.2 <= figures.fsync_s <= 0.24
        assert figures.election_s == pytest.approx(10 * figures.fsync_s)
        for _ in range(1000):
            crew.member("a").note_stall(0.3)
        await asyncio.sleep(1)
        await crew.write(b"two")
        await asyncio.sleep(1)
        await crew.write(b"three")
        assert 3.0 <= crew.member("a").figures().election_s <= 3.6
        await crew.close()

    run(story())


def test_the_log_in_memory_is_bounded(tmp_path: Path) -> None:
    async def story() -> None:
        crew = Crew(tmp_path, "a", "b", "c", settings=SHORT)
        crew.sail("a", "b", "c")
        await crew.write(b"warm")
        for start in range(0, 200, 10):
            leader = await crew.write(*lines(10, size=KIB, start=start))
        await crew.agree()
        assert all(crew.member(name)._core.log_bytes <= 19 * KIB for name in "abc")
        # For a member that is away more is kept, but not without end.
        crew.sink(next(name for name in "abc" if name != leader))
        for start in range(200, 400, 10):
            await crew.write(*lines(10, size=KIB, start=start))
        assert 20 * KIB < crew.member(await crew.leader())._core.log_bytes <= 40 * KIB
        await crew.close()

    run(story())


# Members that come, go and hand over


def test_a_learner_gets_a_snapshot_catches_up_and_votes(tmp_path: Path) -> None:
    async def story() -> None:
        crew = Crew(tmp_path, "a", settings=SHORT)
        crew.sail("a")
        for start in range(0, 400, 20):
            await crew.write(*lines(20, size=KIB, start=start))
        crew.sail("b", founding=Configuration())
        await crew.member("a").change(with_learner("b"))
        await crew.until(lambda: crew.member("a").standing.configuration.voters == ("a", "b"))
        await crew.until(lambda: not crew.member("a").standing.configuration.joint)
        assert crew.ledgers["b"].lines == crew.ledgers["a"].lines
        assert len(crew.network.of(SnapshotOffer)) == 1
        assert crew.ledgers["a"].offered == 1
        crew.sink("b")
        crew.sail("b", founding=Configuration())
        await crew.write(b"more")
        assert (await crew.agree())[-1] == b"more"
        await crew.close()

    run(story())


def test_leadership_is_handed_over(tmp_path: Path) -> None:
    async def story() -> None:
        crew = Crew(tmp_path, "a", "b", "c")
        crew.sail("a", "b", "c")
        leader = await crew.write(b"one")
        follower, other = (name for name in "abc" if name != leader)
        with pytest.raises(NotLeaderError):
            await crew.member(follower).transfer(other)
        await crew.member(leader).transfer(follower)
        assert await crew.leader() == follower
        crew.network.isolated = {other}
        with pytest.raises(UnavailableError, match=f"^m-{other} has not taken over within 4 s$"):
            await crew.member(follower).transfer(other)
        assert await crew.write(b"two") == follower
        await crew.close()

    run(story())


def test_a_removed_member_hears_of_it_and_says_so_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        crew = Crew(tmp_path, "a", "b", "c")
        crew.sail("a", "b", "c")
        leader = await crew.write(b"one")
        gone = next(name for name in "abc" if name != leader)
        crew.network.refused = crew.network.isolated = {gone}
        await crew.member(leader).change(without(gone))
        crew.network.isolated = set()
        configuration = crew.member(leader).standing.configuration
        assert set(configuration.voters) == {"a", "b", "c"} - {gone}
        assert (configuration.joint, configuration.removed) == (False, (gone,))
        await asyncio.sleep(20)
        said = [record.message for record in caplog.records if "was removed" in record.message]
        assert said == ["this master was removed from the cluster: it takes no further part"]
        assert crew.member(leader).standing.role is Role.LEADER
        crew.ledgers.pop(gone)
        assert await crew.write(b"two") == leader
        await crew.close()

    run(story())


def test_a_leader_removes_itself(tmp_path: Path) -> None:
    async def story() -> None:
        crew = Crew(tmp_path, "a", "b", "c")
        crew.sail("a", "b", "c")
        leader = await crew.write(b"one")
        await crew.member(leader).change(without(leader))
        crew.ledgers.pop(leader)
        assert await crew.write(b"two") != leader
        await crew.close()

    run(story())


def test_a_change_that_cannot_be_agreed_on_says_so(tmp_path: Path) -> None:
    async def story() -> None:
        crew = Crew(tmp_path, "a", "b")
        crew.sail("a", "b")
        leader = await crew.write(b"one")
        follower = "b" if leader == "a" else "a"
        with pytest.raises(NotLeaderError):
            await crew.member(follower).change(with_learner("c"))
        crew.network.isolated = {follower}
        with pytest.raises(UnavailableError, match="leadership was lost"):
            await crew.member(leader).change(with_learner("c"))
        await crew.close()

    run(story())


def test_parcels_reach_the_other_application(tmp_path: Path) -> None:
    async def story() -> None:
        crew = Crew(tmp_path, "a", "b")
        crew.sail("a", "b")
        await crew.write(b"one")
        crew.member("a").send("b", b"hello")
        crew.member("a").send("a", b"self")
        await asyncio.sleep(0.1)
        assert crew.ledgers["b"].received == [("a", b"hello")]
        assert crew.ledgers["a"].received == [("a", b"self")]
        await crew.close()

    run(story())


def test_entries_reach_a_follower_in_few_messages(tmp_path: Path) -> None:
    async def story() -> None:
        crew = Crew(tmp_path, "a", "b", "c")
        crew.sail("a", "b", "c")
        leader = await crew.write(b"one")
        crew.network.sent.clear()
        for line in lines(200):
            crew.member(leader).propose([line])
        await crew.until(lambda: all(len(ledger.lines) == 201 for ledger in crew.ledgers.values()))
        appends = [message for message in crew.network.of(Append) if message.entries]
        assert len(appends) == 2
        await crew.close()

    run(story())
