"""The `describe` pages of nodes, namespaces, config maps and secrets, in kubectl's layout. Pure."""

from __future__ import annotations

import binascii
import datetime
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from barque.cli.description import Page, annotation_field, heading, moment

_ROLE = "node-role.kubernetes.io/"
_SYSTEM = (
    ("Machine ID", "machineID"),
    ("System UUID", "systemUUID"),
    ("Boot ID", "bootID"),
    ("Kernel Version", "kernelVersion"),
    ("OS Image", "osImage"),
    ("Operating System", "operatingSystem"),
    ("Architecture", "architecture"),
    ("Container Runtime Version", "containerRuntimeVersion"),
    ("Kubelet Version", "kubeletVersion"),
)


def describe_node(page: Page, node: Any, pods: Sequence[Any], now: datetime.datetime) -> None:
    """A node; `pods` are those bound to it."""
    meta, spec, status = node.metadata, node.spec, node.status
    page.field(0, "Name", meta.name)
    roles = sorted(key.removeprefix(_ROLE) for key in meta.labels if key.startswith(_ROLE))
    page.field(0, "Roles", ",".join(roles) or "<none>")
    page.pairs(0, "Labels", meta.labels)
    annotation_field(page, meta.annotations)
    page.field(0, "CreationTimestamp", moment(meta.creationTimestamp))
    page.several(0, "Taints", [_taint(taint) for taint in spec.taints])
    page.field(0, "Unschedulable", "true" if spec.unschedulable else "false")
    rows = [
        [c.type, c.status, moment(c.lastHeartbeatTime), moment(c.lastTransitionTime), c.reason, c.message]
        for c in status.conditions
    ]
    headers = ("Type", "Status", "LastHeartbeatTime", "LastTransitionTime", "Reason", "Message")
    page.table(0, "Conditions", headers, rows, ruled=True)
    page.line(0, "Addresses:")
    for address in status.addresses:
        page.field(1, address.type, address.address)
    for name, amounts in (("Capacity", status.capacity), ("Allocatable", status.allocatable)):
        page.line(0, f"{name}:")
        for resource, amount in sorted(amounts.items()):
            page.field(1, resource, amount)
    if status.nodeInfo is not None:
        page.line(0, "System Info:")
        for name, attribute in _SYSTEM:
            page.field(1, name, getattr(status.nodeInfo, attribute))
    if spec.podCIDR:
        page.field(0, "PodCIDR", spec.podCIDR)
        page.field(0, "PodCIDRs", ",".join(spec.podCIDRs))
    _node_pods(page, [p for p in pods if p.status.phase not in ("Succeeded", "Failed")], status.allocatable, now)


def _taint(taint: Any) -> str:
    return f"{taint.key}={taint.value}:{taint.effect}" if taint.value else f"{taint.key}:{taint.effect}"


def _node_pods(page: Page, pods: Sequence[Any], allocatable: Mapping[str, Any], now: datetime.datetime) -> None:
    from barque.api import resourcelists
    from barque.api.columns import age
    from barque.api.podstatus import container_limits, requests

    headers = ("Namespace", "Name", "CPU Requests", "CPU Limits", "Memory Requests", "Memory Limits", "Age")
    page.line(0, f"Non-terminated Pods:  ({len(pods)} in total)")
    page.line(1, *headers)
    page.line(1, *("-" * len(header) for header in headers))
    asked_in_all: dict[str, Any] = {}
    limits_in_all: dict[str, Any] = {}
    for pod in pods:
        asked, limits = requests(pod.spec), container_limits(pod.spec)
        asked_in_all = resourcelists.add(asked_in_all, asked)
        limits_in_all = resourcelists.add(limits_in_all, limits)
        shares = [
            _share(amounts.get(resource, "0"), allocatable.get(resource))
            for resource in ("cpu", "memory")
            for amounts in (asked, limits)
        ]
        page.line(1, pod.metadata.namespace, pod.metadata.name, *shares, age(pod.metadata.creationTimestamp, now))
    page.line(0, "Allocated resources:")
    page.line(1, "Resource", "Requests", "Limits")
    page.line(1, "--------", "--------", "------")
    for resource in sorted({"cpu", "memory"} | (set(asked_in_all) | set(limits_in_all)) - {"pods"}):
        amounts = (asked_in_all.get(resource, "0"), limits_in_all.get(resource, "0"))
        page.line(1, resource, *(_share(amount, allocatable.get(resource)) for amount in amounts))


def _share(asked: Any, allocatable: Any) -> str:
    """`100m (5%)`."""
    from barque.api import quantity

    whole = quantity.parse(allocatable) if allocatable is not None else Fraction(0)
    percent = int(quantity.parse(asked) * 100 / whole) if whole else 0
    return f"{quantity.canonical(asked)} ({percent}%)"


def describe_namespace(page: Page, namespace: Any, _: Sequence[Any]) -> None:
    """A namespace and what keeps it, where it is being deleted."""
    heading(page, namespace, namespaced=False)
    page.field(0, "Status", namespace.status.phase)
    if namespace.status.conditions:
        rows = [
            [c.type, c.status, moment(c.lastTransitionTime), c.reason, c.message] for c in namespace.status.conditions
        ]
        page.table(0, "Conditions", ("Type", "Status", "LastTransitionTime", "Reason", "Message"), rows, ruled=True)


def describe_config_map(page: Page, config_map: Any, _: Sequence[Any]) -> None:
    """A config map with its values."""
    heading(page, config_map)
    _title(page, "Data")
    for key, value in sorted(config_map.data.items()):
        page.line(0, f"{key}:")
        page.line(0, "----")
        for line in value.splitlines():
            page.line(0, line)
        page.line(0)
    page.line(0)
    _title(page, "BinaryData", gap=False)
    for key, value in sorted(config_map.binaryData.items()):
        page.line(0, f"{key}: {_size(value)} bytes")
    page.line(0)


def describe_secret(page: Page, secret: Any, _: Sequence[Any]) -> None:
    """A secret: the sizes of its values, never the values."""
    heading(page, secret)
    page.line(0)
    page.field(0, "Type", secret.type)
    _title(page, "Data")
    for key, value in sorted(secret.data.items()):
        page.field(0, key, f"{_size(value)} bytes")


def _title(page: Page, name: str, *, gap: bool = True) -> None:
    if gap:
        page.line(0)
    page.line(0, name)
    page.line(0, "====")


def _size(encoded: str) -> int:
    try:
        return len(binascii.a2b_base64(encoded))
    except binascii.Error:
        return len(encoded)
