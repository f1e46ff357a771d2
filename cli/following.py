"""Following objects through a watch: resumed from its last revision when a master goes away, listed anew only on 410.

`follow` never misses a change and never ends by itself; `until` waits for the state of one object.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, NamedTuple, cast

import msgspec

from barque.api.errors import ApiError
from barque.cli.output import Screen
from barque.client.clock import Clock
from barque.client.verbs import IncludeObject, RawEvent, Selection, Target, Verbs

# A master that restarts is back within seconds; asking it more often than this would not help.
RETRY_S = 0.5
MAX_RETRY_S = 3.0
_BROKEN = ("ServiceUnavailable", "Timeout", "TooManyRequests")


# Yielded where the history was gone: what is known is void, every present object comes as ADDED again, then a BOOKMARK.
ANEW = RawEvent("BOOKMARK", b"", 0)


class Following(NamedTuple):
    """What is followed, and from which revision on; "" begins with an ADDED for every present object.

    `waiting` is what the waiting line says meanwhile, "" for none. With `rows` each change is the object's table row.
    """

    target: Target
    selection: Selection = Selection()
    resource_version: str = ""
    waiting: str = ""
    rows: IncludeObject | None = None


async def follow(verbs: Verbs, following: Following, *, clock: Clock, screen: Screen) -> AsyncGenerator[RawEvent, None]:
    """Every change, in order, BOOKMARKs too; after a break it goes on from the last one.

    Raises `ApiError` for what waiting does not mend. The caller closes it (`aclosing`).
    """
    revision = following.resource_version
    retry_s = RETRY_S
    _say(screen, following.waiting)
    while True:
        watch = cast(
            "AsyncGenerator[list[RawEvent], None]",
            verbs.watch(following.target, following.selection, revision, following.rows),
        )
        try:
            async with aclosing(watch):
                async for batch in watch:
                    if retry_s != RETRY_S:
                        _say(screen, following.waiting)
                        retry_s = RETRY_S
                    for event in batch:
                        yield event
                        # Changes that open an unrevised watch are of one moment; only its BOOKMARK may be resumed from.
                        if revision or event.type == "BOOKMARK":
                            revision = str(event.revision)
        except ApiError as error:
            if error.code == 410:
                revision = ""
                yield ANEW
            elif error.reason not in _BROKEN:
                raise
            _say(screen, f"{error.message}; trying again")
        await clock.sleep(retry_s)
        retry_s = min(retry_s * 2, MAX_RETRY_S)


def _say(screen: Screen, text: str) -> None:
    if text:
        screen.waiting(text)
    else:
        screen.quiet()


async def until(
    verbs: Verbs, following: Following, done: Callable[[dict[str, Any] | None], bool], *, clock: Clock, screen: Screen
) -> dict[str, Any] | None:
    """Wait until `done` of the present state of the one object `following.target` names, None where it does not exist.

    Returns the state it was done with.
    """
    selection = Selection(fields=f"metadata.name={following.target.name}")
    one = following._replace(target=following.target._replace(name=""), selection=selection, resource_version="")
    present: dict[str, Any] | None = None
    known = False
    async with aclosing(follow(verbs, one, clock=clock, screen=screen)) as events:
        async for event in events:
            if event is ANEW:
                present, known = None, False
                continue
            if event.type != "BOOKMARK":
                present = None if event.type == "DELETED" else msgspec.json.decode(event.json)
            known = known or event.type == "BOOKMARK" or present is not None
            if known and done(present):
                return present
    return present


def gone(uid: str) -> Callable[[dict[str, Any] | None], bool]:
    """For `until`: whether nothing of this uid is there any more."""
    return lambda present: present is None or (bool(uid) and present["metadata"].get("uid") != uid)
