"""What makes a pod's network, as steps. Pure.

A pod has a veth of its own and no bridge. Its `eth0` carries a /32; everything goes to the gateway 169.254.1.1, which
no one owns: a permanent neighbour entry names the host's end of the veth, so nobody ever asks for it by ARP. The host
has a route /32 and a permanent neighbour entry for the pod. Every packet is routed, so one pod reaches another on the
same host through the same chains as any other traffic, and strict reverse-path filtering on the host's end refuses a
forged source address.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from typing import NamedTuple

LINK_PREFIX = "bq"
GATEWAY = "169.254.1.1"
# The same on every host's end: each veth is a segment of its own, so the address need not differ.
HOST_MAC = "ee:ee:ee:ee:ee:ee"
POD_DEVICE = "eth0"

_LINK = re.compile(r"bq[0-9a-f]{8,11}")


class AddVeth(NamedTuple):
    """Create the pair; the peer appears in the pod's namespace as `eth0` at once."""

    link: str
    host_mac: str
    pod_mac: str
    mtu: int


class DeleteLink(NamedTuple):
    link: str


class SetUp(NamedTuple):
    device: str


class SetMtu(NamedTuple):
    device: str
    mtu: int


class SetSysctl(NamedTuple):
    """A setting in the namespace of the step; one that this kernel does not have is passed over if `optional`."""

    name: str
    value: str
    optional: bool = False


class AddAddress(NamedTuple):
    device: str
    address: str


class AddRoute(NamedTuple):
    """To `destination`/`prefix` through the device; through the gateway, taken as on-link, where one is given."""

    device: str
    destination: str
    prefix: int
    gateway: str = ""


class AddNeighbour(NamedTuple):
    device: str
    address: str
    mac: str


Step = AddVeth | DeleteLink | SetUp | SetMtu | SetSysctl | AddAddress | AddRoute | AddNeighbour


class Attachment(NamedTuple):
    """One pod's wanted network."""

    link: str
    address: str
    mtu: int
    # Whether the host's own loopback may reach the pod, through a port of the host.
    on_loopback: bool = False


class Observed(NamedTuple):
    """What is there: the host's end with its index and its peer's index, and the pod's `eth0` likewise; 0 for none."""

    link_index: int = 0
    link_peer: int = 0
    device_index: int = 0
    device_peer: int = 0

    @property
    def joined(self) -> bool:
        """Whether the two ends belong to each other."""
        return (
            self.link_index > 0
            and self.device_index > 0
            and (self.link_index, self.link_peer) == (self.device_peer, self.device_index)
        )


class AttachPlan(NamedTuple):
    """Steps in the host's namespace, then steps in the pod's. Each is idempotent."""

    host: tuple[Step, ...]
    pod: tuple[Step, ...]


class OccupiedError(Exception):
    """The pod's namespace has an `eth0` that is not ours."""


def link_name(pod_uid: str) -> str:
    """The host's end of a pod's veth: `bq` and the first 11 hex digits of the uid (of its hash, for odd uids)."""
    digits = pod_uid.replace("-", "").lower()
    if not re.fullmatch(r"[0-9a-f]{11,}", digits):
        digits = hashlib.sha256(pod_uid.encode()).hexdigest()
    return LINK_PREFIX + digits[:11]


def is_link_name(name: str) -> bool:
    return _LINK.fullmatch(name) is not None


def pod_mac(address: str) -> str:
    """A locally administered address made from the pod's IP, so that it is stable and known without asking."""
    packed = ipaddress.IPv4Address(address).packed
    return "02:ba:" + ":".join(f"{byte:02x}" for byte in packed)


def plan_attach(wanted: Attachment, seen: Observed) -> AttachPlan:
    """The steps from what is seen to what is wanted.

    A host's end whose peer is not this namespace's `eth0` is left from a former sandbox and replaced. Raises
    `OccupiedError` where another's `eth0` is in the way.
    """
    create: tuple[Step, ...]
    if seen.joined:
        create = (SetMtu(wanted.link, wanted.mtu),)
    elif seen.device_index:
        raise OccupiedError(f"the pod's network namespace already has a device {POD_DEVICE} that barque did not make")
    else:
        stale: tuple[Step, ...] = (DeleteLink(wanted.link),) if seen.link_index else ()
        create = (*stale, AddVeth(wanted.link, HOST_MAC, pod_mac(wanted.address), wanted.mtu))
    ipv4 = f"net/ipv4/conf/{wanted.link}"
    host: tuple[Step, ...] = (
        *create,
        SetSysctl(f"net/ipv6/conf/{wanted.link}/disable_ipv6", "1", optional=True),
        SetSysctl(f"{ipv4}/forwarding", "1"),
        SetSysctl(f"{ipv4}/rp_filter", "1"),
        # A pod that reaches itself through a service leaves by the device it came in on.
        SetSysctl(f"{ipv4}/send_redirects", "0"),
        SetSysctl(f"{ipv4}/route_localnet", "1" if wanted.on_loopback else "0"),
        SetUp(wanted.link),
        AddNeighbour(wanted.link, wanted.address, pod_mac(wanted.address)),
        AddRoute(wanted.link, wanted.address, 32),
    )
    pod: tuple[Step, ...] = (
        SetUp("lo"),
        SetMtu(POD_DEVICE, wanted.mtu),
        SetSysctl(f"net/ipv6/conf/{POD_DEVICE}/disable_ipv6", "1", optional=True),
        SetSysctl("net/ipv4/conf/all/accept_redirects", "0"),
        SetSysctl(f"net/ipv4/conf/{POD_DEVICE}/accept_redirects", "0"),
        AddAddress(POD_DEVICE, wanted.address),
        SetUp(POD_DEVICE),
        AddNeighbour(POD_DEVICE, GATEWAY, HOST_MAC),
        AddRoute(POD_DEVICE, "0.0.0.0", 0, GATEWAY),
    )
    return AttachPlan(host, pod)
