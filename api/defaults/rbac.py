"""Defaults of RoleBinding and ClusterRoleBinding: which API group roles and subjects are of."""

from __future__ import annotations

from barque.api.types.rbac_v1 import ClusterRoleBinding, RoleBinding

GROUP = "rbac.authorization.k8s.io"


def default_binding(binding: RoleBinding | ClusterRoleBinding) -> None:
    if binding.roleRef is not None:
        binding.roleRef.apiGroup = binding.roleRef.apiGroup or GROUP
    for subject in binding.subjects:
        if subject.kind in ("User", "Group"):
            subject.apiGroup = subject.apiGroup or GROUP
