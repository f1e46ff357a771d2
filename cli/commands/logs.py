"""`barque logs`: what the containers of pods write."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from barque.cli.verb import Verb, with_session

if TYPE_CHECKING:
    from barque.cli.session import Connection, Session

# Each followed container is a stream to its worker; more at once are refused rather than queued.
MAX_FOLLOWED = 5
# With -l the end of each log is wanted, not all of all of them.
TAIL_OF_MANY = 10
# A line longer than this is broken up, so that a log without line ends takes no memory.
MAX_LINE_BYTES = 64 * 1024


class Request(NamedTuple):
    """Which part of the logs is wanted; `tail` below 0 is all."""

    what: tuple[str, ...]
    selector: str
    container: str
    every_container: bool
    follow: bool
    previous: bool
    timestamps: bool
    prefix: bool
    tail: int
    since_s: int


class Source(NamedTuple):
    """One container's log."""

    pod: str
    container: str


@click.command(
    "logs",
    cls=Verb,
    examples="""
    barque logs web-5d9c7-x2x4k              all a pod's container has written
    barque logs -f deployment/web            follow a pod of the deployment
    barque logs web-5d9c7-x2x4k -p           what the container wrote before its last restart
    barque logs -l app=web --tail=20 --prefix    the last lines of every pod of an application
    barque logs web-5d9c7-x2x4k -c proxy --since 10m
    """,
)
@click.argument("what", nargs=-1, metavar="[POD | TYPE/NAME] [CONTAINER]")
@click.option("-f", "--follow", is_flag=True, help="Go on printing what is written.")
@click.option("-p", "--previous", is_flag=True, help="The container before its last restart.")
@click.option("-c", "--container", default="", metavar="NAME", help="Which container, where there are several.")
@click.option("--all-containers", is_flag=True, help="Every container of the pod.")
@click.option("--tail", type=int, default=None, metavar="N", help="Only the last N lines [all; 10 with -l].")
@click.option("--since", default="0", metavar="TIME", help="Only what is younger, as in 10m.")
@click.option("--timestamps", is_flag=True, help="Each line with its time.")
@click.option("--prefix", is_flag=True, help="Each line with its pod and container.")
@click.option("-l", "--selector", default="", metavar="LABELS", help="The pods with these labels.")
@with_session
def command(
    session: Session,
    what: tuple[str, ...],
    follow: bool,
    previous: bool,
    container: str,
    all_containers: bool,
    tail: int | None,
    since: str,
    timestamps: bool,
    prefix: bool,
    selector: str,
) -> None:
    """Print what a pod's container has written to its standard output and error. Of a deployment, a replica set or a
    service one pod is picked; with -l all that match are printed.
    """
    from barque.cli.arguments import parse_duration
    from barque.cli.output import CliError

    if bool(what) == bool(selector):
        raise CliError("give a pod, a TYPE/NAME or -l LABELS, as in `barque logs deployment/web`")
    if len(what) > 2 or (len(what) == 2 and container):
        raise CliError("give one pod, and at most one container")
    if tail is None:
        tail = TAIL_OF_MANY if selector else -1
    request = Request(
        what[:1],
        selector,
        container or "".join(what[1:]),
        all_containers,
        follow,
        previous,
        timestamps,
        prefix,
        tail,
        int(parse_duration(since)),
    )
    session.run(lambda connection: _logs(session, connection, request))


async def _logs(session: Session, connection: Connection, request: Request) -> None:
    from barque.cli.output import CliError

    sources = await _sources(session, connection, request)
    if not sources:
        session.screen.note(f"No resources found in {session.namespace} namespace.")
        return
    if not request.follow:
        for source in sources:
            await _print(session, connection, request, source, by_line=False)
        return
    if len(sources) > MAX_FOLLOWED:
        raise CliError(
            f"{len(sources)} logs would be followed at once, {MAX_FOLLOWED} can be; choose fewer with -l or -c"
        )
    session.screen.quiet()
    tasks = [
        asyncio.create_task(_print(session, connection, request, source, by_line=len(sources) > 1))
        for source in sources
    ]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _sources(session: Session, connection: Connection, request: Request) -> list[Source]:
    from barque.cli.arguments import parse_one
    from barque.cli.picking import pick_container, pick_pod, pods_with

    if request.selector:
        pods = await pods_with(session, connection, request.selector)
        pods.sort(key=lambda pod: pod.metadata.name)
    else:
        resource, name = parse_one(request.what, verb="logs", default="pod")
        pods = [await pick_pod(session, connection, resource, name)]
    sources: list[Source] = []
    for pod in pods:
        if request.every_container:
            names = [c.name for c in (*pod.spec.initContainers, *pod.spec.containers)]
        else:
            names = [pick_container(session, pod, request.container)]
        sources += [Source(pod.metadata.name, name) for name in names]
    return sources


async def _print(session: Session, connection: Connection, request: Request, source: Source, *, by_line: bool) -> None:
    """Print one log, with `by_line` in whole lines so that several do not tear each other's."""
    from barque.proto import pods_pb2

    await connection.ready()
    session.screen.waiting(f"waiting for the log of {source.pod}")
    call: Any = connection.pods.Logs(
        pods_pb2.LogsRequest(
            namespace=session.namespace,
            pod=source.pod,
            container=source.container,
            follow=request.follow,
            previous=request.previous,
            timestamps=request.timestamps,
            tail_lines=request.tail,
            since_s=request.since_s,
        )
    )
    prefix = f"[pod/{source.pod}/{source.container}] ".encode() if request.prefix else b""
    lines = Lines(prefix) if by_line or prefix else None
    if request.follow:
        session.screen.quiet()
    async for chunk in call:
        session.screen.quiet()
        _write(lines.whole(chunk.data) if lines is not None else chunk.data)
    if lines is not None:
        _write(lines.rest())


class Lines:
    """Cuts a stream of bytes at line ends, so that a prefix may stand before each line."""

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix
        self._begun = b""

    def whole(self, data: bytes) -> bytes:
        """The lines that `data` completes."""
        *complete, self._begun = (self._begun + data).split(b"\n")
        lines = b"".join(self._prefix + line + b"\n" for line in complete)
        return lines + self.rest() if len(self._begun) > MAX_LINE_BYTES else lines

    def rest(self) -> bytes:
        """What was begun and never ended."""
        begun, self._begun = self._begun, b""
        return self._prefix + begun + b"\n" if begun else b""


def _write(data: bytes) -> None:
    if data:
        click.echo(data, nl=False)
