"""`Report`: how far a command is that takes longer than a moment."""

from __future__ import annotations

import sys
import time

import click

from barque.cli.output import styled


class Report:
    """Progress: on a terminal the step under way, everywhere a line for each step done."""

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self._live = sys.stdout.isatty()

    def begin(self, what: str) -> None:
        if self._live:
            click.echo(f"\r\033[K… {what}", nl=False)

    def done(self, what: str) -> None:
        clear = "\r\033[K" if self._live else ""
        click.echo(f"{clear}{styled('✓', sys.stdout, fg='green')} {what} ({time.monotonic() - self._begin:.1f} s)")

    def close(self) -> None:
        """Leave the line of a step that did not end."""
        if self._live:
            click.echo("\r\033[K", nl=False)
