"""Validation of a Job's pod failure policy: which failures end it, count, or do not (KEP-3329)."""

from __future__ import annotations

from barque.api import names
from barque.api.errors import FieldError, duplicate, invalid, not_supported, required
from barque.api.types.batch_v1 import (
    JobSpec,
    PodFailurePolicy,
    PodFailurePolicyOnExitCodesRequirement,
    PodFailurePolicyOnPodConditionsPattern,
    PodFailurePolicyRule,
)
from barque.api.validation.checks import spelt
from barque.api.validation.choices import too_many

_MAX_RULES = 20
_MAX_PATTERNS = 20
_MAX_EXIT_CODES = 255
_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
_OPERATORS = ("In", "NotIn")
_STATUSES = ("False", "True", "Unknown")


def check_failure_policy(spec: JobSpec, policy: PodFailurePolicy, path: str) -> list[FieldError]:
    faults = too_many(f"{path}.rules", len(policy.rules), _MAX_RULES)
    pod_spec = spec.template.spec if spec.template is not None else None
    containers = {c.name for c in [*pod_spec.containers, *pod_spec.initContainers]} if pod_spec is not None else set()
    for index, rule in enumerate(policy.rules):
        faults += _check_rule(rule, f"{path}.rules[{index}]", spec, containers)
    return faults


def _check_rule(rule: PodFailurePolicyRule, path: str, spec: JobSpec, containers: set[str]) -> list[FieldError]:
    faults = _listed(f"{path}.action", rule.action, _ACTIONS)
    if rule.action == "FailIndex" and spec.backoffLimitPerIndex is None:
        faults.append(invalid(f"{path}.action", rule.action, "requires the backoffLimitPerIndex to be set"))
    if rule.onExitCodes is not None:
        faults += _check_exit_codes(rule.onExitCodes, f"{path}.onExitCodes", containers)
    faults += _check_conditions(rule.onPodConditions, f"{path}.onPodConditions")
    if rule.onExitCodes is not None and rule.onPodConditions:
        faults.append(_valueless(path, "specifying both OnExitCodes and OnPodConditions is not supported"))
    if rule.onExitCodes is None and not rule.onPodConditions:
        faults.append(_valueless(path, "specifying one of OnExitCodes and OnPodConditions is required"))
    return faults


def _check_exit_codes(
    codes: PodFailurePolicyOnExitCodesRequirement, path: str, containers: set[str]
) -> list[FieldError]:
    faults = _listed(f"{path}.operator", codes.operator, _OPERATORS)
    if codes.containerName and codes.containerName not in containers:
        why = "must be one of the container or initContainer names in the pod template"
        faults.append(invalid(f"{path}.containerName", codes.containerName, why))
    if not codes.values:
        faults.append(invalid(f"{path}.values", codes.values, "at least one value is required"))
    faults += too_many(f"{path}.values", len(codes.values), _MAX_EXIT_CODES)
    for index, code in enumerate(codes.values):
        below = f"{path}.values[{index}]"
        if codes.operator == "In" and code == 0:
            faults.append(invalid(below, code, "must not be 0 for the In operator"))
        if code in codes.values[:index]:
            faults.append(duplicate(below, code))
    if codes.values != sorted(codes.values):
        faults.append(invalid(f"{path}.values", codes.values, "must be ordered"))
    return faults


def _check_conditions(patterns: list[PodFailurePolicyOnPodConditionsPattern], path: str) -> list[FieldError]:
    faults = too_many(path, len(patterns), _MAX_PATTERNS)
    for index, pattern in enumerate(patterns):
        faults += spelt(f"{path}[{index}].type", pattern.type, names.qualified_name)
        faults += _listed(f"{path}[{index}].status", pattern.status, _STATUSES)
    return faults


def _listed(path: str, value: str, allowed: tuple[str, ...]) -> list[FieldError]:
    """One of `allowed`; where it is missing, the fault names them."""
    if value in allowed:
        return []
    if value:
        return [not_supported(path, value, list(allowed))]
    return [required(path, "valid values: [" + " ".join(f'"{each}"' for each in allowed) + "]")]


def _valueless(path: str, why: str) -> FieldError:
    return FieldError(path, "FieldValueInvalid", f"Invalid value: {why}")
