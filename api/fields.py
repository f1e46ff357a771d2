"""The values a field selector can ask for, taken from an object."""

from __future__ import annotations

from typing import Any

from barque.api.resources import Resource
from barque.api.types.base import Object

# Selectable fields whose absence means something other than "".
_WHEN_UNSET = {"spec.unschedulable": "false", "status.replicas": "0"}


def selectable(obj: Object, resource: Resource) -> dict[str, str]:
    """Every selectable field of `obj` with its value as text; "" where it is unset."""
    meta = obj.metadata  # type: ignore[attr-defined]  # every served kind has it
    found = {"metadata.name": meta.name, "metadata.namespace": meta.namespace}
    for path in resource.fields:
        found[path] = _text_at(obj, path)
    return found


def _text_at(obj: Object, path: str) -> str:
    value: Any = obj
    for name in path.split("."):
        value = getattr(value, name, None)
        if value is None:
            return _WHEN_UNSET.get(path, "")
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
