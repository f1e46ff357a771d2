"""What a user may choose of a node's resolver. Imports nothing heavy: the command line reads it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from barque.network.dns.upstreams import PORT, StubDomain

DOMAIN = "cluster.local"
# As CoreDNS' and kube-dns' clusters have it: long enough to spare us questions, short enough for a changed endpoint.
TTL_S = 5
RESOLV_CONF = Path("/etc/resolv.conf")
RESOLVED_CONF = Path("/run/systemd/resolve/resolv.conf")


class DnsSettings(NamedTuple):
    """`address` is the cluster's DNS address; `service_cidr` and `cluster_cidr` are the ranges of services and pods;
    `node_address` is another address of this node that its own processes may ask from.
    """

    address: str
    service_cidr: str
    cluster_cidr: str
    node_address: str = ""
    domain: str = DOMAIN
    ttl_s: int = TTL_S
    stub_domains: tuple[StubDomain, ...] = ()
    port: int = PORT
    resolv_conf: Path = RESOLV_CONF
    resolved_conf: Path = RESOLVED_CONF
