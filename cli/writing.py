"""What the verbs that write have in common: their options, what is said of each object, and going on after a refusal.

`manifest_options` declares `-f` and `-R`, `writing_options` `--dry-run`, `-o` and `--field-manager`; `Writing` is what
the latter mean; `Results` says of each
object what became of it, or prints the objects as `-o` asks. `one_by_one` writes several objects: one that is refused
is told and does not stop the next, a master that is gone does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeVar, cast

import click
import msgspec

from barque.api.errors import ApiError
from barque.api.resources import Resource
from barque.cli.naming import slashed
from barque.cli.output import CliError, Screen, to_json, to_yaml
from barque.cli.printing import a_list, without_managed_fields
from barque.cli.session import Session, explain
from barque.client.verbs import Target, WriteOptions

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
DryRun = Literal["none", "client", "server"]
Validation = Literal["Strict", "Warn", "Ignore"]

# The field manager of the verb that owns what it writes, and the beginning of what the others write as.
MANAGER = "barque"
SUFFIXES = {"none": "", "client": " (dry run)", "server": " (server dry run)"}
_VALIDATION: dict[str, Validation] = {
    "strict": "Strict",
    "true": "Strict",
    "warn": "Warn",
    "ignore": "Ignore",
    "false": "Ignore",
}


class Writing(NamedTuple):
    """How the objects of this run are to be written, and what is to be printed of them."""

    field_manager: str = MANAGER
    dry_run: DryRun = "none"
    output: str = ""
    validation: Validation = "Strict"

    @property
    def sends(self) -> bool:
        """Whether anything goes to the server but questions."""
        return self.dry_run != "client"

    def options(self, *, trial: bool = False, force: bool = False) -> WriteOptions:
        """The options of one request; a trial changes nothing, whatever the run does."""
        dry_run = trial or self.dry_run == "server"
        return WriteOptions(dry_run, self.field_manager, self.validation, force)


def manifest_options(function: F) -> F:
    """-f and -R of the verbs that write what manifests say."""
    function = click.option("-R", "--recursive", is_flag=True, help="Go into folders below.")(function)
    return click.option(
        "-f", "--filename", "files", multiple=True, metavar="FILE", help="File, folder or - for standard input."
    )(function)


def writing_options(verb: str, *, manager: str = "", validate: bool = False) -> Callable[[F], F]:
    """The options that `read_writing` takes out of the given ones again."""
    options = [
        click.option(
            "--dry-run", type=click.Choice(list(SUFFIXES)), default="none",
            help="Say what would happen; server asks the cluster [none].",
        ),
        click.option("-o", "--output", type=click.Choice(["name", "yaml", "json"]), help="Print the objects instead."),
        click.option(
            "--field-manager", metavar="NAME", default=manager or f"{MANAGER}-{verb}",
            help=f"Who owns the fields written [{manager or f'{MANAGER}-{verb}'}].",
        ),
    ]  # fmt: skip
    if validate:
        options.append(
            click.option(
                "--validate", type=click.Choice(list(_VALIDATION)), default="strict",
                help="What unknown fields are: refused, warned of, or ignored [strict].",
            )
        )  # fmt: skip

    def add(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return add


def read_writing(given: dict[str, Any]) -> Writing:
    """Take the shared options out of the given ones."""
    return Writing(
        given.pop("field_manager"),
        given.pop("dry_run"),
        given.pop("output") or "",
        _VALIDATION[given.pop("validate", "strict")],
    )


class Results:
    """What became of each object, on standard output: a line, or with `-o` the object itself."""

    def __init__(self, screen: Screen, writing: Writing) -> None:
        self._screen = screen
        self._writing = writing
        self._objects: list[dict[str, Any]] = []

    def tell(self, resource: Resource, name: str, became: str, obj: dict[str, Any] | None = None) -> None:
        """`became` is kubectl's word, as in `configured`; `obj` is what `-o yaml` prints."""
        match self._writing.output:
            case "":
                self._screen.line(f"{slashed(resource, name)} {became}{SUFFIXES[self._writing.dry_run]}")
            case "name":
                self._screen.line(slashed(resource, name))
            case _ if obj is not None:
                self._objects.append(without_managed_fields(obj))

    def finish(self) -> None:
        """Print what `-o yaml` and `-o json` have gathered: one object by itself, several as a list."""
        if not self._objects:
            return
        one = self._objects[0] if len(self._objects) == 1 else a_list(self._objects)
        self._screen.write(to_yaml(one) if self._writing.output == "yaml" else to_json(one))


async def one_by_one(
    session: Session,
    things: Sequence[T],
    write: Callable[[T], Awaitable[None]],
    *,
    doing: str,
    source: Callable[[T], str] = lambda _: "",
) -> bool:
    """Write each; True where one was refused, by the master with an `ApiError` or here with a `CliError`.

    `doing` is the participle of messages, as in `applying`; `source` is the file a thing came from, "" for none.
    """
    failed = False
    for position, thing in enumerate(things, 1):
        if len(things) > 1:
            session.screen.waiting(f"{doing} {position} of {len(things)}")
        try:
            await write(thing)
        except ApiError as error:
            if error.reason == "ServiceUnavailable":
                raise
            failed = True
            file = source(thing)
            session.screen.error(explain(error, f'error when {doing} "{file}": ' if file else ""))
        except CliError as error:
            failed = True
            session.screen.error(f"error: {error.message}")
    return failed


async def decoded(session: Session, request: Awaitable[bytes]) -> dict[str, Any]:
    """The answer to one request as a dictionary."""
    return cast("dict[str, Any]", msgspec.json.decode(await session.call(request)))


def where(target: Target) -> Target:
    """Where an object of this target is created."""
    return target._replace(name="")
