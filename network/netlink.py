"""rtnetlink over one plain socket: links, addresses, routes and neighbours, encoded by pyroute2's messages.

Blocking, for short-lived threads: a socket belongs to the network namespace its thread was in when it was opened, so a
thread enters a pod's namespace, works there and ends. pyroute2's own sockets bring an event loop with them, which
uvloop cannot provide for netlink; its messages need none.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

# Kernel constants (linux/rtnetlink.h, linux/netlink.h, linux/neighbour.h).
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
NLMSG_ERROR, NLMSG_DONE = 2, 3
RTNH_F_ONLINK, NUD_PERMANENT, NTF_SELF, IFF_UP = 4, 0x80, 2, 1
RT_TABLE_MAIN, RTPROT_STATIC, RTN_UNICAST, RTN_UNREACHABLE, RT_SCOPE_UNIVERSE, RT_SCOPE_LINK = 254, 4, 1, 7, 0, 253
RT_SCOPE_HOST = 254
RTEXT_FILTER_SKIP_STATS = 8
# Routes between hosts bear a protocol number of our own (66, free in iproute2's list), by which they are found again.
RTPROT_BARQUE = 66

_HEADER = struct.Struct("=IHHII")
# The kernel answers at once; a longer silence means it never will.
TIMEOUT_S = 10.0


class Vxlan(NamedTuple):
    """A VXLAN device's identity: none of it can be changed while the device lives."""

    vni: int
    port: int
    lower: int
    local: str
    learning: bool = False


class Link(NamedTuple):
    """`number` is the link's index, `peer` that of a veth's other end, in whichever namespace that is."""

    number: int
    name: str
    kind: str
    peer: int
    mac: str = ""
    mtu: int = 0
    up: bool = False
    vxlan: Vxlan | None = None


class Address(NamedTuple):
    """An IPv4 address of a link."""

    number: int
    address: str
    prefix: int


class Route(NamedTuple):
    number: int
    destination: str
    prefix: int
    gateway: str = ""


class Entry(NamedTuple):
    """A permanent neighbour (`address` is at `mac`) or forwarding entry (`mac` is behind `address`) of a device."""

    address: str
    mac: str


