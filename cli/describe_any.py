"""The `describe` pages of kinds without a layout of their own: field by field, as kubectl shows such. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from barque.api import codec
from barque.cli import describe_pods
from barque.cli.description import Page, heading
from barque.cli.jsonpath import text_of

# Shown at the head of the page, or of no use to a person.
_HIDDEN = frozenset({"name", "namespace", "labels", "annotations", "managedFields"})
_WORDS = re.compile(r"[A-Z]+(?=[A-Z][a-z]|[0-9_-]|$)|[A-Z]?[a-z0-9]+|[A-Z]+")
# Words that are written in capitals, whatever the field's name does.
_INITIALS = {*("acl", "api", "cidr", "cpu", "dns", "gid", "http", "id", "ip", "tcp", "ttl", "uid", "url", "uuid")}


def describe_any(page: Page, obj: Any, _: Sequence[Any] = ()) -> None:
    """Any object: its metadata, then every field with its name in words."""
    heading(page, obj)
    document = codec.to_document(obj)
    page.field(0, "API Version", document.pop("apiVersion"))
    page.field(0, "Kind", document.pop("kind"))
    metadata = {name: value for name, value in document.pop("metadata").items() if name not in _HIDDEN}
    _members(page, 0, {"metadata": metadata, **document})


def describe_pod_template(page: Page, pod_template: Any, _: Sequence[Any] = ()) -> None:
    """A pod template."""
    heading(page, pod_template)
    describe_pods.template(page, pod_template.template)


def title(name: str) -> str:
    """`holderIdentity` as `Holder Identity`, `podIP` as `Pod IP`."""
    words = _WORDS.findall(name) or [name]
    return " ".join(w.upper() if w.lower() in _INITIALS else w[:1].upper() + w[1:] for w in words)


def _members(page: Page, level: int, members: Mapping[str, Any]) -> None:
    for name, value in sorted(members.items()):
        _value(page, level, title(name), value)


def _value(page: Page, level: int, name: str, value: Any) -> None:
    if isinstance(value, Mapping):
        page.line(level, f"{name}:")
        _members(page, level + 1, value)
    elif isinstance(value, list):
        page.line(level, f"{name}:")
        for element in value:
            if isinstance(element, Mapping):
                _members(page, level + 1, element)
            else:
                page.line(level + 1, text_of(element))
    else:
        page.field(level, name, text_of(value))
