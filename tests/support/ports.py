"""Ports of loopback for servers that tests start: nobody else gets one between its choice and its use.

They are neither of the range that the kernel gives to whoever asks for any port, an outgoing connection among them, nor
node ports; and test processes that run side by side choose from different places.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

_FIRST, _END = 12_000, 30_000
# Of a prime, so that processes with neighbouring numbers begin far apart.
_STRIDE = 1_009


def free_ports(count: int) -> list[int]:
    """So many, all different, on which nobody listens now."""
    ports: list[int] = []
    while len(ports) < count:
        port = next(_candidates)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            ports.append(port)
    return ports


def free_port() -> int:
    """One such port."""
    (port,) = free_ports(1)
    return port


def _walk() -> Iterator[int]:
    offset = os.getpid() * _STRIDE
    while True:
        yield _FIRST + offset % (_END - _FIRST)
        offset += 1


_candidates = _walk()
