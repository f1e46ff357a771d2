"""The network that the hosts are in, seen from this master, and whether the cluster's ranges leave it alone.

In: this host's address and its routes, as the kernel tells them in `/proc/net/route`. Out: a `ValueError` of one line
where the addresses of services or of pods would hide those of hosts: rules and routes for the former go before the
underlay's, so the hosts would lose one another. A network of hosts that is wider than a range (10.0.0.0/8) works for
all but the hosts within the range, so that is only said. Only the network of the master's own address counts; a host
that is a worker too has routes to pods, which lie in the cluster's range as they must.
"""

from __future__ import annotations

import ipaddress
import logging
import struct
from pathlib import Path

from barque.master.apiserver.settings import ApiSettings

log = logging.getLogger(__name__)

_ROUTES = Path("/proc/net/route")


def read_routes() -> str:
    """The kernel's IPv4 routes; "" where it tells none."""
    try:
        return _ROUTES.read_text()
    except OSError:
        return ""


def underlay_network(address: str, routes: str) -> ipaddress.IPv4Network:
    """The network that `address` is in: that of its narrowest route without a gateway, else the address alone."""
    own = ipaddress.IPv4Address(address)
    direct = [network for network in _direct_networks(routes) if own in network]
    return max(direct, key=lambda network: network.prefixlen, default=ipaddress.IPv4Network(own))


def check_ranges(settings: ApiSettings, address: str, routes: str) -> None:
    """Raise `ValueError` where the range of services or pods holds the whole network of this master's address; warn
    where it holds a part of it.
    """
    try:
        underlay = underlay_network(address, routes)
    except ipaddress.AddressValueError:
        # A name; what it resolves to may change.
        return
    for name, network in (("service_cidr", settings.service_network), ("cluster_cidr", settings.cluster_network)):
        if not network.overlaps(underlay):
            continue
        what = f"{name}: {network} overlaps {underlay}, the network of this master's address {address}"
        if underlay.subnet_of(network) or ipaddress.IPv4Address(address) in network:
            raise ValueError(f"{what}; choose a range that no host uses")
        log.warning("%s; hosts within the range cannot be reached from others", what)


def _direct_networks(routes: str) -> list[ipaddress.IPv4Network]:
    found = []
    for line in routes.splitlines()[1:]:
        _, destination, gateway, *_, mask, _, _, _ = line.split()
        if int(gateway, 16) == 0 and int(mask, 16):
            found.append(ipaddress.IPv4Network((_address(destination), str(_address(mask)))))
    return found


def _address(digits: str) -> ipaddress.IPv4Address:
    """The kernel writes addresses as numbers of the host's byte order."""
    return ipaddress.IPv4Address(struct.pack("=I", int(digits, 16)))
