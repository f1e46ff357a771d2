"""`barque image`: the images of the nodes, loaded from a file, listed, removed; for machines that reach no registry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from barque.cli.verb import Verb, VerbGroup, with_session

if TYPE_CHECKING:
    from barque.cli.session import Connection, Session

# Nodes that are sent an archive at the same time: each copy goes over this machine's own link.
LOADING = 4
CHUNK_BYTES = 1024 * 1024

T = TypeVar("T")

_nodes = click.option("--node", "nodes", multiple=True, metavar="NAME", help="Only this node [every one]; repeatable.")


@click.group("image", cls=VerbGroup)
def command() -> None:
    """Load, list and remove the images of the nodes."""


@command.command(
    "load",
    cls=Verb,
    examples="""
    docker save web:1 -o web.tar
    barque image load web.tar                onto every node
    barque image load web.tar --node n1
    """,
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@_nodes
@with_session
def load(session: Session, file: Path, nodes: tuple[str, ...]) -> None:
    """Put the images of an archive, as `docker save` writes it, on nodes."""
    from barque.cli.output import CliError

    if not file.is_file():
        raise CliError(f"{file} is no file")
    size = file.stat().st_size
    done = session.run(lambda connection: _load(session, connection, file, size, nodes))
    _finish(done)


async def _load(session: Session, connection: Connection, file: Path, size: int, nodes: tuple[str, ...]) -> bool:
    from barque.cli.snapshots import size_text

    sent = 0

    async def messages(node: str) -> AsyncIterator[Any]:
        nonlocal sent
        from barque.proto import images_pb2 as pb

        yield pb.LoadInput(start=pb.LoadInput.Start(node=node, size_bytes=size))
        with file.open("rb") as archive:
            while data := await asyncio.to_thread(archive.read, CHUNK_BYTES):
                yield pb.LoadInput(data=data)
                sent += len(data)
                session.screen.waiting(f"loading {file.name}: {size_text(sent)} sent")

    async def one(node: str) -> str:
        from barque.client.endings import answered

        reply = await answered(connection.images.Load(messages(node)))
        return f"loaded {', '.join(reply.images)}"

    return await _each(session, connection, nodes, one)


@command.command(
    "ls",
    cls=Verb,
    examples="""
    barque image ls
    barque image ls --node n1
    """,
)
@_nodes
@with_session
def list_images(session: Session, nodes: tuple[str, ...]) -> None:
    """List the images that nodes have."""
    _finish(session.run(lambda connection: _list(session, connection, nodes)))


async def _list(session: Session, connection: Connection, nodes: tuple[str, ...]) -> bool:
    from barque.cli import tables
    from barque.cli.snapshots import size_text
    from barque.proto import images_pb2 as pb

    rows: list[list[str]] = []

    async def one(node: str) -> str:
        reply = await session.call(connection.images.List(pb.ListImagesRequest(node=node)))
        for image in reply.images:
            tags = [name for name in image.names if "@" not in name] or list(image.names) or ["<none>"]
            short = image.id.rpartition(":")[2][:12]
            used = "yes" if image.in_use else "no"
            rows.extend([node, tag, short, size_text(image.size_bytes), used] for tag in tags)
        return ""

    done = await _each(session, connection, nodes, one)
    session.screen.write(tables.render(["NODE", "IMAGE", "ID", "SIZE", "IN USE"], sorted(rows)))
    return done


@command.command(
    "rm",
    cls=Verb,
    examples="""
    barque image rm web:1                    from every node
    barque image rm web:1 --node n1
    """,
)
@click.argument("image")
@_nodes
@with_session
def remove(session: Session, image: str, nodes: tuple[str, ...]) -> None:
    """Remove an image from nodes. One that a container was made of stays, which is said."""
    _finish(session.run(lambda connection: _remove(session, connection, image, nodes)))


async def _remove(session: Session, connection: Connection, image: str, nodes: tuple[str, ...]) -> bool:
    from barque.proto import images_pb2 as pb

    async def one(node: str) -> str:
        await session.call(connection.images.Remove(pb.RemoveImageRequest(node=node, image=image)))
        return f"removed {image}"

    return await _each(session, connection, nodes, one)


async def _each(
    session: Session, connection: Connection, nodes: tuple[str, ...], one: Callable[[str], Awaitable[str]]
) -> bool:
    """Do it on the nodes, or on all; whether it was done everywhere. One node's failure keeps no other from it."""
    from barque.api.errors import ApiError
    from barque.api.types.core_v1 import Node
    from barque.cli.output import CliError
    from barque.cli.session import explain, translated

    await connection.ready()
    if not nodes:
        nodes = tuple(sorted(node.metadata.name for node in (await session.call(connection.client.list(Node))).items))
    if not nodes:
        raise CliError("the cluster has no node; `barque token create` tells how to join one")
    slots = asyncio.Semaphore(LOADING)

    async def on(node: str) -> str | Exception:
        async with slots:
            try:
                return await one(node)
            except Exception as error:
                found = translated(error)
                if not isinstance(found, ApiError | CliError):
                    raise
                return found

    answers = await asyncio.gather(*(on(node) for node in nodes))
    session.screen.quiet()
    for node, answer in zip(nodes, answers, strict=True):
        if isinstance(answer, ApiError):
            session.screen.error(f"node/{node}: {explain(answer)}")
        elif isinstance(answer, Exception):
            session.screen.error(f"node/{node}: {answer}")
        elif answer:
            session.screen.line(f"node/{node}: {answer}")
    return not any(isinstance(answer, Exception) for answer in answers)


def _finish(done: bool) -> None:
    if not done:
        click.get_current_context().exit(1)
