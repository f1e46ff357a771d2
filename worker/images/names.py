"""Image references: what is a valid one, and which registry it means. Pure.

Follows the grammar of distribution/reference.
"""

from __future__ import annotations

import re
from typing import NamedTuple

DEFAULT_REGISTRY = "docker.io"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST_PART = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_HOST_PART}(?:\.{_HOST_PART})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_REFERENCE = re.compile(
    rf"(?P<name>(?:{_HOST}/)?{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?"
)
_LONGEST_NAME = 255


class InvalidNameError(ValueError):
    """No image can have this name; the message is Docker's."""


class ImageName(NamedTuple):
    """A reference taken apart. `registry` and `path` are as they are asked for on the net."""

    registry: str
    path: str
    tag: str = ""
    digest: str = ""


def parse(reference: str) -> ImageName:
    """Take a reference apart, "latest" where it names neither tag nor digest. Raises `InvalidNameError`."""
    found = _REFERENCE.fullmatch(reference)
    if found is None or len(found["name"]) > _LONGEST_NAME:
        if reference.lower() != reference and _REFERENCE.fullmatch(reference.lower()):
            name = reference.partition("@")[0].rpartition(":")[0] or reference
            raise InvalidNameError(f"invalid reference format: repository name ({name}) must be lowercase")
        raise InvalidNameError("invalid reference format")
    registry, slash, path = found["name"].partition("/")
    if not slash or not (registry == "localhost" or any(sign in registry for sign in ".:[")):
        registry, path = DEFAULT_REGISTRY, found["name"] if slash else f"library/{found['name']}"
    tag, digest = found["tag"] or "", found["digest"] or ""
    return ImageName(registry, path, tag if tag or digest else "latest", digest)
