"""Whether someone has touched the rules: a question the kernel answers in microseconds, so that whole tables are read
only when there is reason to.

The nft variant has a generation that every change of any table raises: the same generation means the same rules. The
legacy variant tells the number of entries and the bytes of each table: another figure means a change, the same figure
almost always none, so a full count is due now and then all the same.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct

from barque.client.clock import Clock

# linux/netfilter_ipv4/ip_tables.h: struct ipt_getinfo is a name of 32 bytes and 13 numbers.
IPT_SO_GET_INFO = 64
IPT_GETINFO = struct.Struct("=32s13I")

_libc = ctypes.CDLL(None, use_errno=True)


def legacy_figures(tables: set[str]) -> tuple[tuple[str, int, int], ...]:
    """(table, entries, bytes) for these tables, which must be in use: asking for another would create it."""
    figures = []
    with socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW) as sock:
        for table in sorted(tables):
            question = IPT_GETINFO.pack(table.encode(), *[0] * 13)
            # The kernel reads the name from the buffer it answers in, which Python's getsockopt cannot hand over.
            answer = _getsockopt(sock, question)
            *_, entries, size = IPT_GETINFO.unpack(answer)
            figures.append((table, entries, size))
    return tuple(figures)


def _getsockopt(sock: socket.socket, question: bytes) -> bytes:
    buffer = ctypes.create_string_buffer(question, len(question))
    length = ctypes.c_uint(len(question))
    if _libc.getsockopt(sock.fileno(), socket.IPPROTO_IP, IPT_SO_GET_INFO, buffer, ctypes.byref(length)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return buffer.raw


class ChangeWatch:
    """Says when a full count is due: at once when others have changed something, else after `full_every_s`.

    `exact` is whether the same fingerprint proves the same rules; then no count is due while it stays.
    """

    def __init__(self, clock: Clock, full_every_s: float, *, exact: bool) -> None:
        self._clock = clock
        self._full_every_s = full_every_s
        self._exact = exact
        self._seen: object = None
        self._counted: object = None
        self._counted_at = clock.monotonic()

    def due(self, fingerprint: object) -> bool:
        if fingerprint != self._seen:
            return True
        if self._exact and fingerprint == self._counted:
            return False
        return self._clock.monotonic() - self._counted_at >= self._full_every_s

    def wrote(self, fingerprint: object) -> None:
        """We have just changed the rules ourselves."""
        self._seen = fingerprint

    def counted(self, fingerprint: object) -> None:
        """The rules were as they should be; the fingerprint was taken before they were read."""
        self._seen = self._counted = fingerprint
        self._counted_at = self._clock.monotonic()
