"""Patches by those who hold a cache: of what they saw, and of nothing else.

Such a patch carries the uid and the revision of the object that was seen, so it is refused with 409 where the object
has changed since, or is another of the same name.
"""

from __future__ import annotations

from typing import Any

import msgspec

from barque.api import conditions
from barque.api.types.core_v1 import PodCondition
from barque.api.views import PodView, viewed
from barque.client.client import target_of
from barque.client.verbs import MERGE_PATCH, Patch, Target


def seen_patch(obj: Any, change: dict[str, Any], subresource: str = "") -> Patch:
    """A merge patch of `obj`, an object or a view of one, as it was seen; its metadata may be part of `change`."""
    meta = obj.metadata
    target = target_of(viewed(type(obj)), meta.name, meta.namespace, subresource)
    return patch_at(target, meta.uid, meta.resourceVersion, change)


def patch_at(target: Target, uid: str, revision: str, change: dict[str, Any]) -> Patch:
    """The same for one of whom only this much is known."""
    seen = {"uid": uid, "resourceVersion": revision}
    body = {**change, "metadata": {**change.get("metadata", {}), **seen}}
    return Patch(target, MERGE_PATCH, msgspec.json.encode(body))


def condition_patch(pod: PodView, condition: PodCondition) -> Patch | None:
    """The pod's status with this condition; None where it says so already."""
    listed = list(pod.status.conditions)
    if not conditions.set_condition(listed, condition):
        return None
    return seen_patch(pod, {"status": {"conditions": listed}}, "status")
