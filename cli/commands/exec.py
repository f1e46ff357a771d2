"""`barque exec`: a command in a running container, with the user's terminal where asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import click

from barque.cli.verb import CommandVerb, command_words, with_session

if TYPE_CHECKING:
    from barque.cli.session import Connection, Session


class Request(NamedTuple):
    """What to run where; `tty` only where there is a terminal."""

    what: tuple[str, ...]
    container: str
    command: list[str]
    stdin: bool
    tty: bool


@click.command(
    "exec",
    cls=CommandVerb,
    examples="""
    barque exec -it web-5d9c7-x2x4k -- sh        a shell in a pod
    barque exec deployment/web -- ls /data       one command in a pod of the deployment
    barque exec -i web-5d9c7-x2x4k -- tar x < site.tar
    barque exec web-5d9c7-x2x4k -c proxy -- env  in one of several containers
    """,
)
@click.argument("what", nargs=-1, metavar="POD | TYPE/NAME -- COMMAND [ARG]...")
@click.option("-i", "--stdin", is_flag=True, help="Pass on standard input.")
@click.option("-t", "--tty", is_flag=True, help="Give the command a terminal.")
@click.option("-c", "--container", default="", metavar="NAME", help="Which container, where there are several.")
@with_session
def command(session: Session, what: tuple[str, ...], stdin: bool, tty: bool, container: str) -> None:
    """Run a command in a running container and exit with its exit code. -it gives it this terminal."""
    from barque.cli.conversing import wants_tty
    from barque.cli.output import CliError

    words = command_words()
    if not what or not words:
        raise CliError("give a pod, then -- and the command, as in `barque exec -it web-1 -- sh`")
    request = Request(what, container, words, stdin, wants_tty(session, stdin=stdin, tty=tty))
    code = session.run(lambda connection: _exec(session, connection, request))
    if code:
        session.screen.note(f"command terminated with exit code {code}")
        click.get_current_context().exit(code)


async def _exec(session: Session, connection: Connection, request: Request) -> int:
    """Run it; its exit code."""
    from barque.api.errors import ApiError
    from barque.cli.arguments import parse_one
    from barque.cli.conversing import converse, unable
    from barque.cli.output import CliError
    from barque.cli.picking import check_running, pick_container, pick_pod
    from barque.proto import pods_pb2

    resource, name = parse_one(request.what, verb="exec", default="pod")
    pod = await pick_pod(session, connection, resource, name)
    check_running(pod, "exec into")
    start = pods_pb2.ExecInput.Start(
        namespace=session.namespace,
        pod=pod.metadata.name,
        container=pick_container(session, pod, request.container),
        command=request.command,
        stdin=request.stdin,
        tty=request.tty,
    )
    try:
        code = await converse(session, connection, "Exec", start)
    except ApiError as error:
        raise unable(error) from None
    if code is None:
        raise CliError("the connection ended before the command did; it may still be running")
    return code
