"""The refusal of an apply that would change what others own, in Kubernetes' words."""

from __future__ import annotations

import json
from collections.abc import Iterable

from barque.api.apply import fieldset
from barque.api.apply.fieldset import FieldSet
from barque.api.apply.managers import UPDATE, Ownership
from barque.api.errors import ApiError
from barque.api.types.meta_v1 import StatusCause, StatusDetails


def apply_conflict(conflicts: Iterable[tuple[Ownership, FieldSet]]) -> ApiError:
    """409 naming every owner and every field of theirs that the apply would change."""
    listed = [
        (_show_owner(owner), [fieldset.show(path) for path in fieldset.paths(fields)])
        for owner, fields in sorted(conflicts, key=lambda pair: pair[0].identity)
    ]
    causes = [
        StatusCause(reason="FieldManagerConflict", message=f"conflict with {owner}", field=path)
        for owner, paths in listed
        for path in paths
    ]
    if len(causes) == 1:
        told = f"1 conflict: {causes[0].message}: {causes[0].field}"
    else:
        lines = [line for owner, paths in listed for line in (f"conflicts with {owner}:", *(f"- {p}" for p in paths))]
        told = f"{len(causes)} conflicts: " + "\n".join(lines)
    return ApiError(409, "Conflict", f"Apply failed with {told}", StatusDetails(causes=causes))


def _show_owner(owner: Ownership) -> str:
    name = json.dumps(owner.identity.name, ensure_ascii=False)
    through = f' with subresource "{owner.identity.subresource}"' if owner.identity.subresource else ""
    # An applier is known by its name alone: which version it applied last does not tell it apart.
    using = f" using {owner.version}" if owner.identity.operation == UPDATE else ""
    return f"{name}{through}{using}"
