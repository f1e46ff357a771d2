"""`barque feed`: every change of the cluster's objects, as the bus tells it, through the masters."""

from __future__ import annotations

import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast

import click

from barque.cli.verb import Verb, with_session

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from barque.cli.session import Connection, Session
    from barque.client.feed import FeedEntry, FeedPage
    from barque.client.remote import Connection as Remote

# A master that restarts is back within seconds; asking it more often than this would not help.
RETRY_S, MAX_RETRY_S = 0.5, 3.0
_BROKEN = ("ServiceUnavailable", "Timeout", "TooManyRequests")
_COLOURS = {"ADDED": "green", "MODIFIED": "yellow", "DELETED": "red", "RESYNC": "magenta"}
_VERB_WIDTH = len("MODIFIED")


@click.command(
    "feed",
    cls=Verb,
    examples="""
    barque feed                                   every change of every object
    barque feed 'apps.deployments.default.>'      of the deployments in one namespace
    barque feed 'core.pods.*.web-0' -o json       of the pods of that name, a line of JSON each
    barque feed core.nodes._.n1                   of one node: "_" stands where there is no namespace
    barque feed '>' --after 1763775600123         what came after a sequence that was seen before
    """,
)
@click.argument("subject", default=">", required=False)
@click.option("-o", "--output", type=click.Choice(["json"]), help="Whole messages with their sequences, one a line.")
@click.option("--after", type=click.IntRange(min=0), default=0, metavar="SEQUENCE", help="Go on after this one.")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after so many changes.")
@with_session
def command(session: Session, subject: str, output: str | None, after: int, count: int | None) -> None:
    """Follow every change of the cluster's objects as it is committed: in order, none missing, none twice.

    SUBJECT is GROUP.RESOURCE.NAMESPACE.NAME as on the bus, where "core" is the group of pods and services; "*" stands
    for any one of the four, ">" for all the rest. Where changes are missing a line says RESYNC: whoever keeps a copy of
    the state must then read it again. Of Secrets only the metadata is shown.
    """
    from barque.api.errors import ApiError
    from barque.cli.output import CliError
    from barque.client.subjects import parse

    try:
        parse(subject)
    except ApiError as error:
        raise CliError(error.message) from None
    session.run(lambda connection: _Following(session, connection, subject, output, after).run(count))


class _Following:
    """One run of the command. `_reached` is after which sequence it goes on."""

    def __init__(self, session: Session, connection: Connection, subject: str, output: str | None, after: int) -> None:
        self._session = session
        self._connection = connection
        self._subject = subject
        self._line = _json_line if output == "json" else _plain_line
        self._reached = after

    async def run(self, count: int | None) -> None:
        """Print until interrupted, or until `count` changes were printed; then say where to go on."""
        left = count
        try:
            async with aclosing(self._pages()) as pages:
                async for page in pages:
                    for entry in page.entries[:left]:
                        self._session.screen.write(self._line(entry))
                        self._reached = entry.sequence
                    left = left - len(page.entries) if left is not None else None
                    if left is not None and left <= 0:
                        return
                    self._reached = page.sequence
        finally:
            if self._reached:
                self._session.screen.note(f"go on with: barque feed '{self._subject}' --after {self._reached}")

    async def _pages(self) -> AsyncGenerator[FeedPage, None]:
        """Pages of one call after the other. Raises `ApiError` for what waiting does not mend."""
        from barque.api.errors import ApiError
        from barque.client.feed import follow

        screen, retry_s, begun = self._session.screen, RETRY_S, False
        while True:
            try:
                async with aclosing(follow(cast("Remote", self._connection), self._subject, self._reached)) as pages:
                    async for page in pages:
                        screen.quiet()
                        retry_s, begun = RETRY_S, True
                        yield page
            except ApiError as error:
                if error.code == 410 and begun:
                    screen.note(f"RESYNC: {error.message}; what follows is what comes from now on")
                    self._reached = 0
                elif error.reason not in _BROKEN:
                    raise
                screen.waiting(f"{error.message}; trying again")
            await self._session.clock.sleep(retry_s)
            retry_s = min(retry_s * 2, MAX_RETRY_S)


def _json_line(entry: FeedEntry) -> str:
    """The message with its sequence before its own fields."""
    return f'{{"sequence":{entry.sequence},{entry.message.decode()[1:]}\n'


def _plain_line(entry: FeedEntry) -> str:
    """`<revision>  <verb>  <resource>  <namespace>/<name>`."""
    import msgspec

    from barque.cli.output import styled
    from barque.client.feed import Change

    change = msgspec.json.decode(entry.message, type=Change)
    verb = styled(f"{change.verb:<{_VERB_WIDTH}}", sys.stdout, fg=_COLOURS[change.verb])
    return f"{change.revision:<10}  {verb}  {_what(entry.subject, change)}\n"


def _what(subject: str, change: Any) -> str:
    from barque.client.subjects import CLUSTER_SCOPE, CORE_GROUP, text_of

    if change.verb == "RESYNC":
        return "changes up to this revision are missing: read the state again"
    group, resource, namespace, name = subject.split(".")
    kind = text_of(resource) if group == CORE_GROUP else f"{text_of(resource)}.{text_of(group)}"
    return f"{kind}  {text_of(name) if namespace == CLUSTER_SCOPE else f'{text_of(namespace)}/{text_of(name)}'}"
