"""Asking before something is done that cannot be undone."""

from __future__ import annotations

import click

from barque.cli.output import CliError, Screen


def confirm(screen: Screen, text: str, answer: str) -> None:
    """Say what will happen and go on only once the user has typed `answer`. Raises `CliError`."""
    screen.note(text)
    try:
        typed = click.prompt(f"Type {answer} to go on", default="", show_default=False, err=True)
    except click.Abort:
        typed = ""
    if typed.strip() != answer:
        raise CliError("not confirmed; nothing was changed")
