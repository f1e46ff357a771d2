"""`KernelEvents`: wakes its owner when something that the overlay rests on changes in the kernel.

In: netlink's announcements of links, addresses, routes and neighbours in the namespace of the thread that starts it.
Out: a call per batch of announcements of which one counts. Guarantees: what pods' own links and routes do wakes nobody;
announcements that were lost count as a change. `counts` is pure.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Callable, Collection

from barque.network.netlink import (
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_DELNEIGH,
    RTM_DELROUTE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWNEIGH,
    RTPROT_BARQUE,
)

# Groups of linux/rtnetlink.h: links, neighbours and forwarding entries, IPv4 addresses, IPv4 routes.
RTMGRP_LINK, RTMGRP_NEIGH, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE = 0x1, 0x4, 0x10, 0x40
SO_RCVBUFFORCE = 33
# A host that starts all its pods at once announces some hundred kilobytes.
BUFFER_BYTES = 1 << 20
# As much is read before other tasks get the loop.
DATAGRAMS_AT_ONCE = 64

_HEADER = struct.Struct("=IHHII")
_LINK_MESSAGE = struct.Struct("=BxHi")
_ROUTE_MESSAGE = struct.Struct("=8B")
_NEIGHBOUR_MESSAGE = struct.Struct("=B3xi")


def counts(data: bytes, links: Collection[int]) -> bool:
    """Whether a datagram of announcements concerns one of these links, any address, or a route of ours."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, offset)
        body = offset + _HEADER.size
        if kind in (RTM_NEWADDR, RTM_DELADDR):
            return True
        if kind in (RTM_NEWLINK, RTM_DELLINK) and _LINK_MESSAGE.unpack_from(data, body)[2] in links:
            return True
        if kind == RTM_DELROUTE and _ROUTE_MESSAGE.unpack_from(data, body)[5] == RTPROT_BARQUE:
            return True
        if kind in (RTM_NEWNEIGH, RTM_DELNEIGH) and _NEIGHBOUR_MESSAGE.unpack_from(data, body)[1] in links:
            return True
        offset += max((length + 3) & ~3, _HEADER.size)
    return False


class KernelEvents:
    """Use as a context manager on the event loop. `links` are the indexes that count; its owner keeps them current."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.links: frozenset[int] = frozenset()
        self._wake = wake
        self._socket: socket.socket | None = None

    def __enter__(self) -> KernelEvents:
        sock = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        sock.bind((0, RTMGRP_LINK | RTMGRP_NEIGH | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE))
        asyncio.get_running_loop().add_reader(sock.fileno(), self._read, sock)
        self._socket = sock
        return self

    def __exit__(self, *_: object) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()

    def _read(self, sock: socket.socket) -> None:
        changed = False
        for _ in range(DATAGRAMS_AT_ONCE):
            try:
                data = sock.recv(1 << 16)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                changed = True
                continue
            changed = changed or counts(data, self.links)
        if changed:
            self._wake()
