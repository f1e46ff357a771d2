"""Snapshots between members: cut off, lost in pieces, while writes go on."""

from __future__ import annotations

import asyncio
from pathlib import Path

from barque.master.raft.messages import (
    Configuration,
    Message,
    SnapshotChunk,
    SnapshotOffer,
)
from tests.support.raft_member import KIB, SHORT, Crew, lines, run, with_learner


def test_a_snapshot_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    async def story() -> None:
        crew = Crew(tmp_path, "a", settings=SHORT)
        crew.sail("a")
        for start in range(0, 40, 4):
            await crew.write(*lines(4, size=256 * KIB, start=start))

        def cut(message: Message) -> bool:
            if isinstance(message, SnapshotChunk) and message.number == 20:
                crew.network.isolated = {"b"}
            return False

        crew.network.lost = cut
        crew.sail("b", founding=Configuration())
        changing = asyncio.ensure_future(crew.member("a").change(with_learner("b")))
        await asyncio.sleep(8)
        assert 20 < len(crew.network.of(SnapshotChunk)) < 30
        crew.network.lost = lambda message: False
        crew.network.isolated = set()
        await changing
        await crew.until(lambda: crew.ledgers["b"].lines == crew.ledgers["a"].lines)
        sent = len(crew.network.of(SnapshotChunk))
        # The window that was lost is sent again, and nothing before it.
        assert 41 < sent <= 41 + 8
        assert len({offer.transfer for offer in crew.network.of(SnapshotOffer)}) == 1
        await crew.close()

    run(story())


def test_lost_pieces_and_a_receiver_that_starts_anew_delay_a_snapshot_only(tmp_path: Path) -> None:
    async def story() -> None:
        crew = Crew(tmp_path, "a", settings=SHORT)
        crew.sail("a")
        for start in range(0, 40, 4):
            await crew.write(*lines(4, size=256 * KIB, start=start))
        crew.network.lost = lambda message: (
            isinstance(message, SnapshotChunk) and len(crew.network.of(SnapshotChunk)) % 7 == 0
        )
        crew.sail("b", founding=Configuration())
        await crew.member("a").change(with_learner("b"))
        await crew.until(lambda: len(crew.network.of(SnapshotChunk)) > 20)
        crew.sink("b")
        crew.sail("b", founding=Configuration())
        await crew.until(lambda: crew.ledgers["b"].lines == crew.ledgers["a"].lines)
        assert len(crew.ledgers["b"].lines) == 40
        await crew.close()

    run(story())


def test_writes_go_on_while_a_snapshot_is_sent_and_installed(tmp_path: Path) -> None:
    async def story() -> None:
        crew = Crew(tmp_path, "a", "b", "c", settings=SHORT)
        crew.sail("a", "b", "c")
        leader = await crew.write(b"warm")
        away = next(name for name in "abc" if name != leader)
        crew.sink(away)
        for start in range(0, 200, 10):
            await crew.write(*lines(10, size=KIB, start=start))
        crew.sail(away)
        for number in range(100):
            await crew.write(b"n%d" % number)
        assert (await crew.agree())[-1] == b"n99"
        assert crew.ledgers[leader].offered >= 1
        await crew.close()

    run(story())
