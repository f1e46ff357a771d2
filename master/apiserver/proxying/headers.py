"""What of a request's and an answer's headers passes through a proxy, as Kubernetes' has it. Pure.

Hop-by-hop headers (RFC 9110, 7.6.1) stay on their hop, and whatever tells who the caller is stays here. A Location on
the backend's own host is led back through the proxy's path. `X-Forwarded-Host` and `-Proto` pass as the caller sent
them, for Kubernetes' proxy sets neither: its requests name no host in their line.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit, urlunsplit

# One header: name and value, as they came.
Header = tuple[str, str]

_HOP_BY_HOP = frozenset(
    ("connection", "proxy-connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer",
     "transfer-encoding", "upgrade")
)  # fmt: skip
# Who the caller is, or wants to be; and what a front proxy said of that.
_CREDENTIALS = ("authorization", "impersonate-", "x-remote-user", "x-remote-group", "x-remote-uid", "x-remote-extra-")
_BEARER_PROTOCOL = "base64url.bearer.authorization.k8s.io."
# What a backend allows to other origins says nothing of the masters.
_CORS = frozenset(
    ("access-control-allow-credentials", "access-control-allow-headers", "access-control-allow-methods",
     "access-control-allow-origin")
)  # fmt: skip


def upgrade_of(headers: Mapping[str, str]) -> str:
    """The protocol that a request wants to change to; "" for none. `headers` is case-insensitive."""
    wanted = headers.get("Connection", "")
    return headers.get("Upgrade", "") if "upgrade" in _tokens([wanted]) else ""


def request_headers(sent: Iterable[Header], forwarded_uri: str, peer: str) -> list[Header]:
    """The headers of a request as the backend gets them; `peer` is the caller's address."""
    sent = list(sent)
    dropped = _HOP_BY_HOP | _tokens(value for name, value in sent if name.lower() == "connection")
    passed: list[Header] = []
    known: list[str] = []
    upgrade = ""
    for name, value in sent:
        lower = name.lower()
        if lower == "upgrade":
            upgrade = value
        elif lower == "x-forwarded-for":
            known.append(value)
        elif lower in ("x-forwarded-uri", "expect") or lower in dropped or lower.startswith(_CREDENTIALS):
            continue
        elif lower == "sec-websocket-protocol":
            passed += [(name, protocols)] if (protocols := _without_token(value)) else []
        else:
            passed.append((name, value))
    if upgrade and "upgrade" in dropped:
        passed += [("Connection", "Upgrade"), ("Upgrade", upgrade)]
    else:
        passed.append(("Connection", "close"))
    passed.append(("X-Forwarded-Uri", forwarded_uri))
    return [*passed, ("X-Forwarded-For", ", ".join([*known, peer]))] if peer else passed


def answer_headers(sent: Iterable[Header], prefix: str, backend: str, host: str) -> list[Header]:
    """The headers of an answer as the caller gets them. `prefix` is the path of the proxy itself, `backend` the host
    that was asked, `host` the one that the caller asked.
    """
    sent = list(sent)
    dropped = _HOP_BY_HOP | _tokens(value for name, value in sent if name.lower() == "connection")
    passed: list[Header] = []
    for name, value in sent:
        lower = name.lower()
        if lower == "location":
            passed.append((name, rewritten(value, prefix, backend, host)))
        elif lower not in dropped and lower not in _CORS:
            passed.append((name, value))
    return passed


def rewritten(location: str, prefix: str, backend: str, host: str) -> str:
    """Where a redirect or a link leads from here: one on the backend's host goes through the proxy, any other is left
    alone.
    """
    try:
        url = urlsplit(location)
    except ValueError:
        return location
    elsewhere = url.netloc and url.netloc not in (backend, host)
    if elsewhere or not url.path.startswith("/"):
        return location
    path = url.path
    if not path.startswith(prefix):
        path = prefix + posixpath.normpath(path).replace("//", "/")
        if url.path.endswith("/") and not path.endswith("/"):
            path += "/"
    scheme, netloc = (url.scheme, host) if url.netloc == host else ("", "")
    return urlunsplit((scheme, netloc, path, url.query, url.fragment))


def forwarded_uri(prefix: str, rest: str) -> str:
    """What the caller asked for, as backends that make links read it."""
    uri = posixpath.normpath(prefix + rest)
    return f"{uri}/" if rest.endswith("/") else uri


def _tokens(values: Iterable[str]) -> frozenset[str]:
    return frozenset(token.strip().lower() for value in values for token in value.split(",") if token.strip())


def _without_token(value: str) -> str:
    """A list of WebSocket protocols without the one that a bearer token travels in."""
    return ", ".join(p.strip() for p in value.split(",") if not p.strip().startswith(_BEARER_PROTOCOL))
