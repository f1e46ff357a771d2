"""What the tables share: words for what is not there, lists cut short, containers, selectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from barque.api.errors import ApiError
from barque.api.selectors import from_label_selector
from barque.api.types.core_v1 import PodTemplateSpec
from barque.api.types.meta_v1 import LabelSelector

NONE = "<none>"
UNKNOWN = "<unknown>"
UNSET = "<unset>"
_SHOWN = 3


def labels(values: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(values.items())) or NONE


def selector(value: LabelSelector | None) -> str:
    if value is None:
        return NONE
    try:
        return str(from_label_selector(value)) or NONE
    except ApiError:
        return "<error>"


def containers(template: PodTemplateSpec | None) -> tuple[str, str]:
    """The names of a template's containers, and their images."""
    listed = template.spec.containers if template is not None and template.spec is not None else []
    return ",".join(container.name for container in listed), ",".join(container.image for container in listed)


def first_few(values: Sequence[str], nothing: str = UNSET) -> str:
    """The first three, and how many more there are."""
    shown = ",".join(values[:_SHOWN])
    if len(values) > _SHOWN:
        return f"{shown} + {len(values) - _SHOWN} more..."
    return shown or nothing
