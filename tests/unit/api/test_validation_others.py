"""Validation of the smaller kinds: Lease, PriorityClass, ServiceAccount, Endpoints."""

from __future__ import annotations

from typing import Any

import pytest

from barque.api import codec
from barque.api.defaults import apply_defaults
from barque.api.types.base import Object
from barque.api.types.coordination_v1 import Lease
from barque.api.types.core_v1 import Endpoints, ServiceAccount
from barque.api.types.scheduling_v1 import PriorityClass
from barque.api.validation import validate, validate_update


def made(kind: type[Object], name: str = "it", **fields: Any) -> Any:
    namespace = {} if kind is PriorityClass else {"namespace": "default"}
    obj = codec.from_document(kind, {"metadata": {"name": name, **namespace}} | fields)
    apply_defaults(obj)
    return obj


def faults(obj: Any) -> list[str]:
    return [str(fault) for fault in validate(obj)]


def update_faults(new: Any, old: Any) -> list[str]:
    return [str(fault) for fault in validate_update(new, old)]


@pytest.mark.parametrize(
    ("spec", "complaints"),
    [
        ({}, []),
        ({"holderIdentity": "n1", "leaseDurationSeconds": 40, "leaseTransitions": 0}, []),
        ({"leaseDurationSeconds": 0}, ["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"]),
        ({"leaseTransitions": -1}, ["spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0"]),
        (
            {"strategy": "Odd"},
            ['spec.strategy: Unsupported value: "Odd": supported values: "OldestEmulationVersion"'],
        ),
        ({"strategy": "example.com/mine", "preferredHolder": "n2"}, []),
        (
            {"preferredHolder": "n2"},
            ["spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined"],
        ),
    ],
)
def test_leases(spec: dict[str, Any], complaints: list[str]) -> None:
    assert faults(made(Lease, spec=spec)) == complaints


def test_a_lease_may_pass_to_another_holder() -> None:
    old = made(Lease, spec={"holderIdentity": "n1", "leaseTransitions": 1})
    assert update_faults(made(Lease, spec={"holderIdentity": "n2", "leaseTransitions": 2}), old) == []


@pytest.mark.parametrize(
    ("name", "fields", "complaints"),
    [
        ("high", {"value": 1_000_000_000}, []),
        ("low", {"value": -5}, []),
        (
            "higher",
            {"value": 1_000_000_001},
            ["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"],
        ),
        (
            "system-mine",
            {"value": 5},
            [
                "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use "
                "only. error: system-mine is not a known system priority class"
            ],
        ),
        ("system-node-critical", {"value": 2_000_001_000}, []),
        (
            "odd",
            {"value": 1, "preemptionPolicy": "Sometimes"},
            ['preemptionPolicy: Unsupported value: "Sometimes": supported values: "Never", "PreemptLowerPriority"'],
        ),
    ],
)
def test_priority_classes(name: str, fields: dict[str, Any], complaints: list[str]) -> None:
    assert faults(made(PriorityClass, name, **fields)) == complaints


def test_what_pods_have_taken_from_a_priority_class_stays() -> None:
    old = made(PriorityClass, value=5)
    assert update_faults(made(PriorityClass, value=5, description="new", globalDefault=True), old) == []
    assert update_faults(made(PriorityClass, value=6, preemptionPolicy="Never"), old) == [
        "value: Forbidden: may not be changed in an update.",
        'preemptionPolicy: Invalid value: "Never": field is immutable',
    ]


def test_service_accounts() -> None:
    account = made(ServiceAccount, secrets=[{"name": "s"}], automountServiceAccountToken=False)
    assert faults(account) == []
    assert update_faults(account, made(ServiceAccount)) == []
    assert [fault.split(":")[0] for fault in faults(made(ServiceAccount, "A"))] == ["metadata.name"]


def test_endpoints() -> None:
    good = {"addresses": [{"ip": "10.0.0.1", "nodeName": "n1"}], "ports": [{"port": 80}]}
    assert faults(made(Endpoints, subsets=[good])) == []
    assert faults(made(Endpoints)) == []
    assert faults(made(Endpoints, subsets=[{}])) == [
        "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"
    ]
    bad = {
        "notReadyAddresses": [{"ip": "127.0.0.1"}, {"ip": "nowhere", "hostname": "A"}],
        "ports": [{"port": 0}, {"port": 80, "name": "B", "protocol": "Odd", "appProtocol": "a b"}],
    }
    assert [fault.split(": ")[0] for fault in faults(made(Endpoints, subsets=[bad]))] == [
        "subsets[0].notReadyAddresses[0].ip",
        "subsets[0].notReadyAddresses[1].ip",
        "subsets[0].notReadyAddresses[1].hostname",
        "subsets[0].ports[0].name",
        "subsets[0].ports[0].port",
        "subsets[0].ports[1].name",
        "subsets[0].ports[1].protocol",
        "subsets[0].ports[1].appProtocol",
    ]


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("0.0.0.0", "may not be unspecified (0.0.0.0)"),
        ("::1", "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        ("169.254.1.1", "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        ("224.0.0.5", "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"),
    ],
)
def test_traffic_goes_to_no_special_address(address: str, why: str) -> None:
    subset = {"addresses": [{"ip": address}]}
    assert faults(made(Endpoints, subsets=[subset])) == [
        f'subsets[0].addresses[0].ip: Invalid value: "{address}": {why}'
    ]
