"""Following objects through a watch: what it resumes from, and when it may not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, suppress
from typing import Any

from barque.api import resources
from barque.api.errors import ApiError, expired, unauthorized, unavailable
from barque.cli.following import ANEW, Following, follow
from barque.cli.output import Screen
from barque.client.verbs import RawEvent, Selection, Target
from tests.support.clock import FakeClock

PODS = Target(resources.by_plural("", "pods"), "default")
A, B = RawEvent("ADDED", b"{}", 7), RawEvent("MODIFIED", b"{}", 9)
BOOKMARK = RawEvent("BOOKMARK", b"", 8)


class Watches:
    """Each watch yields the next script's batches and then fails as it says; `since` is what each began with."""

    def __init__(self, *scripts: tuple[list[list[RawEvent]], ApiError]) -> None:
        self._scripts = list(scripts)
        self.since: list[str] = []

    async def watch(self, _: Target, __: Selection, since: str, ___: Any) -> AsyncIterator[Sequence[RawEvent]]:
        self.since.append(since)
        batches, failure = self._scripts.pop(0)
        for batch in batches:
            yield batch
        raise failure


class NoSleep(FakeClock):
    async def sleep(self, seconds: float) -> None: ...


async def heard(watches: Watches, revision: str = "") -> list[RawEvent]:
    """What is heard until a failure that waiting does not mend."""
    events: list[RawEvent] = []
    following = Following(PODS, resource_version=revision)
    verbs: Any = watches
    with suppress(ApiError):
        async with aclosing(follow(verbs, following, clock=NoSleep(), screen=Screen())) as changes:
            async for event in changes:
                events.append(event)  # noqa: PERF401  (what came before the failure counts)
    return events


AWAY, GONE, END = unavailable("the master went away"), expired("too old"), unauthorized("not known")


async def test_it_goes_on_from_the_last_change() -> None:
    watches = Watches(([[A], [B]], AWAY), ([], AWAY), ([], END))
    assert await heard(watches, "5") == [A, B]
    assert watches.since == ["5", "9", "9"]


async def test_what_opens_an_unrevised_watch_is_of_one_moment_and_only_its_end_can_be_resumed_from() -> None:
    watches = Watches(([[A]], AWAY), ([[A, BOOKMARK]], AWAY), ([[B]], AWAY), ([], END))
    assert await heard(watches) == [A, A, BOOKMARK, B]
    assert watches.since == ["", "", "8", "9"]


async def test_where_the_history_is_gone_everything_is_told_anew() -> None:
    watches = Watches(([[A]], GONE), ([[A, BOOKMARK]], END))
    assert await heard(watches, "5") == [A, ANEW, A, BOOKMARK]
    assert watches.since == ["5", ""]
