"""`barque cluster`: the masters and how their parts are, their state saved and restored, the key it is sealed with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from barque.cli.verb import Verb, VerbGroup, with_session

if TYPE_CHECKING:
    from barque.cli.session import Connection, Session


@click.group("cluster", cls=VerbGroup)
def command() -> None:
    """Show the masters, save and restore their state, rotate its key."""


@command.command("status", cls=Verb, examples="barque cluster status")
@with_session
def status(session: Session) -> None:
    """Show the masters, which one leads, how each part of them is and what the store holds. Exits with 1 where a part
    is failing.
    """
    reply = session.run(lambda connection: _status(session, connection))
    if any(not component.healthy for component in reply.components):
        click.get_current_context().exit(1)


async def _status(session: Session, connection: Connection) -> Any:
    from barque.cli.cluster_page import render
    from barque.proto import cluster_pb2

    await connection.ready()
    reply = await session.call(connection.cluster.Status(cluster_pb2.StatusRequest()))
    session.screen.write(render(reply, session.profile, session.clock.wall()))
    return reply


@command.group("snapshot", cls=VerbGroup)
def snapshot() -> None:
    """Save the whole state of the cluster to a file, or put a saved one in its place."""


@snapshot.command(
    "save",
    cls=Verb,
    examples="""
    barque cluster snapshot save barque-monday.snapshot
    """,
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace a file of that name.")
@with_session
def save(session: Session, file: Path, force: bool) -> None:
    """Save every object, as of one moment, to a file. Secrets are sealed in it as they are on the masters' disks: once
    the key is rotated, they can no longer be restored.
    """
    from barque.cli.output import CliError

    if file.is_dir():
        raise CliError(f"{file} is a folder; name the file to write")
    if file.exists() and not force:
        raise CliError(f"{file} is there already; --force replaces it")
    session.run(lambda connection: _save(session, connection, file))


async def _save(session: Session, connection: Connection, file: Path) -> None:
    from barque.cli.snapshots import SnapshotFile, size_text
    from barque.proto import cluster_pb2

    await connection.ready()
    with SnapshotFile(file) as written:
        async for chunk in connection.cluster.SaveSnapshot(cluster_pb2.SaveSnapshotRequest()):
            written.write(chunk.data)
            session.screen.waiting(f"saving: {size_text(written.size)}")
        digest = written.finish()
    session.screen.line(f"snapshot saved to {file} ({size_text(written.size)}, sha256 {digest})")


@snapshot.command(
    "restore",
    cls=Verb,
    examples="""
    barque cluster snapshot restore barque-monday.snapshot
    """,
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--yes", is_flag=True, help="Do not ask for the cluster's id.")
@with_session
def restore(session: Session, file: Path, yes: bool) -> None:
    """Put a saved state in the place of the cluster's own. Everything that was changed since is lost; a file that is
    damaged, or sealed with a key the masters do not have, is refused as a whole.
    """
    from barque.cli.output import CliError

    if not file.is_file():
        raise CliError(f"{file} is no file")
    size = file.stat().st_size
    session.run(lambda connection: _restore(session, connection, file, size, yes))


async def _restore(session: Session, connection: Connection, file: Path, size: int, yes: bool) -> None:
    from barque.cli.snapshots import RESTORING, chunks_of, size_text
    from barque.proto import cluster_pb2

    await connection.ready()
    if not yes:
        reply = await session.call(connection.cluster.Status(cluster_pb2.StatusRequest()))
        _confirm(session, RESTORING.format(file=file, cluster=reply.cluster_id), reply.cluster_id)

    async def chunks() -> Any:
        sent = 0
        async for data in chunks_of(file):
            yield cluster_pb2.SnapshotChunk(data=data, total_bytes=0 if sent else size)
            sent += len(data)
            session.screen.waiting(f"restoring: {size_text(sent)} of {size_text(size)} sent")

    restored = await connection.cluster.RestoreSnapshot(chunks())
    session.screen.line(f"restored {restored.objects} objects; the cluster is at revision {restored.revision} now")


def _confirm(session: Session, text: str, answer: str) -> None:
    """Go on only once the user has typed `answer`. Raises `CliError`."""
    from barque.cli.output import CliError

    session.screen.note(text)
    try:
        typed = click.prompt(f"Type {answer} to go on", default="", show_default=False, err=True)
    except click.Abort:
        typed = ""
    if typed.strip() != answer:
        raise CliError("not confirmed; nothing was changed")


@command.command("rotate-key", cls=Verb, examples="barque cluster rotate-key")
@with_session
def rotate_key(session: Session) -> None:
    """Make a new key for the values of Secrets on the masters' disks, seal them all anew, and forget the old key. A
    snapshot that was saved before and holds Secrets can no longer be restored: save a new one.
    """
    reply = session.run(lambda connection: _rotate(session, connection))
    session.screen.line(f"key rotated: {reply.key_id} seals {reply.secrets} secrets now")


async def _rotate(session: Session, connection: Connection) -> Any:
    from barque.proto import cluster_pb2

    await connection.ready()
    session.screen.waiting("sealing every secret anew")
    return await connection.cluster.RotateKey(cluster_pb2.RotateKeyRequest())
