"""The words tables use for what is not there, and lists cut short."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

NONE = "<none>"
UNKNOWN = "<unknown>"
UNSET = "<unset>"
_SHOWN = 3


def labels(values: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(values.items())) or NONE


def first_few(values: Sequence[str]) -> str:
    """The first three, and how many more there are."""
    shown = ",".join(values[:_SHOWN])
    if len(values) > _SHOWN:
        return f"{shown} + {len(values) - _SHOWN} more..."
    return shown or UNSET
