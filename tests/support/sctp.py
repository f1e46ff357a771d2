"""One SCTP packet over raw sockets: kernels without an SCTP stack of their own still translate and route it."""

from __future__ import annotations

import contextlib
import socket
import struct

from tests.support.namespaces import Namespace

SCTP = 132
SOURCE_PORT = 40000


def deliver_sctp(caller: Namespace, address: str, port: int, receiver: Namespace) -> tuple[str, int]:
    """Send an INIT and wait for it at the receiver: the source address and destination port it arrives with."""
    listening = receiver.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, SCTP))
    listening.settimeout(0.5)
    got: list[bytes] = []

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, SCTP) as sock:
            sock.sendto(_init(port), (address, 0))

    # As any sender of an INIT does, again until it is heard.
    with listening:
        for _ in range(60):
            caller.call(send)
            with contextlib.suppress(TimeoutError):
                got.append(listening.recv(2000))
                break
    assert got, "the packet never came"
    header = (got[0][0] & 0xF) * 4
    return socket.inet_ntoa(got[0][12:16]), struct.unpack_from("!H", got[0], header + 2)[0]


def _init(port: int) -> bytes:
    """RFC 9260, 3.1 and 3.3.2, with the checksum of its appendix A."""
    chunk = struct.pack("!BBHIIHHI", 1, 0, 20, 0x1234, 65535, 1, 1, 1)
    bare = struct.pack("!HHII", SOURCE_PORT, port, 0, 0) + chunk
    return bare[:8] + struct.pack("<I", _crc32c(bare)) + bare[12:]


def _crc32c(data: bytes) -> int:
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF
