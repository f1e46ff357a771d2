"""Validation of what containers and whole pods ask of a node: requests, limits, claims, overhead, resizing."""

from __future__ import annotations

from collections.abc import Callable, Collection
from fractions import Fraction

from barque.api import names, podstatus, quantity
from barque.api.errors import FieldError, duplicate, forbidden, invalid, not_supported, required
from barque.api.types.base import Quantity
from barque.api.types.core_v1 import ContainerResizePolicy, PodSpec, ResourceClaim, ResourceRequirements
from barque.api.validation.checks import amount, spelt
from barque.api.validation.choices import choice

_NameCheck = Callable[[str, str], list[FieldError]]

_CONTAINER_RESOURCES = frozenset({"cpu", "memory", "ephemeral-storage"})
# Known to quotas alone, as are most names without a prefix.
_COUNTED_RESOURCES = (
    "pods", "resourcequotas", "services", "replicationcontrollers", "secrets", "configmaps", "persistentvolumeclaims",
    "services.nodeports", "services.loadbalancers",
)  # fmt: skip
_STANDARD_RESOURCES = frozenset({
    *_CONTAINER_RESOURCES, *_COUNTED_RESOURCES,
    "requests.cpu", "requests.memory", "requests.ephemeral-storage", "limits.cpu", "limits.memory",
    "limits.ephemeral-storage", "storage", "requests.storage",
})  # fmt: skip
_HUGE_PAGES = "hugepages-"
_RESIZABLE = ("cpu", "memory")
_RESIZE_POLICIES = ("NotRequired", "RestartContainer")


def check_requirements(resources: ResourceRequirements, path: str, claims: Collection[str]) -> list[FieldError]:
    """What a container asks for; `claims` are the names of the pod's resource claims."""
    return _check_requirements(resources, path, claims, _check_container_name)


def check_overhead(overhead: dict[str, Quantity], path: str) -> list[FieldError]:
    """What the pod costs besides its containers."""
    faults: list[FieldError] = []
    for name, value in overhead.items():
        faults += _check_amount(name, value, f"{path}[{name}]", _check_container_name)
    return faults


def check_pod_requirements(spec: PodSpec, path: str, claims: Collection[str]) -> list[FieldError]:
    """What the pod as a whole asks for (KEP-2837), by itself and against its containers; `path` is the spec's."""
    resources = spec.resources
    if resources is None:
        return []
    below = f"{path}.resources"
    if spec.os is not None and spec.os.name == "windows":
        return [forbidden(below, "may not be set for a windows pod")]
    faults: list[FieldError] = []
    if resources.claims:
        faults.append(forbidden(f"{below}.claims", "claims may not be set for Resources at pod-level"))
    faults += _check_requirements(resources, below, claims, _check_pod_level_name)
    try:
        return [*faults, *_check_against_containers(spec, resources, path)]
    except ValueError:  # an amount that is none has been named where it stands
        return faults


def check_resize_policies(
    policies: list[ContainerResizePolicy], path: str, pod_restart_policy: str
) -> list[FieldError]:
    faults: list[FieldError] = []
    seen: set[str] = set()
    for index, policy in enumerate(policies):
        below = f"{path}[{index}]"
        if policy.resourceName in seen:
            faults.append(duplicate(below, policy.resourceName))
        seen.add(policy.resourceName)
        faults += choice(f"{below}.resourceName", policy.resourceName, _RESIZABLE)
        faults += choice(f"{below}.restartPolicy", policy.restartPolicy, _RESIZE_POLICIES)
        if pod_restart_policy == "Never" and policy.restartPolicy != "NotRequired":
            why = "must be 'NotRequired' when pod `restartPolicy` is 'Never'"
            faults.append(invalid(f"{below}.restartPolicy", policy.restartPolicy, why))
    return faults


def is_native(resource: str) -> bool:
    """Whether the resource is Kubernetes' own; a name without a prefix is."""
    return "/" not in resource or "kubernetes.io/" in resource


def is_overcommittable(resource: str) -> bool:
    """Whether a request may be lower than its limit."""
    return is_native(resource) and not resource.startswith(_HUGE_PAGES)


def is_counted(resource: str) -> bool:
    """Whether there is only ever a whole number of the resource."""
    return resource in _COUNTED_RESOURCES or _is_extended(resource)


def whole_amount(path: str, value: Quantity) -> list[FieldError]:
    """An amount without a fraction, down to thousandths."""
    return [invalid(path, value, "must be an integer")] if quantity.milli(value) % 1000 else []


def _check_requirements(
    resources: ResourceRequirements, path: str, claims: Collection[str], check_name: _NameCheck
) -> list[FieldError]:
    faults: list[FieldError] = []
    limits, requests = resources.limits, resources.requests
    for name, value in limits.items():
        faults += _check_amount(name, value, f"{path}.limits[{name}]", check_name)
    for name, value in requests.items():
        faults += _check_amount(name, value, f"{path}.requests[{name}]", check_name)
        if name in limits:
            faults += _check_order(name, value, limits[name], f"{path}.requests")
        elif not is_overcommittable(name):
            faults.append(required(f"{path}.limits", "Limit must be set for non overcommitable resources"))
    asked = {*limits, *requests}
    if any(name.startswith(_HUGE_PAGES) for name in asked) and asked.isdisjoint(podstatus.POD_LEVEL_RESOURCES):
        faults.append(forbidden(path, "HugePages require cpu or memory"))
    if resources.claims:
        faults += _check_claims(resources.claims, f"{path}.claims", claims)
    return faults


