"""Warnings about ServiceAccounts."""

from __future__ import annotations

from barque.api.types.core_v1 import ServiceAccount

_MOUNTABLE = "kubernetes.io/enforce-mountable-secrets"


def about_account(account: ServiceAccount) -> list[str]:
    if _MOUNTABLE not in account.metadata.annotations:
        return []
    instead = "prefer separate namespaces to isolate access to mounted secrets"
    return [f"metadata.annotations[{_MOUNTABLE}]: deprecated in v1.32+; {instead}"]


def about_changed_account(new: ServiceAccount, old: ServiceAccount) -> list[str]:
    return [] if about_account(old) else about_account(new)
