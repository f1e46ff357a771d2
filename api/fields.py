"""The values a field selector can ask for, taken from an object."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from barque.api.resources import Resource
from barque.api.types.base import Object

# Selectable fields whose absence means something other than "".
_WHEN_UNSET = {"spec.hostNetwork": "false", "spec.unschedulable": "false", "status.replicas": "0"}
# Selectable fields that are no path to one value: how each is taken from the object.
_COMPUTED: dict[tuple[str, str], Callable[[Any], str]] = {
    ("Event", "source"): lambda event: (event.source.component if event.source else "") or event.reportingComponent,
    ("Pod", "status.podIPs"): lambda pod: ",".join(address.ip for address in pod.status.podIPs),
}


def selectable(obj: Object, resource: Resource) -> dict[str, str]:
    """Every selectable field of `obj` with its value as text; "" where it is unset."""
    meta = obj.metadata  # type: ignore[attr-defined]  # every served kind has it
    found = {"metadata.name": meta.name, "metadata.namespace": meta.namespace}
    for path in resource.fields:
        computed = _COMPUTED.get((resource.kind, path))
        found[path] = computed(obj) if computed is not None else _text_at(obj, path)
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
