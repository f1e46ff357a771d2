"""Validation of Node."""

from __future__ import annotations

from barque.api import addresses, names
from barque.api.errors import FieldError, duplicate, forbidden, invalid
from barque.api.types.base import Quantity
from barque.api.types.core_v1 import Node, Taint
from barque.api.validation.checks import amount, spelt
from barque.api.validation.choices import choice
from barque.api.validation.requirements import is_counted, whole_amount

_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_CIDR = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
_HOST_BITS = "must not have bits set beyond the prefix length"
_FIRST_ONLY = 'node updates may not change {} except from "" to valid'


def check(node: Node) -> list[FieldError]:
    faults = _check_taints(node.spec.taints, "spec.taints")
    cidrs = node.spec.podCIDRs
    for index, cidr in enumerate(cidrs):
        faults += _check_cidr(cidr, f"spec.podCIDRs[{index}]")
    if cidrs and node.spec.podCIDR != cidrs[0]:
        faults.append(invalid("spec.podCIDRs[0]", cidrs[0], "must equal podCIDR"))
    if not faults:
        faults += _check_families(cidrs, "spec.podCIDRs")
    return [*faults, *check_status(node, node)]


def check_update(new: Node, old: Node) -> list[FieldError]:
    faults = []
    if old.spec.podCIDRs and new.spec.podCIDRs != old.spec.podCIDRs:
        faults.append(forbidden("spec.podCIDRs", _FIRST_ONLY.format("podCIDR")))
    if old.spec.providerID and new.spec.providerID != old.spec.providerID:
        faults.append(forbidden("spec.providerID", _FIRST_ONLY.format("providerID")))
    return faults


def check_status(new: Node, _old: Node) -> list[FieldError]:
    faults = _check_amounts(new.status.capacity, "status.capacity")
    faults += _check_amounts(new.status.allocatable, "status.allocatable")
    for index, address in enumerate(new.status.addresses):
        if address in new.status.addresses[:index]:
            faults.append(duplicate(f"status.addresses[{index}]", address))
    return faults


def _check_amounts(amounts: dict[str, Quantity], path: str) -> list[FieldError]:
    faults = []
    for name, value in amounts.items():
        below = f"{path}[{name}]"
        faults += amount(below, value) or (whole_amount(below, value) if is_counted(name) else [])
    return faults


def _check_taints(taints: list[Taint], path: str) -> list[FieldError]:
    faults = []
    seen: set[tuple[str, str]] = set()
    for index, taint in enumerate(taints):
        below = f"{path}[{index}]"
        faults += spelt(f"{below}.key", taint.key, names.qualified_name)
        faults += spelt(f"{below}.value", taint.value, names.label_value)
        faults += choice(f"{below}.effect", taint.effect, _EFFECTS)
        if (taint.key, taint.effect) in seen:
            twice = duplicate(below, taint)
            faults.append(twice._replace(message=f"{twice.message}: taints must be unique by key and effect pair"))
        seen.add((taint.key, taint.effect))
    return faults


def _check_cidr(cidr: str, path: str) -> list[FieldError]:
    if not addresses.is_cidr(cidr):
        return [invalid(path, cidr, _CIDR)]
    return [] if addresses.is_network(cidr) else [invalid(path, cidr, _HOST_BITS)]


def _check_families(cidrs: list[str], path: str) -> list[FieldError]:
    faults = []
    if len({":" in cidr for cidr in cidrs}) < len(cidrs):
        faults.append(invalid(path, cidrs, "may specify no more than one CIDR for each IP family"))
    return [*faults, *(duplicate(f"{path}[{i}]", cidr) for i, cidr in enumerate(cidrs) if cidr in cidrs[:i])]
