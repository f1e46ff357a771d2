"""`barque cp`: files to and from containers, as archives through the container's own tar."""

from __future__ import annotations

import asyncio
import os
import posixpath
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from barque.cli.verb import Verb, with_session

if TYPE_CHECKING:
    from barque.cli.session import Connection, Session


class Place(NamedTuple):
    """A path here (`pod` is ""), or in a pod; `namespace` is "" for the session's."""

    path: str
    pod: str = ""
    namespace: str = ""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.pod}:{self.path}" if self.namespace else f"{self.pod}:{self.path}"


@click.command(
    "cp",
    cls=Verb,
    examples="""
    barque cp site web-5d9c7-x2x4k:/srv            a directory into a pod
    barque cp web-5d9c7-x2x4k:/var/log/app.log app.log    a file from a pod
    barque cp shop/web-5d9c7-x2x4k:/etc/app . -c proxy    from a container of a pod in another namespace
    """,
)
@click.argument("what", nargs=-1, metavar="SOURCE DESTINATION")
@click.option("-c", "--container", default="", metavar="NAME", help="Which container, where there are several.")
@click.option("--no-preserve", is_flag=True, help="Leave out the files' modes and owners.")
@with_session
def command(session: Session, what: tuple[str, ...], container: str, no_preserve: bool) -> None:
    """Copy files and directories to or from a container. A place in a container is POD:PATH or NAMESPACE/POD:PATH. The
    container's image must have `tar`. Symbolic links from a container are left out, with a warning.
    """
    from barque.cli.output import CliError

    if len(what) != 2:
        raise CliError("source and destination are required")
    source, target = (parse_place(text) for text in what)
    if source.pod and target.pod:
        raise CliError("one of src or dest must be a local file specification")
    if not source.pod and not target.pod:
        raise CliError("one of src or dest must be a remote file specification, as in POD:/path or NAMESPACE/POD:/path")
    if not source.path or not target.path:
        raise CliError("filepath can not be empty")
    remote = target if target.pod else source
    if remote.namespace:
        session.namespace_given = remote.namespace
    copy = _Copy(session, container, not no_preserve)
    if target.pod:
        if not os.path.lexists(source.path):
            raise CliError(f"{source.path} doesn't exist in local filesystem")
        name = os.path.basename(os.path.realpath(source.path))
        session.run(lambda connection: copy.send(connection, Path(source.path), name, target))
    else:
        here = Path(target.path)
        name = posixpath.basename(posixpath.normpath(source.path))
        if here.is_dir() and name not in ("", ".", ".."):
            here /= name
        session.run(lambda connection: copy.fetch(connection, source, here))


def parse_place(text: str) -> Place:
    """`pod:path`, `namespace/pod:path`, or a path here. Raises `CliError`."""
    from barque.cli.output import CliError

    before, colon, path = text.partition(":")
    if not colon or before.startswith((".", "/")):
        return Place(text)
    namespace, slash, pod = before.rpartition("/")
    if not pod or "/" in namespace or (slash and not namespace):
        raise CliError(f"{text!r} is neither a path nor POD:PATH nor NAMESPACE/POD:PATH")
    return Place(path, pod, namespace)


class _Copy:
    """One copy to or from a container."""

    def __init__(self, session: Session, container: str, preserve: bool) -> None:
        self._session = session
        self._container = container
        self._preserve = preserve

    async def send(self, connection: Connection, source: Path, name: str, target: Place) -> None:
        """A file or directory of this machine into the container; as `name` into a target that is a directory."""
        from barque.cli.archives import Packing
        from barque.cli.output import CliError

        start = await self._find(connection, target)
        path = target.path.rstrip("/") or "/"
        if await self._run(connection, start, ["test", "-d", path], err=_drop) == 0:
            path = posixpath.join(path, name)
        folder, packed = posixpath.split(path)
        options = [] if self._preserve else ["--no-same-permissions", "--no-same-owner"]
        words = ["tar", *options, "-xmf", "-", *(["-C", folder] if folder else [])]
        packing = Packing(source, packed)
        try:
            code = await self._run(connection, start, words, source=packing)
        finally:
            packing.stop()
        if packing.failed is not None:
            raise CliError(f"{packing.failed.filename or source}: {packing.failed.strerror}")
        _check(code)

    async def fetch(self, connection: Connection, source: Place, target: Path) -> None:
        """A file or directory of the container to this machine, as `target`."""
        start = await self._find(connection, source)
        path = posixpath.normpath(source.path)
        taken, given = os.pipe()
        unpacking = asyncio.create_task(asyncio.to_thread(self._unpack, taken, path, target))

        async def take(data: bytes) -> None:
            await asyncio.to_thread(_write_all, given, data)

        try:
            code = await self._run(connection, start, ["tar", "cf", "-", path], out=take)
        except BrokenPipeError:
            # The unpacking has failed, and says why.
            code = 0
        finally:
            os.close(given)
            (unpacked,) = await asyncio.gather(unpacking, return_exceptions=True)
        _check(code)
        if isinstance(unpacked, BaseException):
            raise unpacked

    def _unpack(self, taken: int, path: str, target: Path) -> None:
        """In a thread, to the end of what comes through the pipe. Raises `CliError`, OSError."""
        from barque.cli import archives
        from barque.cli.output import CliError, complain

        with os.fdopen(taken, "rb") as archive:
            try:
                archives.unpack(archive, path, target, complain, keep_modes=self._preserve)
            except archives.ArchiveError as error:
                raise CliError(f"what the container sent cannot be unpacked: {error}") from error

    async def _find(self, connection: Connection, place: Place) -> Any:
        """The start of a command in the container meant."""
        from barque.api import resources
        from barque.cli.picking import check_running, pick_container, pick_pod
        from barque.proto import pods_pb2

        session = self._session
        pod = await pick_pod(session, connection, resources.by_plural("", "pods"), place.pod)
        check_running(pod, "copy to or from")
        container = pick_container(session, pod, self._container)
        return pods_pb2.ExecInput.Start(namespace=session.namespace, pod=place.pod, container=container)

    async def _run(self, connection: Connection, start: Any, words: list[str], **streams: Any) -> int:
        """Run a command; its exit code."""
        from barque.api.errors import ApiError
        from barque.cli.conversing import converse, unable
        from barque.cli.output import CliError

        del start.command[:]
        start.command.extend(words)
        start.stdin = "source" in streams
        try:
            code = await converse(self._session, connection, "Exec", start, **streams)
        except ApiError as error:
            raise unable(error) from None
        if code is None:
            raise CliError("the connection ended before all was copied")
        return code


def _check(code: int) -> None:
    from barque.cli.output import CliError

    if code:
        raise CliError(f"command terminated with exit code {code}")


async def _drop(_: bytes) -> None:
    """For what nobody wants to read."""


def _write_all(handle: int, data: bytes) -> None:
    """Blocks until a reader has taken it. Raises BrokenPipeError where there is none any more."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
