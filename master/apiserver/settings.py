"""What an administrator may set about the API: addresses, node ports, tokens, tolerations, bounds on one request."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class ApiSettings:
    """Raises `ValueError` where the ranges make no sense together; the message names the setting."""

    cluster_cidr: str = "10.244.0.0/16"
    node_cidr_prefix: int = 24
    service_cidr: str = "10.96.0.0/12"
    first_node_port: int = 30000
    last_node_port: int = 32767
    service_account_issuer: str = "https://kubernetes.default.svc.cluster.local"
    # How long pods that do not say so themselves stay on a node that is not ready, or silent. Kubernetes waits 300 s.
    not_ready_toleration_s: int = 5
    unreachable_toleration_s: int = 5
    # etcd's limit and therefore what manifests in the field respect; one object must also fit one store entry.
    max_object_bytes: int = 1536 * 1024
    # One proposal to the store is encoded in one go; more writes than this would hold the event loop too long.
    max_batch_writes: int = 500

    def __post_init__(self) -> None:
        for name in ("cluster_cidr", "service_cidr"):
            try:
                ipaddress.IPv4Network(getattr(self, name))
            except ValueError as wrong:
                raise ValueError(f"{name}: {wrong}") from wrong
        if not self.cluster_network.prefixlen <= self.node_cidr_prefix <= 30:
            raise ValueError(f"node_cidr_prefix: /{self.node_cidr_prefix} does not fit into {self.cluster_cidr}")
        if self.cluster_network.overlaps(self.service_network):
            raise ValueError(f"cluster_cidr: {self.cluster_cidr} overlaps service_cidr {self.service_cidr}")
        if self.service_network.num_addresses < 16:
            raise ValueError(f"service_cidr: {self.service_cidr} holds fewer than 16 addresses")
        for name in ("not_ready_toleration_s", "unreachable_toleration_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: {getattr(self, name)} is less than 0")
        if not 1 <= self.first_node_port <= self.last_node_port <= 65535:
            raise ValueError(f"node ports: {self.first_node_port}-{self.last_node_port} is not a range of ports")

    @cached_property
    def cluster_network(self) -> ipaddress.IPv4Network:
        return ipaddress.IPv4Network(self.cluster_cidr)

    @cached_property
    def service_network(self) -> ipaddress.IPv4Network:
        return ipaddress.IPv4Network(self.service_cidr)
