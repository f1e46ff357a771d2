"""The address book of one node: which pod has which address and which host ports. Pure, but for `load` and `save`.

Guarantees: no address is given twice while it is held; an address given up is reused as late as possible (never-used
ones first, then the least recently given up), so that connections to a dead pod do not reach its successor.
"""

from __future__ import annotations

import ipaddress
import json
import logging
from collections.abc import Mapping
from pathlib import Path

from barque.network.pods.host_ports import Exposed, PortMapping, check_free
from barque.network.sysctls import save_json

log = logging.getLogger(__name__)

FORMAT = 1


class AddressesExhaustedError(Exception):
    """The node's pod CIDR has no address left; the message says how many pods hold one."""


class AddressBook:
    """Addresses by pod uid. An address found in the kernel under a link of no known pod is held as a stray.

    The first two and the last address of the CIDR are never given: the network's own, one for the host, broadcast.
    """

    def __init__(
        self,
        cidr: str,
        held: Mapping[str, str] | None = None,
        released: list[str] | None = None,
        ports: Mapping[str, tuple[PortMapping, ...]] | None = None,
    ) -> None:
        self._network = ipaddress.IPv4Network(cidr)
        self._held = dict(held or {})
        self._ports = dict(ports or {})
        self._strays: dict[str, str] = {}
        self._released = [ip for ip in dict.fromkeys(released or ()) if ip not in set(self._held.values())]
        self._used = {*self._held.values(), *self._released}
        self._next = 2

    @property
    def capacity(self) -> int:
        return max(0, self._network.num_addresses - 3)

    def addresses(self) -> dict[str, str]:
        """Address by pod uid, of all pods that hold one."""
        return dict(self._held)

    def strays(self) -> dict[str, str]:
        """Address by link, of links whose pod the book does not know."""
        return dict(self._strays)

    def get(self, uid: str) -> str | None:
        return self._held.get(uid)

    def acquire(self, uid: str, link: str = "") -> str:
        """The pod's address: the one it holds, the one its link has in the kernel, or a new one."""
        held = self._held.get(uid) or self._strays.pop(link, None)
        if held is None:
            held = self._never_used() or self._least_recently_used()
        if held is None:
            raise AddressesExhaustedError(
                f"no address left in the node's pod CIDR {self._network}: "
                f"{len(self._held) + len(self._strays)} of {self.capacity} are held by pods"
            )
        self._held[uid] = held
        self._used.add(held)
        return held

    def exposed(self) -> list[Exposed]:
        """The pods with ports of the host."""
        return [Exposed(self._held[uid], ports) for uid, ports in self._ports.items()]

    def ports(self, uid: str) -> tuple[PortMapping, ...]:
        """The pod's ports of the host."""
        return self._ports.get(uid, ())

    def check_ports(self, uid: str, ports: tuple[PortMapping, ...]) -> None:
        """Raises `PortTakenError` where another pod holds one of these ports."""
        check_free(uid, ports, self._ports)

    def set_ports(self, uid: str, ports: tuple[PortMapping, ...]) -> None:
        """Give a pod that holds an address these ports, which must be free, and no others."""
        if ports:
            self._ports[uid] = ports
        else:
            self._ports.pop(uid, None)

    def release(self, uid: str) -> None:
        """Give the pod's address and ports up; nothing if it holds none."""
        self._ports.pop(uid, None)
        self._give_up(self._held.pop(uid, None))

    def release_stray(self, link: str) -> None:
        self._give_up(self._strays.pop(link, None))

    def adopt(self, links: Mapping[str, str], link_of: Mapping[str, str]) -> None:
        """Take in what the kernel has after a restart: address by link. `link_of` names the link of each known uid."""
        known = {link: uid for uid, link in link_of.items()}
        for link, ip in links.items():
            if known.get(link) is not None and self._held.get(known[link]) == ip:
                continue
            if ip in self._held.values():
                continue
            self._strays[link] = ip
            self._used.add(ip)
            if ip in self._released:
                self._released.remove(ip)

    def to_document(self) -> dict[str, object]:
        return {
            "format": FORMAT,
            "cidr": str(self._network),
            "held": self._held,
            "released": self._released,
            "ports": self._ports,
        }

    def _give_up(self, ip: str | None) -> None:
        if ip is not None:
            self._released.append(ip)

    def _never_used(self) -> str | None:
        while self._next < self._network.num_addresses - 1:
            ip = str(self._network[self._next])
            if ip not in self._used:
                return ip
            self._next += 1
        return None

    def _least_recently_used(self) -> str | None:
        for place, ip in enumerate(self._released):
            # Addresses of a former CIDR stay with their pods but are not given again.
            if ipaddress.IPv4Address(ip) in self._network:
                return self._released.pop(place)
        return None


def load(path: Path, cidr: str) -> AddressBook:
    """The book on disk for this CIDR; an empty one where there is none.

    A file that a loss of power has torn is begun anew: such a loss has taken every pod's namespace with it, and after
    anything less the file is whole. What the kernel still has is adopted in any case.
    """
    try:
        document = json.loads(path.read_text())
        held, released = dict(document["held"]), list(document["released"])
        ports = {
            uid: tuple(PortMapping(*mapping) for mapping in mappings)
            for uid, mappings in document.get("ports", {}).items()
            if uid in held
        }
    except FileNotFoundError:
        return AddressBook(cidr)
    except (ValueError, KeyError, TypeError) as error:
        log.warning("address book %s is unreadable (%s): beginning a new one from what the kernel has", path, error)
        return AddressBook(cidr)
    return AddressBook(cidr, held, released, ports)


def save(path: Path, book: AddressBook) -> None:
    """Replace the file atomically. Not fsynced: only a loss of power could lose it, and that ends every pod here."""
    save_json(path, book.to_document(), durable=False)
