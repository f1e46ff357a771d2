"""`barque expose`: a service for what is there already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec

from barque.cli.choosing import Found, choice_options, find, read_choice
from barque.cli.exposing import EXPOSABLE, TYPES, Wish, service_for
from barque.cli.output import CliError
from barque.cli.verb import Verb, with_session
from barque.cli.writing import Results, Writing, decoded, one_by_one, read_writing, writing_options

if TYPE_CHECKING:
    from barque.cli.session import Connection, Session


@click.command(
    "expose",
    cls=Verb,
    examples="""
    barque expose deployment web --port=80 --target-port=8080
    barque expose deployment web --port=80 --type=NodePort --name=web-outside
    barque expose pod web-1 --port=80 --dry-run=client -o yaml
    """,
)
@click.argument("what", nargs=-1, metavar="TYPE NAME | TYPE/NAME")
@choice_options
@click.option("--port", default="", metavar="PORT", help="The service's port; several with commas [the containers'].")
@click.option("--target-port", default="", metavar="PORT", help="The pods' port, by number or name [the same].")
@click.option("--protocol", default="", metavar="NAME", help="TCP, UDP or SCTP [the containers', else TCP].")
@click.option("--name", default="", metavar="NAME", help="The service's name [the object's].")
@click.option("--type", "kind", type=click.Choice(TYPES), help="How far it is to be seen [ClusterIP].")
@click.option("--pods", "pod_selector", default="", metavar="LABELS", help="The pods it leads to [the object's].")
@click.option("--labels", default="", metavar="LABELS", help="The service's own labels [the object's].")
@click.option("--cluster-ip", default="", metavar="IP", help="A certain address, or None for a headless service.")
@click.option("--external-ip", "external_ips", multiple=True, metavar="IP", help="Also answer on this address.")
@click.option(
    "--session-affinity", type=click.Choice(["None", "ClientIP"]), help="Whether a client stays with its pod [None]."
)
@writing_options("expose")
@with_session
def command(session: Session, what: tuple[str, ...], **given: Any) -> None:
    """Make a service that leads to the pods of a deployment, replica set, pod or another service."""
    writing = read_writing(given)
    asked = read_choice(session, "expose", what, given, example="deployment")
    for each in asked:
        if each.resource.plural not in EXPOSABLE:
            raise CliError(f"cannot expose a {each.resource.kind}")
    wish = Wish(
        given["name"],
        given["port"],
        given["target_port"],
        given["protocol"],
        given["kind"] or "",
        given["pod_selector"],
        given["labels"],
        given["cluster_ip"],
        given["external_ips"],
        given["session_affinity"] or "",
    )

    async def run(connection: Connection) -> bool:
        found, failed = await find(session, connection, asked)
        results = Results(session.screen, writing)

        async def expose(one: Found) -> None:
            service = await _create(
                session, connection, service_for(one.live, one.target.resource.plural, wish), writing
            )
            results.tell(_services(), service["metadata"]["name"], "exposed", service)

        refused = await one_by_one(session, found, expose, doing="exposing")
        results.finish()
        return failed or refused

    if session.run(run):
        click.get_current_context().exit(1)


async def _create(
    session: Session, connection: Connection, service: dict[str, Any], writing: Writing
) -> dict[str, Any]:
    from barque.client.verbs import Target

    if not writing.sends:
        return service
    target = Target(_services(), service["metadata"].get("namespace", session.namespace))
    return await decoded(session, connection.verbs.create(target, msgspec.json.encode(service), writing.options()))


def _services() -> Any:
    from barque.api import resources

    return resources.by_word("services")
