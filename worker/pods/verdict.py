"""Why a node ends a pod by itself: it may not run here, or its time is up. Pure."""

from __future__ import annotations

import datetime
from typing import Literal, NamedTuple

from barque.api.types import core_v1

# What a container may change of its namespaces without touching other pods: Kubernetes' safe set.
SAFE_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_wmem",
    }
)


class Verdict(NamedTuple):
    """Why a pod is to end as Failed; becomes its status' reason and message."""

    reason: str
    message: str
    # The event that tells of it.
    event: str
    event_type: Literal["Normal", "Warning"] = "Warning"
    # How long its containers may take to stop; None for as long as the pod allows.
    grace_s: float | None = None
    # It ran, and is ended for the node's sake: what budgets and Jobs tell by.
    disrupted: bool = False


DEADLINE = Verdict(
    "DeadlineExceeded",
    "Pod was active on the node longer than the specified deadline",
    "Pod was active on the node longer than the specified deadline",
    "Normal",
)


def admit(pod: core_v1.Pod) -> Verdict | None:
    """Why this node does not take the pod; None where it does."""
    context = pod.spec.securityContext
    for sysctl in context.sysctls if context else ():
        # Kubernetes takes the kernel's own way of writing, too.
        name = sysctl.name.replace("/", ".")
        why = ""
        if name not in SAFE_SYSCTLS:
            why = "not allowlisted"
        elif name.startswith("net.") and pod.spec.hostNetwork:
            why = "not allowed with host net enabled"
        elif name.startswith("kernel.shm") and pod.spec.hostIPC:
            why = "not allowed with host ipc enabled"
        if why:
            message = f'forbidden sysctl: "{sysctl.name}" {why}'
            return Verdict("SysctlForbidden", f"Pod was rejected: {message}", message)
    return None


def deadline_in_s(pod: core_v1.Pod, started: datetime.datetime | None, now: datetime.datetime) -> float:
    """Seconds until the pod's time is up; infinite where it has all the time."""
    if pod.spec.activeDeadlineSeconds is None or started is None:
        return float("inf")
    return pod.spec.activeDeadlineSeconds - (now - started).total_seconds()
