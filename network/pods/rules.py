"""The pod network's chains, rendered. Pure.

BARQUE-FORWARD accepts pod traffic before Docker's `FORWARD DROP` is reached; BARQUE-MASQUERADE gives pods that speak to
the world outside the cluster the host's address; BARQUE-HOSTPORTS and BARQUE-LOOPBACK are `host_ports`.
"""

from __future__ import annotations

from collections.abc import Collection

from barque.network.iptables.chains import (
    FORWARD,
    HOST_PORTS,
    LOOPBACK,
    MASQUERADE,
    REFUSED_SERVICES,
    ChainId,
    Rules,
)
from barque.network.pods.host_ports import Exposed, render_host_ports, render_loopback, render_own_callers


def render_pod_chains(
    node_cidr: str, cluster_cidr: str, service_cidr: str, exposed: Collection[Exposed] = ()
) -> dict[ChainId, Rules]:
    """`node_cidr` is this node's share of `cluster_cidr`; traffic to `service_cidr` is the proxy's business; `exposed`
    are the pods with ports of the host.
    """
    return {
        LOOPBACK: render_loopback(),
        FORWARD: (
            f"-m conntrack --ctstate NEW -j {REFUSED_SERVICES.name}",
            # A packet that belongs to no known connection would leave with a pod's bare address where the peer
            # expects the service's, and the peer would reset the connection (kubernetes/kubernetes#74839).
            f"-s {cluster_cidr} -m conntrack --ctstate INVALID -j DROP",
            f"-d {cluster_cidr} -m conntrack --ctstate INVALID -j DROP",
            f"-s {cluster_cidr} -j ACCEPT",
            f"-d {cluster_cidr} -j ACCEPT",
        ),
        **render_exposing_chains(node_cidr, cluster_cidr, service_cidr, exposed),
    }


def render_exposing_chains(
    node_cidr: str, cluster_cidr: str, service_cidr: str, exposed: Collection[Exposed]
) -> dict[ChainId, Rules]:
    """Those of the chains that change with host ports."""
    return {
        HOST_PORTS: render_host_ports(exposed),
        MASQUERADE: (
            *render_own_callers(exposed, node_cidr),
            f"! -s {node_cidr} -j RETURN",
            f"-d {cluster_cidr} -j RETURN",
            f"-d {service_cidr} -j RETURN",
            "-j MASQUERADE --random-fully",
        ),
    }
