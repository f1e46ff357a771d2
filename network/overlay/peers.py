"""Which nodes the overlay leads to, and what is wrong with addresses and ranges. Pure.

In: the cluster's Nodes as they are, this node and its underlay. Out: a `Chart`: the peers to be reached, a `Fault` if
this node's own part is wrong (its condition NetworkUnavailable), and remarks about others. All nodes judge alike: of
two nodes whose ranges overlap, every node keeps the older one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import NamedTuple

from barque.api import conditions
from barque.api.views import NodeView
from barque.network.overlay.settings import Backend
from barque.network.overlay.underlay import Underlay

# Outer Ethernet, IPv4, UDP and VXLAN headers (RFC 7348).
VXLAN_OVERHEAD_BYTES = 50
# What IPv6 asks of every link, and what tunnels and VPNs within pods expect.
MIN_MTU_BYTES = 1280
# A cluster whose only host has no network but loopback has no packets to fit into another's.
LOOPBACK_MTU_BYTES = 1500


class Own(NamedTuple):
    """This node. `address` is the one that the cluster knows it by, mostly but not always its underlay's."""

    name: str
    pod_cidr: str
    address: str
    underlay: Underlay


class Ranges(NamedTuple):
    """The cluster's ranges of addresses."""

    cluster_cidr: str
    service_cidr: str


class Peer(NamedTuple):
    """Another node: its address on the underlay, and the range of its pods."""

    name: str
    address: str
    pod_cidr: str


class Fault(NamedTuple):
    """Why this node's pods are cut off from others: a condition's reason and message."""

    reason: str
    message: str


class Chart(NamedTuple):
    peers: tuple[Peer, ...]
    fault: Fault | None = None
    remarks: tuple[str, ...] = ()


class _Claim(NamedTuple):
    """A node that has what the overlay needs of it."""

    since: str
    name: str
    address: ipaddress.IPv4Address
    network: ipaddress.IPv4Network
    ready: bool


def overlay_mtu(backend: Backend, underlay: Underlay) -> int:
    """The largest packet in bytes that pods may send to another host."""
    if underlay.loopback:
        return LOOPBACK_MTU_BYTES
    return underlay.mtu - (VXLAN_OVERHEAD_BYTES if backend == "vxlan" else 0)


def draw_chart(nodes: Iterable[NodeView], own: Own, ranges: Ranges, backend: Backend) -> Chart:
    """The peers of `own` among the nodes (which may or may not include itself)."""
    claims = sorted(claim for node in nodes if (claim := _claim(node)) is not None)
    others = [claim for claim in claims if claim.name != own.name]
    # A node that is not registered yet is the newest of all.
    since = next((claim.since for claim in claims if claim.name == own.name), "~")
    address, network = ipaddress.IPv4Address(own.address), ipaddress.IPv4Network(own.pod_cidr)
    own_claim = _Claim(since, own.name, address, network, True)
    faults = [*_range_faults(own, ranges), *_mtu_faults(own.underlay, backend), *_twin_faults(own_claim, others)]
    remarks = [*_wide_underlay(own, ranges), *_twins(others)]
    held = _Held([own_claim, *others])
    peers: list[Peer] = []
    for claim in sorted([own_claim, *others]):
        overlapped = held.overlapped(claim)
        why = f"the pod network {claim.network} of node {claim.name} overlaps {overlapped}" if overlapped else ""
        if claim is own_claim:
            faults += [Fault("PodCIDROverlap", why)] if why else []
        else:
            why = why or _unreachable(claim, own, held.host_in(claim.network), backend)
            if not why:
                peers.append(Peer(claim.name, str(claim.address), str(claim.network)))
        if not why:
            held.keep(claim)
        elif claim is not own_claim:
            remarks.append(why)
    return Chart(tuple(peers), faults[0] if faults else None, tuple(remarks))


def what_counts(node: NodeView) -> object:
    """All of a node that a chart depends on."""
    return _claim(node)


class _Held:
    """Which ranges are kept so far, found in as many steps as there are lengths of prefixes, however many nodes."""

    def __init__(self, claims: Iterable[_Claim]) -> None:
        claims = list(claims)
        self._lengths = sorted({claim.network.prefixlen for claim in claims})
        # Whoever holds a range, or a part of it, by (length, first address).
        self._exact: dict[tuple[int, int], _Claim] = {}
        self._within: dict[tuple[int, int], _Claim] = {}
        self._hosts = {
            (length, _first(claim.address, length)): claim.address for length in self._lengths for claim in claims
        }

    def keep(self, claim: _Claim) -> None:
        own_length, address = claim.network.prefixlen, claim.network.network_address
        self._exact[own_length, int(address)] = claim
        for length in self._lengths:
            if length <= own_length:
                self._within.setdefault((length, _first(address, length)), claim)

    def overlapped(self, claim: _Claim) -> str:
        """A range that is kept already and overlaps this one, and whose it is; "" for none."""
        own_length, address = claim.network.prefixlen, claim.network.network_address
        keys = [(length, _first(address, length)) for length in self._lengths if length <= own_length]
        found = next((self._exact[key] for key in keys if key in self._exact), None)
        found = found or self._within.get((own_length, int(address)))
        return f"{found.network} of node {found.name}" if found else ""

    def host_in(self, network: ipaddress.IPv4Network) -> ipaddress.IPv4Address | None:
        """The address of a node that is within a range of pods."""
        return self._hosts.get((network.prefixlen, int(network.network_address)))


