"""Nobody hands out by a role or a binding what they do not hold themselves, unless they are allowed to. Pure.

Follows Kubernetes' policy-based storage of roles and bindings: writing a role asks for the verb `escalate` or for every
right in it; writing a binding for the verb `bind` on its role, or for every right of that. A change of owners and
finalizers alone is the garbage collector's and asks for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from barque.api.defaults.rbac import GROUP
from barque.api.errors import ApiError, refused
from barque.api.policyrules import EVERYTHING, Rule, missing, quoted
from barque.api.types.meta_v1 import StatusDetails
from barque.api.types.rbac_v1 import ClusterRole, ClusterRoleBinding, Role, RoleBinding, RoleRef
from barque.client.verbs import Target
from barque.master.auth.attributes import Attributes
from barque.master.auth.identity import User
from barque.master.auth.rbac.grants import role_key
from barque.master.auth.rbac.rbac_authorizer import RbacAuthorizer, missing_role

_ROLE_KINDS = (Role, ClusterRole)
_BINDING_KINDS = (RoleBinding, ClusterRoleBinding)


def check_escalation(rbac: RbacAuthorizer, user: User, target: Target, before: Any, after: Any) -> None:
    """Raise 403 where this write hands out more than the user has; 404 where a binding's role is not there.

    `before` is None on create, `after` on delete, which hands out nothing.
    """
    if after is None or not isinstance(after, (*_ROLE_KINDS, *_BINDING_KINDS)) or _only_collected(before, after):
        return
    meta = after.metadata
    if isinstance(after, _ROLE_KINDS):
        asked = Attributes(
            user, "escalate", GROUP, "v1", target.resource.plural, namespace=meta.namespace, name=meta.name
        )
        if not rbac.decide(asked).allowed:
            _check_role(rbac, user, target, before, after)
        return
    reference = after.roleRef or RoleRef()
    plural = "roles" if reference.kind == "Role" else "clusterroles"
    asked = Attributes(user, "bind", GROUP, "v1", plural, namespace=meta.namespace, name=reference.name)
    if rbac.decide(asked).allowed:
        return
    rules = rbac.rules_of_role(reference, meta.namespace)
    if rules is None:
        raise _no_role(reference, meta.namespace)
    _check_held(rbac, user, target, meta, rules)


def _check_role(rbac: RbacAuthorizer, user: User, target: Target, before: Any, after: Role | ClusterRole) -> None:
    meta = after.metadata
    if _aggregates(before) or _aggregates(after):
        # It gathers whatever anybody labels, and takes what is written into its rules by hand back out.
        held, _ = rbac.rules(user, "")
        if missing(held, EVERYTHING):
            why = "must have cluster-admin privileges to use the aggregationRule"
            raise refused(target.resource.plural, GROUP, meta.name, why)
    _check_held(rbac, user, target, meta, [Rule.of(rule) for rule in after.rules])


def _check_held(rbac: RbacAuthorizer, user: User, target: Target, meta: Any, rules: Sequence[Rule]) -> None:
    held, faults = rbac.rules(user, meta.namespace)
    lacking = missing(held, rules)
    if not lacking:
        return
    listed = "\n".join(sorted(map(str, lacking)))
    why = (
        f'user "{user.name}" (groups={quoted(user.groups)}) is attempting to grant RBAC permissions not currently '
        f"held:\n{listed}"
    )
    if faults:
        why += f"; resolution errors: [{', '.join(dict.fromkeys(faults))}]"
    raise refused(target.resource.plural, GROUP, meta.name, why)


def _aggregates(role: Any) -> bool:
    return isinstance(role, ClusterRole) and role.aggregationRule is not None


def _only_collected(before: Any, after: Any) -> bool:
    """Whether the write changes owners and finalizers alone."""
    if before is None:
        return False
    kept = msgspec.structs.replace(
        after.metadata,
        ownerReferences=before.metadata.ownerReferences,
        finalizers=before.metadata.finalizers,
        managedFields=before.metadata.managedFields,
    )
    return bool(msgspec.structs.replace(after, metadata=kept) == before)


def _no_role(reference: RoleRef, namespace: str) -> ApiError:
    kind = "role" if reference.kind == "Role" else "clusterrole"
    details = StatusDetails(name=reference.name, group=GROUP, kind=kind)
    return ApiError(404, "NotFound", missing_role(role_key(reference, namespace)), details)
