"""Tables of Role, ClusterRole, RoleBinding and ClusterRoleBinding."""

from __future__ import annotations

import datetime

from barque.api.columns.age import age
from barque.api.columns.table import AGE, NAME, Cell, Table, column, wide
from barque.api.types.rbac_v1 import ClusterRole, ClusterRoleBinding, Role, RoleBinding, Subject


def _role(role: Role | ClusterRole, _now: datetime.datetime) -> list[Cell]:
    return [role.metadata.name, role.metadata.creationTimestamp]


def _binding(binding: RoleBinding | ClusterRoleBinding, now: datetime.datetime) -> list[Cell]:
    reference = binding.roleRef
    return [
        binding.metadata.name,
        f"{reference.kind}/{reference.name}" if reference is not None else "",
        age(binding.metadata.creationTimestamp, now),
        _names(binding.subjects, "User"),
        _names(binding.subjects, "Group"),
        ", ".join(f"{s.namespace}/{s.name}" for s in binding.subjects if s.kind == "ServiceAccount"),
    ]


def _names(subjects: list[Subject], kind: str) -> str:
    return ", ".join(subject.name for subject in subjects if subject.kind == kind)


_ROLE = Table((NAME, column("Created At", "When the role was created.", "date")), _role)
_BINDING = Table(
    (
        NAME,
        column("Role", "The kind and name of the role that is given."),
        AGE,
        wide("Users", "The users that have it."),
        wide("Groups", "The groups that have it."),
        wide("ServiceAccounts", "The service accounts that have it, with their namespaces."),
    ),
    _binding,
)
TABLES = {"Role": _ROLE, "ClusterRole": _ROLE, "RoleBinding": _BINDING, "ClusterRoleBinding": _BINDING}
