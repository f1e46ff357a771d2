"""This host's own address, as others reach it: the one with the route to the peers.

Never simply the first interface: in Vagrant that is a NAT address which every machine has.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence

# Documentation addresses (RFC 5737): a route to one is the default route; nothing is ever sent.
SOMEWHERE = "192.0.2.1"
_ANY_PORT = 9


class NoAddressError(Exception):
    """No address of this host leads anywhere; the message says what was tried."""


async def default_address(peers: Sequence[str] = ()) -> str:
    """The IPv4 address of this host from which the peers are reached, else the one with the default route.

    `peers` are `host`, `host:port` or addresses; loopback ones and names that do not resolve count for nothing. Raises
    `NoAddressError` where nothing but loopback is left.
    """
    hosts = [host for peer in peers for host in await resolve(host_of(peer))]
    sources = [source_address(host) for host in [*hosts, SOMEWHERE]]
    found = choose_address(sources)
    if found is None:
        tried = ", ".join([*peers, "the default route"])
        raise NoAddressError(f"this host has no address that leads to {tried}; name one with --address")
    return found


async def own_address() -> str:
    """As `default_address`, or loopback: a machine without any network can still run a cluster of its own."""
    try:
        return await default_address()
    except NoAddressError:
        return "127.0.0.1"


def choose_address(sources: Sequence[str | None]) -> str | None:
    """The first that another host could use."""
    return next((s for s in sources if s and not _is_private_to_host(s)), None)


def host_of(peer: str) -> str:
    """The host of `host:port` or `host`."""
    host, colon, port = peer.rpartition(":")
    return host if colon and port.isdigit() else peer


def source_address(destination: str) -> str | None:
    """The address the kernel would send from; None without a route. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((destination, _ANY_PORT))
        except OSError:
            return None
        return str(probe.getsockname()[0])


async def resolve(host: str) -> list[str]:
    """The IPv4 addresses of a name or address; none where nobody tells within 5 s."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(5):
            found = await loop.getaddrinfo(host, None, family=socket.AF_INET, type=socket.SOCK_DGRAM)
    except (OSError, TimeoutError):
        return []
    return [str(sockaddr[0]) for *_, sockaddr in found]


def _is_private_to_host(address: str) -> bool:
    parsed = ipaddress.IPv4Address(address)
    return parsed.is_loopback or parsed.is_link_local or parsed.is_unspecified
