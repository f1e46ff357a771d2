"""`barque scale`: how many replicas run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec

from barque.cli.verb import Verb, with_session

if TYPE_CHECKING:
    from barque.cli.arguments import Wanted
    from barque.cli.session import Connection, Session


@click.command(
    "scale",
    cls=Verb,
    examples="""
    barque scale deployment/web --replicas=5
    barque scale deployment web --replicas=0                 stop all its pods, keep the deployment
    barque scale deployment/web --replicas=5 --current-replicas=3    only if there are to be three
    """,
)
@click.argument("what", nargs=-1, metavar="TYPE NAME... | TYPE/NAME...")
@click.option("--replicas", type=click.IntRange(min=0), required=True, metavar="N", help="How many are to run.")
@click.option("--current-replicas", type=click.IntRange(min=0), metavar="N", help="Only if so many are wanted before.")
@with_session
def command(session: Session, what: tuple[str, ...], replicas: int, current_replicas: int | None) -> None:
    """Set how many replicas of a deployment or replica set are to run. `barque rollout status` waits until they do."""
    from barque.cli.arguments import parse_wanted
    from barque.cli.output import CliError

    wanted = parse_wanted(what, verb="scale")
    for resource, names in wanted:
        if "scale" not in resource.subresources:
            raise CliError(f"{resource.plural} have no replicas to scale")
        if not names:
            raise CliError(
                f"which of them? Give names, as in `barque scale {resource.singular}/web --replicas={replicas}`"
            )
    session.run(lambda connection: _scale(session, connection, wanted, replicas, current_replicas))


async def _scale(
    session: Session, connection: Connection, wanted: list[Wanted], replicas: int, current: int | None
) -> None:
    from barque.cli.naming import slashed
    from barque.cli.output import CliError
    from barque.client.verbs import MERGE_PATCH, Target

    for resource, names in wanted:
        for name in names:
            target = Target(resource, session.namespace, name, "scale")
            patch: dict[str, Any] = {"spec": {"replicas": replicas}}
            if current is not None:
                scale = msgspec.json.decode(await session.call(connection.verbs.get(target)))
                found = scale["spec"].get("replicas", 0)
                if found != current:
                    raise CliError(f"Expected replicas to be {current}, was {found}")
                patch["metadata"] = {"resourceVersion": scale["metadata"]["resourceVersion"]}
            await session.call(connection.verbs.patch(target, MERGE_PATCH, msgspec.json.encode(patch)))
            session.screen.line(f"{slashed(resource, name)} scaled")
