"""`barque exec`: a command in a running container, with the user's terminal where asked for."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from barque.cli.verb import Verb, with_session

if TYPE_CHECKING:
    from barque.cli.session import Connection, Session

# Not sent yet: keystrokes and changes of the window's size.
PENDING = 16
_COMMAND = "barque.exec.command"


class ExecVerb(Verb):
    """Everything behind `--` is the command's own, options and all."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            args, ctx.meta[_COMMAND] = args[:at], args[at + 1 :]
        return super().parse_args(ctx, args)


class Request(NamedTuple):
    """What to run where; `tty` only where there is a terminal."""

    what: tuple[str, ...]
    container: str
    command: list[str]
    stdin: bool
    tty: bool


@click.command(
    "exec",
    cls=ExecVerb,
    examples="""
    barque exec -it web-5d9c7-x2x4k -- sh        a shell in a pod
    barque exec deployment/web -- ls /data       one command in a pod of the deployment
    barque exec -i web-5d9c7-x2x4k -- tar x < site.tar
    """,
)
@click.argument("what", nargs=-1, metavar="POD | TYPE/NAME -- COMMAND [ARG]...")
@click.option("-i", "--stdin", is_flag=True, help="Pass on standard input.")
@click.option("-t", "--tty", is_flag=True, help="Give the command a terminal.")
@click.option("-c", "--container", default="", metavar="NAME", help="Which container, where there are several.")
@with_session
def command(session: Session, what: tuple[str, ...], stdin: bool, tty: bool, container: str) -> None:
    """Run a command in a running container and exit with its exit code. -it gives it this terminal."""
    from barque.cli import terminal
    from barque.cli.output import CliError

    words: list[str] = click.get_current_context().meta.get(_COMMAND, [])
    if not what or not words:
        raise CliError("give a pod, then -- and the command, as in `barque exec -it web-1 -- sh`")
    if tty and not (stdin and terminal.is_terminal()):
        if stdin:
            session.screen.note("Unable to use a TTY - input is not a terminal or the right kind of file")
        tty = tty and not stdin
    request = Request(what, container, words, stdin, tty)
    code = session.run(lambda connection: _exec(session, connection, request))
    if code:
        session.screen.note(f"command terminated with exit code {code}")
        click.get_current_context().exit(code)


async def _exec(session: Session, connection: Connection, request: Request) -> int:
    """Run it; its exit code."""
    from barque.cli import terminal
    from barque.cli.arguments import parse_one
    from barque.cli.picking import pick_container, pick_pod
    from barque.proto import pods_pb2

    resource, name = parse_one(request.what, verb="exec", default="pod")
    pod = await pick_pod(session, connection, resource, name)
    start = pods_pb2.ExecInput.Start(
        namespace=session.namespace,
        pod=pod.metadata.name,
        container=pick_container(session, pod, request.container),
        command=request.command,
        stdin=request.stdin,
        tty=request.tty,
    )
    interactive = request.tty and terminal.is_terminal()
    if interactive:
        columns, rows = terminal.size()
        start.size.CopyFrom(pods_pb2.TerminalSize(columns=columns, rows=rows))
    await connection.ready()
    session.screen.quiet()
    pending: asyncio.Queue[Any] = asyncio.Queue(maxsize=PENDING)
    pending.put_nowait(pods_pb2.ExecInput(start=start))
    with terminal.raw(lambda: _resized(pending)) if interactive else contextlib.nullcontext():
        feeding = asyncio.create_task(_feed(pending)) if request.stdin else None
        try:
            return await _print(connection.pods.Exec(_inputs(pending)))
        finally:
            if feeding is not None:
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)


async def _inputs(pending: asyncio.Queue[Any]) -> AsyncIterator[Any]:
    """The messages to the command, for as long as the call lasts."""
    while True:
        yield await pending.get()


async def _feed(pending: asyncio.Queue[Any]) -> None:
    """Pass standard input on to its end."""
    from barque.cli.terminal import Input
    from barque.proto import pods_pb2

    source = Input(sys.stdin.fileno())
    source.start()
    while chunk := await source.get():
        await pending.put(pods_pb2.ExecInput(stdin=chunk))
    await pending.put(pods_pb2.ExecInput(stdin_end=True))


def _resized(pending: asyncio.Queue[Any]) -> None:
    """Tell the command its window's new size, unless so much is waiting that a later change will do."""
    from barque.cli.terminal import size
    from barque.proto import pods_pb2

    columns, rows = size()
    with contextlib.suppress(asyncio.QueueFull):
        pending.put_nowait(pods_pb2.ExecInput(resize=pods_pb2.TerminalSize(columns=columns, rows=rows)))


async def _print(outputs: AsyncIterator[Any]) -> int:
    """Print what the command writes; its exit code, which comes last."""
    from barque.cli.output import CliError

    async for output in outputs:
        match output.WhichOneof("output"):
            case "stdout":
                _write(sys.stdout, output.stdout)
            case "stderr":
                _write(sys.stderr, output.stderr)
            case "exit_code":
                return int(output.exit_code)
    raise CliError("the connection ended before the command did; it may still be running")


def _write(stream: Any, data: bytes) -> None:
    """All bytes at once to a descriptor that may be a slow terminal."""
    buffer = getattr(stream, "buffer", None)
    if buffer is None:
        os.write(stream.fileno(), data)
        return
    buffer.write(data)
    buffer.flush()
