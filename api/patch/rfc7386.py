"""RFC 7386, JSON merge patch: objects merge, null removes, everything else replaces."""

from __future__ import annotations

import copy
from typing import Any

Document = dict[str, Any]


def merge_patch(document: Document, patch: Document) -> Document:
    """The document after the patch."""
    merged = dict(document)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            below = merged.get(name)
            merged[name] = merge_patch(below if isinstance(below, dict) else {}, value)
        else:
            merged[name] = copy.deepcopy(value)
    return merged
