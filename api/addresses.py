"""Arithmetic on IPv4 and IPv6 addresses and ranges. Ranges are CIDR strings; a ValueError names what is not one."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from functools import lru_cache

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@lru_cache(maxsize=1024)
def network(cidr: str) -> Network:
    """The range, strictly: host bits must be zero."""
    return ipaddress.ip_network(cidr)


def size(cidr: str) -> int:
    """How many addresses the range has, its own and the broadcast address included."""
    return network(cidr).num_addresses


def hosts(cidr: str) -> Iterator[str]:
    """The usable addresses in order, without the network's own and the broadcast address; lazily."""
    return map(str, network(cidr).hosts())


def nth(cidr: str, index: int) -> str:
    """The address `index` steps from the range's first. Raises ValueError outside the range."""
    found = network(cidr)
    if not 0 <= index < found.num_addresses:
        raise ValueError(f"{cidr} has no address number {index}")
    return str(found.network_address + index)


def cluster_dns(service_cidr: str) -> str:
    """Where pods ask for names, the address of the Service kube-system/kube-dns: the tenth of the service range."""
    return nth(service_cidr, 10)


def offset(cidr: str, address: str) -> int:
    """The inverse of `nth`. Raises ValueError where the address lies outside."""
    if not contains(cidr, address):
        raise ValueError(f"{address} is not in {cidr}")
    return int(ipaddress.ip_address(address)) - int(network(cidr).network_address)


def contains(cidr: str, part: str) -> bool:
    """Whether an address or a whole range lies in the range; False across families."""
    outer = network(cidr)
    inner = ipaddress.ip_network(part)
    return (
        inner.version == outer.version
        and int(inner.network_address) >= int(outer.network_address)
        and (int(inner.broadcast_address) <= int(outer.broadcast_address))
    )


def overlaps(a: str, b: str) -> bool:
    first, second = network(a), network(b)
    return first.version == second.version and first.overlaps(second)


def subnets(cidr: str, prefix: int) -> list[str]:
    """The ranges of this prefix length that make up the range, in order."""
    return [str(subnet) for subnet in network(cidr).subnets(new_prefix=prefix)]


def is_ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def is_ip(text: str) -> bool:
    """Whether it is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_cidr(text: str) -> bool:
    """Whether it is an address range with a prefix length; host bits may be set."""
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return "/" in text


def is_network(text: str) -> bool:
    """Whether it is an address range whose host bits are zero."""
    try:
        network(text)
    except ValueError:
        return False
    return "/" in text


def special(address: str) -> list[str]:
    """Why traffic is not to be sent to this address, in Kubernetes' words; nothing for an ordinary one."""
    parsed = ipaddress.ip_address(address)
    link_local_multicast = ipaddress.ip_network("224.0.0.0/24" if parsed.version == 4 else "ff02::/16")
    faults = {
        f"unspecified ({address})": parsed.is_unspecified,
        "in the loopback range (127.0.0.0/8, ::1/128)": parsed.is_loopback,
        "in the link-local range (169.254.0.0/16, fe80::/10)": parsed.is_link_local,
        "in the link-local multicast range (224.0.0.0/24, ff02::/10)": parsed in link_local_multicast,
    }
    return [words for words, applies in faults.items() if applies]
