"""`barque api-versions`: the groups and versions of what is served. Needs no master."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from barque.cli.verb import Verb, with_session

if TYPE_CHECKING:
    from barque.cli.session import Session


@click.command("api-versions", cls=Verb, examples="barque api-versions")
@with_session
def command(session: Session) -> None:
    """List the API versions that are served, as a manifest names them in its first line."""
    from barque.api.resources import RESOURCES

    session.screen.write("".join(f"{version}\n" for version in sorted({r.api_version for r in RESOURCES})))
