"""The nft variant's tables as the kernel has them, asked for and deleted over netlink: no iptables program deletes one.

The first rule that `iptables-nft` writes creates its table, and nothing but a deletion by name takes the table away
again. A deletion is bound to the generation of all rules: what another program adds meanwhile makes it fail instead of
going with the table.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable
from typing import NamedTuple

# linux/netlink.h, linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h.
NETLINK_NETFILTER = 12
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
BATCH_BEGIN, BATCH_END, BATCH_GENID = 0x10, 0x11, 1
SUBSYSTEM = 10
GETTABLE, DELTABLE, GETCHAIN, GETRULE, GETGEN = (SUBSYSTEM << 8 | number for number in (1, 2, 4, 7, 16))
TABLE_NAME, TABLE_USE = 1, 3
CHAIN_TABLE, CHAIN_NAME, CHAIN_HOOK, CHAIN_POLICY, CHAIN_USE = 1, 3, 4, 5, 6
RULE_TABLE, RULE_CHAIN = 1, 2
GEN_ID = 1
ATTRIBUTE_TYPE = 0x3FFF  # The upper two bits are flags.
NF_ACCEPT = 1
TIMEOUT_S = 5.0

_HEADER = struct.Struct("=IHHII")
_GENERIC = struct.Struct("=BBH")
_ATTRIBUTE = struct.Struct("=HH")

Attributes = dict[int, bytes]


class NftTable(NamedTuple):
    """`uses` counts what stands in the table beside rules: chains, sets, objects."""

    name: str
    uses: int


class NftChain(NamedTuple):
    """`accepts` is whether it is a chain of a hook with policy ACCEPT; `uses` counts its rules and the jumps to it."""

    table: str
    name: str
    accepts: bool
    uses: int


class NftSocket:
    """One NETLINK_NETFILTER socket in the calling thread's namespace. Methods raise `OSError`."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        self._socket.settimeout(TIMEOUT_S)
        self._socket.bind((0, 0))

    def __enter__(self) -> NftSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def generation(self) -> int:
        """Raised by every change of any table."""
        self._socket.send(_message(GETGEN, 0, family=socket.AF_UNSPEC))
        return _number(_parse(self._socket.recv(4096)[_HEADER.size + _GENERIC.size :])[GEN_ID])

    def tables(self) -> list[NftTable]:
        """The IPv4 tables."""
        return [NftTable(_text(a[TABLE_NAME]), _number(a[TABLE_USE])) for a in self._dump(GETTABLE)]

    def chains(self) -> list[NftChain]:
        """The chains of the IPv4 tables."""
        return [
            NftChain(
                _text(a[CHAIN_TABLE]),
                _text(a[CHAIN_NAME]),
                CHAIN_HOOK in a and _number(a.get(CHAIN_POLICY, bytes(4))) == NF_ACCEPT,
                _number(a[CHAIN_USE]),
            )
            for a in self._dump(GETCHAIN)
        ]

    def count_rules(self, table: str, chain: str) -> int:
        """How many rules one chain of an IPv4 table holds; 0 where there is no such chain."""
        return len(self._dump(GETRULE, _text_attribute(RULE_TABLE, table) + _text_attribute(RULE_CHAIN, chain)))

    def delete_tables(self, names: Iterable[str], generation: int) -> None:
        """Delete IPv4 tables with all that is in them, all or none; ERESTART where `generation` is not the present."""
        begin = _message(BATCH_BEGIN, 0, _attribute(BATCH_GENID, struct.pack("!I", generation)), resource=SUBSYSTEM)
        deletions = [_message(DELTABLE, 0, _text_attribute(TABLE_NAME, name)) for name in names]
        if not deletions:
            return
        # Only the last deletion is acknowledged, which says that the whole batch is carried out.
        last = bytearray(deletions[-1])
        struct.pack_into("=H", last, 6, NLM_F_REQUEST | NLM_F_ACK)
        self._socket.send(begin + b"".join(deletions[:-1]) + last + _message(BATCH_END, 0, resource=SUBSYSTEM))
        kind, body = next(iter(_messages(self._socket.recv(1 << 16))))
        _raise_on_error(kind, body)

    def _dump(self, kind: int, attributes: bytes = b"") -> list[Attributes]:
        self._socket.send(_message(kind, NLM_F_DUMP, attributes))
        found: list[Attributes] = []
        while True:
            for answer, body in _messages(self._socket.recv(1 << 16)):
                if answer == NLMSG_DONE:
                    return found
                _raise_on_error(answer, body)
                found.append(_parse(body[_GENERIC.size :]))


def nft_generation() -> int:
    """The generation of the nft rules of this network namespace. Raises `OSError`."""
    with NftSocket() as sock:
        return sock.generation()


def _message(
    kind: int, flags: int, attributes: bytes = b"", *, family: int = socket.AF_INET, resource: int = 0
) -> bytes:
    body = _GENERIC.pack(family, 0, socket.htons(resource)) + attributes
    return _HEADER.pack(_HEADER.size + len(body), kind, flags | NLM_F_REQUEST, 0, 0) + body


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def _text_attribute(kind: int, text: str) -> bytes:
    return _attribute(kind, text.encode() + b"\0")


def _messages(data: bytes) -> Iterable[tuple[int, bytes]]:
    """Kind and body of each message of a datagram."""
    offset = 0
    while offset < len(data):
        length, kind, *_ = _HEADER.unpack_from(data, offset)
        yield kind, data[offset + _HEADER.size : offset + length]
        offset += (length + 3) & ~3


def _raise_on_error(kind: int, body: bytes) -> None:
    if kind == NLMSG_ERROR:
        (code,) = struct.unpack_from("=i", body)
        if code:
            raise OSError(-code, os.strerror(-code))


def _parse(data: bytes) -> Attributes:
    found: Attributes = {}
    offset = 0
    while offset < len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        found[kind & ATTRIBUTE_TYPE] = data[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    return found


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode()


def _number(value: bytes) -> int:
    return int.from_bytes(value, "big")
