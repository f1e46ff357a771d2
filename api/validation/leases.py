"""Validation of Lease."""

from __future__ import annotations

from barque.api import names
from barque.api.errors import FieldError, forbidden, invalid, not_supported
from barque.api.types.coordination_v1 import Lease
from barque.api.validation.checks import not_negative, spelt

_STRATEGIES = ["OldestEmulationVersion"]


def check(lease: Lease) -> list[FieldError]:
    spec = lease.spec
    faults = []
    if spec.leaseDurationSeconds is not None and spec.leaseDurationSeconds <= 0:
        faults.append(invalid("spec.leaseDurationSeconds", spec.leaseDurationSeconds, "must be greater than 0"))
    faults += not_negative("spec.leaseTransitions", spec.leaseTransitions)
    if spec.strategy is not None:
        faults += _check_strategy(spec.strategy, "spec.strategy")
    if spec.preferredHolder and not spec.strategy:
        faults.append(forbidden("spec.preferredHolder", "may only be specified if `strategy` is defined"))
    return faults


def _check_strategy(strategy: str, path: str) -> list[FieldError]:
    """One of Kubernetes' own, or one of somebody's, named with their domain."""
    if "/" in strategy:
        return spelt(path, strategy, names.qualified_name)
    return [] if strategy in _STRATEGIES else [not_supported(path, strategy, _STRATEGIES)]
