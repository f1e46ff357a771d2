"""Who owns whom: keys of objects, controller references, and the claiming of dependants.

`plan_claims` follows Kubernetes' ControllerRefManager: of the objects in reach, an owner keeps those that refer to it
and match its selector, releases those that no longer match, and adopts matching ones that nobody controls.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, TypeVar

from barque.api import codec
from barque.api.errors import ApiError
from barque.api.selectors import Labels
from barque.api.types.base import Object
from barque.api.types.meta_v1 import OwnerReference
from barque.client.client import Client
from barque.client.patches import seen_patch
from barque.client.verbs import Patch

T = TypeVar("T", bound=Object)

# Claims written at once; what the owner does not claim in this step it claims in the next, woken by these.
BATCH = 200


def key_of(obj: Any) -> str:
    """`namespace/name`, as work queues know it."""
    return f"{obj.metadata.namespace}/{obj.metadata.name}"


def split_key(key: str) -> tuple[str, str]:
    namespace, _, name = key.partition("/")
    return namespace, name


def controller_of(obj: Any) -> OwnerReference | None:
    """The one owner that manages this object."""
    references: list[OwnerReference] = obj.metadata.ownerReferences
    return next((r for r in references if r.controller), None)


def controller_uid(obj: Any) -> str:
    reference = controller_of(obj)
    return reference.uid if reference else ""


def controller_reference(owner: Any) -> OwnerReference:
    """The reference a dependant carries to the owner that manages it."""
    meta = owner.metadata
    return OwnerReference(
        apiVersion=owner.apiVersion,
        kind=owner.kind,
        name=meta.name,
        uid=meta.uid,
        controller=True,
        blockOwnerDeletion=True,
    )


class Claims(NamedTuple):
    """Objects as they were seen: `kept` are the owner's already, `adopted` are to be, `released` no longer."""

    kept: list[Any]
    adopted: list[Any]
    released: list[Any]


def plan_claims(owner: Any, selector: Labels, candidates: Iterable[Any]) -> Claims:
    """Sort the objects in reach of `owner` into kept, adopted and released."""
    claims = Claims([], [], [])
    for obj in candidates:
        reference = controller_of(obj)
        matches = selector.matches(obj.metadata.labels)
        if reference is None:
            if matches and not owner.metadata.deletionTimestamp and not obj.metadata.deletionTimestamp:
                claims.adopted.append(obj)
        elif reference.uid == owner.metadata.uid:
            if matches:
                claims.kept.append(obj)
            elif not owner.metadata.deletionTimestamp and not obj.metadata.deletionTimestamp:
                claims.released.append(obj)
    return claims


async def claim(client: Client, owner: Any, selector: Labels, candidates: Iterable[T]) -> list[T]:
    """Write the owner's claims and return what is its own. Raises `ApiError` where the owner has been replaced."""
    claims = plan_claims(owner, selector, candidates)
    if claims.adopted:
        # The cache may be behind: an owner that is going, or is another by now, must not adopt.
        live: Any = await client.get(type(owner), owner.metadata.name, owner.metadata.namespace)
        if live.metadata.uid != owner.metadata.uid or live.metadata.deletionTimestamp:
            raise ApiError(409, "Conflict", f"{owner.kind} {key_of(owner)} is being replaced")
    changed = [*claims.adopted, *claims.released][:BATCH]
    if not changed:
        return claims.kept
    own = controller_reference(owner)
    writes = [_adoption(obj, own) for obj in claims.adopted] + [_release(obj, own) for obj in claims.released]
    answers = await client.batch(writes[:BATCH])
    adopted: list[T] = []
    for position, (obj, answer) in enumerate(zip(changed, answers, strict=True)):
        if isinstance(answer, ApiError):
            if answer.reason != "NotFound":
                raise answer
        elif position < len(claims.adopted):
            adopted.append(codec.decode(type(obj), answer))
    return [*claims.kept, *adopted]


def _adoption(obj: Any, own: OwnerReference) -> Patch:
    return seen_patch(obj, {"metadata": {"ownerReferences": [*obj.metadata.ownerReferences, own]}})


def _release(obj: Any, own: OwnerReference) -> Patch:
    kept = [reference for reference in obj.metadata.ownerReferences if reference.uid != own.uid]
    return seen_patch(obj, {"metadata": {"ownerReferences": kept}})
