"""`barque cluster`: the masters, how their parts are, their state saved and restored, the keys it is sealed with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from barque.cli.commands.cluster_members import add_member, members, recover_quorum, remove_member, transfer
from barque.cli.verb import Verb, VerbGroup, with_session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from barque.api.errors import ApiError
    from barque.cli.session import Connection, Session


@click.group("cluster", cls=VerbGroup)
def command() -> None:
    """Show the masters, make them more or fewer, save and restore their state, rotate its keys."""


@command.command("status", cls=Verb, examples="barque cluster status")
@with_session
def status(session: Session) -> None:
    """Show how the master that answers is: each part of it, what its store holds, how its disk and loop do; and which
    masters there are and which one leads. It needs no majority of them. Exits with 1 where a part is failing, or a
    majority is gone.
    """
    reply = session.run(lambda connection: _status(session, connection))
    if reply.group.quorum_lost or any(not component.healthy for component in reply.components):
        click.get_current_context().exit(1)


async def _status(session: Session, connection: Connection) -> Any:
    from barque.cli.cluster_page import render
    from barque.cli.masters import seen_by_leader, status

    await connection.ready()
    near = await session.call(status(connection))
    far = await seen_by_leader(session, connection)
    session.screen.write(render(near, far, session.profile, session.clock.wall()))
    return near.reply


for verb in (members, add_member, remove_member, transfer, recover_quorum):
    command.add_command(verb)


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
    """Save every object, as of one moment, to a file. Secrets are sealed in it with the key of the master that answers:
    only that one can restore them, and no more once its key is rotated. It needs no majority of the masters.
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
    """Put a saved state in the place of the cluster's own, on every master. Everything that was changed since is lost;
    a file that is damaged, or sealed with a key that no master has, is refused as a whole. It needs a majority of the
    masters; one that is away takes the state over when it returns.
    """
    from barque.cli.output import CliError

    if not file.is_file():
        raise CliError(f"{file} is no file")
    size = file.stat().st_size
    session.run(lambda connection: _restore(session, connection, file, size, yes))


async def _restore(session: Session, connection: Connection, file: Path, size: int, yes: bool) -> None:
    from barque.api.errors import ApiError
    from barque.cli.confirming import confirm
    from barque.cli.masters import status
    from barque.cli.session import translated
    from barque.cli.snapshots import RESTORING

    await connection.ready()
    seen = await session.call(status(connection))
    if not yes:
        cluster = seen.reply.cluster_id
        confirm(session.screen, RESTORING.format(file=file, cluster=cluster), cluster)
    try:
        restored = await _restored(session, connection, file, size)
    except Exception as error:
        refused = translated(error)
        others = [member for member in seen.reply.members if member.name != seen.by]
        if not (isinstance(refused, ApiError) and refused.code == 400 and seen.by and others):
            raise
        restored = await _restored_by_another(session, file, size, seen.by, refused, others)
    session.screen.line(f"restored {restored.objects} objects; the cluster is at revision {restored.revision} now")


async def _restored_by_another(
    session: Session, file: Path, size: int, refusing: str, refused: ApiError, others: Sequence[Any]
) -> Any:
    """Each master has keys of its own: one that `refusing` cannot read, another may. Raises the last refusal."""
    from barque.api.errors import ApiError
    from barque.cli.masters import connected_to

    for member in others:
        session.screen.note(f"{refusing}: {refused.message}; asking {member.name}")
        try:
            async with connected_to(session, member.address) as one:
                return await _restored(session, one, file, size)
        except ApiError as error:
            refusing, refused = member.name, error
    raise refused


async def _restored(session: Session, connection: Connection, file: Path, size: int) -> Any:
    import grpc.aio

    from barque.api.errors import ApiError
    from barque.cli.snapshots import UNKNOWN_RESTORE, chunks_of, size_text
    from barque.client import wire
    from barque.client.endings import answered
    from barque.proto import cluster_pb2

    async def chunks() -> Any:
        sent = 0
        async for data in chunks_of(file):
            yield cluster_pb2.SnapshotChunk(data=data, total_bytes=0 if sent else size)
            sent += len(data)
            session.screen.waiting(f"restoring: {size_text(sent)} of {size_text(size)} sent")

    try:
        return await answered(connection.cluster.RestoreSnapshot(chunks()))
    except grpc.aio.AioRpcError as error:
        told = wire.api_error(error, unsent=False)
        if told.code == 504:
            raise ApiError(told.code, told.reason, f"{told.message}; {UNKNOWN_RESTORE}") from error
        raise told from error


@command.command("rotate-key", cls=Verb, examples="barque cluster rotate-key")
@with_session
def rotate_key(session: Session) -> None:
    """Make a new key for the values of Secrets on the masters' disks, seal them all anew, and forget the old key; each
    master has keys of its own and does it by itself, so it needs no majority. A snapshot that was saved before and
    holds Secrets can no longer be restored: save a new one. Exits with 1 where a master did not do it.
    """
    if session.run(lambda connection: _rotate(session, connection)):
        click.get_current_context().exit(1)


async def _rotate(session: Session, connection: Connection) -> bool:
    """Whether a master failed."""
    from barque.api.errors import ApiError
    from barque.cli.masters import connected_to, status

    await connection.ready()
    seen = await session.call(status(connection))
    # Masters whose state is in etcd have one ring of keys.
    if len(seen.reply.members) < 2 or not seen.reply.HasField("group"):
        session.screen.line(f"key rotated: {await _rotated(session, connection, 'every secret')}")
        return False
    failed = False
    for member in seen.reply.members:
        try:
            if member.name == seen.by:
                done = await _rotated(session, connection, f"every secret of {member.name}")
            else:
                async with connected_to(session, member.address) as one:
                    done = await _rotated(session, one, f"every secret of {member.name}")
        except ApiError as error:
            failed = True
            session.screen.error(
                f"error: {member.name}: {error.message}; its key stays: run this again once it is well"
            )
        else:
            session.screen.line(f"{member.name}: key rotated: {done}")
    return failed


async def _rotated(session: Session, connection: Connection, sealing: str) -> str:
    from barque.cli.session import translating
    from barque.proto import cluster_pb2

    session.screen.waiting(f"sealing {sealing} anew")
    with translating():
        reply = await connection.cluster.RotateKey(cluster_pb2.RotateKeyRequest())
    return f"{reply.key_id} seals {reply.secrets} secrets now"
