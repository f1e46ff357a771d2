"""Validation of where a pod may go: tolerations, affinities, topology spread, and the gates before scheduling."""

from __future__ import annotations

from collections.abc import Sequence

from barque.api import names
from barque.api.errors import FieldError, duplicate, forbidden, invalid, not_supported, required
from barque.api.types.core_v1 import (
    Affinity,
    NodeAffinity,
    NodeSelector,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    PodAffinity,
    PodAffinityTerm,
    PodAntiAffinity,
    PodSchedulingGate,
    Toleration,
    TopologySpreadConstraint,
)
from barque.api.types.meta_v1 import LabelSelector
from barque.api.validation.checks import spelt
from barque.api.validation.choices import choice_if_set, positive
from barque.api.validation.metadata import check_selector

_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_TOLERATION_OPERATORS = ("Equal", "Exists")
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_SPREAD_ACTIONS = ("DoNotSchedule", "ScheduleAnyway")
_SPREAD_POLICIES = ("Honor", "Ignore")


def check_tolerations(tolerations: list[Toleration], path: str) -> list[FieldError]:
    faults: list[FieldError] = []
    for index, toleration in enumerate(tolerations):
        faults += _check_toleration(toleration, f"{path}[{index}]")
    return faults


def check_affinity(affinity: Affinity, path: str) -> list[FieldError]:
    faults: list[FieldError] = []
    if affinity.nodeAffinity is not None:
        faults += _check_node_affinity(affinity.nodeAffinity, f"{path}.nodeAffinity")
    if affinity.podAffinity is not None:
        faults += _check_pod_affinity(affinity.podAffinity, f"{path}.podAffinity")
    if affinity.podAntiAffinity is not None:
        faults += _check_pod_affinity(affinity.podAntiAffinity, f"{path}.podAntiAffinity")
    return faults


def check_spread(constraints: list[TopologySpreadConstraint], path: str) -> list[FieldError]:
    faults: list[FieldError] = []
    last = {(each.topologyKey, each.whenUnsatisfiable): index for index, each in enumerate(constraints)}
    for index, constraint in enumerate(constraints):
        below = f"{path}[{index}]"
        faults += positive(f"{below}.maxSkew", constraint.maxSkew)
        if not constraint.topologyKey:
            faults.append(required(f"{below}.topologyKey", "can not be empty"))
        if constraint.whenUnsatisfiable not in _SPREAD_ACTIONS:
            action = f"{below}.whenUnsatisfiable"
            faults.append(not_supported(action, constraint.whenUnsatisfiable, list(_SPREAD_ACTIONS)))
        pair = (constraint.topologyKey, constraint.whenUnsatisfiable)
        if last[pair] > index:
            shown = f"{{{pair[0]}, {pair[1]}}}"
            faults.append(duplicate(f"{below}.{{topologyKey, whenUnsatisfiable}}", shown))
        faults += _check_spread_domains(constraint, below)
        faults += _check_label_keys(constraint.matchLabelKeys, [], constraint.labelSelector, below)
        if constraint.labelSelector is not None:
            faults += check_selector(constraint.labelSelector, f"{below}.labelSelector")
    return faults


def check_scheduling_gates(gates: list[PodSchedulingGate], path: str) -> list[FieldError]:
    faults: list[FieldError] = []
    seen: set[str] = set()
    for index, gate in enumerate(gates):
        faults += spelt(f"{path}[{index}]", gate.name, names.qualified_name)
        if gate.name in seen:
            faults.append(duplicate(f"{path}[{index}]", gate.name))
        seen.add(gate.name)
    return faults


