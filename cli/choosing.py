"""Which existing objects a verb is about: by type and name, by labels or fields, all of a type, or those of manifests.

`choice_options` declares the options, `read_choice` makes sense of them, `find` reads the objects they mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import click
import msgspec

from barque.api.errors import ApiError
from barque.cli.arguments import Wanted, parse_wanted
from barque.cli.manifests import Document, check_namespace, read_documents, target_of
from barque.cli.output import CliError
from barque.cli.session import Connection, Session, explain
from barque.client.verbs import Selection, Target

F = TypeVar("F", bound=Callable[..., Any])


class Choice(NamedTuple):
    """What was asked for. `wanted` has names, or no names and then all that `selection` selects are meant."""

    wanted: tuple[Wanted, ...] = ()
    documents: tuple[Document, ...] = ()
    selection: Selection = Selection()
    all_namespaces: bool = False

    @property
    def named(self) -> bool:
        """Whether each object was asked for by its name: a missing one is an error then."""
        return bool(self.documents) or any(wanted.names for wanted in self.wanted)


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


def read_choice(session: Session, verb: str, words: Sequence[str], given: dict[str, Any]) -> Choice:
    """Take the options out of the given ones. Raises `CliError` where they contradict each other or name nothing."""
    files, recursive = given.pop("files"), given.pop("recursive")
    selection = Selection(given.pop("selector"), given.pop("field_selector"))
    every, all_namespaces = given.pop("every"), given.pop("all_namespaces")
    chosen = every or selection != Selection()
    if files:
        if words or chosen:
            raise CliError("-f names the objects by itself; types, names, -l and --all cannot be added")
        documents = read_documents(files, recursive=recursive, validation="")
        for document in documents:
            check_namespace(session, document)
        return Choice(documents=tuple(documents))
    wanted = parse_wanted(words, verb=verb)
    named = any(w.names for w in wanted)
    if named and chosen:
        raise CliError("name cannot be provided when a selector or --all is specified")
    if every and selection.labels:
        raise CliError("cannot set --all and --selector at the same time")
    if named and all_namespaces:
        raise CliError("a resource cannot be retrieved by name across all namespaces")
    if not named and not chosen:
        raise CliError("which of them? Give names, -l LABELS or --all")
    return Choice(tuple(wanted), selection=selection, all_namespaces=all_namespaces)


def namespace_of(session: Session, wanted: Wanted, choice: Choice) -> str:
    """Where objects of this type are meant; "" for cluster scope and for all namespaces."""
    return session.namespace if wanted.resource.namespaced and not choice.all_namespaces else ""


def named_targets(session: Session, choice: Choice) -> list[Target]:
    """The targets of what was asked for by name."""
    if choice.documents:
        return [target_of(session, document) for document in choice.documents]
    return [
        Target(wanted.resource, namespace_of(session, wanted, choice), name)
        for wanted in choice.wanted
        for name in wanted.names
    ]


async def find(session: Session, connection: Connection, choice: Choice) -> tuple[list[Found], bool]:
    """The objects as they are now, and whether one asked for by name is missing; that has been told then."""
    if not choice.named:
        found = await _selected(session, connection, choice)
        if not found:
            session.screen.note("No resources found")
        return found, False
    found, failed = [], False
    for target in named_targets(session, choice):
        try:
            found.append(Found(target, msgspec.json.decode(await session.call(connection.verbs.get(target)))))
        except ApiError as error:
            if error.code != 404:
                raise
            failed = True
            session.screen.error(explain(error))
    return found, failed


async def _selected(session: Session, connection: Connection, choice: Choice) -> list[Found]:
    found: list[Found] = []
    for wanted in choice.wanted:
        where = Target(wanted.resource, namespace_of(session, wanted, choice))
        listed = await session.call(connection.verbs.list(where, choice.selection))
        for item in listed.items:
            live = msgspec.json.decode(item)
            meta = live["metadata"]
            found.append(Found(where._replace(namespace=meta.get("namespace", ""), name=meta["name"]), live))
    return found
