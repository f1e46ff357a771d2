"""`barque rollout`: follow a deployment's rollout, or start one over."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from barque.cli.verb import Verb, with_session

if TYPE_CHECKING:
    from barque.api.resources import Resource
    from barque.cli.session import Connection, Session

# What `kubectl rollout restart` writes: a pod template that differs by a time alone makes new pods.
RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"


class Progress(NamedTuple):
    """How far a rollout is, in kubectl's sentences; `failed` where it will not get further."""

    sentence: str
    done: bool
    failed: bool = False


@click.group("rollout")
def command() -> None:
    """Follow a deployment's rollout, or start one over."""


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
    from barque.cli.arguments import parse_duration

    name = _deployment(what, "rollout status")[1]
    timeout_s = parse_duration(timeout)
    session.run(lambda connection: _status(session, connection, name, watch, timeout_s, revision))


@command.command("restart", cls=Verb, examples="barque rollout restart deployment/web")
@click.argument("what", nargs=-1, metavar="deployment/NAME")
@with_session
def restart(session: Session, what: tuple[str, ...]) -> None:
    """Replace every pod of a deployment by a new one, a few at a time, as its strategy says."""
    resource, name = _deployment(what, "rollout restart")
    session.run(lambda connection: _restart(session, connection, name))
    session.screen.line(f"{resource.singular}.{resource.group}/{name} restarted")


def _deployment(what: Sequence[str], verb: str) -> tuple[Resource, str]:
    from barque.cli.arguments import parse_one
    from barque.cli.output import CliError

    resource, name = parse_one(what, verb=verb)
    if resource.plural != "deployments":
        raise CliError(f"a {resource.singular} has no rollout; deployments have")
    return resource, name


async def _restart(session: Session, connection: Connection, name: str) -> None:
    from barque.api.types.apps_v1 import Deployment
    from barque.client.clock import timestamp

    annotations = {RESTARTED_AT: timestamp(session.clock.wall())}
    patch = {"spec": {"template": {"metadata": {"annotations": annotations}}}}
    await session.call(connection.client.patch(Deployment, name, session.namespace, patch))


async def _status(
    session: Session, connection: Connection, name: str, watch: bool, timeout_s: float, revision: int
) -> None:
    from barque.cli.output import CliError

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
        import msgspec

        from barque.api.types.apps_v1 import Deployment
        from barque.cli.output import CliError

        if present is None:
            raise CliError(f'deployment "{self._name}" was deleted before its rollout was done')
        return self.hear(msgspec.convert(present, Deployment))

    def hear(self, deployment: Any) -> bool:
        """Whether the rollout is done. Raises `CliError` where it has failed."""
        from barque.cli.output import CliError

        progress = progress_of(deployment, self._revision)
        if progress.failed:
            raise CliError(progress.sentence)
        if progress.sentence != self._last:
            self._session.screen.line(progress.sentence)
            self._last = progress.sentence
        if not progress.done:
            self._session.screen.waiting(self.waiting)
        return progress.done


def progress_of(deployment: Any, revision: int = 0) -> Progress:
    """How far the rollout is. The counts are believed only once the controller has seen the newest spec."""
    name, spec, status = deployment.metadata.name, deployment.spec, deployment.status
    if revision and deployment.metadata.annotations.get("deployment.kubernetes.io/revision") != str(revision):
        return Progress(f"desired revision ({revision}) is different from the running revision", False, failed=True)
    if (deployment.metadata.generation or 0) > (status.observedGeneration or 0):
        return Progress("Waiting for deployment spec update to be observed...", False)
    if any(c.type == "Progressing" and c.reason == "ProgressDeadlineExceeded" for c in status.conditions):
        return Progress(f'deployment "{name}" exceeded its progress deadline', False, failed=True)
    wanted = 1 if spec.replicas is None else spec.replicas
    updated, total, available = status.updatedReplicas or 0, status.replicas or 0, status.availableReplicas or 0
    begin = f'Waiting for deployment "{name}" rollout to finish: '
    if updated < wanted:
        return Progress(f"{begin}{updated} out of {wanted} new replicas have been updated...", False)
    if total > updated:
        return Progress(f"{begin}{total - updated} old replicas are pending termination...", False)
    if available < updated:
        return Progress(f"{begin}{available} of {updated} updated replicas are available...", False)
    return Progress(f'deployment "{name}" successfully rolled out', True)
