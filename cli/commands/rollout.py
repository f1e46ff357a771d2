"""`barque rollout`: follow a deployment's rollout, start one over, hold it, or go back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

from barque.cli.choosing import Found, choice_options, find, read_choice
from barque.cli.output import CliError
from barque.cli.verb import Verb, VerbGroup, with_session
from barque.cli.writing import Results, Writing, decoded, one_by_one, read_writing, writing_options
from barque.client.verbs import JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH, Selection, Target

if TYPE_CHECKING:
    from barque.cli.fetching import Asked
    from barque.cli.session import Connection, Session

# What `kubectl rollout restart` writes: a pod template that differs by a time alone makes new pods.
RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
# Changes one deployment; returns what became of it and the object.
Change = Callable[["Connection", Found, Writing], Awaitable[tuple[str, dict[str, Any]]]]


@click.group("rollout", cls=VerbGroup)
def command() -> None:
    """Follow a deployment's rollout, start one over, hold it, or go back to an earlier revision."""


@command.command(
    "status",
    cls=Verb,
    examples="""
    barque rollout status deployment/web
    barque rollout status deployment web --timeout 60s
    barque rollout status deployment/web --watch=false      how it is now
    """,
)
@click.argument("what", nargs=-1, metavar="deployment/NAME")
@click.option("-w", "--watch/--no-watch", default=True, help="Wait until it is done [yes].")
@click.option("--timeout", default="0", metavar="TIME", help="Wait at most so long; 0 is for ever [0].")
@click.option("--revision", type=int, default=0, metavar="N", help="Stop waiting when a newer rollout begins.")
@with_session
def status(session: Session, what: tuple[str, ...], watch: bool, timeout: str, revision: int) -> None:
    """Wait until a rollout is done: until every replica is of the new version and available, and the old ones are gone.

    Exits with 1 where the rollout exceeds its progress deadline.
    """
    from barque.cli.arguments import parse_duration, parse_one

    resource, name = parse_one(what, verb="rollout status")
    if resource.plural != "deployments":
        raise CliError(f"a {resource.singular} has no rollout; deployments have")
    timeout_s = parse_duration(timeout)
    session.run(lambda connection: _status(session, connection, name, watch, timeout_s, revision))


@command.command(
    "restart",
    cls=Verb,
    examples="""
    barque rollout restart deployment/web
    barque rollout restart deployments -l app=web
    """,
)
@click.argument("what", nargs=-1, metavar="deployment/NAME...")
@choice_options
@writing_options("rollout")
@with_session
def restart(session: Session, what: tuple[str, ...], **given: Any) -> None:
    """Replace every pod of a deployment by a new one, a few at a time, as its strategy says."""
    from barque.client.clock import timestamp

    annotations = {RESTARTED_AT: timestamp(session.clock.wall())}
    patch = {"spec": {"template": {"metadata": {"annotations": annotations}}}}

    async def change(connection: Connection, one: Found, writing: Writing) -> tuple[str, dict[str, Any]]:
        if one.live["spec"].get("paused"):
            raise CliError(f'deployments.apps "{one.target.name}" is paused; `barque rollout resume` it first')
        return "restarted", await _patched(session, connection, one, STRATEGIC_MERGE_PATCH, patch, writing)

    _change_all(session, "restart", "restarting", what, given, change)


@command.command(
    "pause", cls=Verb, examples="barque rollout pause deployment/web      change it several times, roll out once"
)
@click.argument("what", nargs=-1, metavar="deployment/NAME...")
@choice_options
@writing_options("rollout")
@with_session
def pause(session: Session, what: tuple[str, ...], **given: Any) -> None:
    """Hold a deployment's rollout: changes of its template make no new pods until it is resumed."""

    async def change(connection: Connection, one: Found, writing: Writing) -> tuple[str, dict[str, Any]]:
        if one.live["spec"].get("paused"):
            raise CliError(f'deployments.apps "{one.target.name}" is already paused')
        return "paused", await _patched(session, connection, one, MERGE_PATCH, {"spec": {"paused": True}}, writing)

    _change_all(session, "pause", "pausing", what, given, change)


