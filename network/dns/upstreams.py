"""Who is asked about names outside the cluster: the host's own resolvers, and the servers of stub domains. Pure.

In: the text of resolv.conf(5), stub domains as `domain=server[,server]`. Out: the servers to ask about a name.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import dns.exception
import dns.name
from dns.name import Name

PORT = 53
# As many as glibc reads.
MOST_SERVERS = 3
# systemd-resolved's own addresses: it may be told to ask us, and what it asks itself is in a file of its own.
_RESOLVED = frozenset({"127.0.0.53", "127.0.0.54"})


class Server(NamedTuple):
    address: str
    port: int = PORT

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class StubDomain(NamedTuple):
    """A domain, below which other servers are asked."""

    domain: Name
    servers: tuple[Server, ...]


def parse_stub_domain(text: str) -> StubDomain:
    """`corp.example=10.0.0.53,10.0.1.53:5353`. Raises `ValueError` with the reason."""
    domain, sign, servers = text.partition("=")
    if not sign or not domain:
        raise ValueError(f"{text!r} must be DOMAIN=SERVER[,SERVER]")
    try:
        name = dns.name.from_text(domain.lower())
    except dns.exception.DNSException as error:
        raise ValueError(f"{domain!r} is no domain name: {error}") from error
    return StubDomain(name, tuple(_parse_server(server) for server in servers.split(",")))


def servers_in(resolv_conf: str, of_resolved: str, own: Collection[str]) -> tuple[Server, ...]:
    """The servers in the host's file; for systemd-resolved's address those in its own file. Never our `own`."""
    found: list[str] = []
    for address in _name_servers(resolv_conf):
        found += _name_servers(of_resolved) or [address] if address in _RESOLVED else [address]
    kept = [address for address in dict.fromkeys(found) if address not in own]
    return tuple(Server(address) for address in kept[:MOST_SERVERS])


class Upstreams:
    """Which servers are asked about which names."""

    def __init__(self, stubs: Iterable[StubDomain] = ()) -> None:
        # The longest domain first, so that the first that fits is the one.
        self._stubs = sorted(stubs, key=lambda stub: -len(stub.domain))
        self.default: tuple[Server, ...] = ()

    def of(self, name: Name) -> Sequence[Server]:
        """The servers to ask about a name, in the order they are written in."""
        for stub in self._stubs:
            if name.is_subdomain(stub.domain):
                return stub.servers
        return self.default


def _name_servers(text: str) -> list[str]:
    found = []
    for line in text.splitlines():
        match line.split():
            case ["nameserver", address, *_] if _is_address(address):
                found.append(address)
    return found


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _parse_server(text: str) -> Server:
    if _is_address(text):
        return Server(text)
    address, _, port = text.rpartition(":")
    address = address.removeprefix("[").removesuffix("]")
    if not _is_address(address) or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r} is no server: an address is needed, perhaps with a port")
    return Server(address, int(port))
