"""`barque delete`: delete objects and wait until they are gone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import msgspec

from barque.cli.choosing import choice_options, find, named, named_targets, read_choice, target_in
from barque.cli.deleting import PROPAGATION, Doomed, delete_options, wait_until_gone
from barque.cli.fetching import listed
from barque.cli.naming import quoted, slashed
from barque.cli.output import CliError
from barque.cli.verb import Verb, with_session
from barque.cli.writing import SUFFIXES
from barque.client.verbs import Delete, Target

if TYPE_CHECKING:
    from barque.cli.fetching import Asked
    from barque.cli.session import Connection, Session

# One request carries so many deletions; each is still atomic alone.
BATCH = 100


class Request(NamedTuple):
    """Which objects are meant, and how they are to end. `dry_run` and `output` are the options."""

    asked: Sequence[Asked]
    options: bytes
    ignore_not_found: bool = False
    dry_run: str = "none"
    output: str = ""
    word: str = "deleted"
    wait: bool = True
    timeout_s: float = 0.0
    ask: bool = False
    everywhere: bool = False


@click.command(
    "delete",
    cls=Verb,
    examples="""
    barque delete -f web.yaml                what a manifest made
    barque delete pod web-5d9c7-x2x4k        one pod; its replica set makes another
    barque delete deployment/web service/web
    barque delete pods -l app=web            by label
    barque delete pods --all --wait=false    do not wait until they are gone
    barque delete deployment web --cascade=orphan    its pods run on
    barque delete pod stuck --force          without grace, where its node does not answer
    """,
)
@click.argument("what", nargs=-1, metavar="[TYPE NAME... | TYPE/NAME...]")
@choice_options
@click.option("--grace-period", type=int, metavar="SECONDS", default=-1, help="Time to stop in [the pod's own].")
@click.option("--now", is_flag=True, help="One second to stop in.")
@click.option("--force", is_flag=True, help="At once, without waiting for the node to confirm.")
@click.option("--wait/--no-wait", default=True, help="Wait until they are gone [yes].")
@click.option("--timeout", metavar="TIME", default="0", help="Wait at most so long; 0 is for ever [0].")
@click.option(
    "--cascade", type=click.Choice(list(PROPAGATION)), default="background", help="What it owns [background]."
)
@click.option("--ignore-not-found", is_flag=True, help="A missing object is no error.")
@click.option("-i", "--interactive", "ask", is_flag=True, help="Show what would go, and ask.")
@click.option(
    "--dry-run", type=click.Choice(list(SUFFIXES)), default="none", help="Say what would go; server asks it [none]."
)
@click.option("-o", "--output", type=click.Choice(["name"]), help="Print type/name alone.")
@with_session
def command(session: Session, what: tuple[str, ...], **given: Any) -> None:
    """Delete objects and wait until they are gone. Pods get their grace period to stop in; what an object owns is
    deleted with it.
    """
    request = _request(session, what, given)
    if request.word == "force deleted":
        session.screen.note(
            "Warning: Immediate deletion does not wait for confirmation that the running resource has been terminated. "
            "The resource may continue to run on the cluster indefinitely."
        )
    if session.run(lambda connection: _delete(session, connection, request)):
        click.get_current_context().exit(1)


def _request(session: Session, what: Sequence[str], given: dict[str, Any]) -> Request:
    """The options, made sense of. Raises `CliError` where they contradict each other."""
    from barque.cli.arguments import parse_duration

    options = delete_options(
        grace_s=given["grace_period"],
        now=given["now"],
        force=given["force"],
        cascade=given["cascade"],
        dry_run=given["dry_run"] == "server",
    )
    everywhere = given["all_namespaces"]
    return Request(
        read_choice(session, "delete", what, given),
        options,
        given["ignore_not_found"],
        given["dry_run"],
        given["output"] or "",
        "force deleted" if given["force"] else "deleted",
        given["wait"] and not given["force"] and given["dry_run"] == "none",
        parse_duration(given["timeout"]),
        given["ask"],
        everywhere,
    )


async def _delete(session: Session, connection: Connection, request: Request) -> bool:
    """Delete and wait; True where something asked for could not be deleted."""
    if request.ask and not await _agreed(session, connection, request):
        return False
    if request.dry_run == "client":
        found, failed = await find(session, connection, request.asked)
        for one in found:
            _tell(session, request, one.target)
        return failed and not request.ignore_not_found
    if named(request.asked):
        doomed, failed = await _delete_targets(session, connection, request, named_targets(request.asked))
    else:
        doomed, failed = await _delete_selected(session, connection, request)
    if request.wait:
        await wait_until_gone(session, connection, doomed, request.timeout_s)
    return failed


async def _agreed(session: Session, connection: Connection, request: Request) -> bool:
    """Show what would be deleted and ask. Raises `CliError` where nobody can answer."""
    found, _ = await find(session, connection, request.asked)
    if not found:
        return False
    session.screen.line(f"You are about to delete the following {len(found)} resource(s):")
    for one in found:
        session.screen.line(slashed(one.target.resource, one.target.name))
    try:
        answer = click.prompt("Do you want to continue? (y/n)", default="n", show_default=False, err=True)
    except click.Abort:
        raise CliError("nobody answers; without -i nothing is asked") from None
    if answer.strip().lower() not in ("y", "yes"):
        session.screen.note("deletion is cancelled")
        return False
    return True


async def _delete_targets(
    session: Session, connection: Connection, request: Request, targets: Sequence[Target]
) -> tuple[list[Doomed], bool]:
    """Ask for the deletions, many with each request, and say how each went; True where one was refused."""
    from barque.api.errors import ApiError
    from barque.cli.session import explain

    doomed: list[Doomed] = []
    failed = False
    may_be_gone = request.ignore_not_found or not named(request.asked)
    for start in range(0, len(targets), BATCH):
        some = targets[start : start + BATCH]
        session.screen.waiting(f"deleting {start + len(some)} of {len(targets)}")
        answers = await session.call(connection.verbs.batch([Delete(target, request.options) for target in some]))
        for target, answer in zip(some, answers, strict=True):
            if not isinstance(answer, ApiError):
                _tell(session, request, target)
                doomed.append(Doomed(target, _metadata(answer).get("uid", "")))
            elif answer.code != 404 or not may_be_gone:
                failed = True
                session.screen.error(explain(answer))
    return doomed, failed


async def _delete_selected(session: Session, connection: Connection, request: Request) -> tuple[list[Doomed], bool]:
    """Delete all that are selected: those of a type with one request, where it may be deleted so."""
    doomed: list[Doomed] = []
    failed = False
    for each in request.asked:
        if "deletecollection" in each.resource.verbs:
            session.screen.waiting(f"deleting {each.resource.plural}")
            gone = await session.call(connection.verbs.delete_collection(each.target, each.selection, request.options))
            for metadata in map(_metadata, gone.items):
                target = target_in(each.resource, metadata)
                _tell(session, request, target)
                doomed.append(Doomed(target, metadata.get("uid", "")))
        else:
            found = await listed(session, connection, each, "Metadata")
            targets = [target_in(each.resource, item["object"]["metadata"]) for item in found.items]
            some, refused = await _delete_targets(session, connection, request, targets)
            doomed, failed = doomed + some, failed or refused
    if not doomed and not failed:
        session.screen.note("No resources found")
    return doomed, failed


def _tell(session: Session, request: Request, target: Target) -> None:
    if request.output == "name":
        session.screen.line(slashed(target.resource, target.name))
        return
    place = f" from {target.namespace} namespace" if request.everywhere and target.namespace else ""
    session.screen.line(f"{quoted(target.resource, target.name)} {request.word}{place}{SUFFIXES[request.dry_run]}")


def _metadata(body: bytes) -> dict[str, Any]:
    metadata: dict[str, Any] = msgspec.json.decode(body)["metadata"]
    return metadata