@command.command("resume", cls=Verb, examples="barque rollout resume deployment/web")
@click.argument("what", nargs=-1, metavar="deployment/NAME...")
@choice_options
@writing_options("rollout")
@with_session
def resume(session: Session, what: tuple[str, ...], **given: Any) -> None:
    """Let a deployment's rollout go on that was paused."""

    async def change(connection: Connection, one: Found, writing: Writing) -> tuple[str, dict[str, Any]]:
        if not one.live["spec"].get("paused"):
            raise CliError(f'deployments.apps "{one.target.name}" is not paused')
        return "resumed", await _patched(session, connection, one, MERGE_PATCH, {"spec": {"paused": None}}, writing)

    _change_all(session, "resume", "resuming", what, given, change)


@command.command(
    "undo",
    cls=Verb,
    examples="""
    barque rollout undo deployment/web                      back to the revision before
    barque rollout undo deployment/web --to-revision=3      `barque rollout history` lists them
    """,
)
@click.argument("what", nargs=-1, metavar="deployment/NAME...")
@choice_options
@click.option("--to-revision", type=click.IntRange(min=0), default=0, metavar="N", help="To this one [the one before].")
@writing_options("rollout")
@with_session
def undo(session: Session, what: tuple[str, ...], to_revision: int, **given: Any) -> None:
    """Give a deployment the pod template of an earlier revision, which rolls out as any change does."""
    from barque.cli import rollouts

    async def change(connection: Connection, one: Found, writing: Writing) -> tuple[str, dict[str, Any]]:
        if one.live["spec"].get("paused"):
            raise CliError(
                "cannot rollback a paused deployment; resume it first with 'barque rollout resume' and try again"
            )
        found = await _revisions(session, connection, one)
        number = rollouts.revision_to_go_back_to(one.live, found, to_revision)
        template = rollouts.template_of(found[number])
        if template == rollouts.template_of(one.live):
            return f"skipped rollback (current template already matches revision {number})", one.live
        patch = [{"op": "replace", "path": "/spec/template", "value": template}]
        return "rolled back", await _patched(session, connection, one, JSON_PATCH, patch, writing)

    _change_all(session, "undo", "rolling back", what, given, change)


@command.command(
    "history",
    cls=Verb,
    examples="""
    barque rollout history deployment/web
    barque rollout history deployment/web --revision=3      the pods of that one
    barque annotate deployment/web kubernetes.io/change-cause='a new colour'    what the list shows then
    """,
)
@click.argument("what", nargs=-1, metavar="deployment/NAME...")
@choice_options
@click.option("--revision", type=click.IntRange(min=0), default=0, metavar="N", help="Show this one in full.")
@with_session
def history(session: Session, what: tuple[str, ...], revision: int, **given: Any) -> None:
    """List the revisions of a deployment that it can go back to, with the reason noted for each."""
    asked = _asked(session, "history", what, given)
    if session.run(lambda connection: _history(session, connection, asked, revision)):
        click.get_current_context().exit(1)


def _asked(session: Session, verb: str, what: Sequence[str], given: dict[str, Any]) -> list[Asked]:
    """Which deployments are meant. Raises `CliError` for what has no rollout."""
    asked = read_choice(session, f"rollout {verb}", what, given, example="deployments")
    for each in asked:
        if each.resource.plural != "deployments":
            raise CliError(f"a {each.resource.singular} has no rollout; deployments have")
    return asked


def _change_all(
    session: Session, verb: str, doing: str, what: Sequence[str], given: dict[str, Any], change: Change
) -> None:
    """Run `change` for every deployment that is meant; exits with 1 where one was refused."""
    writing = read_writing(given)
    asked = _asked(session, verb, what, given)

    async def run(connection: Connection) -> bool:
        found, failed = await find(session, connection, asked)
        results = Results(session.screen, writing)

        async def one_of_them(one: Found) -> None:
            became, after = await change(connection, one, writing)
            results.tell(one.target.resource, one.target.name, became, after)

        refused = await one_by_one(session, found, one_of_them, doing=doing)
        results.finish()
        return failed or refused

    if session.run(run):
        click.get_current_context().exit(1)


