"""`barque why`: what keeps a pod from running, on one screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from barque.cli.verb import Verb, complete_objects, with_session

if TYPE_CHECKING:
    from barque.cli.session import Connection, Session


@click.command(
    "why",
    cls=Verb,
    examples="""
    barque why web-5d9c7-x2x4k
    barque why deployment/web          the pod of it that is worst off
    barque why -n shop pod/db-0
    """,
)
@click.argument("what", nargs=-1, metavar="POD | TYPE/NAME", shell_complete=complete_objects)
@with_session
def command(session: Session, what: tuple[str, ...]) -> None:
    """Say why a pod is not running or not ready: its place, node, volumes, images, containers and probes, each with
    the words of whoever knows. Reads what the masters know and changes nothing.
    """
    session.run(lambda connection: _why(session, connection, what))


async def _why(session: Session, connection: Connection, what: tuple[str, ...]) -> None:
    from barque.cli.arguments import parse_one
    from barque.cli.picking import pods_of

    resource, name = parse_one(what, verb="why", default="pod")
    pods = await pods_of(session, connection, resource, name)
    # Those worth looking into come first where it is about talking to them; here the last is the worst.
    pod = pods[-1]
    if len(pods) > 1:
        session.screen.note(f"Found {len(pods)} pods, using pod/{pod.metadata.name}")
    session.screen.write(await _page(session, connection, pod))


async def _page(session: Session, connection: Connection, pod: Any) -> str:
    from barque.cli import tables
    from barque.cli.diagnosis import diagnose

    diagnosis = diagnose(pod, await _events(session, connection, pod), await _node(session, connection, pod))
    rows = [(finding.part, finding.state, finding.words) for finding in diagnosis.findings]
    page = f"{diagnosis.headline}\n\n{tables.render(('PART', 'STATE', 'WHY'), rows)}"
    if diagnosis.advice:
        page += "\nMore:\n" + "".join(f"  {line}\n" for line in diagnosis.advice)
    return page


async def _events(session: Session, connection: Connection, pod: Any) -> list[Any]:
    """The pod's events; none where the masters cannot be asked for them."""
    from barque.api.errors import ApiError
    from barque.api.types.core_v1 import Event
    from barque.cli.session import explain

    fields = f"involvedObject.kind=Pod,involvedObject.name={pod.metadata.name}"
    try:
        return (await session.call(connection.client.list(Event, pod.metadata.namespace, fields=fields))).items
    except ApiError as error:
        session.screen.note(f"Warning: without events: {explain(error)}")
        return []


async def _node(session: Session, connection: Connection, pod: Any) -> Any | None:
    from barque.api.errors import ApiError
    from barque.api.types.core_v1 import Node

    if not pod.spec.nodeName:
        return None
    try:
        return await session.call(connection.client.get(Node, pod.spec.nodeName))
    except ApiError as error:
        if error.code != 404:
            raise
        return None
