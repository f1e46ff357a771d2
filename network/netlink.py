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
from typing import Any, NamedTuple

from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

# Kernel constants (linux/rtnetlink.h, linux/netlink.h, linux/neighbour.h).
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_GETADDR = 20, 22
RTM_NEWROUTE, RTM_GETROUTE = 24, 26
RTM_NEWNEIGH = 28
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
NLMSG_ERROR, NLMSG_DONE = 2, 3
RTNH_F_ONLINK, NUD_PERMANENT, IFF_UP = 4, 0x80, 1
RT_TABLE_MAIN, RTPROT_STATIC, RTN_UNICAST, RT_SCOPE_UNIVERSE, RT_SCOPE_LINK = 254, 4, 1, 0, 253
RTEXT_FILTER_SKIP_STATS = 8

_HEADER = struct.Struct("=IHHII")
# The kernel answers at once; a longer silence means it never will.
TIMEOUT_S = 10.0


class Link(NamedTuple):
    """`number` is the link's index, `peer` that of a veth's other end, in whichever namespace that is."""

    number: int
    name: str
    kind: str
    peer: int


class Route(NamedTuple):
    number: int
    destination: str
    prefix: int


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

    def routes(self) -> list[Route]:
        """The IPv4 routes of the main table."""
        message = rtmsg()
        message["family"] = socket.AF_INET
        found = self._ask(message, RTM_GETROUTE, NLM_F_DUMP)
        return [
            Route(m.get_attr("RTA_OIF") or 0, m.get_attr("RTA_DST") or "0.0.0.0", m["dst_len"])
            for m in found
            if (m.get_attr("RTA_TABLE") or m["table"]) == RT_TABLE_MAIN
        ]

    def local_addresses(self) -> dict[str, int]:
        """The IPv4 addresses of the namespace, each with its link's index."""
        message = ifaddrmsg()
        message["family"] = socket.AF_INET
        found = self._ask(message, RTM_GETADDR, NLM_F_DUMP)
        return {m.get_attr("IFA_LOCAL") or m.get_attr("IFA_ADDRESS"): m["index"] for m in found}

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

    def replace_address(self, index: int, address: str) -> None:
        """Give the link this /32."""
        message = ifaddrmsg()
        message["family"] = socket.AF_INET
        message["prefixlen"] = 32
        message["index"] = index
        message["attrs"] = [("IFA_LOCAL", address), ("IFA_ADDRESS", address)]
        self._ask(message, RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE)

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

    def _ask(self, message: Any, kind: int, flags: int) -> list[Any]:
        self._sequence += 1
        message["header"]["type"] = kind
        message["header"]["flags"] = flags | NLM_F_REQUEST
        message["header"]["sequence_number"] = self._sequence
        message.encode()
        self._socket.send(message.data)
        answers: list[Any] = []
        while True:
            data = self._socket.recv(1 << 16)
            if self._take(data, type(message), answers):
                return answers

    def _take(self, data: bytes, kind: type[Any], answers: list[Any]) -> bool:
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
                answer = kind(data[offset : offset + length])
                answer.decode()
                answers.append(answer)
            offset += (length + 3) & ~3
        return False


def _link(message: Any) -> Link:
    info = message.get_attr("IFLA_LINKINFO")
    kind = info.get_attr("IFLA_INFO_KIND") if info else ""
    return Link(message["index"], message.get_attr("IFLA_IFNAME"), kind or "", message.get_attr("IFLA_LINK") or 0)
