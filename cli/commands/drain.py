"""`barque drain`: make a node free of pods before work on it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from barque.cli.verb import Verb, with_session
from barque.cli.writing import SUFFIXES, Writing

if TYPE_CHECKING:
    from barque.cli.choosing import Found
    from barque.cli.deleting import Doomed
    from barque.cli.draining import DrainPlan
    from barque.cli.session import Connection, Session
    from barque.client.verbs import Create

# One request carries so many evictions; each is still atomic alone.
BATCH = 100


class _Request(NamedTuple):
    """How the pods are to end, and what the user allows."""

    options: bytes
    timeout_s: float
    pod_selector: str
    ignore_daemon_sets: bool
    delete_empty_dir_data: bool
    force: bool
    writing: Writing


@click.command(
    "drain",
    cls=Verb,
    examples="""
    barque drain n1 --ignore-daemonsets                    the usual way
    barque drain n1 --ignore-daemonsets --delete-emptydir-data --force
    barque drain n1 --timeout=5m --grace-period=30
    barque drain -l rack=7 --dry-run=client                what would go
    """,
)
@click.argument("names", nargs=-1, metavar="NODE...")
@click.option("-l", "--selector", metavar="LABELS", default="", help="Nodes with these labels.")
@click.option("--pod-selector", metavar="LABELS", default="", help="Only pods with these labels.")
@click.option("--ignore-daemonsets", is_flag=True, help="Leave the pods of DaemonSets; they would come again at once.")
@click.option("--delete-emptydir-data", is_flag=True, help="Also pods with an emptyDir, whose data goes with them.")
@click.option("--force", is_flag=True, help="Also pods without a controller, which nothing makes anew.")
@click.option("--grace-period", type=int, metavar="SECONDS", default=-1, help="Time to stop in [the pods' own].")
@click.option("--timeout", metavar="TIME", default="0", help="Give up after so long; 0 is for ever [0].")
@click.option(
    "--dry-run", type=click.Choice(list(SUFFIXES)), default="none", help="Say what would go; server asks it [none]."
)
@with_session
def command(session: Session, names: tuple[str, ...], selector: str, **given: Any) -> None:
    """Let no new pods come to a node, evict those that are there, and wait until they are gone. Their controllers make
    them anew elsewhere; `barque uncordon` takes the node back into service.
    """
    from barque.cli.arguments import parse_duration
    from barque.cli.deleting import delete_options
    from barque.cli.nodes import asked_nodes

    asked = asked_nodes("drain", names, selector)
    dry_run = given["dry_run"]
    request = _Request(
        delete_options(grace_s=given["grace_period"], dry_run=dry_run == "server"),
        parse_duration(given["timeout"]),
        given["pod_selector"],
        given["ignore_daemonsets"],
        given["delete_emptydir_data"],
        given["force"],
        Writing("barque-drain", dry_run),
    )

    async def run(connection: Connection) -> bool:
        from barque.cli.choosing import find
        from barque.cli.nodes import set_unschedulable
        from barque.cli.writing import Results

        nodes, failed = await find(session, connection, asked)
        results = Results(session.screen, request.writing)
        for node in nodes:
            became, _ = await set_unschedulable(session, connection, node, wanted=True, writing=request.writing)
            results.tell(node.target.resource, node.target.name, became)
        return await _drain_all(session, connection, nodes, request) or failed

    if session.run(run):
        click.get_current_context().exit(1)


async def _drain_all(session: Session, connection: Connection, nodes: Sequence[Found], request: _Request) -> bool:
    """Drain one node after the other; True where some could not be."""
    from barque.cli.output import CliError
    from barque.cli.writing import Results

    results = Results(session.screen, request.writing)
    pending: list[str] = []
    for node in nodes:
        try:
            await _drain(session, connection, node, request)
        except CliError as error:
            pending.append(node.target.name)
            session.screen.error(f'error: unable to drain node "{node.target.name}": {error.message}')
        else:
            results.tell(node.target.resource, node.target.name, "drained")
    if pending and len(nodes) > 1:
        session.screen.note("There are pending nodes to be drained:\n" + "\n".join(f" {name}" for name in pending))
    return bool(pending)


async def _drain(session: Session, connection: Connection, node: Found, request: _Request) -> None:
    from barque.cli.deleting import Doomed
    from barque.cli.nodes import PODS
    from barque.cli.output import CliError
    from barque.client.verbs import Target

    plan = await _plan(session, connection, node.target.name, request)
    if plan.refusals:
        raise CliError("\n".join(plan.refusals))
    for warning in plan.warnings:
        session.screen.note(f"Warning: {warning}")
    doomed = [Doomed(Target(PODS, pod.metadata.namespace, pod.metadata.name), pod.metadata.uid) for pod in plan.doomed]
    for one in doomed:
        suffix = SUFFIXES[request.writing.dry_run]
        session.screen.line(f"evicting pod {one.target.namespace}/{one.target.name}{suffix}")
    if request.writing.sends:
        await _evict(session, connection, doomed, request)


async def _plan(session: Session, connection: Connection, node: str, request: _Request) -> DrainPlan:
    from barque.cli.draining import Flags, plan_drain
    from barque.cli.nodes import pods_on

    pods = await pods_on(session, connection, node, request.pod_selector)
    flags = Flags(
        request.ignore_daemon_sets,
        request.delete_empty_dir_data,
        request.force,
        await _daemon_sets(session, connection),
    )
    return plan_drain(pods, flags)


async def _daemon_sets(session: Session, connection: Connection) -> set[tuple[str, str]]:
    """The DaemonSets there are, where that kind is served."""
    import msgspec

    from barque.api import resources
    from barque.api.errors import ApiError
    from barque.client.verbs import Target

    try:
        kind = resources.by_word("daemonsets.apps")
    except ApiError:
        return set()
    found = await session.call(connection.verbs.list(Target(kind)))
    metadata = [msgspec.json.decode(item)["metadata"] for item in found.items]
    return {(each["namespace"], each["name"]) for each in metadata}


async def _evict(session: Session, connection: Connection, doomed: Sequence[Doomed], request: _Request) -> None:
    """Evict them and wait until the last is gone. Raises `CliError` where one was refused or stays too long."""
    from barque.api.errors import ApiError
    from barque.cli.output import CliError
    from barque.cli.session import explain

    refused: list[str] = []
    going: list[Doomed] = []
    for start in range(0, len(doomed), BATCH):
        some = doomed[start : start + BATCH]
        writes = [_eviction(one, request.options) for one in some]
        answers = await session.call(connection.verbs.batch(writes))
        for one, answer in zip(some, answers, strict=True):
            if not isinstance(answer, ApiError):
                going.append(one)
            elif answer.code != 404:
                where = f"{one.target.namespace}/{one.target.name}"
                refused.append(explain(answer, f"error when evicting pod {where}: "))
    if request.writing.dry_run == "none":
        await _wait(session, connection, going, request.timeout_s)
    if refused:
        raise CliError("\n".join(refused))


def _eviction(one: Doomed, options: bytes) -> Create:
    """The eviction of this very pod, whose name another one may have by then."""
    import msgspec

    from barque.client.verbs import Create

    how = msgspec.json.decode(options) if options else {}
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": one.target.name, "namespace": one.target.namespace},
        "deleteOptions": {**how, "preconditions": {"uid": one.uid}},
    }
    return Create(one.target._replace(subresource="eviction"), msgspec.json.encode(eviction))


async def _wait(session: Session, connection: Connection, going: Sequence[Doomed], timeout_s: float) -> None:
    """Wait until each is gone, and say so of each as kubectl does."""
    from barque.cli.deleting import wait_until_gone
    from barque.cli.naming import slashed
    from barque.cli.output import CliError

    left = list(going)
    try:
        async with asyncio.timeout(timeout_s or None):
            while left:
                one = left[0]
                await wait_until_gone(session, connection, [one], 0)
                left.pop(0)
                session.screen.line(f"{slashed(one.target.resource, one.target.name)} evicted")
    except TimeoutError:
        names = ", ".join(f"{one.target.namespace}/{one.target.name}" for one in left)
        raise CliError(f"global timeout reached: {timeout_s:g}s; still there: {names}") from None
