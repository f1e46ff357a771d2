"""Service ports as iptables rules. Pure; the tests compare the text and send packets through it.

The way of a first packet in nat (later ones follow its connection):

    PREROUTING, OUTPUT → BARQUE-SERVICES → [levels] → BARQUE-SVC-x → BARQUE-SEP-y → DNAT to the endpoint
                         └ to an address of this host → BARQUE-NODEPORTS → [levels] → mark, BARQUE-SVC-x
    POSTROUTING → BARQUE-POSTROUTING: what is marked leaves with this host's address

Marked are connections from outside the pods' network, those to a node port, and those of an endpoint to itself: their
answers must come back through this host. A service port without endpoints has no way in nat and is refused in filter.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
from collections.abc import Iterable
from typing import NamedTuple

from barque.network.iptables.chains import (
    MARK_MASQ,
    MARK_MATCH,
    MASQUERADE_MARK,
    NODE_PORTS,
    POSTROUTING,
    REFUSED_NODE_PORTS,
    REFUSED_SERVICES,
    SERVICES,
    ChainId,
    Rules,
)
from barque.network.proxy.dispatch import Entry, address_scheme, plan_levels, port_scheme
from barque.network.proxy.state import Backend, ServicePort

_ADDRESSES = address_scheme()
_PORTS = {protocol: port_scheme(protocol) for protocol in ("tcp", "udp")}
REFUSE = "-j REJECT --reject-with icmp-port-unreachable"


def service_chain(port: ServicePort) -> ChainId:
    """Named after the service port alone, so that it stays while endpoints come and go."""
    return ChainId("nat", f"BARQUE-SVC-{_hash(port.name, port.protocol)}")


def endpoint_chain(port: ServicePort, backend: Backend) -> ChainId:
    return ChainId("nat", f"BARQUE-SEP-{_hash(port.name, port.protocol, str(backend))}")


def _hash(*parts: str) -> str:
    """Sixteen characters, so that a chain's name stays within the kernel's 28."""
    digest = hashlib.sha256("|".join(parts).encode()).digest()
    return base64.b32encode(digest)[:16].decode()


def render_service_port(port: ServicePort, cluster_cidr: str) -> dict[ChainId, Rules]:
    """The chain that chooses among a port's endpoints and the chains of these; nothing where it has none."""
    if not port.backends:
        return {}
    chains: dict[ChainId, Rules] = {}
    choose = [f"! -s {cluster_cidr} {_to_cluster_ip(port)} -j {MARK_MASQ.name}"]
    for place, backend in enumerate(port.backends):
        chain = endpoint_chain(port, backend)
        left = len(port.backends) - place
        chance = f"-m statistic --mode random --probability {1 / left:.11f} " if left > 1 else ""
        choose.append(f"{chance}-j {chain.name}")
        chains[chain] = (
            f"-s {backend.ip}/32 -j {MARK_MASQ.name}",
            f"-p {port.protocol} -m {port.protocol} -j DNAT --to-destination {backend}",
        )
    chains[service_chain(port)] = tuple(choose)
    return chains


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
    }


class Door(NamedTuple):
    """Where a service port's packets are told from others: in `table`, by cluster IP, or by node port of `protocol`."""

    table: str
    protocol: str
    entry: Entry


def render_doors(port: ServicePort) -> tuple[Door, ...]:
    """The ways to a port, or the refusals where it has no endpoints. Which endpoints does not matter."""
    table = "nat" if port.backends else "filter"
    by_address = Door(table, "", Entry(int(ipaddress.IPv4Address(port.cluster_ip)), (_address_rule(port),)))
    if not port.node_port:
        return (by_address,)
    return (by_address, Door(table, port.protocol, Entry(port.node_port, _node_port_rules(port))))


def render_dispatch(doors: Iterable[Door]) -> dict[ChainId, Rules]:
    """The chains that lead a packet to its service port, and those that refuse; each after those it jumps to."""
    entries: dict[tuple[str, str], list[Entry]] = {}
    for table, protocol, entry in doors:
        entries.setdefault((table, protocol), []).append(entry)
    to_this_host = f"! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j {NODE_PORTS.name}"
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


def _address_rule(port: ServicePort) -> str:
    if not port.backends:
        return f'{_to_cluster_ip(port)} -m comment --comment "{port.name} has no endpoints" {REFUSE}'
    return f'{_to_cluster_ip(port)} -m comment --comment "{port.name}" -j {service_chain(port).name}'


def _node_port_rules(port: ServicePort) -> Rules:
    to_node_port = f"-p {port.protocol} -m {port.protocol} --dport {port.node_port}"
    if not port.backends:
        return (f'{to_node_port} -m comment --comment "{port.name} has no endpoints" {REFUSE}',)
    return (
        f"{to_node_port} -j {MARK_MASQ.name}",
        f'{to_node_port} -m comment --comment "{port.name}" -j {service_chain(port).name}',
    )
