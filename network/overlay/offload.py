"""Checksum offload of a VXLAN device: whether this host gets it wrong, and the switch for it.

A packet of a pod leaves with its inner checksum still to be computed, by the network card. Some kernels and cards get
that wrong, and the receiver drops the packet without a word: small answers may pass where large ones hang. Switched
off, the kernel computes the checksums itself, which costs throughput, so it stays on where no fault is known.

`known_fault` is pure; the others ask the kernel by ioctl (linux/ethtool.h), in the calling thread's namespace.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import re
import socket
import struct

SIOCETHTOOL = 0x8946
ETHTOOL_GDRVINFO, ETHTOOL_GTXCSUM, ETHTOOL_STXCSUM = 0x03, 0x16, 0x17
_IFREQ = struct.Struct("=16sQ16x")
_VALUE = struct.Struct("=II")
# struct ethtool_drvinfo: the command, then names of 32 bytes, the driver's first.
_DRIVER_INFO_BYTES = 196

# Before this, a masqueraded VXLAN packet got an outer checksum although it had none (kubernetes/kubernetes#88986).
FIRST_SOUND_KERNEL = (5, 7)
# VMware's card computes inner checksums only for the tunnels and ports its host knows, and says otherwise.
FAULTY_DRIVERS = frozenset({"vmxnet3"})


def known_fault(kernel_release: str, driver: str) -> str:
    """Why checksums must not be left to the card on this host; "" where nothing is known against it."""
    found = re.match(r"(\d+)\.(\d+)", kernel_release)
    if found and (int(found[1]), int(found[2])) < FIRST_SOUND_KERNEL:
        first = ".".join(map(str, FIRST_SOUND_KERNEL))
        return f"Linux {kernel_release} spoils checksums of masqueraded VXLAN packets (before {first})"
    if driver in FAULTY_DRIVERS:
        return f"network cards of driver {driver} spoil checksums inside VXLAN packets"
    return ""


def driver_of(link: str) -> str:
    """The driver of a network card; "" where the link has none to tell."""
    buffer = ctypes.create_string_buffer(struct.pack("=I", ETHTOOL_GDRVINFO), _DRIVER_INFO_BYTES)
    try:
        _ask(link, buffer)
    except OSError:
        return ""
    return buffer.raw[4:36].partition(b"\0")[0].decode(errors="replace")


def offloads_checksums(link: str) -> bool:
    """Whether checksums are left to the card. Raises `OSError`, with ENODEV where the link is gone."""
    buffer = ctypes.create_string_buffer(_VALUE.pack(ETHTOOL_GTXCSUM, 0), _VALUE.size)
    try:
        _ask(link, buffer)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return False
        raise
    return bool(_VALUE.unpack(buffer.raw)[1])


def set_checksum_offload(link: str, on: bool) -> None:
    """Raises `OSError`."""
    _ask(link, ctypes.create_string_buffer(_VALUE.pack(ETHTOOL_STXCSUM, int(on)), _VALUE.size))


def _ask(link: str, buffer: ctypes.Array[ctypes.c_char]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        fcntl.ioctl(sock, SIOCETHTOOL, _IFREQ.pack(link.encode(), ctypes.addressof(buffer)))
