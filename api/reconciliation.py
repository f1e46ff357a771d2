"""How roles and bindings are brought to what they should at least be: rules and subjects that are missing are added,
and what others have added stays. Pure.

Follows Kubernetes' RBAC reconciliation, as its start and `kubectl auth reconcile` do it: an object whose annotation
`rbac.authorization.kubernetes.io/autoupdate` is "false" is left alone; a binding of another role is made anew, since
the role of a binding never changes; labels and annotations that are there win.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, cast

import msgspec

from barque.api import codec
from barque.api.policyrules import Rule, missing
from barque.api.types.meta_v1 import LabelSelector, ObjectMeta
from barque.api.types.rbac_v1 import (
    AggregationRule,
    ClusterRole,
    ClusterRoleBinding,
    PolicyRule,
    Role,
    RoleBinding,
    Subject,
)

AUTO_UPDATE = "rbac.authorization.kubernetes.io/autoupdate"
Operation = Literal["", "create", "update", "recreate"]
RbacObject = Role | ClusterRole | RoleBinding | ClusterRoleBinding


class Reconciled(NamedTuple):
    """The object as it should be, how it gets there ("": it is there), and what of it was missing or too much.

    `protected`: it opted out, so nothing is to be done whatever was found.
    """

    object: RbacObject
    operation: Operation = ""
    protected: bool = False
    missing_rules: Sequence[PolicyRule] = ()
    extra_rules: Sequence[PolicyRule] = ()
    missing_subjects: Sequence[Subject] = ()
    extra_subjects: Sequence[Subject] = ()


def reconcile(
    wanted: RbacObject, present: RbacObject | None, *, drop_rules: bool = False, drop_subjects: bool = False
) -> Reconciled:
    """What becomes of `present`, which is of the same kind, to hold all of `wanted`; with `drop_…` nothing more."""
    if present is None:
        return _all_missing(wanted)
    protected = present.metadata.annotations.get(AUTO_UPDATE) == "false"
    if isinstance(wanted, (Role, ClusterRole)):
        of_role = _reconcile_role(wanted, cast("Role | ClusterRole", present), drop=drop_rules)
        return of_role._replace(protected=protected)
    of_binding = _reconcile_binding(wanted, cast("RoleBinding | ClusterRoleBinding", present), drop=drop_subjects)
    return of_binding._replace(protected=protected)


def _all_missing(wanted: RbacObject) -> Reconciled:
    if isinstance(wanted, (Role, ClusterRole)):
        return Reconciled(wanted, "create", missing_rules=wanted.rules)
    return Reconciled(wanted, "create", missing_subjects=wanted.subjects)


def _reconcile_role(wanted: Role | ClusterRole, present: Role | ClusterRole, *, drop: bool) -> Reconciled:
    metadata = _with_labels(wanted, present)
    changes: dict[str, object] = {"metadata": metadata}
    lacking: list[PolicyRule] = []
    extra: list[PolicyRule] = []
    selectors = _missing_selectors(wanted, present)
    aggregated = isinstance(wanted, ClusterRole) and wanted.aggregationRule is not None
    if not aggregated:
        have, want = list(map(Rule.of, present.rules)), list(map(Rule.of, wanted.rules))
        lacking = [rule.policy_rule() for rule in missing(have, want)]
        extra = [rule.policy_rule() for rule in missing(want, have)]
        if drop and extra:
            changes["rules"] = wanted.rules
        elif lacking:
            changes["rules"] = [*present.rules, *lacking]
    elif selectors:
        held = _selectors(present)
        changes["aggregationRule"] = AggregationRule(clusterRoleSelectors=[*held, *selectors])
    updated = msgspec.structs.replace(present, **changes)
    operation: Operation = "" if updated == present else "update"
    return Reconciled(updated, operation, missing_rules=lacking, extra_rules=extra)


def _selectors(role: Role | ClusterRole) -> list[LabelSelector]:
    rule = role.aggregationRule if isinstance(role, ClusterRole) else None
    return list(rule.clusterRoleSelectors) if rule is not None else []


def _missing_selectors(wanted: Role | ClusterRole, present: Role | ClusterRole) -> list[LabelSelector]:
    held = _selectors(present)
    return [selector for selector in _selectors(wanted) if selector not in held]


def _reconcile_binding(
    wanted: RoleBinding | ClusterRoleBinding, present: RoleBinding | ClusterRoleBinding, *, drop: bool
) -> Reconciled:
    lacking = [subject for subject in wanted.subjects if subject not in present.subjects]
    extra = [subject for subject in present.subjects if subject not in wanted.subjects]
    subjects = [each for each in present.subjects if not (drop and each in extra)] + lacking
    metadata = _with_labels(wanted, present)
    if present.roleRef != wanted.roleRef:
        fresh = ObjectMeta(
            name=metadata.name, namespace=metadata.namespace, labels=metadata.labels, annotations=metadata.annotations
        )
        anew = codec.decode(type(wanted), codec.encode(wanted))
        return Reconciled(msgspec.structs.replace(anew, metadata=fresh), "recreate")
    updated = msgspec.structs.replace(present, metadata=metadata, subjects=subjects)
    operation: Operation = "" if updated == present else "update"
    return Reconciled(updated, operation, missing_subjects=lacking, extra_subjects=extra)


def _with_labels(wanted: RbacObject, present: RbacObject) -> ObjectMeta:
    meta = present.metadata
    labels, annotations = wanted.metadata.labels | meta.labels, wanted.metadata.annotations | meta.annotations
    return msgspec.structs.replace(meta, labels=labels, annotations=annotations)
