"""Service ports as iptables rules. Pure; the tests compare the text and send packets through it.

The way of a first packet in nat (later ones follow its connection):

    PREROUTING, OUTPUT → BARQUE-SERVICES → [levels] ┬ cluster IP → BARQUE-SVC-x → BARQUE-SEP-y → DNAT to the endpoint
                         │                          └ external address → BARQUE-EXT-x → mark, BARQUE-SVC-x
                         └ to an address of this host → BARQUE-NODEPORTS → [levels] → BARQUE-EXT-x → mark, BARQUE-SVC-x
    POSTROUTING → BARQUE-POSTROUTING: what is marked leaves with this host's address

and in filter: BARQUE-PROXIED accepts what is forwarded to endpoints outside the pods' network, BARQUE-LOCALNET guards
the loopback, on which node ports answer too.

Marked are connections from outside the pods' network, those to a node port or external address, and those of an
endpoint to itself: their answers must come back through this host. With the traffic policy Local, BARQUE-SVL-x chooses
among this node's endpoints alone, and what comes from outside keeps its address. A service port without endpoints has
no way in nat and is refused in filter; one that has some, but none here where the policy wants them here, is dropped.

A client of a service with session affinity goes where it went before: the kernel's `recent` list of an endpoint holds
those who were sent to it.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
from collections.abc import Iterable
from typing import NamedTuple

from barque.network.iptables.chains import (
    LOCALNET,
    MARK_MASQ,
    MARK_MATCH,
    MASQUERADE_MARK,
    NODE_PORTS,
    POSTROUTING,
    PROXIED,
    REFUSED_NODE_PORTS,
    REFUSED_SERVICES,
    SERVICES,
    ChainId,
    Rules,
)
from barque.network.proxy.dispatch import Entry, address_scheme, plan_levels, port_scheme
from barque.network.proxy.state import PROTOCOLS, Backend, ServicePort

_ADDRESSES = address_scheme()
_PORTS = {protocol: port_scheme(protocol) for protocol in PROTOCOLS.values()}
REFUSE = "-j REJECT --reject-with icmp-port-unreachable"


def service_chain(port: ServicePort) -> ChainId:
    """Chooses among all endpoints. Named after the service port alone, so that it stays while endpoints change."""
    return ChainId("nat", f"BARQUE-SVC-{_hash(port.name, port.protocol)}")


def local_chain(port: ServicePort) -> ChainId:
    """Chooses among this node's endpoints."""
    return ChainId("nat", f"BARQUE-SVL-{_hash(port.name, port.protocol)}")


def external_chain(port: ServicePort) -> ChainId:
    """Where connections to the node port and the external addresses go."""
    return ChainId("nat", f"BARQUE-EXT-{_hash(port.name, port.protocol)}")


def endpoint_chain(port: ServicePort, backend: Backend) -> ChainId:
    return ChainId("nat", f"BARQUE-SEP-{_hash(port.name, port.protocol, str(backend))}")


def _hash(*parts: str) -> str:
    """Sixteen characters, so that a chain's name stays within the kernel's 28."""
    digest = hashlib.sha256("|".join(parts).encode()).digest()
    return base64.urlsafe_b64encode(digest[:12]).decode()


def render_service_port(port: ServicePort, cluster_cidr: str) -> dict[ChainId, Rules]:
    """The chains that choose among a port's endpoints and those of the endpoints; nothing where it has none."""
    if not port.backends:
        return {}
    chains: dict[ChainId, Rules] = {}
    if port.is_external:
        chains[external_chain(port)] = _external_rules(port, cluster_cidr)
    # Only the way to the cluster IP asks where a connection comes from; the others have asked already.
    from_elsewhere = f"! -s {cluster_cidr} {_to_cluster_ip(port)} -j {MARK_MASQ.name}"
    if not port.internal_local or port.is_external:
        first = () if port.internal_local else (from_elsewhere,)
        chains[service_chain(port)] = first + _choose(port, port.backends, chains)
    if port.local and (port.internal_local or port.external_local):
        first = (from_elsewhere,) if port.internal_local else ()
        chains[local_chain(port)] = first + _choose(port, port.local, chains)
    return chains


def _choose(port: ServicePort, backends: tuple[Backend, ...], chains: dict[ChainId, Rules]) -> Rules:
    """Rules that send a connection to one of the endpoints, whose own chains are added to `chains`."""
    sticky: list[str] = []
    rules: list[str] = []
    protocol = f"-p {port.protocol} -m {port.protocol}"
    for place, backend in enumerate(backends):
        left = len(backends) - place
        chance = f"-m statistic --mode random --probability {1 / left:.11f} " if left > 1 else ""
        if not backend.near and not port.affinity_s:
            # A pod of another node never meets itself here, so it needs no chain of its own.
            rules.append(f"{protocol} {chance}-j DNAT --to-destination {backend}")
            continue
        chain = endpoint_chain(port, backend)
        rules.append(f"{chance}-j {chain.name}")
        remember = ""
        if port.affinity_s:
            remember = f"-m recent --set --name {chain.name} "
            seen = f"-m recent --rcheck --seconds {port.affinity_s} --reap --name {chain.name}"
            sticky.append(f"{seen} -j {chain.name}")
        chains[chain] = (
            f"-s {backend.ip}/32 -j {MARK_MASQ.name}",
            f"{protocol} {remember}-j DNAT --to-destination {backend}",
        )
    return (*sticky, *rules)


