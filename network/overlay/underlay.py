"""The underlay: the link and address of this host that carry the overlay's packets.

In: what the user named (an interface, an address), the masters' addresses, and the host's links. Out: an `Underlay`.
Guarantees: what the user names wins; otherwise it is the address with the route to the masters, never simply the first
interface. `choose_underlay` is pure; `find_underlay` reads this host.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from barque.client.address import NoAddressError, default_address, host_of, resolve
from barque.network.netlink import Address, RouteSocket


class Underlay(NamedTuple):
    """`number`, `name` and `mtu` (bytes) are the link's; `address` is the one packets leave with."""

    number: int
    name: str
    mtu: int
    address: str
    prefix: int

    @property
    def network(self) -> ipaddress.IPv4Network:
        """The hosts that are reached without a router."""
        return ipaddress.IPv4Network((self.address, self.prefix), strict=False)

    @property
    def loopback(self) -> bool:
        return ipaddress.IPv4Address(self.address).is_loopback


class UnderlayError(Exception):
    """There is no link that could carry the overlay; `reason` is a condition's, the message one sentence."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Masters:
    """The masters' addresses. What a name last meant is kept: a silent name server must not move this host."""

    def __init__(self, masters: Sequence[str]) -> None:
        self._known: dict[str, list[str]] = {host_of(master): [] for master in masters}

    async def addresses(self) -> list[str]:
        for host in self._known:
            self._known[host] = await resolve(host) or self._known[host]
        return [address for found in self._known.values() for address in found]


async def find_underlay(interface: str, node_ip: str, masters: Sequence[str]) -> Underlay:
    """The link and address to use now. "" for `interface` and `node_ip`: as the routes to the masters say.

    Raises `UnderlayError`.
    """
    names, addresses = await asyncio.to_thread(_read)
    address = node_ip if node_ip in {found.address for found in addresses} else ""
    if not interface and not address:
        # Where others are told an address that is a router's, this host still has one of its own.
        try:
            address = await default_address(masters)
        except NoAddressError as error:
            tried = ", ".join([*masters, "the default route"])
            message = f"this host has no address that leads to {tried}; name one with --node-ip or --interface"
            raise UnderlayError("AddressNotFound", message) from error
    chosen = choose_underlay(names, addresses, interface, address)
    mtu = await asyncio.to_thread(_mtu, names[chosen.number])
    return Underlay(chosen.number, names[chosen.number], mtu, chosen.address, chosen.prefix)


def choose_underlay(names: Mapping[int, str], addresses: Sequence[Address], interface: str, preferred: str) -> Address:
    """The `preferred` address if it is there (on that interface, where one is named), else the interface's first."""
    if interface and interface not in names.values():
        raise UnderlayError("InterfaceNotFound", f"this host has no interface {interface}")
    on_it = [found for found in addresses if not interface or names.get(found.number) == interface]
    for found in on_it:
        if found.address == preferred:
            return found
    if interface and on_it:
        return on_it[0]
    if interface:
        raise UnderlayError("AddressNotFound", f"interface {interface} has no IPv4 address")
    raise UnderlayError("AddressNotFound", f"no interface of this host has the address {preferred}")


def _read() -> tuple[dict[int, str], list[Address]]:
    with RouteSocket() as sock:
        return dict(socket.if_nameindex()), sock.addresses()


def _mtu(name: str) -> int:
    with RouteSocket() as sock:
        link = sock.link(name)
    if link is None:
        raise UnderlayError("InterfaceNotFound", f"interface {name} has vanished")
    return link.mtu