class RouteSocket:
    """One NETLINK_ROUTE socket in the calling thread's namespace. Methods raise `OSError` with the kernel's code."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.settimeout(TIMEOUT_S)
        self._socket.bind((0, 0))
        self._sequence = 0

    def __enter__(self) -> RouteSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def links(self) -> list[Link]:
        """All links of the namespace."""
        message = ifinfmsg()
        message["attrs"] = [("IFLA_EXT_MASK", RTEXT_FILTER_SKIP_STATS)]
        return [_link(m) for m in self._ask(message, RTM_GETLINK, NLM_F_DUMP)]

    def link(self, name: str) -> Link | None:
        message = ifinfmsg()
        message["attrs"] = [("IFLA_IFNAME", name), ("IFLA_EXT_MASK", RTEXT_FILTER_SKIP_STATS)]
        try:
            return _link(self._ask(message, RTM_GETLINK, NLM_F_ACK)[0])
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise

    def routes(self, protocol: int | None = None) -> list[Route]:
        """The IPv4 routes of the main table; only those with this protocol number where one is given."""
        message = rtmsg()
        message["family"] = socket.AF_INET

        def has_protocol(data: bytes, offset: int) -> bool:
            # The sixth byte of the message's own header; to decode every pod's route would take milliseconds.
            return protocol is None or data[offset + _HEADER.size + 5] == protocol

        found = self._ask(message, RTM_GETROUTE, NLM_F_DUMP, keep=has_protocol)
        return [
            Route(
                m.get_attr("RTA_OIF") or 0,
                m.get_attr("RTA_DST") or "0.0.0.0",
                m["dst_len"],
                m.get_attr("RTA_GATEWAY") or "",
            )
            for m in found
            if (m.get_attr("RTA_TABLE") or m["table"]) == RT_TABLE_MAIN
        ]

    def addresses(self) -> list[Address]:
        """The IPv4 addresses of the namespace, each link's in the kernel's order."""
        message = ifaddrmsg()
        message["family"] = socket.AF_INET
        found = self._ask(message, RTM_GETADDR, NLM_F_DUMP)
        return [
            Address(m["index"], m.get_attr("IFA_LOCAL") or m.get_attr("IFA_ADDRESS"), m["prefixlen"]) for m in found
        ]

    def local_addresses(self) -> dict[str, int]:
        """The IPv4 addresses of the namespace, each with its link's index."""
        return {found.address: found.number for found in self.addresses()}

    def neighbours(self, index: int) -> set[Entry]:
        """The permanent IPv4 neighbours of a link."""
        message = ndmsg()
        message["family"] = socket.AF_INET
        message["attrs"] = [("NDA_IFINDEX", index)]
        return _entries(self._ask(message, RTM_GETNEIGH, NLM_F_DUMP), index)

    def forwarding(self, index: int) -> set[Entry]:
        """The permanent forwarding entries of a VXLAN device: which VTEP is behind which MAC address."""
        # The kernel takes the link to dump from this kind of message alone, unless it is told to check strictly.
        message = ifinfmsg()
        message["family"] = socket.AF_BRIDGE
        message["index"] = index
        return _entries(self._ask(message, RTM_GETNEIGH, NLM_F_DUMP, answer=ndmsg), index)

    def add_vxlan(self, name: str, mac: str, mtu: int, vxlan: Vxlan) -> None:
        """Create a VXLAN device that learns nothing by itself."""
        data = [
            ("IFLA_VXLAN_ID", vxlan.vni),
            ("IFLA_VXLAN_PORT", vxlan.port),
            ("IFLA_VXLAN_LINK", vxlan.lower),
            ("IFLA_VXLAN_LOCAL", vxlan.local),
            ("IFLA_VXLAN_LEARNING", int(vxlan.learning)),
        ]
        message = ifinfmsg()
        message["attrs"] = [
            ("IFLA_IFNAME", name),
            ("IFLA_ADDRESS", mac),
            ("IFLA_MTU", mtu),
            ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "vxlan"), ("IFLA_INFO_DATA", {"attrs": data})]}),
        ]
        self._ask(message, RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL)

    def add_veth(self, name: str, mac: str, peer: str, peer_mac: str, peer_namespace: int, mtu: int) -> None:
        """Create a pair whose peer stands in the namespace of the file descriptor from the first moment."""
        peer_attributes = [
            ("IFLA_IFNAME", peer),
            ("IFLA_ADDRESS", peer_mac),
            ("IFLA_MTU", mtu),
            ("IFLA_NET_NS_FD", peer_namespace),
        ]
        message = ifinfmsg()
        message["attrs"] = [
            ("IFLA_IFNAME", name),
            ("IFLA_ADDRESS", mac),
            ("IFLA_MTU", mtu),
            (
                "IFLA_LINKINFO",
                {
                    "attrs": [
                        ("IFLA_INFO_KIND", "veth"),
                        ("IFLA_INFO_DATA", {"attrs": [("VETH_INFO_PEER", {"attrs": peer_attributes})]}),
                    ]
                },
            ),
        ]
        self._ask(message, RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL)

    def set_link(self, index: int, *, up: bool = False, mtu: int = 0) -> None:
        message = ifinfmsg()
        message["index"] = index
        if up:
            message["flags"] = message["change"] = IFF_UP
        message["attrs"] = [("IFLA_MTU", mtu)] if mtu else []
        self._ask(message, RTM_SETLINK, NLM_F_ACK)

    def delete_link(self, index: int) -> None:
        """Delete a link; nothing if it is gone."""
        message = ifinfmsg()
        message["index"] = index
        try:
            self._ask(message, RTM_DELLINK, NLM_F_ACK)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise

    def replace_address(self, index: int, address: str, scope: int = RT_SCOPE_UNIVERSE) -> None:
        """Give the link this /32. One of `RT_SCOPE_HOST` is never chosen as the source of what leaves the host."""
        message = ifaddrmsg()
        message["family"] = socket.AF_INET
        message["prefixlen"] = 32
        message["scope"] = scope
        message["index"] = index
        message["attrs"] = [("IFA_LOCAL", address), ("IFA_ADDRESS", address)]
        self._ask(message, RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE)

    def delete_address(self, index: int, address: str, prefix: int) -> None:
        message = ifaddrmsg()
        message["family"] = socket.AF_INET
        message["prefixlen"] = prefix
        message["index"] = index
        message["attrs"] = [("IFA_LOCAL", address), ("IFA_ADDRESS", address)]
        self._ask(message, RTM_DELADDR, NLM_F_ACK)

    def add_host_route(self, route: Route, *, onlink: bool, replace: bool) -> None:
        """A route to a host's pods, found again by `RTPROT_BARQUE`; one without a gateway answers "unreachable".

        `onlink`: its gateway needs no subnet. Without `replace` it is EEXIST where there is a route to this range.
        """
        message = _host_route(route)
        message["flags"] = RTNH_F_ONLINK if onlink else 0
        self._ask(message, RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | (NLM_F_REPLACE if replace else NLM_F_EXCL))

    def delete_host_route(self, route: Route) -> None:
        """Delete one; nothing if it is gone."""
        try:
            self._ask(_host_route(route), RTM_DELROUTE, NLM_F_ACK)
        except OSError as error:
            if error.errno != errno.ESRCH:
                raise

    def replace_route(self, index: int, destination: str, prefix: int, gateway: str = "") -> None:
        message = rtmsg()
        message["family"] = socket.AF_INET
        message["dst_len"] = prefix
        message["table"] = RT_TABLE_MAIN
        message["proto"] = RTPROT_STATIC
        message["type"] = RTN_UNICAST
        message["scope"] = RT_SCOPE_UNIVERSE if gateway else RT_SCOPE_LINK
        attributes: list[tuple[str, Any]] = [("RTA_OIF", index)]
        if prefix:
            attributes.append(("RTA_DST", destination))
        if gateway:
            message["flags"] = RTNH_F_ONLINK
            attributes.append(("RTA_GATEWAY", gateway))
        message["attrs"] = attributes
        self._ask(message, RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE)

    def replace_neighbour(self, index: int, address: str, mac: str) -> None:
        """A neighbour entry that is never asked for and never expires."""
        message = ndmsg()
        message["family"] = socket.AF_INET
        message["ifindex"] = index
        message["state"] = NUD_PERMANENT
        message["attrs"] = [("NDA_DST", address), ("NDA_LLADDR", mac)]
        self._ask(message, RTM_NEWNEIGH, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE)

    def delete_neighbour(self, index: int, address: str) -> None:
        message = ndmsg()
        message["family"] = socket.AF_INET
        message["ifindex"] = index
        message["attrs"] = [("NDA_DST", address)]
        self._forget(message)

    def replace_forwarding(self, index: int, entry: Entry) -> None:
        """Send what is for the MAC address to the VTEP behind which it is."""
        self._ask(_forwarding(index, entry), RTM_NEWNEIGH, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE)

    def delete_forwarding(self, index: int, entry: Entry) -> None:
        self._forget(_forwarding(index, entry))

    def _forget(self, message: Any) -> None:
        try:
            self._ask(message, RTM_DELNEIGH, NLM_F_ACK)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise

    def _ask(
        self,
        message: Any,
        kind: int,
        flags: int,
        *,
        answer: type[Any] | None = None,
        keep: Callable[[bytes, int], bool] | None = None,
    ) -> list[Any]:
        """Send, and decode the answers that `keep` (told the data and an offset in it) wants, as `answer`s."""
        self._sequence += 1
        message["header"]["type"] = kind
        message["header"]["flags"] = flags | NLM_F_REQUEST
        message["header"]["sequence_number"] = self._sequence
        message.encode()
        self._socket.send(message.data)
        answers: list[Any] = []
        while True:
            data = self._socket.recv(1 << 16)
            if self._take(data, answer or type(message), answers, keep):
                return answers

    def _take(
        self, data: bytes, kind: type[Any], answers: list[Any], keep: Callable[[bytes, int], bool] | None
    ) -> bool:
        """Decode one datagram into `answers`; True once the answer is complete."""
        offset = 0
        while offset < len(data):
            length, message_type, _, sequence, _ = _HEADER.unpack_from(data, offset)
            if sequence == self._sequence:
                if message_type == NLMSG_DONE:
                    return True
                if message_type == NLMSG_ERROR:
                    (code,) = struct.unpack_from("=i", data, offset + _HEADER.size)
                    if code:
                        raise OSError(-code, os.strerror(-code))
                    return True
                if keep is None or keep(data, offset):
                    answer = kind(data[offset : offset + length])
                    answer.decode()
                    answers.append(answer)
            offset += (length + 3) & ~3
        return False