def _external_rules(port: ServicePort, cluster_cidr: str) -> Rules:
    everyone = service_chain(port).name
    if not port.external_local:
        return (f"-j {MARK_MASQ.name}", f"-j {everyone}")
    # Pods and this host itself are inside, and may go to any endpoint.
    return (
        f"-s {cluster_cidr} -j {everyone}",
        f"-m addrtype --src-type LOCAL -j {MARK_MASQ.name}",
        f"-m addrtype --src-type LOCAL -j {everyone}",
        *((f"-j {local_chain(port).name}",) if port.local else ()),
    )


def render_base() -> dict[ChainId, Rules]:
    """The chains that do not depend on any service."""
    return {
        MARK_MASQ: (f"-j MARK --or-mark {MASQUERADE_MARK:#x}",),
        POSTROUTING: (
            f"-m mark ! --mark {MARK_MATCH} -j RETURN",
            # The mark is taken off, so that a packet that passes again, within a tunnel say, is not masqueraded again.
            f"-j MARK --xor-mark {MASQUERADE_MARK:#x}",
            "-j MASQUERADE --random-fully",
        ),
        # Others' FORWARD may drop what is neither from nor to a pod: connections to endpoints on the hosts' network.
        PROXIED: (
            f"-m mark --mark {MARK_MATCH} -j ACCEPT",
            "-m conntrack --ctstate RELATED,ESTABLISHED -m conntrack --ctstate DNAT -j ACCEPT",
        ),
        # Node ports on the loopback need `route_localnet`, with which others could reach what listens there alone
        # (CVE-2020-8558): from elsewhere only answers come in.
        LOCALNET: ("! -i lo -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP",),
    }


class Door(NamedTuple):
    """Where a service port's packets are told from others: in `table`, by address, or by node port of `protocol`."""

    table: str
    protocol: str
    entry: Entry


def render_doors(port: ServicePort) -> tuple[Door, ...]:
    """The ways to a port, or the refusals where it has no endpoints. Which endpoints does not matter."""
    inside = local_chain(port) if port.internal_local else service_chain(port)
    doors = _ways(port, port.cluster_ip, inside, dropped=port.internal_local and not port.local)
    missing_here = port.external_local and not port.local
    for address in port.external_ips:
        doors += _ways(port, address, external_chain(port), dropped=missing_here, passed=True)
    if port.node_port:
        doors += _ways(port, "", external_chain(port), dropped=missing_here, passed=True)
    return tuple(doors)


def _ways(port: ServicePort, address: str, chain: ChainId, *, dropped: bool, passed: bool = False) -> list[Door]:
    """The doors of one address, or of the node port ("").

    `dropped` is whether there are endpoints, but none where they are wanted; `passed` whether some connections, those
    from inside, find a way all the same.
    """
    match = f"-p {port.protocol} -m {port.protocol} --dport {port.port if address else port.node_port}"
    if address:
        match, key, protocol = f"-d {address}/32 {match}", int(ipaddress.IPv4Address(address)), ""
    else:
        key, protocol = port.node_port, port.protocol

    def door(table: str, comment: str, target: str) -> Door:
        return Door(table, protocol, Entry(key, (f'{match} -m comment --comment "{comment}" {target}',)))

    if not port.backends:
        return [door("filter", f"{port.name} has no endpoints", REFUSE)]
    doors = [door("filter", f"{port.name} has no local endpoints", "-j DROP")] if dropped else []
    if passed or not dropped:
        doors.append(door("nat", port.name, f"-j {chain.name}"))
    return doors


def render_dispatch(doors: Iterable[Door]) -> dict[ChainId, Rules]:
    """The chains that lead a packet to its service port, and those that refuse; each after those it jumps to."""
    entries: dict[tuple[str, str], list[Entry]] = {}
    for table, protocol, entry in doors:
        entries.setdefault((table, protocol), []).append(entry)
    to_this_host = f"-m addrtype --dst-type LOCAL -j {NODE_PORTS.name}"
    chains: dict[ChainId, Rules] = {}
    for services, nodes, last in ((SERVICES, NODE_PORTS, (to_this_host,)), (REFUSED_SERVICES, REFUSED_NODE_PORTS, ())):
        table = services.table
        top: Rules = ()
        for protocol, scheme in _PORTS.items():
            rules, below = plan_levels(entries.get((table, protocol), ()), scheme)
            top += rules
            chains |= {ChainId(table, name): found for name, found in below.items()}
        chains[nodes] = top
        rules, below = plan_levels(entries.get((table, ""), ()), _ADDRESSES)
        chains |= {ChainId(table, name): found for name, found in below.items()}
        chains[services] = rules + last
    return chains


def _to_cluster_ip(port: ServicePort) -> str:
    return f"-d {port.cluster_ip}/32 -p {port.protocol} -m {port.protocol} --dport {port.port}"