def _check_amount(name: str, value: Quantity, path: str, check_name: _NameCheck) -> list[FieldError]:
    faults = [] if name in podstatus.POD_LEVEL_RESOURCES else check_name(name, path)
    wrong = amount(path, value)
    if wrong:
        return [*faults, *wrong]
    if is_counted(name):
        faults += whole_amount(path, value)
    elif name.startswith(_HUGE_PAGES) and not _fills_pages(name, value):
        faults.append(invalid(path, value, f"{value} is not positive integer multiple of {name}"))
    return faults


def _check_order(name: str, request: Quantity, limit: Quantity, path: str) -> list[FieldError]:
    if request == limit:
        return []
    try:
        wanted, most = quantity.parse(request), quantity.parse(limit)
    except ValueError:  # named where it stands
        return []
    if wanted != most and not is_overcommittable(name):
        relation = "equal to"
    elif wanted > most:
        relation = "less than or equal to"
    else:
        return []
    why = f"must be {relation} {name} limit of {quantity.canonical(limit)}"
    return [invalid(path, quantity.canonical(request), why)]


def _check_name(name: str, path: str) -> list[FieldError]:
    faults = spelt(path, name, names.qualified_name)
    if not faults and "/" not in name and name not in _STANDARD_RESOURCES and not _is_quota_huge_page(name):
        return [invalid(path, name, "must be a standard resource type or fully qualified")]
    return faults


def _check_container_name(name: str, path: str) -> list[FieldError]:
    faults = _check_name(name, path)
    if "/" not in name:
        if name not in _CONTAINER_RESOURCES and not name.startswith(_HUGE_PAGES):
            faults.append(invalid(path, name, "must be a standard resource for containers"))
    elif not is_native(name) and not _is_extended(name):
        faults.append(invalid(path, name, "doesn't follow extended resource name standard"))
    return faults


def _check_pod_level_name(name: str, path: str) -> list[FieldError]:
    faults = _check_name(name, path)
    if faults or podstatus.is_pod_level(name):
        return faults
    return [not_supported(path, name, ["cpu", _HUGE_PAGES, "memory"])]


def _is_extended(name: str) -> bool:
    """Whether someone else than Kubernetes counts this resource; it must be fit for a quota, too."""
    if is_native(name) or name.startswith("requests."):
        return False
    return not names.qualified_name(f"requests.{name}")


def _is_quota_huge_page(name: str) -> bool:
    return name.startswith((_HUGE_PAGES, f"requests.{_HUGE_PAGES}"))


def _fills_pages(name: str, value: Quantity) -> bool:
    try:
        page = quantity.parse(name.removeprefix(_HUGE_PAGES))
    except ValueError:
        return False
    if page <= 0 or page.denominator != 1:
        return False
    return quantity.whole(value) % page == 0


def _check_claims(claims: list[ResourceClaim], path: str, known: Collection[str]) -> list[FieldError]:
    """Claims of the pod that a container uses, whole or one request of them, none twice."""
    faults: list[FieldError] = []
    whole: set[str] = set()
    partial: set[tuple[str, str]] = set()
    for index, claim in enumerate(claims):
        below = f"{path}[{index}]"
        if not claim.name:
            faults.append(required(below))
            continue
        if claim.request:
            faults += spelt(f"{below}.request", claim.request, names.dns1123_label)
        if claim.name in whole or (not claim.request and any(name == claim.name for name, _ in partial)):
            faults.append(duplicate(below, claim.name))
        elif (claim.name, claim.request) in partial:
            faults.append(duplicate(below, f"{claim.name}/{claim.request}"))
        if claim.request:
            partial.add((claim.name, claim.request))
        else:
            whole.add(claim.name)
        if claim.name not in known:
            listed = f": {', '.join(sorted(known))}" if known else " which is empty"
            why = f'Not found: "{claim.name}": must be one of the names in pod.spec.resourceClaims{listed}'
            faults.append(FieldError(below, "FieldValueNotFound", why))
    return faults


def _check_against_containers(spec: PodSpec, whole: ResourceRequirements, path: str) -> list[FieldError]:
    """The pod asks for no less than its containers together, and limits each of them. Raises ValueError."""
    faults: list[FieldError] = []
    for name, total in podstatus.container_requests(spec).items():
        if name in whole.requests and quantity.parse(total) > quantity.parse(whole.requests[name]):
            why = f"must be greater than or equal to aggregate container requests of {total}"
            shown = quantity.canonical(whole.requests[name])
            faults.append(invalid(f"{path}.resources.requests[{name}]", shown, why))
    for name, total in podstatus.container_limits(spec).items():
        huge = podstatus.is_huge_page(name) and name in whole.limits
        if huge and quantity.parse(total) > quantity.parse(whole.limits[name]):
            why = f"must be greater than or equal to aggregate container limits of {total}"
            shown = quantity.canonical(whole.limits[name])
            faults.append(invalid(f"{path}.resources.limits[{name}]", shown, why))
    most: dict[str, Fraction] = {name: quantity.parse(limit) for name, limit in whole.limits.items()}
    for index, container in enumerate(spec.containers):
        limits = container.resources.limits if container.resources is not None else {}
        for name, limit in limits.items():
            if name in most and quantity.parse(limit) > most[name]:
                why = f"must be less than or equal to pod limits of {quantity.canonical(whole.limits[name])}"
                below = f"{path}.containers[{index}].resources.limits[{name}]"
                faults.append(invalid(below, quantity.canonical(limit), why))
    return faults
