"""Validation of Role, ClusterRole, RoleBinding and ClusterRoleBinding."""

from __future__ import annotations

from barque.api import names
from barque.api.defaults.rbac import GROUP
from barque.api.errors import FieldError, invalid, not_supported, required
from barque.api.types.rbac_v1 import (
    ClusterRole,
    ClusterRoleBinding,
    PolicyRule,
    Role,
    RoleBinding,
    RoleRef,
    Subject,
)
from barque.api.validation.checks import spelt
from barque.api.validation.metadata import check_selector

_SUBJECTS = ["Group", "ServiceAccount", "User"]


def check_role(role: Role) -> list[FieldError]:
    return _check_rules(role.rules, namespaced=True)


def check_cluster_role(role: ClusterRole) -> list[FieldError]:
    faults = _check_rules(role.rules, namespaced=False)
    if role.aggregationRule is None:
        return faults
    path, selectors = "aggregationRule.clusterRoleSelectors", role.aggregationRule.clusterRoleSelectors
    if not selectors:
        faults.append(required(path, "at least one clusterRoleSelector required if aggregationRule is non-nil"))
    for number, selector in enumerate(selectors):
        faults += check_selector(selector, f"{path}[{number}]")
    return faults


def check_role_binding(binding: RoleBinding) -> list[FieldError]:
    faults = _check_reference(binding.roleRef or RoleRef(), ["ClusterRole", "Role"])
    return [*faults, *_check_subjects(binding.subjects, namespaced=True)]


def check_cluster_role_binding(binding: ClusterRoleBinding) -> list[FieldError]:
    faults = _check_reference(binding.roleRef or RoleRef(), ["ClusterRole"])
    return [*faults, *_check_subjects(binding.subjects, namespaced=False)]


def check_binding_update(
    new: RoleBinding | ClusterRoleBinding, old: RoleBinding | ClusterRoleBinding
) -> list[FieldError]:
    """Who may bind is judged by the role, so the role of a binding never changes."""
    if new.roleRef == old.roleRef:
        return []
    return [invalid("roleRef", new.roleRef or RoleRef(), "cannot change roleRef")]


def _check_rules(rules: list[PolicyRule], *, namespaced: bool) -> list[FieldError]:
    faults = []
    for number, rule in enumerate(rules):
        faults += _check_rule(rule, f"rules[{number}]", namespaced=namespaced)
    return faults


def _check_rule(rule: PolicyRule, path: str, *, namespaced: bool) -> list[FieldError]:
    faults = []
    if not rule.verbs:
        faults.append(required(f"{path}.verbs", "verbs must contain at least one value"))
    if rule.nonResourceURLs:
        urls = f"{path}.nonResourceURLs"
        if namespaced:
            why = "namespaced rules cannot apply to non-resource URLs"
            faults.append(invalid(urls, rule.nonResourceURLs, why))
        if rule.apiGroups or rule.resources or rule.resourceNames:
            why = "rules cannot apply to both regular resources and non-resource URLs"
            faults.append(invalid(urls, rule.nonResourceURLs, why))
        return faults
    if not rule.apiGroups:
        faults.append(required(f"{path}.apiGroups", "resource rules must supply at least one api group"))
    if not rule.resources:
        faults.append(required(f"{path}.resources", "resource rules must supply at least one resource"))
    return faults


def _check_reference(reference: RoleRef, kinds: list[str]) -> list[FieldError]:
    faults = []
    if reference.apiGroup != GROUP:
        faults.append(not_supported("roleRef.apiGroup", reference.apiGroup, [GROUP]))
    if reference.kind not in kinds:
        faults.append(not_supported("roleRef.kind", reference.kind, kinds))
    if not reference.name:
        faults.append(required("roleRef.name"))
    else:
        faults += spelt("roleRef.name", reference.name, names.path_segment)
    return faults


def _check_subjects(subjects: list[Subject], *, namespaced: bool) -> list[FieldError]:
    faults = []
    for number, subject in enumerate(subjects):
        faults += _check_subject(subject, f"subjects[{number}]", namespaced=namespaced)
    return faults


def _check_subject(subject: Subject, path: str, *, namespaced: bool) -> list[FieldError]:
    faults = [] if subject.name else [required(f"{path}.name")]
    match subject.kind:
        case "ServiceAccount":
            if subject.name:
                faults += spelt(f"{path}.name", subject.name, names.dns1123_subdomain)
            if subject.apiGroup:
                faults.append(not_supported(f"{path}.apiGroup", subject.apiGroup, [""]))
            if not namespaced and not subject.namespace:
                faults.append(required(f"{path}.namespace"))
        case "User" | "Group":
            if subject.apiGroup != GROUP:
                faults.append(not_supported(f"{path}.apiGroup", subject.apiGroup, [GROUP]))
        case _:
            faults.append(not_supported(f"{path}.kind", subject.kind, _SUBJECTS))
    return faults
