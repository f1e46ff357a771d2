"""`barque node`: take a node out of the cluster for good."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from barque.cli.verb import Verb, VerbGroup, with_session

if TYPE_CHECKING:
    from barque.cli.choosing import Found
    from barque.cli.session import Connection, Session


@click.group("node", cls=VerbGroup)
def command() -> None:
    """Take nodes out of the cluster for good."""


@command.command(
    "rm",
    cls=Verb,
    examples="""
    barque drain n1 --ignore-daemonsets && barque node rm n1      once its worker is stopped
    barque node rm n1 --force                                     its machine is gone and never comes back
    """,
)
@click.argument("names", nargs=-1, metavar="NODE...")
@click.option("--force", is_flag=True, help="With its pods, without waiting for it to confirm that they are gone.")
@click.option("--timeout", metavar="TIME", default="1m", help="Wait so long for pods that are ending [1m].")
@with_session
def rm(session: Session, names: tuple[str, ...], force: bool, timeout: str) -> None:
    """Remove a node from the cluster, which frees its name. Its worker must be stopped, and its pods must be gone.

    Forcing removes its pods too, though nobody knows whether they still run there: make sure that the machine is off.
    """
    from barque.cli.arguments import parse_duration
    from barque.cli.choosing import find
    from barque.cli.nodes import asked_nodes
    from barque.cli.writing import one_by_one

    asked, timeout_s = asked_nodes("node rm", names, ""), parse_duration(timeout)

    async def run(connection: Connection) -> bool:
        found, failed = await find(session, connection, asked)

        async def one_of_them(node: Found) -> None:
            await _remove(session, connection, node, force, timeout_s)

        return await one_by_one(session, found, one_of_them, doing="removing") or failed

    if session.run(run):
        click.get_current_context().exit(1)


async def _remove(session: Session, connection: Connection, node: Found, force: bool, timeout_s: float) -> None:
    """Raises `CliError` where it is still in use."""
    from barque.cli.deleting import delete_options
    from barque.cli.naming import quoted
    from barque.cli.nodes import pods_on
    from barque.cli.output import CliError

    name = node.target.name
    if not force and _is_ready(node.live):
        raise CliError(
            f"node {name} is ready, so its worker runs and would register it again at once; stop the worker there first"
        )
    pods = [pod for pod in await pods_on(session, connection, name) if not _goes_with_its_node(pod)]
    await _clear(session, connection, name, pods, force=force, timeout_s=timeout_s)
    await session.call(connection.verbs.delete(node.target, delete_options()))
    session.screen.line(f"{quoted(node.target.resource, name)} removed")


async def _clear(
    session: Session, connection: Connection, node: str, pods: Sequence[Any], *, force: bool, timeout_s: float
) -> None:
    """See that none of these pods is left. Raises `CliError` where one is not even ending."""
    from barque.api.errors import ApiError
    from barque.cli.deleting import Doomed, delete_options, wait_until_gone
    from barque.cli.nodes import PODS
    from barque.cli.output import CliError
    from barque.client.verbs import Delete, Target

    doomed = [Doomed(Target(PODS, pod.metadata.namespace, pod.metadata.name), pod.metadata.uid) for pod in pods]
    staying = [f"{p.metadata.namespace}/{p.metadata.name}" for p in pods if not p.metadata.deletionTimestamp]
    if force and doomed:
        session.screen.note(f"Warning: whether pods of node {node} still run there is no longer known")
        answers = await session.call(
            connection.verbs.batch([Delete(one.target, delete_options(force=True)) for one in doomed])
        )
        for one, answer in zip(doomed, answers, strict=True):
            if isinstance(answer, ApiError) and answer.code != 404:
                raise answer
            session.screen.line(f'pod "{one.target.name}" force deleted from {one.target.namespace} namespace')
    elif staying:
        raise CliError(
            f"node {node} still has {len(staying)} pods: {', '.join(staying)}; `barque drain {node}` moves them away, "
            "--force removes them without a word from the node"
        )
    else:
        await wait_until_gone(session, connection, doomed, timeout_s)


def _is_ready(node: dict[str, Any]) -> bool:
    conditions = node.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _goes_with_its_node(pod: Any) -> bool:
    """What a drain leaves on a node: the pods of DaemonSets, and those of the node's own files."""
    from barque.cli.draining import MIRROR

    owners = pod.metadata.ownerReferences
    return MIRROR in pod.metadata.annotations or any(o.controller and o.kind == "DaemonSet" for o in owners)
