"""What the verbs about nodes share: which nodes are meant, taking one out of scheduling, and the pods on one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

from barque.api import resources
from barque.cli.choosing import Found, find
from barque.cli.fetching import Asked
from barque.cli.output import CliError
from barque.cli.writing import Results, Writing, decoded, one_by_one, read_writing
from barque.client.verbs import STRATEGIC_MERGE_PATCH, Selection, Target

if TYPE_CHECKING:
    from barque.cli.session import Connection, Session

NODES = resources.by_word("nodes")
PODS = resources.by_word("pods")
# How many pods one answer holds.
PAGE = 500
_WORDS = {NODES.plural, NODES.singular, *NODES.short_names}


def asked_nodes(verb: str, words: Sequence[str], selector: str) -> list[Asked]:
    """The nodes meant by `n1 n2`, `node/n1`, `node n1` or -l. Raises `CliError`."""
    if words and words[0].lower() in _WORDS:
        words = words[1:]
    names = [_name(word) for word in words]
    if names and selector:
        raise CliError("cannot specify both a node name and a --selector option")
    if not names and not selector:
        raise CliError(f"give the name of a node, as in `barque {verb} n1`, or -l LABELS")
    return [Asked(NODES, "", tuple(dict.fromkeys(names)), Selection(selector))]


def _name(word: str) -> str:
    kind, slash, name = word.partition("/")
    if not slash:
        return word
    if kind.lower() not in _WORDS:
        raise CliError(f"{word} is no node")
    return name


async def set_unschedulable(
    session: Session, connection: Connection, node: Found, *, wanted: bool, writing: Writing
) -> tuple[str, dict[str, Any]]:
    """Let new pods come to a node no more, or again: what became of it in kubectl's words, and the node."""
    word = "cordoned" if wanted else "uncordoned"
    if bool(node.live.get("spec", {}).get("unschedulable")) == wanted:
        return f"already {word}", node.live
    if not writing.sends:
        return word, node.live
    patch = msgspec.json.encode({"spec": {"unschedulable": wanted or None}})
    request = connection.verbs.patch(node.target, STRATEGIC_MERGE_PATCH, patch, writing.options())
    return word, await decoded(session, request)


def set_all(
    session: Session, verb: str, names: tuple[str, ...], selector: str, given: dict[str, Any], *, wanted: bool
) -> None:
    """`cordon` and `uncordon` of every node that is meant; exits with 1 where one was refused."""
    writing = read_writing(given)
    asked = asked_nodes(verb, names, selector)

    async def run(connection: Connection) -> bool:
        found, failed = await find(session, connection, asked)
        results = Results(session.screen, writing)

        async def one_of_them(node: Found) -> None:
            became, after = await set_unschedulable(session, connection, node, wanted=wanted, writing=writing)
            results.tell(node.target.resource, node.target.name, became, after)

        refused = await one_by_one(session, found, one_of_them, doing=f"{verb}ing")
        results.finish()
        return failed or refused

    if session.run(run):
        click.get_current_context().exit(1)


async def pods_on(session: Session, connection: Connection, node: str, labels: str = "") -> list[Any]:
    """The pods of every namespace that are bound to a node, by namespace and name."""
    from barque.api import codec
    from barque.api.types.core_v1 import Pod
    from barque.client.verbs import Page

    found: list[Any] = []
    page = Page(limit=PAGE)
    while True:
        some = await session.call(connection.verbs.list(Target(PODS), Selection(labels, f"spec.nodeName={node}"), page))
        found += [codec.decode(Pod, item) for item in some.items]
        if not some.continue_:
            return sorted(found, key=lambda pod: (pod.metadata.namespace, pod.metadata.name))
        page = Page(limit=PAGE, continue_=some.continue_)