def _check_toleration(toleration: Toleration, path: str) -> list[FieldError]:
    faults = spelt(f"{path}.key", toleration.key, names.qualified_name) if toleration.key else []
    operator = toleration.operator
    if not toleration.key and operator != "Exists":
        why = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        faults.append(invalid(f"{path}.operator", operator, why))
    if toleration.tolerationSeconds is not None and toleration.effect != "NoExecute":
        why = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        faults.append(invalid(f"{path}.effect", toleration.effect, why))
    match operator:
        case "" | "Equal":
            if wrong := names.label_value(toleration.value):
                faults.append(invalid(f"{path}.operator", toleration.value, ";".join(wrong)))
        case "Exists":
            if toleration.value:
                why = "value must be empty when `operator` is 'Exists'"
                faults.append(invalid(f"{path}.operator", toleration.value, why))
        case _:
            faults.append(not_supported(f"{path}.operator", operator, list(_TOLERATION_OPERATORS)))
    return [*faults, *choice_if_set(f"{path}.effect", toleration.effect, _EFFECTS)]


def _check_node_affinity(affinity: NodeAffinity, path: str) -> list[FieldError]:
    faults: list[FieldError] = []
    if affinity.requiredDuringSchedulingIgnoredDuringExecution is not None:
        faults += _check_node_selector(affinity.requiredDuringSchedulingIgnoredDuringExecution, f"{path}.{_REQUIRED}")
    for index, term in enumerate(affinity.preferredDuringSchedulingIgnoredDuringExecution):
        below = f"{path}.{_PREFERRED}[{index}]"
        faults += _check_weight(term.weight, f"{below}.weight")
        if term.preference is not None:
            # A preference for a value that no label can have is merely never met.
            faults += _check_node_term(term.preference, f"{below}.preference", judge_values=False)
    return faults


def _check_node_selector(selector: NodeSelector, path: str) -> list[FieldError]:
    below = f"{path}.nodeSelectorTerms"
    if not selector.nodeSelectorTerms:
        return [required(below, "must have at least one node selector term")]
    faults: list[FieldError] = []
    for index, term in enumerate(selector.nodeSelectorTerms):
        faults += _check_node_term(term, f"{below}[{index}]", judge_values=True)
    return faults


def _check_node_term(term: NodeSelectorTerm, path: str, judge_values: bool) -> list[FieldError]:
    faults: list[FieldError] = []
    for index, requirement in enumerate(term.matchExpressions):
        faults += _check_expression(requirement, f"{path}.matchExpressions[{index}]", judge_values)
    for index, requirement in enumerate(term.matchFields):
        faults += _check_field(requirement, f"{path}.matchFields[{index}]")
    return faults


