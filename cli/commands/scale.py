"""`barque scale`: how many replicas run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import msgspec

from barque.cli.choosing import Found, choice_options, find, read_choice
from barque.cli.verb import Verb, with_session
from barque.cli.writing import Results, Writing, decoded, one_by_one, read_writing, writing_options
from barque.client.verbs import MERGE_PATCH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from barque.cli.fetching import Asked
    from barque.cli.session import Connection, Session


class _Wish(NamedTuple):
    replicas: int
    current: int | None
    resource_version: str
    timeout_s: float


@click.command(
    "scale",
    cls=Verb,
    examples="""
    barque scale deployment/web --replicas=5
    barque scale deployment web --replicas=0                 stop all its pods, keep the deployment
    barque scale deployment/web --replicas=5 --current-replicas=3    only if there are to be three
    barque scale deployments --all --replicas=0
    barque scale deployment/web --replicas=5 --timeout=1m    and wait until they are there
    """,
)
@click.argument("what", nargs=-1, metavar="TYPE NAME... | TYPE/NAME...")
@choice_options
@click.option("--replicas", type=click.IntRange(min=0), required=True, metavar="N", help="How many are to run.")
@click.option("--current-replicas", type=click.IntRange(min=0), metavar="N", help="Only if so many are wanted before.")
@click.option("--resource-version", metavar="N", default="", help="Only if the object is still of this version.")
@click.option("--timeout", metavar="TIME", default="0", help="Wait so long until they are there; 0 does not wait [0].")
@writing_options("scale")
@with_session
def command(
    session: Session,
    what: tuple[str, ...],
    replicas: int,
    current_replicas: int | None,
    resource_version: str,
    timeout: str,
    **given: Any,
) -> None:
    """Set how many replicas of a deployment or replica set are to run. `barque rollout status` waits until they do."""
    from barque.cli.arguments import parse_duration
    from barque.cli.output import CliError

    writing = read_writing(given)
    asked = read_choice(session, "scale", what, given, example="deployments")
    for each in asked:
        if "scale" not in each.resource.subresources:
            raise CliError(f"{each.resource.plural} have no replicas to scale")
    wish = _Wish(replicas, current_replicas, resource_version, parse_duration(timeout))
    if session.run(lambda connection: _scale(session, connection, asked, wish, writing)):
        click.get_current_context().exit(1)


async def _scale(
    session: Session, connection: Connection, asked: Sequence[Asked], wish: _Wish, writing: Writing
) -> bool:
    from barque.cli.output import CliError

    found, failed = await find(session, connection, asked)
    if wish.resource_version and len(found) > 1:
        raise CliError("cannot use --resource-version with multiple resources")
    results = Results(session.screen, writing)

    async def scale(one: Found) -> None:
        scaled = await _scale_one(session, connection, one, wish, writing)
        results.tell(one.target.resource, one.target.name, "scaled", scaled)

    refused = await one_by_one(session, found, scale, doing="scaling")
    results.finish()
    if wish.timeout_s and writing.dry_run == "none":
        for one in found:
            await _wait(session, connection, one, wish)
    return failed or refused


async def _scale_one(
    session: Session, connection: Connection, one: Found, wish: _Wish, writing: Writing
) -> dict[str, Any]:
    """The Scale as it is now. Raises `CliError` where a precondition does not hold."""
    from barque.cli.output import CliError

    target = one.target._replace(subresource="scale")
    patch: dict[str, Any] = {"spec": {"replicas": wish.replicas}}
    if wish.resource_version:
        patch["metadata"] = {"resourceVersion": wish.resource_version}
    if wish.current is not None or not writing.sends:
        scale = await decoded(session, connection.verbs.get(target))
        found = scale["spec"].get("replicas", 0)
        if wish.current is not None and found != wish.current:
            raise CliError(f"Expected replicas to be {wish.current}, was {found}")
        if not writing.sends:
            return scale | patch
        patch["metadata"] = {"resourceVersion": wish.resource_version or scale["metadata"]["resourceVersion"]}
    request = connection.verbs.patch(target, MERGE_PATCH, msgspec.json.encode(patch), writing.options())
    return await decoded(session, request)


async def _wait(session: Session, connection: Connection, one: Found, wish: _Wish) -> None:
    from barque.cli.following import Following, until
    from barque.cli.naming import slashed
    from barque.cli.output import CliError

    name = slashed(one.target.resource, one.target.name)

    def done(live: dict[str, Any] | None) -> bool:
        if live is None:
            raise CliError(f"{name} was deleted meanwhile")
        status = live.get("status") or {}
        seen = status.get("observedGeneration", 0) >= live["metadata"].get("generation", 0)
        return bool(seen and status.get("replicas", 0) == live["spec"].get("replicas") == wish.replicas)

    following = Following(one.target, waiting=f"waiting until {name} has {wish.replicas} replicas")
    try:
        async with asyncio.timeout(wish.timeout_s):
            await until(connection.verbs, following, done, clock=session.clock, screen=session.screen)
    except TimeoutError:
        raise CliError(f"timed out waiting until {name} has {wish.replicas} replicas") from None
