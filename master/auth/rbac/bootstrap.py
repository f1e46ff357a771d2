"""`ensure_policy`: the roles and bindings that every cluster has, made where they are missing and mended where rules or
subjects of theirs are; what somebody has added stays, and what opted out is left alone.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from barque.api import codec, resources
from barque.api.errors import ApiError
from barque.api.reconciliation import RbacObject, Reconciled, reconcile
from barque.client.client import Client
from barque.client.verbs import Create, Delete, Target, Update, Write
from barque.master.auth.rbac.policy import bootstrap_policy

log = logging.getLogger(__name__)

# Somebody who writes the same at the same moment has made or mended it just so, or the next term will.
_HARMLESS = ("AlreadyExists", "Conflict", "NotFound")


async def ensure_policy(client: Client) -> None:
    """Any number of masters may do so at once. Raises `ApiError`."""
    policy = bootstrap_policy()
    wanted: tuple[Sequence[RbacObject], ...] = policy
    writes: list[Write] = []
    for of_kind in wanted:
        listed = await client.list(type(of_kind[0]))
        present = {(obj.metadata.namespace, obj.metadata.name): obj for obj in listed.items}
        for obj in of_kind:
            meta = obj.metadata
            writes += _writes(reconcile(obj, present.get((meta.namespace, meta.name))))
    if not writes:
        return
    for refused in await client.batch(writes):
        if isinstance(refused, ApiError) and refused.reason not in _HARMLESS:
            raise refused
    log.info("%d roles and bindings of the cluster's own were made or mended", len(writes))


def _writes(found: Reconciled) -> list[Write]:
    obj, meta = found.object, found.object.metadata
    if found.protected or not found.operation:
        return []
    resource = resources.by_type(type(obj))
    named, json = Target(resource, meta.namespace, meta.name), codec.encode(obj)
    create = Create(Target(resource, meta.namespace), json)
    match found.operation:
        case "create":
            return [create]
        case "recreate":
            return [Delete(named), create]
        case _:
            return [Update(named, json)]
