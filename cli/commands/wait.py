"""`barque wait`: until objects have a condition or a value, are there, or are gone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from barque.cli.choosing import choice_options, read_choice
from barque.cli.verb import Verb, complete_objects, with_session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from barque.cli.fetching import Asked
    from barque.cli.session import Connection, Session
    from barque.cli.waiting import Goal
    from barque.client.verbs import Target

# A negative timeout is this long, as kubectl has it.
WEEK_S = 7 * 24 * 3600.0


@click.command(
    "wait",
    cls=Verb,
    examples="""
    barque wait --for=condition=Ready pod/web-5d9c7-x2x4k
    barque wait --for=condition=Available deployment/web --timeout=60s
    barque wait --for=delete pod -l app=web
    barque wait --for=jsonpath='{.status.phase}'=Running pod/web-5d9c7-x2x4k
    barque wait --for=create service/web
    """,
)
@click.argument("what", nargs=-1, metavar="TYPE NAME... | TYPE/NAME...", shell_complete=complete_objects)
@click.option(
    "--for", "goal", required=True, metavar="WHAT",
    help="condition=NAME[=VALUE], jsonpath=PATH[=VALUE], create or delete.",
)  # fmt: skip
@choice_options
@click.option(
    "--timeout", default="30s", metavar="TIME",
    help="Wait at most so long for all of them; 0 looks once, a negative time waits for a week [30s].",
)  # fmt: skip
@with_session
def command(session: Session, what: tuple[str, ...], goal: str, timeout: str, **given: Any) -> None:
    """Wait until objects have a condition or a value, are there, or are gone. Exits with 1 when the time is up."""
    from barque.cli.arguments import parse_duration
    from barque.cli.waiting import parse_goal

    parsed = parse_goal(goal)
    timeout_s = WEEK_S if timeout.startswith("-") else parse_duration(timeout)
    chosen = read_choice(session, "wait", what, given)
    asked = [each._replace(ignore_not_found=parsed.kind != "state") for each in chosen]
    session.run(lambda connection: _wait(session, connection, asked, goal, parsed, timeout_s))


async def _wait(
    session: Session, connection: Connection, asked: Sequence[Asked], words: str, goal: Goal, timeout_s: float
) -> None:
    from barque.cli.output import CliError

    subject = _subject(asked)
    found = 0
    try:
        # The first look is never cut short: a timeout of 0 is that look alone.
        async with asyncio.timeout(timeout_s or session.timeout_s or None):
            for target, uid in await _targets(session, connection, asked, goal, once=not timeout_s):
                subject = f"{target.resource.group_resource}/{target.name}"
                found += 1
                await _until(session, connection, target, uid, words, goal, once=not timeout_s)
    except TimeoutError:
        raise CliError(f"timed out waiting for the condition on {subject}") from None
    if not found and goal.kind != "delete":
        raise CliError("no matching resources found")


def _subject(asked: Sequence[Asked]) -> str:
    first = asked[0]
    return f"{first.resource.group_resource}/{first.names[0]}" if first.names else first.resource.group_resource


async def _until(
    session: Session, connection: Connection, target: Target, uid: str, words: str, goal: Goal, *, once: bool
) -> None:
    from barque.cli.following import Following, gone, until
    from barque.cli.naming import slashed

    named = slashed(target.resource, target.name)
    following = Following(target, waiting=f"waiting for {words} of {named}")
    done = gone(uid) if goal.kind == "delete" else goal.met

    def looked(present: dict[str, Any] | None) -> bool:
        if not done(present):
            if once:
                raise TimeoutError
            return False
        return True

    await until(connection.verbs, following, looked, clock=session.clock, screen=session.screen)
    session.screen.line(f"{named} condition met")


async def _targets(
    session: Session, connection: Connection, asked: Sequence[Asked], goal: Goal, *, once: bool
) -> list[tuple[Target, str]]:
    """The objects to wait for, with their uids."""
    from barque.cli.fetching import fetch, listed
    from barque.client.verbs import Target

    found: list[tuple[Target, str]] = []
    for each in asked:
        if each.names and goal.kind == "create":
            found += [(Target(each.resource, each.namespace, name), "") for name in each.names]
            continue
        if each.names:
            answers, missing = await fetch(session, connection, [each], "Metadata")
            if missing:
                raise missing[0]
        else:
            answers = [await listed(session, connection, each, "Metadata")]
            if goal.kind == "create" and not answers[0].items and not once:
                await _first(session, connection, each)
                answers = [await listed(session, connection, each, "Metadata")]
        metas = [item["object"]["metadata"] for answer in answers for item in answer.items]
        found += [(Target(each.resource, m.get("namespace", ""), m["name"]), m.get("uid", "")) for m in metas]
    return found


async def _first(session: Session, connection: Connection, asked: Asked) -> None:
    """Wait for the first object that is selected."""
    from contextlib import aclosing

    from barque.cli.following import Following, follow

    following = Following(asked.target, asked.selection, waiting=f"waiting for the first of {asked.resource.plural}")
    async with aclosing(follow(connection.verbs, following, clock=session.clock, screen=session.screen)) as events:
        async for event in events:
            if event.type == "ADDED":
                return
