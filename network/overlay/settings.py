"""What a user may choose of the overlay. Imports nothing, for every `barque` command reads it."""

from __future__ import annotations

from typing import Literal, NamedTuple

Backend = Literal["vxlan", "host-gw"]
Offload = Literal["auto", "on", "off"]

DEFAULT_VNI = 1
# Linux's and Flannel's own default, not IANA's 4789.
DEFAULT_PORT = 8472


class OverlaySettings(NamedTuple):
    """`interface` and `node_ip` may be "": as the routes to the masters say.

    `checksum_offload` says whether the network card computes the checksums within VXLAN packets.
    """

    backend: Backend = "vxlan"
    interface: str = ""
    node_ip: str = ""
    vni: int = DEFAULT_VNI
    port: int = DEFAULT_PORT
    checksum_offload: Offload = "auto"
