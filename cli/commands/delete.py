"""`barque delete`: delete objects and wait until they are gone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import msgspec

from barque.cli.verb import Verb, with_session

if TYPE_CHECKING:
    from barque.cli.arguments import Wanted
    from barque.cli.session import Connection, Session
    from barque.client.verbs import Target

PROPAGATION = {"background": "Background", "foreground": "Foreground", "orphan": "Orphan"}
# One request carries so many deletions; each is still atomic alone.
BATCH = 100


class Request(NamedTuple):
    """Which objects are meant, and how they are to end."""

    wanted: list[Wanted]
    files: tuple[str, ...]
    recursive: bool
    selector: str
    every: bool
    all_namespaces: bool
    ignore_not_found: bool
    options: bytes
    word: str
    wait: bool
    timeout_s: float


class Doomed(NamedTuple):
    """An object whose deletion has begun; it is gone when nothing of this uid stands at the target."""

    target: Target
    uid: str


@click.command(
    "delete",
    cls=Verb,
    examples="""
    barque delete -f web.yaml                what a manifest made
    barque delete pod web-5d9c7-x2x4k        one pod; its replica set makes another
    barque delete deployment/web service/web
    barque delete pods -l app=web            by label
    barque delete pods --all --wait=false    do not wait until they are gone
    barque delete pod stuck --force          without grace, where its node does not answer
    """,
)
@click.argument("what", nargs=-1, metavar="[TYPE NAME... | TYPE/NAME...]")
@click.option("-f", "--filename", "files", multiple=True, metavar="FILE", help="The objects of a file, folder or -.")
@click.option("-R", "--recursive", is_flag=True, help="Go into folders below.")
@click.option("-l", "--selector", metavar="LABELS", default="", help="Objects with these labels.")
@click.option("--all", "every", is_flag=True, help="All objects of the type in the namespace.")
@click.option("-A", "--all-namespaces", is_flag=True, help="With -l or --all: of every namespace.")
@click.option("--grace-period", type=int, metavar="SECONDS", default=-1, help="Time to stop in [the pod's own].")
@click.option("--now", is_flag=True, help="One second to stop in.")
@click.option("--force", is_flag=True, help="At once, without waiting for the node to confirm.")
@click.option("--wait/--no-wait", default=True, help="Wait until they are gone [yes].")
@click.option("--timeout", metavar="TIME", default="0", help="Wait at most so long; 0 is for ever [0].")
@click.option(
    "--cascade", type=click.Choice(list(PROPAGATION)), default="background", help="What it owns [background]."
)
@click.option("--ignore-not-found", is_flag=True, help="A missing object is no error.")
@with_session
def command(session: Session, **given: Any) -> None:
    """Delete objects and wait until they are gone. Pods get their grace period to stop in; what an object owns is
    deleted with it.
    """
    request = _request(given)
    if request.word == "force deleted":
        session.screen.note(
            "Warning: Immediate deletion does not wait for confirmation that the running resource has been terminated. "
            "The resource may continue to run on the cluster indefinitely."
        )
    if session.run(lambda connection: _delete(session, connection, request)):
        click.get_current_context().exit(1)


def _request(given: dict[str, Any]) -> Request:
    """The options, made sense of. Raises `CliError` where they contradict each other."""
    from barque.cli.arguments import parse_duration, parse_wanted
    from barque.cli.output import CliError

    what, files, selector, every = given["what"], given["files"], given["selector"], given["every"]
    if files and (what or selector or every):
        raise CliError("-f names the objects by itself; types, names, -l and --all cannot be added")
    wanted = [] if files else parse_wanted(what, verb="delete")
    named = any(w.names for w in wanted)
    if named and (selector or every):
        raise CliError("name cannot be provided when a selector or --all is specified")
    if not files and not named and not selector and not every:
        raise CliError("which of them? Give names, -l LABELS or --all")
    return Request(
        wanted,
        files,
        given["recursive"],
        selector,
        every,
        given["all_namespaces"],
        given["ignore_not_found"],
        _options(given),
        "force deleted" if given["force"] else "deleted",
        given["wait"] and not given["force"],
        parse_duration(given["timeout"]),
    )


def _options(given: dict[str, Any]) -> bytes:
    """metav1.DeleteOptions."""
    from barque.cli.output import CliError

    grace_s, options = given["grace_period"], {}
    if given["now"]:
        if grace_s >= 0:
            raise CliError("--now and --grace-period cannot be specified together")
        grace_s = 1
    if given["force"]:
        if grace_s > 0:
            raise CliError("--force and --grace-period greater than 0 cannot be specified together")
        grace_s = 0
    elif grace_s == 0:
        # Grace 0 without --force would let the object go while its containers run on; one second does not.
        grace_s = 1
    if grace_s >= 0:
        options["gracePeriodSeconds"] = grace_s
    if given["cascade"] != "background":
        options["propagationPolicy"] = PROPAGATION[given["cascade"]]
    return msgspec.json.encode(options) if options else b""


async def _delete(session: Session, connection: Connection, request: Request) -> bool:
    """Delete and wait; True where something asked for could not be deleted."""
    targets = await _targets(session, connection, request)
    if not targets:
        session.screen.note("No resources found")
        return False
    doomed: list[Doomed] = []
    failed = False
    for start in range(0, len(targets), BATCH):
        some, failures = await _send(session, connection, request, targets[start : start + BATCH])
        doomed += some
        failed = failed or failures
    if request.wait:
        await _wait(session, connection, doomed, request.timeout_s)
    return failed


async def _targets(session: Session, connection: Connection, request: Request) -> list[Target]:
    from barque.cli.commands.apply import check_namespace, target_of
    from barque.cli.manifests import read_documents
    from barque.client.verbs import Selection, Target

    if request.files:
        documents = read_documents(request.files, recursive=request.recursive)
        for document in documents:
            check_namespace(session, document)
        return [target_of(session, document) for document in documents]
    targets: list[Target] = []
    for resource, names in request.wanted:
        namespace = session.namespace if resource.namespaced and not request.all_namespaces else ""
        if names:
            targets += [Target(resource, namespace, name) for name in names]
            continue
        listed = await session.call(connection.verbs.list(Target(resource, namespace), Selection(request.selector)))
        for item in listed.items:
            meta = msgspec.json.decode(item)["metadata"]
            targets.append(Target(resource, meta.get("namespace", ""), meta["name"]))
    return targets


async def _send(
    session: Session, connection: Connection, request: Request, targets: Sequence[Target]
) -> tuple[list[Doomed], bool]:
    """Ask for the deletions and say how each went."""
    from barque.api.errors import ApiError
    from barque.cli.naming import quoted
    from barque.cli.session import explain
    from barque.client.verbs import Delete

    answers = await session.call(connection.verbs.batch([Delete(target, request.options) for target in targets]))
    doomed: list[Doomed] = []
    failed = False
    chosen = bool(request.selector or request.every)
    for target, answer in zip(targets, answers, strict=True):
        if not isinstance(answer, ApiError):
            session.screen.line(f"{quoted(target.resource, target.name)} {request.word}")
            doomed.append(Doomed(target, msgspec.json.decode(answer)["metadata"].get("uid", "")))
        elif answer.code != 404 or not (request.ignore_not_found or chosen):
            failed = True
            session.screen.error(explain(answer))
    return doomed, failed


async def _wait(session: Session, connection: Connection, doomed: Sequence[Doomed], timeout_s: float) -> None:
    """Wait until the last of them is gone."""
    from barque.cli.following import Following, gone, until
    from barque.cli.naming import quoted, slashed
    from barque.cli.output import CliError

    target = doomed[0].target if doomed else None
    try:
        async with asyncio.timeout(timeout_s or None):
            for position, (target, uid) in enumerate(doomed, 1):
                count = f" ({position} of {len(doomed)})" if len(doomed) > 1 else ""
                following = Following(
                    target, waiting=f"waiting until {quoted(target.resource, target.name)} is gone{count}"
                )
                await until(connection.verbs, following, gone(uid), clock=session.clock, screen=session.screen)
    except TimeoutError:
        assert target is not None
        raise CliError(f"timed out waiting until {slashed(target.resource, target.name)} is gone") from None
