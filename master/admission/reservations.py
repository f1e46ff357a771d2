"""What is wrong between services and the reservations of their numbers, without I/O.

In: all services and all reservations as of one moment, and the ranges. Out: `Fault`s, in Kubernetes' words, with what
mends them, and which ranges are used up. In sound operation there is none, since a service's own op takes and frees its
numbers; a restored snapshot of another version, or narrower ranges, may bring some. Follows Kubernetes' repair loops of
cluster IPs and node ports.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from barque.api.types.core_v1 import Service
from barque.master.admission.services import CLUSTER_IP, NODE_PORT, reservations
from barque.master.apiserver.settings import ApiSettings
from barque.master.store.port import Key


class Fault(NamedTuple):
    """One number of one service. `reserve` and `release` mend it; without them somebody must look."""

    owner: Key
    reason: str
    message: str
    reserve: tuple[str, ...] = ()
    release: tuple[str, ...] = ()


def find_faults(services: Mapping[Key, Service], held: Mapping[str, Key], settings: ApiSettings) -> list[Fault]:
    """All faults, those of one service side by side."""
    needs = {key: reservations(service) for key, service in services.items()}
    faults = [fault for key in services for fault in _of_service(key, sorted(needs[key]), held, settings)]
    for reservation, owner in sorted(held.items()):
        if reservation.startswith((CLUSTER_IP, NODE_PORT)) and reservation not in needs.get(owner, ()):
            faults.append(_leak(owner, reservation))
    return faults


def full_ranges(held: Iterable[str], settings: ApiSettings) -> list[str]:
    """A sentence for each range of which nothing is left to choose."""
    listed = list(held)
    network = settings.service_network
    said = []
    # The first address names the network, the last one is its broadcast.
    if sum(r.startswith(CLUSTER_IP) for r in listed) >= network.num_addresses - 2:
        said.append(f"failed to allocate a serviceIP: range is full: no address of {network} is free")
    first, last = settings.first_node_port, settings.last_node_port
    if sum(r.startswith(f"{NODE_PORT}tcp/") for r in listed) > last - first:
        said.append(f"failed to allocate a nodePort: range is full: no port of {first}-{last} is free")
    return said


def _of_service(key: Key, needs: list[str], held: Mapping[str, Key], settings: ApiSettings) -> Iterator[Fault]:
    for reservation in needs:
        holder = held.get(reservation)
        is_address = reservation.startswith(CLUSTER_IP)
        prefix = "ClusterIP" if is_address else "Port"
        what = f"Cluster IP [IPv4]:{_number(reservation)}" if is_address else f"Port {_number(reservation)}"
        if not _is_inside(reservation, settings):
            ports = f"{settings.first_node_port}-{settings.last_node_port}"
            inside = f"the service CIDR {settings.service_network}" if is_address else f"the port range {ports}"
            yield Fault(key, f"{prefix}OutOfRange", f"{what} is not within {inside}; please recreate service")
        if holder is None:
            yield Fault(key, f"{prefix}NotAllocated", f"{what} is not allocated; repairing", reserve=(reservation,))
        elif holder != key:
            said = f"{what} was assigned to multiple services; please recreate service"
            yield Fault(key, f"{prefix}AlreadyAllocated", said)


def _leak(owner: Key, reservation: str) -> Fault:
    is_address = reservation.startswith(CLUSTER_IP)
    said = f"{'Cluster IP' if is_address else 'Port'} {_number(reservation)} is held and not used; releasing"
    return Fault(owner, "ClusterIPLeaked" if is_address else "PortLeaked", said, release=(reservation,))


def _number(reservation: str) -> str:
    return reservation.rpartition("/")[2]


def _is_inside(reservation: str, settings: ApiSettings) -> bool:
    number = _number(reservation)
    if reservation.startswith(CLUSTER_IP):
        return ipaddress.ip_address(number) in settings.service_network
    return settings.first_node_port <= int(number) <= settings.last_node_port
