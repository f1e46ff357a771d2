"""`barque logs`: what the containers of pods write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from barque.cli.verb import Verb, with_session

if TYPE_CHECKING:
    from barque.cli.session import Connection, Session

# With -l the end of each log is wanted, not all of all of them.
TAIL_OF_MANY = 10
# A line longer than this is broken up, so that a log without line ends takes no memory.
MAX_LINE_BYTES = 64 * 1024


class Request(NamedTuple):
    """Which logs are wanted; `part` are the fields of the LogsRequest that say which part of each."""

    what: tuple[str, ...]
    selector: str
    container: str
    every_container: bool
    every_pod: bool
    prefix: bool
    at_once: int
    ignore_errors: bool
    part: dict[str, Any]

    @property
    def follows(self) -> bool:
        return bool(self.part["follow"])


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
    barque logs -f deployment/web --all-pods    follow all of them
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
@click.option("--all-pods", is_flag=True, help="Every pod of the workload, each line with its pod.")
@click.option("--tail", type=int, default=None, metavar="N", help="Only the last N lines [all; 10 with -l].")
@click.option("--since", default="0", metavar="TIME", help="Only what is younger, as in 10m.")
@click.option("--since-time", default="", metavar="TIME", help="Only what was written since 2006-01-02T15:04:05Z.")
@click.option("--limit-bytes", type=int, default=0, metavar="N", help="At most so many bytes of each log.")
@click.option("--timestamps", is_flag=True, help="Each line with its time.")
@click.option("--prefix", is_flag=True, help="Each line with its pod and container.")
@click.option("-l", "--selector", default="", metavar="LABELS", help="The pods with these labels.")
@click.option("--max-log-requests", type=int, default=5, metavar="N", help="Follow at most so many logs at once [5].")
@click.option("--ignore-errors", is_flag=True, help="Go on with the other logs when one cannot be read.")
@with_session
def command(session: Session, what: tuple[str, ...], **given: Any) -> None:
    """Print what a pod's container has written to its standard output and error. Of a deployment, a replica set or a
    service one pod is picked; with -l or --all-pods all that match are printed. A followed log goes on where it broke
    off when a master or worker was away.
    """
    request = _read(what, given)
    session.run(lambda connection: _logs(session, connection, request))


def _read(what: tuple[str, ...], given: dict[str, Any]) -> Request:
    """What was asked for. Raises `CliError` where it contradicts itself."""
    from barque.cli.arguments import parse_duration
    from barque.cli.output import CliError

    selector, tail, container = given["selector"], given["tail"], given["container"]
    if bool(what) == bool(selector):
        raise CliError("give a pod, a TYPE/NAME or -l LABELS, as in `barque logs deployment/web`")
    if len(what) > 2 or (len(what) == 2 and container):
        raise CliError("give one pod, and at most one container")
    container = container or "".join(what[1:])
    if container and given["all_containers"]:
        raise CliError(f"--all-containers=true should not be specified with container name {container}")
    since_s = int(parse_duration(given["since"]))
    if since_s and given["since_time"]:
        raise CliError("at most one of `sinceTime` or `sinceSeconds` may be specified")
    if tail is not None and tail < -1:
        raise CliError("--tail must be greater than or equal to -1")
    if given["limit_bytes"] < 0:
        raise CliError("--limit-bytes must be greater than 0")
    part = {name: given[name] for name in ("follow", "previous", "timestamps", "since_time", "limit_bytes")}
    return Request(
        what[:1],
        selector,
        container,
        given["all_containers"],
        given["all_pods"],
        given["prefix"] or given["all_pods"],
        given["max_log_requests"],
        given["ignore_errors"],
        {**part, "tail_lines": (TAIL_OF_MANY if selector else -1) if tail is None else tail, "since_s": since_s},
    )


async def _logs(session: Session, connection: Connection, request: Request) -> None:
    from barque.cli.output import CliError

    sources = await _sources(session, connection, request)
    if not sources:
        session.screen.note(f"No resources found in {session.namespace} namespace.")
        return
    if not request.follows:
        for source in sources:
            await _print(session, connection, request, source, by_line=False)
        return
    if len(sources) > request.at_once:
        raise CliError(
            f"you are attempting to follow {len(sources)} log streams, but maximum allowed concurrency is "
            f"{request.at_once}, use --max-log-requests to increase the limit"
        )
    session.screen.quiet()
    many = len(sources) > 1
    tasks = [asyncio.create_task(_print(session, connection, request, each, by_line=many)) for each in sources]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _sources(session: Session, connection: Connection, request: Request) -> list[Source]:
    from barque.cli.arguments import parse_one
    from barque.cli.picking import pick_container, pick_pod, pods_of, pods_with

    if request.selector:
        pods = await pods_with(session, connection, request.selector)
        pods.sort(key=lambda pod: pod.metadata.name)
    else:
        resource, name = parse_one(request.what, verb="logs", default="pod")
        if request.every_pod:
            pods = await pods_of(session, connection, resource, name)
        else:
            pods = [await pick_pod(session, connection, resource, name)]
    sources: list[Source] = []
    for pod in pods:
        if request.every_container:
            spec = pod.spec
            names = [c.name for c in (*spec.initContainers, *spec.containers, *spec.ephemeralContainers)]
        else:
            names = [pick_container(session, pod, request.container)]
        sources += [Source(pod.metadata.name, name) for name in names]
    return sources


async def _print(session: Session, connection: Connection, request: Request, source: Source, *, by_line: bool) -> None:
    """Print one log, with `by_line` in whole lines so that several do not tear each other's."""
    from barque.api.errors import ApiError
    from barque.cli.session import explain

    session.screen.waiting(f"waiting for the log of {source.pod}")
    prefix = f"[pod/{source.pod}/{source.container}] ".encode() if request.prefix else b""
    lines = Lines(prefix) if by_line or prefix else None
    try:
        async with aclosing(_read_log(session, connection, request, source)) as pieces:
            async for data in pieces:
                session.screen.quiet()
                _write(lines.whole(data) if lines is not None else data)
    except ApiError as error:
        if not request.ignore_errors:
            raise
        session.screen.error(explain(error))
    if lines is not None:
        _write(lines.rest())


async def _read_log(
    session: Session, connection: Connection, request: Request, source: Source
) -> AsyncGenerator[bytes, None]:
    from barque.client import podstreams
    from barque.proto import pods_pb2

    asked = pods_pb2.LogsRequest(
        namespace=session.namespace, pod=source.pod, container=source.container, **request.part
    )
    if not request.follows:
        async for chunk in podstreams.read_log(connection, asked):
            yield chunk.data
        return

    def on_break(why: str) -> None:
        if why:
            session.screen.waiting(f"the log of {source.pod} broke off, taking it up again: {why}")
        else:
            session.screen.quiet()

    session.screen.quiet()
    async for data in podstreams.follow_log(connection, asked, session.clock, on_break):
        yield data


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
