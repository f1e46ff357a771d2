"""`barque taint`: which pods a node turns away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import click
import msgspec

from barque.cli.choosing import Found, choice_options, find, read_choice
from barque.cli.output import CliError
from barque.cli.verb import Verb, with_session
from barque.cli.writing import Results, Writing, decoded, one_by_one, read_writing, writing_options
from barque.client.verbs import MERGE_PATCH

if TYPE_CHECKING:
    from barque.cli.session import Connection, Session
    from barque.cli.tainting import Changes

# A change decided on a node that someone else has changed meanwhile is decided anew this often.
ATTEMPTS = 5


class _Wish(NamedTuple):
    changes: Changes
    overwrite: bool
    writing: Writing


@click.command(
    "taint",
    cls=Verb,
    examples="""
    barque taint nodes n1 dedicated=db:NoSchedule            only pods that tolerate it come
    barque taint nodes n1 dedicated=web:NoSchedule --overwrite
    barque taint nodes n1 dedicated:NoSchedule-              take one off
    barque taint nodes n1 dedicated-                         of every effect
    barque taint nodes -l rack=7 broken:NoExecute            pods that are there go too
    """,
)
@click.argument("words", nargs=-1, metavar="nodes NAME... TAINT...")
@choice_options
@click.option("--overwrite", is_flag=True, help="Change a value that is set.")
@writing_options("taint")
@with_session
def command(session: Session, words: tuple[str, ...], overwrite: bool, **given: Any) -> None:
    """Set, change or take off taints of nodes. Pods without a toleration for one do not come to the node (NoSchedule),
    come only where nothing else is free (PreferNoSchedule), or have to leave it (NoExecute).
    """
    from barque.cli.tainting import parse_changes

    writing = read_writing(given)
    first = next((i for i, word in enumerate(words) if ":" in word or word.endswith("-")), len(words))
    stray = next((word for word in words[:first] if "=" in word), "")
    if stray:
        raise CliError(f"invalid taint spec: {stray}; it lacks an effect, as in {stray}:NoSchedule")
    asked = read_choice(session, "taint", words[:first], given, example="nodes")
    for each in asked:
        if each.resource.plural != "nodes":
            raise CliError(f"invalid resource type {each.resource.plural}, only node type is supported")
    if first == len(words):
        raise CliError("at least one taint update is required, as in key=value:NoSchedule or key-")
    wish = _Wish(parse_changes(words[first:]), overwrite, writing)

    async def run(connection: Connection) -> bool:
        found, failed = await find(session, connection, asked)
        results = Results(session.screen, writing)

        async def taint(node: Found) -> None:
            became, after = await _taint(session, connection, node, wish)
            results.tell(node.target.resource, node.target.name, became, after)

        refused = await one_by_one(session, found, taint, doing="tainting")
        results.finish()
        return failed or refused

    if session.run(run):
        click.get_current_context().exit(1)


async def _taint(session: Session, connection: Connection, node: Found, wish: _Wish) -> tuple[str, dict[str, Any]]:
    """What became of the node, and how it is now. Raises `CliError` or `ApiError`."""
    from barque.api.errors import ApiError
    from barque.cli.tainting import apply_changes

    live = node.live
    for attempt in range(1, ATTEMPTS + 1):
        present = live.get("spec", {}).get("taints", [])
        taints, became = apply_changes(node.target.name, present, wish.changes, overwrite=wish.overwrite)
        if not wish.writing.sends:
            return became, live | {"spec": {**live.get("spec", {}), "taints": taints}}
        # On the revision it was decided on: taints are one list, and someone else's must not be lost.
        metadata = {"resourceVersion": live["metadata"]["resourceVersion"]}
        patch = msgspec.json.encode({"metadata": metadata, "spec": {"taints": taints or None}})
        try:
            request = connection.verbs.patch(node.target, MERGE_PATCH, patch, wish.writing.options())
            return became, await decoded(session, request)
        except ApiError as error:
            if error.reason != "Conflict" or attempt == ATTEMPTS:
                raise
        live = await decoded(session, connection.verbs.get(node.target))
    raise AssertionError("the last attempt returns or raises")
