"""Which logins a pull may try: docker configurations in Secrets, matched by registry and path. Pure.

Follows Kubernetes' credentialprovider keyring: a key names a host, with `*` within its parts, perhaps a port and the
beginning of a path; the longest keys are tried first.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from barque.api.types import core_v1
from barque.worker.runtime.port import Login

_JSON, _OLD = ".dockerconfigjson", ".dockercfg"
_DEFAULT_KEY = "index.docker.io"
_DEFAULT_HOSTS = ("docker.io", _DEFAULT_KEY)


class PullSecretError(ValueError):
    """A Secret holds no docker configuration that can be read."""


def logins_of(secret: core_v1.Secret) -> dict[str, list[Login]]:
    """The logins of one Secret by key. Raises `PullSecretError`."""
    try:
        if secret.type == "kubernetes.io/dockerconfigjson":
            entries = msgspec.json.decode(base64.b64decode(secret.data.get(_JSON, ""))).get("auths") or {}
        elif secret.type == "kubernetes.io/dockercfg":
            entries = msgspec.json.decode(base64.b64decode(secret.data.get(_OLD, "")))
        else:
            # As in Kubernetes, a Secret of another type gives nothing and stops nothing.
            return {}
        return {_key(place): [_login(place, entry)] for place, entry in entries.items()}
    except (msgspec.DecodeError, binascii.Error, AttributeError, TypeError, UnicodeDecodeError) as error:
        raise PullSecretError(f"secret {secret.metadata.name} holds no docker configuration: {error}") from error


def matching(image: str, secrets: Iterable[Mapping[str, list[Login]]]) -> list[Login]:
    """The logins to try for an image, in order; none where no key matches."""
    merged: dict[str, list[Login]] = {}
    for logins in secrets:
        for key, found in logins.items():
            merged.setdefault(key, []).extend(found)
    fitting = [login for key in sorted(merged, reverse=True) if _fits(key, image) for login in merged[key]]
    if not fitting and _means_default_registry(image):
        fitting = merged.get(_DEFAULT_KEY, [])
    return list(dict.fromkeys(fitting))


def _key(place: str) -> str:
    """Host and path of a key as docker writes it, where "/v1/" and "/v2/" mean the whole registry."""
    url = urlsplit(place if place.startswith(("https://", "http://")) else f"https://{place}")
    path = url.path
    if path.startswith(("/v1/", "/v2/")):
        path = path[3:]
    return url.netloc + (path if path != "/" else "")


def _login(place: str, entry: Any) -> Login:
    name, password = str(entry.get("username", "")), str(entry.get("password", ""))
    if entry.get("auth"):
        # Some tools pad the encoding wrongly; docker itself accepts both.
        text = base64.b64decode(str(entry["auth"]).rstrip("=") + "==").decode()
        name, _, password = text.partition(":")
        password = password.strip("\0")
    return Login(name, password, place)


def _fits(key: str, image: str) -> bool:
    key_host, key_slash, key_path = key.partition("/")
    host, slash, path = image.partition("/")
    if _port(key_host) != _port(host):
        return False
    parts, key_parts = _bare(host).split("."), _bare(key_host).split(".")
    if len(parts) != len(key_parts) or not (slash + path).startswith(key_slash + key_path):
        return False
    return all(fnmatch.fnmatchcase(part, pattern) for part, pattern in zip(parts, key_parts, strict=True))


def _bare(host: str) -> str:
    return host[: -len(_port(host)) - 1] if _port(host) else host


def _port(host: str) -> str:
    found = host.rpartition(":")[2] if ":" in host else ""
    return found if found.isdecimal() else ""


def _means_default_registry(image: str) -> bool:
    host, slash, _ = image.partition("/")
    return not slash or host in _DEFAULT_HOSTS or not any(sign in host for sign in ".:")
