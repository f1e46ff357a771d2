"""The values a field selector can ask for, taken from an object."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from operator import attrgetter
from typing import Any

from barque.api.occurrences import said_by
from barque.api.resources import Resource
from barque.api.types.base import Object

# Selectable fields whose absence means something other than "".
_WHEN_UNSET = {"spec.hostNetwork": "false", "spec.unschedulable": "false", "status.replicas": "0"}
# Selectable fields that are no path to one value: how each is taken from the object.
_COMPUTED: dict[tuple[str, str], Callable[[Any], str]] = {
    ("Event", "source"): said_by,
    ("Pod", "status.podIPs"): lambda pod: ",".join(address.ip for address in pod.status.podIPs),
}


def selectable(obj: Object, resource: Resource) -> dict[str, str]:
    """Every selectable field of `obj` with its value as text; "" where it is unset."""
    meta = obj.metadata  # type: ignore[attr-defined]  # every served kind has it
    found = {"metadata.name": meta.name, "metadata.namespace": meta.namespace}
    if resource.fields:
        for path, text in _readers(resource.kind, resource.fields):
            found[path] = text(obj)
    return found


@cache
def _readers(kind: str, paths: tuple[str, ...]) -> tuple[tuple[str, Callable[[Any], str]], ...]:
    return tuple((path, _COMPUTED.get((kind, path)) or _text_at(path)) for path in paths)


def _text_at(path: str) -> Callable[[Any], str]:
    get, unset = attrgetter(path), _WHEN_UNSET.get(path, "")

    def text(obj: Any) -> str:
        try:
            value = get(obj)
        except AttributeError:  # Something on the way is not set.
            return unset
        if value is None:
            return unset
        if isinstance(value, str):
            return value
        return ("true" if value else "false") if isinstance(value, bool) else str(value)

    return text
