"""What reaches the user's screen: lines, errors, the waiting line at a terminal, and objects as YAML or JSON.

Results go to standard output, everything said about them to standard error. A pipe gets plain text and no waiting line.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.status import Status
    from rich.text import Text

# A wait shorter than this needs no word (seconds).
QUIET_S = 1.0


class CliError(click.ClickException):
    """What the command itself refuses or gives up on: one line on standard error, exit code 1."""

    def show(self, file: Any = None) -> None:
        complain(f"error: {self.message}")


class UsageFault(CliError):
    """What cannot be understood at all: exit code 2."""

    exit_code = 2


def complain(text: str) -> None:
    """One message on standard error; its first word red at a terminal."""
    label, colon, rest = text.partition(":")
    click.echo((styled(label + colon, sys.stderr, fg="red", bold=True) if colon else label) + rest, err=True)


def styled(text: str, stream: Any, **style: Any) -> str:
    """The text in a style of `click.style`, where colours may be written."""
    return click.style(text, **style) if colours(stream) else text


def colours(stream: Any) -> bool:
    """Whether colours may be written there: a terminal, and its owner has not said no (no-color.org)."""
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class Screen:
    """Writes for one command. `waiting(text)` says at a terminal what is being waited for, once that has lasted
    `QUIET_S`; any line printed clears it.
    """

    def __init__(self) -> None:
        self._text = ""
        self._timer: asyncio.TimerHandle | None = None
        self._status: Status | None = None

    def write(self, text: str) -> None:
        """Text as it is, to standard output."""
        self.quiet()
        click.echo(text, nl=False)

    def line(self, text: str) -> None:
        self.write(text + "\n")

    def note(self, text: str) -> None:
        """A line about the result, to standard error."""
        self.quiet()
        click.echo(text, err=True)

    def error(self, text: str) -> None:
        self.quiet()
        complain(text)

    def waiting(self, text: str) -> None:
        """Show or change the waiting line; nothing where standard error is no terminal. For use in the event loop."""
        if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
            return
        self._text = text
        if self._status is not None:
            self._status.update(_plain(text))
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(QUIET_S, self._show)

    def quiet(self) -> None:
        """Take the waiting line away."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._status is not None:
            self._status.stop()
            self._status = None

    def _show(self) -> None:
        from rich.console import Console

        self._timer = None
        self._status = Console(stderr=True).status(_plain(self._text))
        self._status.start()


def _plain(text: str) -> Text:
    """Not markup: an IPv6 address stands in brackets."""
    from rich.text import Text

    return Text(text)


def to_json(data: Any) -> str:
    """As `kubectl -o json`: four spaces, keys in their order, characters as they are."""
    return json.dumps(data, indent=4, ensure_ascii=False) + "\n"


def to_yaml(data: Any) -> str:
    """As `kubectl -o yaml`: keys sorted, lists not indented, lines not folded, ambiguous strings in double quotes."""
    import yaml

    text: str = yaml.dump(
        data, Dumper=_dumper(), sort_keys=True, default_flow_style=False, allow_unicode=True, width=sys.maxsize // 2**32
    )
    return text


def _dumper() -> Any:
    import yaml

    from barque.api.scalars import WRITE_RULES, with_rules

    dumper = with_rules(getattr(yaml, "CSafeDumper", yaml.SafeDumper), WRITE_RULES)
    string = "tag:yaml.org,2002:str"

    def represent_text(dumper: Any, text: str) -> Any:
        if "\n" in text:
            return dumper.represent_scalar(string, text, style="|")
        ambiguous = not text or dumper.resolve(yaml.ScalarNode, text, (True, False)) != string
        return dumper.represent_scalar(string, text, style='"' if ambiguous else None)

    dumper.ignore_aliases = lambda *_: True
    dumper.add_representer(str, represent_text)
    return dumper