async def _patched(
    session: Session, connection: Connection, one: Found, content_type: str, patch: Any, writing: Writing
) -> dict[str, Any]:
    if not writing.sends:
        return one.live
    body = msgspec.json.encode(patch)
    return await decoded(session, connection.verbs.patch(one.target, content_type, body, writing.options()))


async def _revisions(session: Session, connection: Connection, one: Found) -> dict[int, dict[str, Any]]:
    """The deployment's replica sets by revision."""
    from barque.api import resources, selectors
    from barque.api.decode import convert
    from barque.cli import rollouts

    deployment: Any = convert(one.live, one.target.resource, "Ignore")
    where = Target(resources.by_word("replicasets.apps"), one.target.namespace)
    labels = str(selectors.from_label_selector(deployment.spec.selector))
    listed = await session.call(connection.verbs.list(where, Selection(labels)))
    return rollouts.revisions(one.live, [msgspec.json.decode(item) for item in listed.items])


async def _history(session: Session, connection: Connection, asked: Sequence[Asked], revision: int) -> bool:
    from barque.cli import rollouts, tables
    from barque.cli.naming import slashed

    found, failed = await find(session, connection, asked)
    for position, one in enumerate(found):
        sets = await _revisions(session, connection, one)
        name = slashed(one.target.resource, one.target.name)
        if revision:
            if revision not in sets:
                raise CliError(f"unable to find the specified revision {revision} of {name}")
            session.screen.line(f"{name} with revision #{revision}")
            session.screen.write(_template_page(sets[revision]))
        else:
            rows = [(str(number), rollouts.change_cause(each)) for number, each in sets.items()]
            table = tables.render(("REVISION", "CHANGE-CAUSE"), rows)
            session.screen.write("\n" * bool(position) + f"{name}\n{table}")
    return failed


def _template_page(replica_set: dict[str, Any]) -> str:
    from barque.api import codec
    from barque.api.types.apps_v1 import ReplicaSet
    from barque.cli import describe_pods
    from barque.cli.description import Page

    page = Page()
    describe_pods.template(page, codec.from_document(ReplicaSet, replica_set).spec.template)
    return page.render()


async def _status(
    session: Session, connection: Connection, name: str, watch: bool, timeout_s: float, revision: int
) -> None:
    told = Teller(session, name, revision)
    try:
        async with asyncio.timeout(timeout_s or None):
            await _follow(session, connection, name, told, watch)
    except TimeoutError:
        raise CliError("timed out waiting for the condition") from None


async def _follow(session: Session, connection: Connection, name: str, told: Teller, watch: bool) -> None:
    from barque.api.types.apps_v1 import Deployment
    from barque.cli.following import Following, until
    from barque.client.client import target_of

    # Missing from the start is an error of its own; missing later means it was deleted meanwhile.
    found = await session.call(connection.client.get(Deployment, name, session.namespace))
    if told.hear(found) or not watch:
        return
    following = Following(target_of(Deployment, name, session.namespace), waiting=told.waiting)
    await until(connection.verbs, following, told.hear_json, clock=session.clock, screen=session.screen)


class Teller:
    """Says each new sentence once."""

    def __init__(self, session: Session, name: str, revision: int) -> None:
        self._session = session
        self._name = name
        self._revision = revision
        self._last = ""

    @property
    def waiting(self) -> str:
        return f"waiting for the rollout of {self._name}"

    def hear_json(self, present: dict[str, Any] | None) -> bool:
        """`hear` for what a watch brings."""
        from barque.api import codec
        from barque.api.types.apps_v1 import Deployment

        if present is None:
            raise CliError(f'deployment "{self._name}" was deleted before its rollout was done')
        return self.hear(codec.from_document(Deployment, present))

    def hear(self, deployment: Any) -> bool:
        """Whether the rollout is done. Raises `CliError` where it has failed."""
        from barque.cli.rollouts import progress_of

        progress = progress_of(deployment, self._revision)
        if progress.failed:
            raise CliError(progress.sentence)
        if progress.sentence != self._last:
            self._session.screen.line(progress.sentence)
            self._last = progress.sentence
        if not progress.done:
            self._session.screen.waiting(self.waiting)
        return progress.done
