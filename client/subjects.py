"""Tokens of the bus's subjects, and patterns of the change feed, as `barque feed` and `Feed.Follow` take them. Pure.

A change stands on `<group>.<resource>.<namespace>.<name>`, below `barque.<cluster>.change.`; `core` is the core group,
`_` the namespace of what has none. Tokens stand between dots, so a dot (and what else NATS reads as a sign) inside a
token is percent-encoded: `apps.deployments.default.web%2Ev2`. A pattern has NATS' wildcards: `*` for one token, `>` for
all that follow.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from barque.api import resources
from barque.api.errors import ApiError, bad_request
from barque.api.resources import Resource

CORE_GROUP = "core"
CLUSTER_SCOPE = "_"
# The subject of the messages that say that changes are missing; every follower gets them.
RESYNC = "RESYNC"
ONE, REST = "*", ">"
PARTS = ("group", "resource", "namespace", "name")
_SHAPE = 'a subject is GROUP.RESOURCE.NAMESPACE.NAME, as "apps.deployments.default.web", "core.pods.*.*" or "apps.>"'
_SAFE = re.compile(r"[A-Za-z0-9_:-]+")
_UNSAFE = re.compile(rb"[^A-Za-z0-9_:-]")
_TOKEN = re.compile(r"(?:[A-Za-z0-9_:-]|%[0-9A-Fa-f]{2})+")


def token(text: str) -> str:
    """`text` as one token of a subject; different texts give different tokens."""
    if _SAFE.fullmatch(text):
        return text
    return _UNSAFE.sub(lambda found: b"%%%02X" % found.group()[0], text.encode()).decode() or "%"


class Pattern(NamedTuple):
    """What of the feed is meant; each part is a token, or None for any."""

    group: str | None = None
    resource: str | None = None
    namespace: str | None = None
    name: str | None = None

    def matches(self, subject: str) -> bool:
        """Whether a message on this subject (what follows `change.`) is meant; a RESYNC always is."""
        if self == EVERYTHING or subject == RESYNC:
            return True
        tokens = subject.split(".")
        return len(tokens) == len(self) and all(
            part is None or part == found for part, found in zip(self, tokens, strict=True)
        )

    def served(self) -> Resource | None:
        """The one resource that is meant; None where it may be several. Raises 404."""
        if self.group is None or self.resource is None:
            return None
        group = "" if self.group == CORE_GROUP else text_of(self.group)
        return resources.by_plural(group, text_of(self.resource))


EVERYTHING = Pattern()


def text_of(part: str) -> str:
    """What a token stands for. Raises `ValueError` where it is none."""
    if part == "%":
        return ""
    if not _TOKEN.fullmatch(part):
        raise ValueError(part)
    return unquote_to_bytes(part).decode()


def parse(subject: str) -> Pattern:
    """The pattern that a user wrote. Raises 400 naming the token that is wrong."""
    words = subject.split(".")
    if words[-1] == REST and len(words) <= len(PARTS):
        words[-1:] = [ONE] * (len(PARTS) - len(words) + 1)
    elif len(words) < len(PARTS):
        raise _refusal(subject, f"it has {len(words)} of {len(PARTS)} parts, so it matches nothing: {_SHAPE}")
    elif len(words) > len(PARTS):
        raise _refusal(subject, f"it has more than {len(PARTS)} parts; a dot inside a name is written %2E: {_SHAPE}")
    parts = [_part(subject, name, word) for name, word in zip(PARTS, words, strict=True)]
    pattern = Pattern(*parts)
    _check_resource(subject, pattern)
    return pattern


def _part(subject: str, name: str, word: str) -> str | None:
    """One token in the one way it is written in the feed, None for a wildcard."""
    if word == ONE:
        return None
    if word == REST:
        raise _refusal(subject, f'{name}: ">" stands for all that follows, so it can only be the last')
    try:
        return token(text_of(word))
    except ValueError:
        pass
    if not word:
        raise _refusal(subject, f"{name}: it is empty; {_SHAPE}")
    raise _refusal(
        subject, f'{name}: "{word}" is no token: letters, digits, "-", "_", ":" and %XX for others; or "*" alone'
    )


def _check_resource(subject: str, pattern: Pattern) -> None:
    """Refuse what can never match, and would be waited for in vain."""
    try:
        resource = pattern.served()
    except ApiError as error:
        raise _refusal(subject, f"resource: {error.message}") from None
    if resource is None:
        return
    if resource.storage != "store":
        raise _refusal(subject, f"resource: {resource.group_resource} are not among the changes that the feed tells")
    if pattern.namespace is not None and resource.namespaced is (pattern.namespace == CLUSTER_SCOPE):
        where = "stand in namespaces" if resource.namespaced else f'have no namespace: write "{CLUSTER_SCOPE}"'
        raise _refusal(subject, f"namespace: {resource.plural} {where}")


def _refusal(subject: str, why: str) -> ApiError:
    return bad_request(f'the subject "{subject}" is invalid: {why}')
