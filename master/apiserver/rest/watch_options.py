"""What a request for a watch asks for: Kubernetes' ListOptions of a watch, checked in its words. Pure.

Source: apimachinery's `ValidateListOptions` and `ConvertToListOptions`, apiserver's `ListResource`.
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from barque.api.errors import FieldError, bad_request, forbidden, invalid_object, not_supported
from barque.api.selectors import parse_fields
from barque.client.verbs import Selection, Target
from barque.master.apiserver.metadata import parse_revision
from barque.master.apiserver.rest import options
from barque.master.store.port import NAME_FIELD

# Kubernetes' --min-request-timeout: watches that do not say how long they last end at a random time between once and
# twice this, so that they do not all come back together.
_LASTS_S = 1800.0
# Nobody is served longer without coming back.
_LONGEST_S = 24 * 3600.0
_NOT_OLDER_THAN = "NotOlderThan"


class WatchOptions(NamedTuple):
    """`since` is the revision to begin after, 0 for the newest. With `initial` the watch begins with what there is, at
    a state not older than `since`; `at_once` takes what this master has. With `marks_initial` a bookmark says where
    that ends. `timeout_s` is how long the watch lasts.
    """

    selection: Selection
    since: int
    at_once: bool
    initial: bool
    marks_initial: bool
    bookmarks: bool
    timeout_s: float


def watch_options(query: options.Query, entropy: Random) -> WatchOptions:
    """The options of this query. Raises 400 for what cannot be read, 422 for what does not go together."""
    sends = _sends_initial(query)
    _check(query, sends)
    version = query.get("resourceVersion", "")
    since = parse_revision(version, "resourceVersion") if version else 0
    bookmarks = options.boolean(query, "allowWatchBookmarks")
    asked_s = options.integer(query, "timeoutSeconds")
    return WatchOptions(
        selection=options.selection(query),
        since=since,
        at_once=bool(version) and not since,
        initial=not since if sends is None else sends,
        marks_initial=bool(sends) and bookmarks,
        bookmarks=bookmarks,
        timeout_s=min(max(asked_s, 0), _LONGEST_S) if asked_s else entropy.uniform(_LASTS_S, 2 * _LASTS_S),
    )


def named_target(target: Target, selection: Selection) -> Target:
    """The target with the one name that the selector asks for, if it does: by that it is authorised and indexed.

    Raises 400 where the path names another.
    """
    if not selection.fields:
        return target
    name = parse_fields(selection.fields, target.resource).equal(NAME_FIELD)
    if target.name and name != target.name:
        raise bad_request("fieldSelector metadata.name doesn't match requested name")
    return target._replace(name=name) if name else target


def _sends_initial(query: options.Query) -> bool | None:
    return options.boolean(query, "sendInitialEvents") if "sendInitialEvents" in query else None


def _check(query: options.Query, sends: bool | None) -> None:
    match, path = query.get("resourceVersionMatch", ""), "resourceVersionMatch"
    errors: list[FieldError] = []
    if sends is not None and match != _NOT_OLDER_THAN:
        errors.append(forbidden(path, f"sendInitialEvents requires setting resourceVersionMatch to {_NOT_OLDER_THAN}"))
    if match:
        if sends is None:
            why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            errors.append(forbidden(path, why))
        if match != _NOT_OLDER_THAN:
            errors.append(not_supported(path, match, [_NOT_OLDER_THAN]))
        if query.get("continue"):
            errors.append(forbidden(path, "resourceVersionMatch is forbidden when continue is provided"))
    if errors:
        raise invalid_object("ListOptions", "meta.k8s.io", "", errors)
