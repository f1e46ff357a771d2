"""A commit's way from the call to the answer, on a leader and on a follower, through lost letters and lost leaders."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from barque.master.raft.ready import BusyError, NotLeaderError
from barque.master.store.letters import Forward, decode_letter
from barque.master.store.port import Committed, StoreUnavailableError
from barque.master.store.proposals import OutcomeUnknownError, Proposal, Proposals, ProposalSettings
from barque.master.store.records import encode_entry
from tests.support.clock import FakeClock, settle
from tests.support.store import a_pod


class Bench:
    """Proposals of member `m1`, and what they hand on; implements `proposals.Way`."""

    def __init__(self, leader: str, *, alone: bool = False, waiting_bytes: int = 10_000) -> None:
        self.clock = FakeClock()
        self.proposed: list[list[bytes]] = []
        self.sent: list[tuple[str, list[bytes]]] = []
        self.refusal: Exception | None = None
        self.proposals = Proposals(
            "m1", lambda: self, self.clock, ProposalSettings(gather_commits=1, waiting_bytes=waiting_bytes)
        )
        self.stand(leader, 1, alone=alone)

    def propose(self, payloads: Sequence[bytes]) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.proposed.append(list(payloads))

    def send(self, to: str, data: bytes) -> None:
        letter = decode_letter(data)
        assert isinstance(letter, Forward)
        self.sent.append((to, letter.payloads))

    def trouble(self) -> str:
        return "no leader: 1 of 3 masters answer"

    def stand(self, leader: str, term: int, *, alone: bool = False) -> None:
        self.proposals.stands(leader, term, alone=alone)

    def add(self, payload: bytes) -> Proposal:
        return self.proposals.add([(payload, self.proposals.content(payload))])

    async def sweep(self, seconds: float) -> None:
        await self.clock.advance(seconds)
        self.proposals._sweep()
        await settle()


def a_payload(name: str, sequence: int = 1) -> bytes:
    return encode_entry([a_pod(name).put(boot_id="b", sequence=sequence)])[0]


ONE, TWO = a_payload("one", 1), a_payload("two", 2)


async def test_a_leader_proposes_and_a_follower_hands_on_all_of_one_moment() -> None:
    leader, follower = Bench("m1"), Bench("m2")
    for bench in (leader, follower):
        bench.add(ONE)
        bench.add(TWO)
        await settle()
    assert (leader.proposed, leader.sent) == ([[ONE, TWO]], [])
    assert (follower.proposed, follower.sent) == ([], [("m2", [ONE, TWO])])


async def test_a_new_leader_gets_the_same_bytes_at_once() -> None:
    for first in ("m1", "m2"):
        bench = Bench(first)
        proposal = bench.add(ONE)
        await settle()
        bench.stand("", 2)
        bench.stand("m3", 2)
        await settle()
        assert bench.sent[-1] == ("m3", [ONE])
        bench.proposals.applied(ONE, [Committed(1)])
        assert await proposal.answer == [[Committed(1)]]


async def test_what_is_not_heard_of_is_sent_again_ever_more_seldom() -> None:
    bench = Bench("m2")
    bench.add(ONE)
    await settle()
    counts = []
    for _ in range(9):
        await bench.sweep(0.5)
        counts.append(len(bench.sent))
    assert counts == [1, 2, 2, 2, 2, 3, 3, 3, 3]


async def test_past_its_time_it_is_refused_or_open() -> None:
    handed_on, kept = Bench("m2"), Bench("")
    waiting, refused = handed_on.add(ONE), kept.add(ONE)
    await settle()
    await handed_on.sweep(5)
    await kept.sweep(5)
    with pytest.raises(OutcomeUnknownError, match="whether the write holds is not known"):
        await waiting.answer
    with pytest.raises(StoreUnavailableError, match=r"no leader: 1 of 3 masters answer .*; nothing was written"):
        await refused.answer


async def test_a_leader_takes_each_payload_of_others_once() -> None:
    bench = Bench("m1")
    bench.proposals.take([ONE])
    await settle()
    bench.proposals.take([ONE, TWO, b"what no release writes"])
    bench.proposals.drained()
    await settle()
    assert bench.proposed == [[ONE], [TWO]]
    assert bench.proposals.content(ONE) is bench.proposals.content(ONE)
    follower = Bench("m2")
    follower.proposals.take([ONE])
    await settle()
    assert (follower.proposed, follower.sent) == ([], [])


async def test_more_than_may_wait_is_refused_though_it_was_handed_on() -> None:
    bench = Bench("m2", waiting_bytes=len(ONE) + 10)
    bench.add(ONE)
    await settle()
    with pytest.raises(StoreUnavailableError, match="already wait to be written"):
        bench.add(TWO)
    bench.proposals.applied(ONE, [Committed(1)])
    bench.add(TWO)


async def test_a_write_without_a_name_is_not_written_twice() -> None:
    bench = Bench("m1", alone=True)
    unnamed = encode_entry([a_pod("p").put()])[0]
    proposal = bench.add(unnamed)
    await settle()
    bench.stand("m2", 2)
    await settle()
    assert bench.sent == []
    with pytest.raises(OutcomeUnknownError, match="the leader changed"):
        await proposal.answer


async def test_equal_bytes_are_answered_each_in_its_turn_or_at_once() -> None:
    bench = Bench("m1", alone=True)
    unnamed = encode_entry([a_pod("p").put()])[0]
    first, second = bench.add(unnamed), bench.add(unnamed)
    bench.proposals.applied(unnamed, [Committed(1)])
    assert first.answer.done()
    assert not second.answer.done()
    third, fourth = bench.add(ONE), bench.add(ONE)
    bench.proposals.applied(ONE, [Committed(2)])
    assert await asyncio.gather(third.answer, fourth.answer) == [[[Committed(2)]]] * 2


async def test_the_log_takes_proposals_back() -> None:
    bench = Bench("m1", alone=True)
    undone, unknown = bench.add(ONE), bench.add(TWO)
    await settle()
    bench.proposals.retracted([ONE], "disk full", undone=True)
    bench.proposals.retracted([TWO], "disk broken", undone=False)
    with pytest.raises(StoreUnavailableError, match="disk full; nothing was written"):
        await undone.answer
    with pytest.raises(OutcomeUnknownError, match="disk broken; whether the write holds"):
        await unknown.answer
    bench.refusal = BusyError("disk full")
    bench.proposals.drained()
    busy = bench.add(ONE)
    await settle()
    with pytest.raises(StoreUnavailableError, match="disk full; nothing was written"):
        await busy.answer


async def test_a_leader_that_is_none_waits_to_hear_who_is() -> None:
    bench = Bench("m1")
    bench.refusal = NotLeaderError("")
    bench.add(ONE)
    await settle()
    bench.refusal = None
    bench.stand("m3", 2)
    await settle()
    assert bench.sent == [("m3", [ONE])]


async def test_a_state_that_came_in_one_piece_may_hold_the_answer() -> None:
    bench = Bench("m2")
    known, open_still = bench.add(ONE), bench.add(TWO)
    await settle()
    bench.proposals.found(lambda op: Committed(7) if op.sequence == 1 else None)
    assert await known.answer == [[Committed(7)]]
    assert not open_still.answer.done()
