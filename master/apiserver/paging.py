"""Which part of a list, and of which revision: Kubernetes' ListOptions and its continue tokens, decided. Pure.

In: a `Page` as the caller sent it. Out: the `Cut` to take. The rules are those of Kubernetes' table "resourceVersion
parameter" for get and list; a token carries the revision of its first page and the last key that was handed out, so
that all pages are of one revision on any master, and no master remembers anyone.
"""

from __future__ import annotations

import base64
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from barque.api.errors import ApiError, FieldError, bad_request, expired, forbidden, invalid_object, not_supported
from barque.client.verbs import Page, Target
from barque.master.apiserver.metadata import parse_revision
from barque.master.store.port import Stored

_TOKEN_VERSION = "meta.k8s.io/v1"
# In a token: whatever revision is the newest when the rest is asked for.
_NEWEST = -1
_LARGEST_REVISION = 2**63 - 1
_MATCHES = ("Exact", "NotOlderThan", "")

_TOO_OLD = "The resourceVersion for the provided list is too old."
_TOKEN_TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)


class Place(NamedTuple):
    """Where an object stands in a list's order."""

    namespace: str
    name: str


class Cut(NamedTuple):
    """What to take of a list.

    `revision` None is the newest state, which must have reached `not_before`. `after` is the last object of the page
    before. `limit` 0 is everything.
    """

    revision: int | None = None
    not_before: int = 0
    after: Place | None = None
    limit: int = 0

    def begin(self, items: Sequence[Stored]) -> int:
        """The index of the first object after the page before, of objects in a list's order."""
        if self.after is None:
            return 0
        return bisect_right(items, self.after, key=lambda stored: Place(stored.key.namespace, stored.key.name))

    def gone(self, target: Target) -> ApiError:
        """410: the history no longer reaches back to this revision."""
        if self.after is None:
            return expired(_TOO_OLD)
        return expired(_TOKEN_TOO_OLD, write_token(target, _NEWEST, self.after))


class _Token(msgspec.Struct):
    v: str = ""
    rv: int = 0
    start: str = ""


def plan(page: Page, target: Target) -> Cut:
    """What the page asks for. Raises 422 for options that do not go together, 400 for what cannot be read."""
    _check(page)
    limit = max(page.limit, 0)
    version = page.resource_version
    if page.continue_:
        if version not in ("", "0"):
            raise bad_request("specifying resource version is not allowed when using continue")
        return _read_token(page.continue_, target)._replace(limit=limit)
    wanted = parse_revision(version, "resourceVersion") if version else 0
    if not wanted:
        return Cut(limit=limit)
    if page.match == "Exact" or (limit and not page.match):
        return Cut(revision=wanted, not_before=wanted, limit=limit)
    return Cut(not_before=wanted, limit=limit)


def write_token(target: Target, revision: int, last: Place) -> str:
    """The token of the page after the one that ended with `last`."""
    start = f"{last.namespace}/{last.name}" if target.resource.namespaced else last.name
    token = msgspec.json.encode(_Token(_TOKEN_VERSION, revision, start))
    return base64.urlsafe_b64encode(token).decode().rstrip("=")


def _check(page: Page) -> None:
    errors: list[FieldError] = []
    match, path = page.match, "resourceVersionMatch"
    if not match:
        return
    if not page.resource_version:
        errors.append(forbidden(path, "resourceVersionMatch is forbidden unless resourceVersion is provided"))
    if page.continue_:
        errors.append(forbidden(path, "resourceVersionMatch is forbidden when continue is provided"))
    if match not in _MATCHES:
        errors.append(not_supported(path, match, list(_MATCHES)))
    if match == "Exact" and page.resource_version == "0":
        errors.append(forbidden(path, 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'))
    if errors:
        raise invalid_object("ListOptions", "meta.k8s.io", "", errors)


def _read_token(text: str, target: Target) -> Cut:
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        token = msgspec.json.decode(base64.b64decode(padded, altchars=b"-_", validate=True), type=_Token)
    except (ValueError, msgspec.DecodeError, RecursionError) as unreadable:
        raise _invalid_token(str(unreadable)) from None
    if token.v != _TOKEN_VERSION:
        raise _invalid_token(f"server does not recognize this encoded version {msgspec.json.encode(token.v).decode()}")
    if token.rv != _NEWEST and not 0 < token.rv <= _LARGEST_REVISION:
        raise _invalid_token(f"incorrect encoded start resourceVersion (version {_TOKEN_VERSION})")
    if not token.start:
        raise _invalid_token(f"encoded start key empty (version {_TOKEN_VERSION})")
    namespace, slash, name = token.start.rpartition("/")
    wrong_scope = bool(slash) != target.resource.namespaced or (target.namespace and namespace != target.namespace)
    if not name or "/" in namespace or (slash and not namespace) or wrong_scope:
        raise _invalid_token(token.start)
    return Cut(revision=None if token.rv == _NEWEST else token.rv, after=Place(namespace, name))


def _invalid_token(why: str) -> ApiError:
    return bad_request(f"invalid continue token: continue key is not valid: {why}")
