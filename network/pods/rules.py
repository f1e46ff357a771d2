"""The pod network's two chains, rendered. Pure.

BARQUE-FORWARD accepts pod traffic before Docker's `FORWARD DROP` is reached; BARQUE-MASQUERADE gives pods that speak to
the world outside the cluster the host's address.
"""

from __future__ import annotations

from barque.network.iptables.chains import FORWARD, MASQUERADE, REFUSED_SERVICES, ChainId, Rules


def render_pod_chains(node_cidr: str, cluster_cidr: str, service_cidr: str) -> dict[ChainId, Rules]:
    """`node_cidr` is this node's share of `cluster_cidr`; traffic to `service_cidr` is the proxy's business."""
    return {
        FORWARD: (
            f"-m conntrack --ctstate NEW -j {REFUSED_SERVICES.name}",
            # A packet that belongs to no known connection would leave with a pod's bare address where the peer
            # expects the service's, and the peer would reset the connection (kubernetes/kubernetes#74839).
            f"-s {cluster_cidr} -m conntrack --ctstate INVALID -j DROP",
            f"-d {cluster_cidr} -m conntrack --ctstate INVALID -j DROP",
            f"-s {cluster_cidr} -j ACCEPT",
            f"-d {cluster_cidr} -j ACCEPT",
        ),
        MASQUERADE: (
            f"! -s {node_cidr} -j RETURN",
            f"-d {cluster_cidr} -j RETURN",
            f"-d {service_cidr} -j RETURN",
            "-j MASQUERADE --random-fully",
        ),
    }
