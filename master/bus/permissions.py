"""What a user of the bus may do there, from what the user may watch. Pure.

Users are readers: they follow the change feed, by plain subscriptions and through JetStream, and write nothing. Whoever
may watch everything (administrators) also reads Event records and usage samples; whoever may watch some resources only
gets those subjects, and consumers of the stream only with a filter within them, by names of the user's own.

NATS checks the subject of what a client publishes, but neither the subject that the answer is asked to nor the one that
a consumer delivers to: JetStream writes there in the client's stead (nats-server, issue 8274). Hence readers have
accounts of their own, in which no stream listens, `accounts` brings over what they may ask, and a master makes their
consumers for them (`consumers`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from barque.api.policyrules import Rule
from barque.api.resources import stored_resources
from barque.client.pki import ADMINS_GROUP, MASTERS_GROUP
from barque.client.subjects import CORE_GROUP, EVERYTHING, RESYNC, Pattern, token
from barque.master.auth.identity import User
from barque.master.bus.subjects import CHANGE_STREAM

MASTERS_ACCOUNT = "BARQUE"
ADMINS_ACCOUNT = "ADMINS"
WATCHERS_ACCOUNT = "WATCHERS"
# A watcher's consumers are named `<user>-1` to `<user>-4`: NATS has no wildcard for the end of a token.
CONSUMERS_EACH = 4
# Each is a subject for every consumer, in one answer to the server.
MOST_PATTERNS = 256

_WATCH_ALL = Rule(frozenset(("watch",)), frozenset(("*",)), frozenset(("*",)))

# What of the change feed a user may watch; nothing at all where it is empty.
Watchable = tuple[Pattern, ...]


class TooManyPatternsError(Exception):
    """The user's rights are too many single ones to be told to the bus."""


class Permissions(NamedTuple):
    """The account a user belongs to, and the subjects allowed there; never empty, since NATS takes that for all."""

    account: str
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


# What a master may do: what it likes.
MASTERS = Permissions(MASTERS_ACCOUNT, (">",), (">",))


def watchable_by(user: User, granted: Iterable[tuple[str, Rule]] = ()) -> Watchable:
    """What a user may watch: administrators everything, all others what they are granted, as rules and the namespace
    in which each holds ("": everywhere).

    A master's certificate is no reader's: whoever comes with one and is no present master was removed. Nor is a
    worker's: what a node may watch it has a selector for, which a subject is not.
    """
    if MASTERS_GROUP in user.groups or user.node:
        return ()
    if ADMINS_GROUP in user.groups:
        return (EVERYTHING,)
    found: dict[Pattern, None] = {}
    for namespace, rule in granted:
        if not namespace and rule.covers(_WATCH_ALL):
            return (EVERYTHING,)
        found |= dict.fromkeys(_patterns(namespace, rule))
    return tuple(pattern for pattern in found if not any(_is_within(pattern, other) for other in found))


def _patterns(namespace: str, rule: Rule) -> Iterator[Pattern]:
    """What of the feed a rule lets its holder watch: only what this cluster serves and keeps."""
    for resource in stored_resources():
        if not rule.allows("watch", resource.group, resource.plural, "") or (namespace and not resource.namespaced):
            continue
        group, place = token(resource.group or CORE_GROUP), token(namespace) if namespace else None
        for name in sorted(rule.names) or [""]:
            yield Pattern(group, token(resource.plural), place, token(name) if name else None)


def _is_within(pattern: Pattern, other: Pattern) -> bool:
    """Whether another pattern matches all that this one does."""
    return pattern != other and all(wide in (None, narrow) for wide, narrow in zip(other, pattern, strict=True))


def permissions_of(user: User, watchable: Watchable, cluster: str) -> Permissions | None:
    """What this user may do, None for nothing. Raises `TooManyPatternsError`."""
    if not watchable:
        return None
    inbox = f"{inbox_prefix(user)}.>"
    if EVERYTHING in watchable:
        kinds = ("change", "event", "usage")
        read = tuple(f"barque.{token(cluster)}.{kind}.>" for kind in kinds)
        return Permissions(ADMINS_ACCOUNT, _any_consumer(cluster), (*read, inbox))
    if len(watchable) > MOST_PATTERNS:
        raise TooManyPatternsError(f"{len(watchable)} single rights are more than the bus is told: {MOST_PATTERNS}")
    filters = (*(_subject(cluster, pattern) for pattern in watchable), f"{_changes(cluster)}.{RESYNC}")
    return Permissions(WATCHERS_ACCOUNT, _own_consumers(user, filters, cluster), (*filters, inbox))


def inbox_prefix(user: User) -> str:
    """What the user's client is to be told as its inboxes' prefix; no other may listen there."""
    return f"_INBOX_{token(user.name)}"


def api_prefix(cluster: str) -> str:
    """What the user's client is to be told as JetStream's API prefix."""
    return f"barque.{token(cluster)}.jetstream"


def consumer_names(user: User) -> tuple[str, ...]:
    """The names that a watcher's consumers may have."""
    return tuple(f"{token(user.name)}-{number}" for number in range(1, CONSUMERS_EACH + 1))


def _any_consumer(cluster: str) -> tuple[str, ...]:
    prefix = api_prefix(cluster)
    return (
        f"{prefix}.STREAM.INFO.{CHANGE_STREAM}",
        f"{prefix}.CONSUMER.CREATE.{CHANGE_STREAM}.>",
        *(f"{prefix}.CONSUMER.{verb}.{CHANGE_STREAM}.*" for verb in ("INFO", "DELETE", "MSG.NEXT")),
    )


def _own_consumers(user: User, filters: tuple[str, ...], cluster: str) -> tuple[str, ...]:
    """Not the stream's INFO: that tells the subjects in it, which are names of objects."""
    api, names = f"{api_prefix(cluster)}.CONSUMER", consumer_names(user)
    create = [f"{api}.CREATE.{CHANGE_STREAM}.{name}.{allowed}" for name in names for allowed in filters]
    use = [f"{api}.{verb}.{CHANGE_STREAM}.{name}" for name in names for verb in ("INFO", "DELETE", "MSG.NEXT")]
    return (*create, *use)


def _subject(cluster: str, pattern: Pattern) -> str:
    """The subjects of a pattern as one, which covers what is narrower in either of NATS' wildcards."""
    parts = [part or "*" for part in pattern]
    if pattern.name is None:
        while parts and parts[-1] == "*":
            parts.pop()
        parts.append(">")
    return ".".join((_changes(cluster), *parts))


def _changes(cluster: str) -> str:
    return f"barque.{token(cluster)}.change"