def _check_expression(requirement: NodeSelectorRequirement, path: str, judge_values: bool) -> list[FieldError]:
    faults: list[FieldError] = []
    match requirement.operator:
        case "In" | "NotIn":
            if not requirement.values:
                faults.append(required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
        case "Exists" | "DoesNotExist":
            if requirement.values:
                why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                faults.append(forbidden(f"{path}.values", why))
        case "Gt" | "Lt":
            if len(requirement.values) != 1:
                why = "must be specified single value when `operator` is 'Lt' or 'Gt'"
                faults.append(required(f"{path}.values", why))
        case _:
            faults.append(invalid(f"{path}.operator", requirement.operator, "not a valid selector operator"))
    faults += spelt(f"{path}.key", requirement.key, names.qualified_name)
    if judge_values:
        for index, value in enumerate(requirement.values):
            faults += spelt(f"{path}.values[{index}]", value, names.label_value)
    return faults


def _check_field(requirement: NodeSelectorRequirement, path: str) -> list[FieldError]:
    """Of a node's fields only its name can be asked for."""
    faults: list[FieldError] = []
    if requirement.operator not in ("In", "NotIn"):
        faults.append(invalid(f"{path}.operator", requirement.operator, "not a valid selector operator"))
    elif len(requirement.values) != 1:
        why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
        faults.append(required(f"{path}.values", why))
    if requirement.key != "metadata.name":
        return [*faults, invalid(f"{path}.key", requirement.key, "not a valid field selector key")]
    for index, value in enumerate(requirement.values):
        faults += spelt(f"{path}.values[{index}]", value, names.dns1123_subdomain)
    return faults


def _check_pod_affinity(affinity: PodAffinity | PodAntiAffinity, path: str) -> list[FieldError]:
    faults: list[FieldError] = []
    for index, term in enumerate(affinity.requiredDuringSchedulingIgnoredDuringExecution):
        faults += _check_pod_term(term, f"{path}.{_REQUIRED}[{index}]")
    for index, weighted in enumerate(affinity.preferredDuringSchedulingIgnoredDuringExecution):
        below = f"{path}.{_PREFERRED}[{index}]"
        faults += _check_weight(weighted.weight, f"{below}.weight")
        faults += _check_pod_term(weighted.podAffinityTerm or PodAffinityTerm(), f"{below}.podAffinityTerm")
    return faults


def _check_pod_term(term: PodAffinityTerm, path: str) -> list[FieldError]:
    faults = check_selector(term.labelSelector, f"{path}.labelSelector") if term.labelSelector is not None else []
    if term.namespaceSelector is not None:
        faults += check_selector(term.namespaceSelector, f"{path}.namespaceSelector")
    for index, namespace in enumerate(term.namespaces):
        faults += spelt(f"{path}.namespaces[{index}]", namespace, names.dns1123_label)
    faults += _check_label_keys(term.matchLabelKeys, term.mismatchLabelKeys, term.labelSelector, path)
    if not term.topologyKey:
        return [*faults, required(f"{path}.topologyKey", "can not be empty")]
    return [*faults, *spelt(f"{path}.topologyKey", term.topologyKey, names.qualified_name)]


def _check_weight(weight: int, path: str) -> list[FieldError]:
    return [] if 1 <= weight <= 100 else [invalid(path, weight, "must be in the range 1-100")]


def _check_label_keys(
    matching: list[str], mismatching: list[str], selector: LabelSelector | None, path: str
) -> list[FieldError]:
    """Keys whose values are taken from the pod itself; each is narrowed down in one place only."""
    if not matching and not mismatching:
        return []
    faults: list[FieldError] = []
    for name, keys in (("matchLabelKeys", matching), ("mismatchLabelKeys", mismatching)):
        faults += _check_key_names(keys, selector, f"{path}.{name}")
    for index in _narrowed_twice(matching, selector):
        why = "exists in both matchLabelKeys and labelSelector"
        faults.append(invalid(f"{path}.matchLabelKeys[{index}]", matching[index], why))
    for index, key in enumerate(matching):
        if key in mismatching:
            why = "exists in both matchLabelKeys and mismatchLabelKeys"
            faults.append(invalid(f"{path}.matchLabelKeys[{index}]", key, why))
    return faults


def _check_key_names(keys: list[str], selector: LabelSelector | None, path: str) -> list[FieldError]:
    if keys and selector is None:
        return [forbidden(path, "must not be specified when labelSelector is not set")]
    faults: list[FieldError] = []
    for index, key in enumerate(keys):
        faults += spelt(f"{path}[{index}]", key, names.qualified_name)
    return faults


def _narrowed_twice(matching: Sequence[str], selector: LabelSelector | None) -> list[int]:
    """The keys that the selector names, too.

    One expression for such a key may stand there: a stored selector has it, made of the pod's own label.
    """
    if selector is None:
        return []
    named = [expression.key for expression in selector.matchExpressions]
    return [i for i, key in enumerate(matching) if key in selector.matchLabels or named.count(key) > 1]


def _check_spread_domains(constraint: TopologySpreadConstraint, path: str) -> list[FieldError]:
    faults: list[FieldError] = []
    if constraint.minDomains is not None:
        faults += positive(f"{path}.minDomains", constraint.minDomains)
        if constraint.whenUnsatisfiable != "DoNotSchedule":
            action = constraint.whenUnsatisfiable
            why = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
            faults.append(invalid(f"{path}.minDomains", constraint.minDomains, why))
    for name in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
        faults += choice_if_set(f"{path}.{name}", getattr(constraint, name), _SPREAD_POLICIES)
    return faults
