"""Which existing objects a verb is about: by type and name, by labels or fields, all of a type, or those of manifests.

`choice_options` declares the options, `read_choice` makes sense of them, `find` reads the objects they mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import click

from barque.api.resources import Resource
from barque.cli.fetching import Asked, asked_for, fetch
from barque.cli.output import CliError
from barque.cli.session import Connection, Session, explain
from barque.client.verbs import Selection, Target

F = TypeVar("F", bound=Callable[..., Any])


class Found(NamedTuple):
    """One object and what it is now."""

    target: Target
    live: dict[str, Any]


def choice_options(function: F) -> F:
    """-f, -R, -l, --field-selector, --all, -A; the words themselves are the command's own argument."""
    options = [
        click.option(
            "-f", "--filename", "files", multiple=True, metavar="FILE", help="The objects of a file, folder or -."
        ),
        click.option("-R", "--recursive", is_flag=True, help="Go into folders below."),
        click.option("-l", "--selector", metavar="LABELS", default="", help="Objects with these labels."),
        click.option("--field-selector", metavar="FIELDS", default="", help="Objects with these fields."),
        click.option("--all", "every", is_flag=True, help="All objects of the type in the namespace."),
        click.option("-A", "--all-namespaces", is_flag=True, help="Of every namespace."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def read_choice(
    session: Session, verb: str, words: Sequence[str], given: dict[str, Any], *, example: str = "pods"
) -> list[Asked]:
    """Take the options out of the given ones; `example` is a type the verb is for. Either all that is asked for has
    names or nothing has. Raises `CliError` where the options contradict each other or name nothing.
    """
    every = given.pop("every")
    picked = {name: given.pop(name) for name in ("files", "recursive", "selector", "field_selector", "all_namespaces")}
    asked = asked_for(session, words, picked, verb=verb, example=example)
    if every and named(asked):
        raise CliError("name cannot be provided when --all is specified")
    if every and picked["selector"]:
        raise CliError("cannot set --all and --selector at the same time")
    if not every and not named(asked) and asked[0].selection == Selection():
        raise CliError("which of them? Give names, -l LABELS or --all")
    return asked


def named(asked: Sequence[Asked]) -> bool:
    """Whether each object was asked for by its name: a missing one is an error then."""
    return any(each.names for each in asked)


def named_targets(asked: Sequence[Asked]) -> list[Target]:
    """The targets of what was asked for by name."""
    return [each.target._replace(name=name) for each in asked for name in each.names]


async def find(session: Session, connection: Connection, asked: Sequence[Asked]) -> tuple[list[Found], bool]:
    """The objects as they are now, and whether one asked for by name is missing; that has been told then."""
    answers, missing = await fetch(session, connection, asked, None)
    found = [Found(target_in(answer.resource, item["metadata"]), item) for answer in answers for item in answer.items]
    for error in missing:
        session.screen.error(explain(error))
    if not found and not named(asked):
        session.screen.note("No resources found")
    return found, bool(missing)


def target_in(resource: Resource, metadata: dict[str, Any]) -> Target:
    """Where the object with this metadata stands."""
    return Target(resource, metadata.get("namespace", ""), metadata["name"])
