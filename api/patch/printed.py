"""A strategic patch as Kubernetes' refusals show it: the way Go prints a map of any values (`%+v`)."""

from __future__ import annotations

from typing import Any


def printed(value: Any) -> str:
    """`map[spec:map[replicas:x]]`: keys in order, lists as `[a b]`, null as `<nil>`."""
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{printed(value[key])}' for key in sorted(value))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(printed, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "<nil>" if value is None else str(value)
