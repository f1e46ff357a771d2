"""Ports of the host that lead to pods (`hostPort`): which are taken, and their rules. Pure.

    PREROUTING, OUTPUT to an address of this host → BARQUE-HOSTPORTS → DNAT to the pod

Service ports come first where both are the same. A caller keeps its address, except the pod itself and the host's own
loopback, whose answers would not find back. A pod with host ports may be answered on the loopback (`route_localnet` of
its link); BARQUE-LOOPBACK keeps it from speaking there by itself (CVE-2020-8558).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from barque.network.conntrack import Ways
from barque.network.iptables.chains import Rules
from barque.network.pods.plan import LINK_PREFIX

LOOPBACK_NET = "127.0.0.0/8"
EVERY_ADDRESS = "0.0.0.0"


class PortMapping(NamedTuple):
    """One `hostPort`. `protocol` is TCP, UDP or SCTP; `host_ip` "" means every address of the host."""

    host_port: int
    container_port: int
    protocol: str = "TCP"
    host_ip: str = ""

    @property
    def everywhere(self) -> bool:
        return self.host_ip in ("", EVERY_ADDRESS)

    @property
    def on_loopback(self) -> bool:
        return self.everywhere or ipaddress.IPv4Address(self.host_ip).is_loopback

    def collides(self, other: PortMapping) -> bool:
        """Whether a packet could be meant for both."""
        same = (self.host_port, self.protocol) == (other.host_port, other.protocol)
        return same and (self.everywhere or other.everywhere or self.host_ip == other.host_ip)

    def __str__(self) -> str:
        return f"{self.host_ip or EVERY_ADDRESS}:{self.host_port}/{self.protocol}"


class PortTakenError(Exception):
    """Another pod of this host holds a wanted host port; the message names both."""


class Exposed(NamedTuple):
    """A pod's address and its host ports."""

    ip: str
    ports: tuple[PortMapping, ...]


def check_free(uid: str, wanted: Iterable[PortMapping], held: Mapping[str, tuple[PortMapping, ...]]) -> None:
    """Raises `PortTakenError` where another pod than `uid` holds one of the wanted ports."""
    for mapping in wanted:
        for other, taken in held.items():
            if other != uid and any(mapping.collides(one) for one in taken):
                raise PortTakenError(f"host port {mapping} is already used by pod {other}")


def render_host_ports(exposed: Collection[Exposed]) -> Rules:
    """BARQUE-HOSTPORTS; ports of one address stand before those of all."""
    mappings = sorted((mapping.everywhere, mapping, one.ip) for one in exposed for mapping in one.ports)
    return tuple(_rule(mapping, ip) for _, mapping, ip in mappings)


def _rule(mapping: PortMapping, ip: str) -> str:
    to = "" if mapping.everywhere else f"-d {mapping.host_ip}/32 "
    protocol = mapping.protocol.lower()
    return (
        f"{to}-p {protocol} -m {protocol} --dport {mapping.host_port} "
        f"-j DNAT --to-destination {ip}:{mapping.container_port}"
    )


def render_own_callers(exposed: Collection[Exposed], node_cidr: str) -> Rules:
    """The first rules of BARQUE-MASQUERADE: pods that reach themselves, and the host's loopback."""
    if not exposed:
        return ()
    selves = tuple(f"-s {one.ip}/32 -d {one.ip}/32 -j MASQUERADE" for one in sorted(exposed))
    return (f"-s {LOOPBACK_NET} -d {node_cidr} -j MASQUERADE", *selves)


def render_loopback() -> Rules:
    """BARQUE-LOOPBACK: from pods only answers come here."""
    return (f"-i {LINK_PREFIX}+ -d {LOOPBACK_NET} -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP",)


def udp_ways(exposed: Iterable[Exposed], closed: Iterable[PortMapping], host_addresses: Collection[str]) -> Ways:
    """Which pod may answer on which of the host's UDP ports; on one that was `closed`, none."""
    ways: dict[tuple[str, int], set[str]] = {}

    def put(mapping: PortMapping, answering: set[str]) -> None:
        if mapping.protocol == "UDP":
            addresses = host_addresses if mapping.everywhere else [mapping.host_ip]
            ways.update({(address, mapping.host_port): answering for address in addresses})

    for mapping in closed:
        put(mapping, set())
    for one in exposed:
        for mapping in one.ports:
            put(mapping, {one.ip})
    return ways