def _first(address: ipaddress.IPv4Address, length: int) -> int:
    """The first address of the range of this length that holds the address."""
    return int(address) >> (32 - length) << (32 - length)


def _claim(node: NodeView) -> _Claim | None:
    """None where the node is not far enough yet, or says nothing that could be used."""
    address = next((a.address for a in node.status.addresses if a.type == "InternalIP"), "")
    try:
        return _Claim(
            node.metadata.creationTimestamp,
            node.metadata.name,
            ipaddress.IPv4Address(address),
            ipaddress.IPv4Network(node.spec.podCIDR),
            conditions.is_true(node.status.conditions, "Ready"),
        )
    except ValueError:
        return None


def _range_faults(own: Own, ranges: Ranges) -> list[Fault]:
    """Ranges that take each other's addresses."""
    pods, services = ipaddress.IPv4Network(ranges.cluster_cidr), ipaddress.IPv4Network(ranges.service_cidr)
    outside, carrier = own.underlay.network, f"the network {own.underlay.network} of interface {own.underlay.name}"
    faults: list[Fault] = []
    if outside.subnet_of(services):
        faults.append(Fault("ServiceCIDROverlap", f"the range of services {services} overlaps {carrier}"))
    if outside.subnet_of(pods):
        faults.append(Fault("PodCIDROverlap", f"the range of pods {pods} overlaps {carrier}"))
    if pods.overlaps(services):
        faults.append(Fault("PodCIDROverlap", f"the range of pods {pods} overlaps the range of services {services}"))
    if not ipaddress.IPv4Network(own.pod_cidr).subnet_of(pods):
        faults.append(
            Fault(
                "PodCIDROutOfRange",
                f"the masters gave this node {own.pod_cidr}, which is not within {pods}: start the worker with the "
                "masters' --cluster-cidr",
            )
        )
    return faults


def _wide_underlay(own: Own, ranges: Ranges) -> list[str]:
    """A network of hosts that is wider than a range of the cluster works, but for the hosts that are in the range."""
    outside = own.underlay.network
    return [
        f"hosts of {own.underlay.name}'s network {outside} that are within {inside} cannot be reached"
        for inside in map(ipaddress.IPv4Network, ranges)
        if inside != outside and inside.subnet_of(outside)
    ]


def _mtu_faults(underlay: Underlay, backend: Backend) -> list[Fault]:
    mtu = overlay_mtu(backend, underlay)
    if mtu >= MIN_MTU_BYTES:
        return []
    what = f"the MTU {underlay.mtu} of interface {underlay.name} leaves {mtu} bytes for pods' packets"
    return [Fault("MTUTooSmall", f"{what}, fewer than {MIN_MTU_BYTES}")]


def _twin_faults(own: _Claim, others: list[_Claim]) -> list[Fault]:
    """Another node that is alive with this one's address; one that is not is a former registration of this host."""
    return [
        Fault(
            "DuplicateAddress",
            f"node {other.name} has the address {own.address} as well: name another with --node-ip or --interface",
        )
        for other in others
        if other.address == own.address and other.ready
    ]


def _twins(others: list[_Claim]) -> list[str]:
    first: dict[ipaddress.IPv4Address, str] = {}
    return [
        f"nodes {holder} and {other.name} both have the address {other.address}"
        for other in others
        if (holder := first.setdefault(other.address, other.name)) != other.name
    ]


def _unreachable(claim: _Claim, own: Own, host: ipaddress.IPv4Address | None, backend: Backend) -> str:
    """Why no route to this node may be made; "" where it may. `host` is a node's address within its range, if any."""
    underlay = own.underlay
    whose = f"the pod network {claim.network} of node {claim.name}"
    if host is not None:
        return f"{whose} contains the address {host} of a node"
    if underlay.network.subnet_of(claim.network):
        return f"{whose} overlaps the network {underlay.network} of interface {underlay.name}"
    if str(claim.address) in (own.address, underlay.address):
        return f"node {claim.name} has this node's address {claim.address}"
    if backend == "host-gw" and claim.address not in underlay.network:
        return (
            f"node {claim.name} at {claim.address} is not on the network {underlay.network} of interface "
            f"{underlay.name}, as host-gw needs: use --overlay vxlan"
        )
    return ""
