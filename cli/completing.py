"""What the shell is told when a person presses Tab: resource types, and the names of objects there are.

Names are asked of the cluster, which has a second to answer; whatever goes wrong, nothing is offered and nothing said.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
from click.shell_completion import CompletionItem

from barque.api import resources
from barque.api.errors import ApiError
from barque.api.resources import Resource
from barque.client.verbs import Page, Target

if TYPE_CHECKING:
    from barque.cli.session import Connection, Session

# A person at a prompt waits no longer than this, and reads no longer a list.
TIMEOUT_S = 1.0
NAMES = 200


def complete_objects(session: Session, words: Sequence[str], incomplete: str) -> list[CompletionItem]:
    """What may follow `words`, the arguments before: a type, `type/name`, or a name of the type given."""
    if not words or "/" in words[0]:
        word, slash, begun = incomplete.partition("/")
        if slash:
            return [CompletionItem(f"{word}/{name.value}") for name in complete_names(session, word, begun)]
        if not words:
            return _types(incomplete)
        return []
    return [item for item in complete_names(session, words[0], incomplete) if item.value not in words]


def complete_names(session: Session, word: str, incomplete: str) -> list[CompletionItem]:
    """The names of objects of the type that `word` means."""
    session.timeout_s = TIMEOUT_S
    with suppress(Exception):
        resource = resources.by_word(word)
        names = session.run(lambda connection: _names(session, connection, resource))
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]
    return []


def complete_contexts(session: Session, incomplete: str) -> list[CompletionItem]:
    """The contexts of the profile."""
    from pathlib import Path

    from barque.client import profile

    path = Path(session.config).expanduser() if session.config else profile.default_path()
    with suppress(profile.ProfileError):
        return [CompletionItem(n) for n in sorted(profile.load_contexts(path).contexts) if n.startswith(incomplete)]
    return []


def _types(incomplete: str) -> list[CompletionItem]:
    """The last of several types, as in `pods,serv`; the plural, or the short name where that is what was begun."""
    before, comma, begun = incomplete.rpartition(",")
    found: dict[str, CompletionItem] = {}
    for resource in resources.RESOURCES:
        words = (resource.plural, *resource.short_names, resource.singular)
        word = next((w for w in words if w.startswith(begun)), None)
        if word is not None:
            found.setdefault(word, CompletionItem(f"{before}{comma}{word}", help=resource.kind))
    return list(found.values())


async def _names(session: Session, connection: Connection, resource: Resource) -> list[str]:
    namespace = session.namespace if resource.namespaced else ""
    try:
        table = await session.call(connection.verbs.table(Target(resource, namespace), page=Page(NAMES)))
    except ApiError:
        return []
    return [msgspec.json.decode(row)["object"]["metadata"]["name"] for row in table.rows]
