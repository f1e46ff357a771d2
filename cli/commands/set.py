"""`barque set`: change images, variables and resources of what is there already."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

from barque.cli.choosing import Found, choice_options, find, read_choice
from barque.cli.output import CliError
from barque.cli.verb import Verb, VerbGroup, with_session
from barque.cli.writing import Results, Writing, decoded, one_by_one, read_writing, writing_options
from barque.client.verbs import STRATEGIC_MERGE_PATCH

if TYPE_CHECKING:
    from barque.cli.session import Connection, Session
    from barque.cli.templates import Containers

# Which containers of a pod spec change, and how.
Change = Callable[[Mapping[str, Any]], "dict[str, Containers]"]


@click.group("set", cls=VerbGroup)
def command() -> None:
    """Change images, variables or resources of objects with containers; a deployment rolls the change out."""


@command.command(
    "image",
    cls=Verb,
    examples="""
    barque set image deployment/web web=web:2
    barque set image deployment/web web=web:2 log=fluentd:1.16
    barque set image deployments --all '*=web:2'         every container of every deployment
    barque set image -f web.yaml web=web:2 --dry-run=client -o yaml
    """,
)
@click.argument("words", nargs=-1, metavar="TYPE NAME... CONTAINER=IMAGE...")
@choice_options
@writing_options("set")
@with_session
def image(session: Session, words: tuple[str, ...], **given: Any) -> None:
    """Change the image of containers."""
    from barque.cli import templates

    what, changes = _split(words, "image")
    if not changes:
        raise CliError("at least one image update is required")
    images = templates.parse_images(changes)
    _change_all(session, "image", what, given, lambda spec: templates.change_images(spec, images), "image updated")


@command.command(
    "env",
    cls=Verb,
    examples="""
    barque set env deployment/web LEVEL=debug
    barque set env deployment/web LEVEL-                 take it out
    barque set env deployment/web -c log LEVEL=info      of one container; * and ? match any
    barque set env deployment/web --list
    """,
)
@click.argument("words", nargs=-1, metavar="TYPE NAME... NAME=VALUE... NAME-...")
@choice_options
@click.option("-c", "--containers", default="*", metavar="NAME", help="Of which containers [all].")
@click.option("--overwrite/--no-overwrite", default=True, help="Change a variable that is set [yes].")
@click.option("--list", "listing", is_flag=True, help="Show the variables there are.")
@writing_options("set")
@with_session
def env(
    session: Session, words: tuple[str, ...], containers: str, overwrite: bool, listing: bool, **given: Any
) -> None:
    """Set, change or take out environment variables of containers."""
    from barque.cli import templates

    what, changes = _split(words, "environment variable", removable=True)
    variables = templates.parse_variables(changes)
    if listing:
        if changes:
            raise CliError("--list shows the variables there are; give it without changes")
        _list(session, what, given, containers)
        return
    if not changes:
        raise CliError("at least one environment variable must be provided")

    def change(spec: Mapping[str, Any]) -> dict[str, Containers]:
        return templates.change_variables(spec, variables, containers, overwrite=overwrite)

    _change_all(session, "env", what, given, change, "env updated")


@command.command(
    "resources",
    cls=Verb,
    examples="""
    barque set resources deployment/web --limits=cpu=200m,memory=512Mi --requests=cpu=100m,memory=256Mi
    barque set resources deployment/web -c log --limits=memory=64Mi
    """,
)
@click.argument("words", nargs=-1, metavar="TYPE NAME...")
@choice_options
@click.option("-c", "--containers", default="*", metavar="NAME", help="Of which containers [all].")
@click.option("--limits", default="", metavar="AMOUNTS", help="What they may use at most, as cpu=1,memory=1Gi.")
@click.option("--requests", default="", metavar="AMOUNTS", help="What is set aside for them.")
@writing_options("set")
@with_session
def resources(
    session: Session, words: tuple[str, ...], containers: str, limits: str, requests: str, **given: Any
) -> None:
    """Set what containers request, and what they may use at most."""
    from barque.cli import templates

    if not limits and not requests:
        raise CliError("you must specify an update to requests or limits (in the form of --requests/--limits)")
    most, least = templates.parse_amounts(limits, "--limits"), templates.parse_amounts(requests, "--requests")

    def change(spec: Mapping[str, Any]) -> dict[str, Containers]:
        return templates.change_resources(spec, most, least, containers)

    _change_all(session, "resources", words, given, change, "resource requirements updated")


def _split(words: Sequence[str], what: str, *, removable: bool = False) -> tuple[list[str], list[str]]:
    """(types and names, changes). Raises `CliError` for a name behind a change."""

    def is_change(word: str) -> bool:
        return "=" in word or (removable and word.endswith("-"))

    first = next((i for i, word in enumerate(words) if is_change(word)), len(words))
    for word in words[first:]:
        if not is_change(word):
            raise CliError(f"all resources must be specified before {what} changes: {word}")
    return list(words[:first]), list(words[first:])


def _change_all(
    session: Session, verb: str, what: Sequence[str], given: dict[str, Any], change: Change, became: str
) -> None:
    """Change every object that is meant; exits with 1 where one was refused. What is so already is not mentioned."""
    from barque.cli.templates import field_of

    writing = read_writing(given)
    asked = read_choice(session, f"set {verb}", what, given, example="deployments")
    for each in asked:
        field_of(each.resource.plural)

    async def run(connection: Connection) -> bool:
        found, failed = await find(session, connection, asked)
        results = Results(session.screen, writing)

        async def one_of_them(one: Found) -> None:
            field = field_of(one.target.resource.plural)
            changed = change(field.spec_of(one.live))
            if changed or writing.output:
                after = await _patched(session, connection, one, field.patch(changed), writing)
                results.tell(one.target.resource, one.target.name, became, after)

        refused = await one_by_one(session, found, one_of_them, doing="changing")
        results.finish()
        return failed or refused

    if session.run(run):
        click.get_current_context().exit(1)


async def _patched(
    session: Session, connection: Connection, one: Found, patch: dict[str, Any], writing: Writing
) -> dict[str, Any]:
    if not writing.sends:
        from barque.api.patch import strategic_merge

        return dict(strategic_merge(one.target.resource.type, one.live, patch))
    body = msgspec.json.encode(patch)
    return await decoded(session, connection.verbs.patch(one.target, STRATEGIC_MERGE_PATCH, body, writing.options()))


def _list(session: Session, what: Sequence[str], given: dict[str, Any], containers: str) -> None:
    from fnmatch import fnmatchcase

    from barque.cli.naming import slashed
    from barque.cli.templates import LISTS, field_of

    read_writing(given)
    asked = read_choice(session, "set env", what, given, example="deployments")

    async def run(connection: Connection) -> bool:
        found, failed = await find(session, connection, asked)
        for one in found:
            spec = field_of(one.target.resource.plural).spec_of(one.live)
            for container in [
                c for listed in LISTS for c in spec.get(listed, ()) if fnmatchcase(c["name"], containers)
            ]:
                name = slashed(one.target.resource, one.target.name)
                session.screen.line(f"# {name}, container {container['name']}")
                for entry in container.get("env", ()):
                    session.screen.line(_shown(entry))
        return failed

    if session.run(run):
        click.get_current_context().exit(1)


def _shown(entry: Mapping[str, Any]) -> str:
    """A variable as `set env --list` shows it; what comes from elsewhere as a comment."""
    source = entry.get("valueFrom") or {}
    for kind, word in (("configMapKeyRef", "configmap"), ("secretKeyRef", "secret")):
        if kind in source:
            return f"# {entry['name']} from {word} {source[kind].get('name', '')}, key {source[kind]['key']}"
    if "fieldRef" in source:
        return f"# {entry['name']} from field path {source['fieldRef']['fieldPath']}"
    if "resourceFieldRef" in source:
        return f"# {entry['name']} from resource field {source['resourceFieldRef']['resource']}"
    return f"{entry['name']}={entry.get('value', '')}"
