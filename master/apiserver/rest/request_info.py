"""What a request asks for, by its method and path alone: Kubernetes' `RequestInfo`. Pure.

`/api/v1/namespaces/{ns}/pods/{name}/{subresource}` and `/apis/{group}/{version}/…` are about resources; everything
else is a path of the door itself. Names are decoded once, after the path was split, so that an encoded slash stays part
of a name (and is refused as one) and no `..` ever climbs.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

from barque.api.errors import ApiError, not_found_path

_VERB_OF_ONE = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_VERB_OF_MANY = {"GET": "list", "HEAD": "list", "POST": "create", "DELETE": "deletecollection"}
_PROXIED = {"pods", "services", "nodes"}
# Requests whose reading is kept: those of a controller are much alike, and of thousands that watch the same, each needs
# it for as long as it lasts. Nobody may fill the master's memory by them, so longer paths are read each time.
_KEPT = 4096
_LONGEST_KEPT = 512


class RequestInfo(NamedTuple):
    """`verb` is the API's for resources, the lower-cased method for other paths. `rest` is what follows the `proxy` of
    a path, still encoded: "" or "/…".
    """

    path: str
    is_resource: bool
    verb: str = ""
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    rest: str = ""


def not_allowed() -> ApiError:
    """405 for a method that a path does not have."""
    return ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


def request_info(method: str, path: str, watch: bool = False) -> RequestInfo:
    """The request of this method and (encoded) path; `watch` where the query says so. Raises 404 and 405."""
    read = _kept if len(method) + len(path) <= _LONGEST_KEPT else _read
    return read(method, path, watch)


def _read(method: str, path: str, watch: bool) -> RequestInfo:
    place = _place(path)
    if not place.is_resource:
        return place._replace(verb=method.lower())
    if place.verb == "watch" and method in ("GET", "HEAD"):
        return place
    single = place.name or place.subresource
    verb = (_VERB_OF_ONE if single else _VERB_OF_MANY).get(method, "")
    if method in ("GET", "HEAD") and watch and not place.subresource:
        verb = "watch"
    if place.subresource == "proxy" and method in ("OPTIONS", "HEAD"):
        verb = "get"
    if not verb:
        raise not_allowed()
    return place._replace(verb=verb)


_kept = lru_cache(_KEPT)(_read)


def _place(path: str) -> RequestInfo:
    """What the path addresses, without a verb. Raises 404."""
    parts = path.split("/")[1:]
    prefix = parts[0]
    if prefix == "api" and len(parts) > 2:
        group, version, parts = "", parts[1], parts[2:]
    elif prefix == "apis" and len(parts) > 3:
        group, version, parts = parts[1], parts[2], parts[3:]
    else:
        return RequestInfo(path, False)
    if parts == [""]:
        # `/api/v1/`, which is the group's own document.
        return RequestInfo(path.rstrip("/"), False)
    legacy_watch = parts[0] == "watch" and len(parts) > 1
    if legacy_watch:
        parts = parts[1:]
    found = _resource(path, group, version, parts)
    return found._replace(verb="watch") if legacy_watch else found


def _resource(path: str, group: str, version: str, parts: list[str]) -> RequestInfo:
    """The parts after the version: `[namespaces, ns,] resource [, name [, subresource [, rest…]]]`."""
    namespace = ""
    # A namespace itself, and its own subresources, are resources of the cluster's.
    if parts[0] == "namespaces" and len(parts) > 2 and not (group == "" and parts[2] in ("status", "finalize")):
        namespace, parts = _word(path, parts[1]), parts[2:]
    rest = ""
    if len(parts) > 2 and parts[2] == "proxy" and parts[0] in _PROXIED:
        rest = "".join(f"/{part}" for part in parts[3:])
        parts = parts[:3]
    elif len(parts) > 1 and parts[-1] == "":
        # One slash too many at the end means nothing.
        parts = parts[:-1]
    if len(parts) > 3:
        raise not_found_path()
    words = [_word(path, part) for part in parts] + ["", ""]
    resource, name, subresource = words[:3]
    # A node's kubelet may be asked for by port, `nodes/https:n1:10250/proxy`: its name says so.
    return RequestInfo(path, True, "", group, version, resource, subresource, namespace, name, rest)


def _word(path: str, part: str) -> str:
    """One decoded part of a path. Raises 404 for what can be no name."""
    try:
        word = unquote(part, errors="strict") if "%" in part else part
    except UnicodeDecodeError:
        raise not_found_path() from None
    if not word or word in (".", "..") or "/" in word or "%" in word or not word.isprintable():
        raise not_found_path()
    return word
