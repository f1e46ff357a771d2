"""Stale UDP flows: found among the kernel's tracked connections and deleted.

A UDP flow has no end, so the kernel would go on sending a client's packets to a pod that is gone, or past a service or
host port that had no rules when the flow began. TCP needs nothing: its connections break by themselves. Deciding
(`stale_flows`) and the wire format are pure; `ConntrackTable` speaks nfnetlink (linux/netfilter/nfnetlink_conntrack.h)
over a socket of its own, so that no `conntrack` program has to be installed.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from barque.network.netlink import (
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    TIMEOUT_S,
    RouteSocket,
)

NETLINK_NETFILTER = 12
# nfnetlink messages: subsystem 1 (ctnetlink) in the high byte.
CT_NEW, CT_GET, CT_DELETE = 0x100, 0x101, 0x102
CTA_TUPLE_ORIG, CTA_TUPLE_REPLY = 1, 2
CTA_TUPLE_IP, CTA_TUPLE_PROTO = 1, 2
CTA_IP_V4_SRC, CTA_IP_V4_DST = 1, 2
CTA_PROTO_NUM, CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT = 1, 2, 3
CTA_ZONE = 18
NLA_TYPE_MASK = 0x3FFF
IPPROTO_UDP = 17
RECEIVE_BYTES = 1 << 20

_HEADER = struct.Struct("=IHHII")
_GENERIC = struct.pack("=BBH", socket.AF_INET, 0, 0)
_ATTRIBUTE = struct.Struct("=HH")


class Flow(NamedTuple):
    """A tracked UDP flow: where its client sends, and who answers. `handle` is the kernel's own words for it."""

    destination: str
    destination_port: int
    answering: str
    handle: bytes


# Who may answer what is sent to an address and port.
Ways = Mapping[tuple[str, int], Collection[str]]


def stale_flows(flows: Iterable[Flow], ways: Ways) -> list[Flow]:
    """The flows to one of these addresses and ports that are answered by none who may.

    Level-triggered: it compares all flows with all ways, so that nothing is missed while nobody looked.
    """
    return [
        flow
        for flow in flows
        if flow.answering not in ways.get((flow.destination, flow.destination_port), {flow.answering})
    ]


def parse_flows(data: bytes) -> tuple[list[Flow], bool]:
    """The UDP flows in one datagram of a dump, and whether that ends it. Raises `OSError` on the kernel's error."""
    flows: list[Flow] = []
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, _, _, _ = _HEADER.unpack_from(data, offset)
        if kind == NLMSG_DONE:
            return flows, True
        if kind == NLMSG_ERROR:
            (code,) = struct.unpack_from("=i", data, offset + _HEADER.size)
            if code:
                raise OSError(-code, os.strerror(-code))
            return flows, True
        flow = _parse_flow(data[offset + _HEADER.size + len(_GENERIC) : offset + length])
        if flow is not None:
            flows.append(flow)
        offset += (length + 3) & ~3
    return flows, False


def _parse_flow(body: bytes) -> Flow | None:
    attributes = _attributes(body)
    original, reply = attributes.get(CTA_TUPLE_ORIG, b""), attributes.get(CTA_TUPLE_REPLY, b"")
    to, answer = _attributes(original), _attributes(reply)
    protocol = _attributes(to.get(CTA_TUPLE_PROTO, b""))
    if protocol.get(CTA_PROTO_NUM) != bytes([IPPROTO_UDP]) or CTA_PROTO_DST_PORT not in protocol:
        return None
    destination = _attributes(to.get(CTA_TUPLE_IP, b"")).get(CTA_IP_V4_DST)
    answering = _attributes(answer.get(CTA_TUPLE_IP, b"")).get(CTA_IP_V4_SRC)
    if destination is None or answering is None:
        return None
    zone = attributes.get(CTA_ZONE)
    handle = _attribute(CTA_TUPLE_ORIG | 0x8000, original) + (_attribute(CTA_ZONE, zone) if zone else b"")
    (port,) = struct.unpack("!H", protocol[CTA_PROTO_DST_PORT])
    return Flow(str(ipaddress.IPv4Address(destination)), port, str(ipaddress.IPv4Address(answering)), handle)


def _attributes(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size:
            break
        found[kind & NLA_TYPE_MASK] = data[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    return found


def _attribute(kind: int, payload: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(payload)
    return _ATTRIBUTE.pack(length, kind) + payload + b"\0" * (-length % 4)


def encode_request(kind: int, flags: int, sequence: int, attributes: bytes = b"") -> bytes:
    body = _GENERIC + attributes
    return _HEADER.pack(_HEADER.size + len(body), kind, flags | NLM_F_REQUEST, sequence, 0) + body


class ConntrackTable:
    """The kernel's connections of the calling thread's network namespace. Blocking: for a thread of its own."""

    def delete_stale(self, ways: Callable[[Collection[str]], Ways]) -> int:
        """Delete the stale UDP flows of these ways, made for the host's addresses; returns how many there were. Raises
        `OSError` where some stay, once it has tried all.
        """
        with RouteSocket() as route:
            known = ways(route.local_addresses())
        stale = stale_flows(self._dump(), known) if known else []
        refused: OSError | None = None
        for flow in stale:
            try:
                self._delete(flow)
            except OSError as error:
                refused = error
        if refused is not None:
            raise refused
        return len(stale)

    def _dump(self) -> list[Flow]:
        flows: list[Flow] = []
        with self._open() as sock:
            sock.send(encode_request(CT_GET, NLM_F_DUMP, 1))
            complete = False
            while not complete:
                some, complete = parse_flows(sock.recv(RECEIVE_BYTES))
                flows += some
        return flows

    def _delete(self, flow: Flow) -> None:
        with self._open() as sock:
            sock.send(encode_request(CT_DELETE, NLM_F_ACK, 1, flow.handle))
            try:
                parse_flows(sock.recv(RECEIVE_BYTES))
            except OSError as error:
                # It has ended by itself since it was listed.
                if error.errno != errno.ENOENT:
                    raise

    def _open(self) -> socket.socket:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        sock.settimeout(TIMEOUT_S)
        sock.bind((0, 0))
        return sock
