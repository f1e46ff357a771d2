"""`barque explain`: what a kind or a field is for. Needs no master."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from barque.cli.verb import Verb, with_session

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from barque.cli.session import Session


def _complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    from barque.api.errors import ApiError
    from barque.cli.output import CliError

    try:
        names = _names_below(incomplete.rpartition(".")[0])
    except (ApiError, CliError):
        return []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _names_below(above: str) -> list[str]:
    from barque.api import resources
    from barque.cli.explaining import fields_of

    if not above:
        return list(dict.fromkeys(resource.singular for resource in resources.RESOURCES))
    word, *path = above.split(".")
    struct: Any = resources.by_word(word).type
    for name in path:
        struct = next((f.shape.struct for f in fields_of(struct) if f.name == name), None)
        if struct is None:
            return []
    return [f"{above}.{field.name}" for field in fields_of(struct)]


@click.command(
    "explain",
    cls=Verb,
    examples="""
    barque explain pod
    barque explain pod.spec.containers
    barque explain deployment.spec --recursive
    """,
)
@click.argument("what", metavar="TYPE[.FIELD]...", shell_complete=_complete)
@click.option("--recursive", is_flag=True, help="All fields below, without their explanations.")
@click.option("--api-version", metavar="VERSION", default="", help="Of this version, as in apps/v1.")
@with_session
def command(session: Session, what: str, recursive: bool, api_version: str) -> None:
    """Say what a kind or one of its fields is for, of which type it is, and which fields there are below. A field that
    is "refused here" is part of Kubernetes, but a manifest that has it is refused.
    """
    from barque.api.resources import RESOURCES
    from barque.cli.arguments import resource_of
    from barque.cli.explaining import page
    from barque.cli.output import CliError

    word, *path = what.rstrip(".").split(".")
    resource = resource_of(word)
    served = {r.api_version: r for r in RESOURCES if r.kind == resource.kind}
    if api_version and api_version not in served:
        raise CliError(f"{resource.plural} are not served in {api_version}, but in {' and '.join(served)}")
    resource = served[api_version or resource.api_version]
    session.screen.write(page(resource, path, recursive=recursive))
