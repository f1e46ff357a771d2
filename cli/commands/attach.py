"""`barque attach`: this terminal at a container's own process."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import click

from barque.cli.verb import Verb, with_session

if TYPE_CHECKING:
    from barque.cli.session import Connection, Session


class Request(NamedTuple):
    """What to attach to."""

    what: tuple[str, ...]
    container: str
    stdin: bool
    tty: bool
    quiet: bool


@click.command(
    "attach",
    cls=Verb,
    examples="""
    barque attach web-5d9c7-x2x4k              see what a pod's container writes from now on
    barque attach -it shell -c sh              talk to a container that has a terminal
    barque attach deployment/web
    """,
)
@click.argument("what", nargs=-1, metavar="POD | TYPE/NAME")
@click.option("-i", "--stdin", is_flag=True, help="Pass on standard input.")
@click.option("-t", "--tty", is_flag=True, help="Standard input is a terminal.")
@click.option("-c", "--container", default="", metavar="NAME", help="Which container, where there are several.")
@click.option("-q", "--quiet", is_flag=True, help="Print only what the container writes.")
@with_session
def command(session: Session, what: tuple[str, ...], stdin: bool, tty: bool, container: str, quiet: bool) -> None:
    """Attach to the process that a container runs. Ctrl-C lets go of it, unless it has this terminal (-it): then it
    gets Ctrl-C like any other key. A process that goes on running can be attached to again.
    """
    from barque.cli.conversing import wants_tty

    request = Request(what, container, stdin, wants_tty(session, stdin=stdin, tty=tty), quiet)
    session.run(lambda connection: _attach(session, connection, request))


async def _attach(session: Session, connection: Connection, request: Request) -> None:
    from barque.cli.arguments import parse_one
    from barque.cli.attaching import attach
    from barque.cli.picking import check_running, pick_container, pick_pod

    resource, name = parse_one(request.what, verb="attach", default="pod")
    pod = await pick_pod(session, connection, resource, name)
    check_running(pod, "attach")
    container = pick_container(session, pod, request.container)
    await attach(session, connection, pod, container, stdin=request.stdin, tty=request.tty, quiet=request.quiet)
