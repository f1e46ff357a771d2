"""Every rule of what a pod asks of a node: requests, limits, claims, overhead; one planted fault, named exactly."""

from __future__ import annotations

from typing import Any

import pytest

from barque.api.validation import pods
from tests.support.full_pod import REMOVED, planted
from tests.support.name_words import LABEL

C, M = "containers/0", "spec.containers[0]"

# Where the fault is planted, what it is, and all that is said of it.
Plant = tuple[str, Any, str | list[str]]

PLANTS: list[Plant] = [
    (
        f"{C}/resources/requests/cpu",
        "lots",
        f'{M}.resources.requests[cpu]: Invalid value: "lots": quantities must match the regular expression '
        "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
    ),
    (
        f"{C}/resources/requests/cpu",
        "-1",
        f'{M}.resources.requests[cpu]: Invalid value: "-1": must be greater than or equal to 0',
    ),
    (
        f"{C}/resources/requests/cpu",
        "1500m",
        f'{M}.resources.requests: Invalid value: "1500m": must be less than or equal to cpu limit of 1',
    ),
    (
        f"{C}/resources/requests/example.com~gpu",
        "1",
        f'{M}.resources.requests: Invalid value: "1": must be equal to example.com/gpu limit of 2',
    ),
    (
        f"{C}/resources/limits/example.com~gpu",
        REMOVED,
        f"{M}.resources.limits: Required value: Limit must be set for non overcommitable resources",
    ),
    (
        f"{C}/resources/limits/example.com~disk",
        "1500m",
        [
            f'{M}.resources.{kind}[example.com/disk]: Invalid value: "1500m": must be an integer'
            for kind in ("limits", "requests")
        ],
    ),
    (
        "initContainers/0/resources",
        {"limits": {"cpu": "1", "hugepages-2Mi": "3Mi"}, "requests": {"hugepages-2Mi": "3Mi"}},
        [
            f'spec.initContainers[0].resources.{kind}[hugepages-2Mi]: Invalid value: "3Mi": 3Mi is not positive '
            "integer multiple of hugepages-2Mi"
            for kind in ("limits", "requests")
        ],
    ),
    (
        "containers/1/resources",
        {"limits": {"hugepages-2Mi": "2Mi"}},
        "spec.containers[1].resources: Forbidden: HugePages require cpu or memory",
    ),
    (
        f"{C}/resources/limits/pods",
        "1",
        [
            f'{M}.resources.{kind}[pods]: Invalid value: "pods": must be a standard resource for containers'
            for kind in ("limits", "requests")
        ],
    ),
    (
        f"{C}/resources/limits/requests.example.com~x",
        "1",
        [
            f'{M}.resources.{kind}[requests.example.com/x]: Invalid value: "requests.example.com/x": doesn\'t follow '
            "extended resource name standard"
            for kind in ("limits", "requests")
        ],
    ),
    (
        f"{C}/resources/claims/0/name",
        "other",
        f'{M}.resources.claims[0]: Not found: "other": must be one of the names in pod.spec.resourceClaims: device',
    ),
    (f"{C}/resources/claims/0/name", "", f"{M}.resources.claims[0]: Required value"),
    (
        f"{C}/resources/claims/1",
        {"name": "device", "request": "one"},
        f'{M}.resources.claims[1]: Duplicate value: "device/one"',
    ),
    (f"{C}/resources/claims/1", {"name": "device"}, f'{M}.resources.claims[1]: Duplicate value: "device"'),
    (
        "resources/claims",
        [{"name": "device"}],
        "spec.resources.claims: Forbidden: claims may not be set for Resources at pod-level",
    ),
    (
        "resources/limits/disk",
        "1",
        'spec.resources.limits[disk]: Invalid value: "disk": must be a standard resource type or fully qualified',
    ),
    (
        "resources/limits/ephemeral-storage",
        "1",
        'spec.resources.limits[ephemeral-storage]: Unsupported value: "ephemeral-storage": supported values: "cpu", '
        '"hugepages-", "memory"',
    ),
    (
        "resources/requests/cpu",
        "400m",
        'spec.resources.requests[cpu]: Invalid value: "400m": must be greater than or equal to aggregate container '
        "requests of 500m",
    ),
    (
        "resources",
        {"requests": {"cpu": "4", "memory": "64Mi"}, "limits": {"cpu": "4", "memory": "32Mi"}},
        [
            'spec.resources.requests: Invalid value: "64Mi": must be less than or equal to memory limit of 32Mi',
            'spec.containers[0].resources.limits[memory]: Invalid value: "64Mi": must be less than or equal to pod '
            "limits of 32Mi",
        ],
    ),
    ("overhead/cpu", "-1", 'spec.overhead[cpu]: Invalid value: "-1": must be greater than or equal to 0'),
    (
        "resourceClaims/0/name",
        "Device",
        [
            f'spec.resourceClaims[0].name: Invalid value: "Device": {LABEL}',
            f'{M}.resources.claims[0]: Not found: "device": must be one of the names in pod.spec.resourceClaims: '
            "Device",
        ],
    ),
    (
        "resourceClaims/0/resourceClaimTemplateName",
        "t",
        'spec.resourceClaims[0]: Invalid value: {"name":"device","resourceClaimName":"gpu",'
        '"resourceClaimTemplateName":"t"}: at most one of `resourceClaimName` or `resourceClaimTemplateName` may be '
        "specified",
    ),
    (
        "resourceClaims/0/resourceClaimName",
        REMOVED,
        'spec.resourceClaims[0]: Invalid value: {"name":"device"}: must specify one of: `resourceClaimName`, '
        "`resourceClaimTemplateName`",
    ),
]


def said(changes: dict[str, Any]) -> list[str]:
    return [str(fault) for fault in pods.check(planted(changes))]


@pytest.mark.parametrize(("where", "value", "fault"), PLANTS, ids=[f"{w}-{i}" for i, (w, *_) in enumerate(PLANTS)])
def test_one_fault_is_named_alone_and_exactly(where: str, value: Any, fault: str | list[str]) -> None:
    assert said({where: value}) == ([fault] if isinstance(fault, str) else fault)