def _host_route(route: Route) -> Any:
    message = rtmsg()
    message["family"] = socket.AF_INET
    message["dst_len"] = route.prefix
    message["table"] = RT_TABLE_MAIN
    message["proto"] = RTPROT_BARQUE
    message["type"] = RTN_UNICAST if route.gateway else RTN_UNREACHABLE
    message["scope"] = RT_SCOPE_UNIVERSE
    through = [("RTA_OIF", route.number), ("RTA_GATEWAY", route.gateway)] if route.gateway else []
    message["attrs"] = [("RTA_DST", route.destination), *through]
    return message


def _forwarding(index: int, entry: Entry) -> Any:
    message = ndmsg()
    message["family"] = socket.AF_BRIDGE
    message["ifindex"] = index
    message["state"] = NUD_PERMANENT
    message["flags"] = NTF_SELF
    message["attrs"] = [("NDA_LLADDR", entry.mac), ("NDA_DST", entry.address)]
    return message


def _entries(messages: list[Any], index: int) -> set[Entry]:
    return {
        Entry(m.get_attr("NDA_DST") or "", m.get_attr("NDA_LLADDR") or "")
        for m in messages
        if m["ifindex"] == index and m["state"] & NUD_PERMANENT
    }


def _link(message: Any) -> Link:
    info = message.get_attr("IFLA_LINKINFO")
    kind = (info.get_attr("IFLA_INFO_KIND") if info else "") or ""
    return Link(
        message["index"],
        message.get_attr("IFLA_IFNAME"),
        kind,
        message.get_attr("IFLA_LINK") or 0,
        message.get_attr("IFLA_ADDRESS") or "",
        message.get_attr("IFLA_MTU") or 0,
        bool(message["flags"] & IFF_UP),
        _vxlan(info.get_attr("IFLA_INFO_DATA")) if kind == "vxlan" else None,
    )


def _vxlan(data: Any) -> Vxlan | None:
    if data is None:
        return None
    return Vxlan(
        data.get_attr("IFLA_VXLAN_ID") or 0,
        data.get_attr("IFLA_VXLAN_PORT") or 0,
        data.get_attr("IFLA_VXLAN_LINK") or 0,
        data.get_attr("IFLA_VXLAN_LOCAL") or "",
        bool(data.get_attr("IFLA_VXLAN_LEARNING")),
    )
