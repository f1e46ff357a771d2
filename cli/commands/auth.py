"""`barque auth`: who one is to the cluster, and what one may do there."""

from __future__ import annotations

import click

from barque.cli.commands.auth_can_i import can_i
from barque.cli.commands.auth_reconcile import reconcile
from barque.cli.commands.auth_whoami import whoami
from barque.cli.verb import VerbGroup


@click.group("auth", cls=VerbGroup)
def command() -> None:
    """Say who one is to the cluster, and what one may do."""


for part in (can_i, reconcile, whoami):
    command.add_command(part)
