"""Whose word about the masters is believed, and what a worker keeps of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from barque.api.errors import unavailable
from barque.client.masters import plan_masters, voters_of
from barque.proto import cluster_pb2
from barque.worker.masters import MastersKeeper
from tests.support.clock import FakeClock


@pytest.mark.parametrize(
    ("known", "reached", "told", "planned"),
    [
        (["a:1"], "a:1", ["a:1", "b:1"], ["a:1", "b:1"]),
        (["a:1", "b:1"], "b:1", ["b:1", "c:1"], ["b:1", "c:1"]),
        # The same masters in another order are nothing new: files must not change with whoever is asked.
        (["b:1", "a:1"], "b:1", ["a:1", "b:1"], None),
        # Reached through a forwarded port, or by a name: what is told may lead nowhere.
        (["127.0.0.1:1"], "127.0.0.1:1", ["a:1", "b:1"], None),
        # A master that has been removed, or knows nobody yet.
        (["a:1", "b:1"], "a:1", ["b:1"], None),
        (["a:1"], "a:1", [], None),
        (["a:1"], "a:1", ["a:1", "b:1", "a:1"], ["a:1", "b:1"]),
    ],
)
def test_a_list_is_believed_where_its_teller_stands_in_it(
    known: list[str], reached: str, told: list[str], planned: list[str] | None
) -> None:
    assert plan_masters(known, reached, told) == planned


def test_learners_are_not_told_of() -> None:
    members = [cluster_pb2.Member(name="m1", voter=True), cluster_pb2.Member(name="m2", voter=False)]
    grouped = cluster_pb2.StatusReply(members=members, group=cluster_pb2.Group(term=1))
    assert [member.name for member in voters_of(grouped)] == ["m1"]
    assert [member.name for member in voters_of(cluster_pb2.StatusReply(members=members))] == ["m1", "m2"]


async def test_a_worker_keeps_what_it_learns_until_it_is_on_disk() -> None:
    answers: list[object] = [None, ["a:1", "b:1"], unavailable("no master is reachable"), None]
    saved: list[Sequence[str]] = []
    full = [True]

    async def learn() -> list[str] | None:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[return-value]  # of the list above

    def save(masters: Sequence[str]) -> None:
        if full.pop() if full else False:
            raise OSError("No space left on device")
        saved.append(masters)

    keeper = MastersKeeper(learn, save, FakeClock())
    await keeper.look()
    assert saved == []
    await keeper.look()
    assert saved == []
    await keeper.look()
    assert saved == [["a:1", "b:1"]]
    await keeper.look()
    assert saved == [["a:1", "b:1"]]
