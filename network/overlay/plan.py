"""From the peers that are to be reached and what the kernel has, the steps that are missing. Pure.

VXLAN follows Flannel's backend: one device without learning or multicast, whose address is the first of this node's
pod range; per peer one route to its pod range through its VTEP's address (taken as on-link), one permanent neighbour
that says the VTEP's MAC address, and one forwarding entry that says behind which host that MAC address is. Address and
MAC address of a VTEP follow from its pod range, so a Node's `spec.podCIDR` and InternalIP are all that hosts need to
know of each other. host-gw is the route alone, through the peer's own address.

A peer's entries are made before its route and taken away after it, so that no packet finds half of them.

This node's own range leads nowhere but to its pods' own routes: who asks for a pod that is gone hears so at once, and
no such packet leaves by the default route.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import NamedTuple

from barque.network.netlink import Entry, Route, Vxlan
from barque.network.overlay.peers import Own, Peer

DEVICE_PREFIX = "barque."

_DEVICE = re.compile(r"barque\.\d{1,8}")


class Device(NamedTuple):
    """A VXLAN device with its VTEP's address."""

    name: str
    mac: str
    mtu: int
    address: str
    vxlan: Vxlan
    # Whether checksums are left to the network card.
    offload: bool = True


class SeenDevice(NamedTuple):
    """A link with our name, of whatever kind. `addresses` have their prefix's length, "10.244.1.0/32"."""

    number: int
    name: str
    mac: str
    mtu: int
    up: bool
    addresses: frozenset[str]
    vxlan: Vxlan | None
    offload: bool
    neighbours: frozenset[Entry] = frozenset()
    forwarding: frozenset[Entry] = frozenset()


class Observed(NamedTuple):
    """What is there: links with our name, and routes with our protocol number."""

    devices: tuple[SeenDevice, ...] = ()
    routes: frozenset[Route] = frozenset()


class Wanted(NamedTuple):
    """What should be. Routes whose `number` is 0 lead through the device, which may have no index yet, or nowhere where
    they have no gateway.
    """

    device: Device | None = None
    routes: frozenset[Route] = frozenset()
    neighbours: frozenset[Entry] = frozenset()
    forwarding: frozenset[Entry] = frozenset()


class DeleteDevice(NamedTuple):
    number: int
    name: str


class AddDevice(NamedTuple):
    device: Device


class SetMtu(NamedTuple):
    name: str
    mtu: int


class SetOffload(NamedTuple):
    name: str
    on: bool


class AddAddress(NamedTuple):
    name: str
    address: str


class DeleteAddress(NamedTuple):
    """`address` with its prefix's length."""

    name: str
    address: str


class SetUp(NamedTuple):
    """Up, with the settings that packets of pods need."""

    name: str


class AddNeighbour(NamedTuple):
    name: str
    entry: Entry


class DeleteNeighbour(NamedTuple):
    name: str
    entry: Entry


class AddForwarding(NamedTuple):
    name: str
    entry: Entry


class DeleteForwarding(NamedTuple):
    name: str
    entry: Entry


class AddRoute(NamedTuple):
    """`device` is the overlay's where the route leads through it, on-link; "" where `route.number` says the link.

    Only a route of ours is replaced.
    """

    route: Route
    device: str = ""
    replace: bool = False


class DeleteRoute(NamedTuple):
    route: Route


Step = (
    DeleteDevice | AddDevice | SetMtu | SetOffload | AddAddress | DeleteAddress | SetUp
    | AddNeighbour | DeleteNeighbour | AddForwarding | DeleteForwarding | AddRoute | DeleteRoute
)  # fmt: skip


def is_device_name(name: str) -> bool:
    return _DEVICE.fullmatch(name) is not None


def device_name(vni: int) -> str:
    return f"{DEVICE_PREFIX}{vni}"


def vtep_address(pod_cidr: str) -> str:
    """The range's first address, which no pod is given."""
    return str(ipaddress.IPv4Network(pod_cidr).network_address)


def vtep_mac(pod_cidr: str) -> str:
    """A locally administered address made from the VTEP's IP; pods' own begin otherwise."""
    return "02:bb:" + ipaddress.IPv4Network(pod_cidr).network_address.packed.hex(":")


def want_vxlan(own: Own, peers: Iterable[Peer], *, vni: int, port: int, mtu: int, offload: bool) -> Wanted:
    """A device with all that leads to the peers; no device where there are none."""
    known = tuple(peers)
    if not known:
        return Wanted(routes=_own_range(own))
    underlay = own.underlay
    device = Device(
        device_name(vni),
        vtep_mac(own.pod_cidr),
        mtu,
        vtep_address(own.pod_cidr),
        Vxlan(vni, port, underlay.number, underlay.address),
        offload,
    )
    return Wanted(
        device,
        _own_range(own) | {_route(0, peer.pod_cidr, vtep_address(peer.pod_cidr)) for peer in known},
        frozenset(Entry(vtep_address(peer.pod_cidr), vtep_mac(peer.pod_cidr)) for peer in known),
        frozenset(Entry(peer.address, vtep_mac(peer.pod_cidr)) for peer in known),
    )


def want_host_gw(own: Own, peers: Iterable[Peer]) -> Wanted:
    """Routes through the peers' own addresses."""
    through = {_route(own.underlay.number, peer.pod_cidr, peer.address) for peer in peers}
    return Wanted(routes=_own_range(own) | through)


def plan(wanted: Wanted, seen: Observed) -> list[Step]:
    """The steps from what is seen to what is wanted; none where they are the same."""
    device = wanted.device
    kept = next((found for found in seen.devices if device is not None and _is_same(device, found)), None)
    steps: list[Step] = [DeleteDevice(found.number, found.name) for found in seen.devices if found is not kept]
    gone = {found.number for found in seen.devices if found is not kept}
    index = kept.number if kept is not None else 0
    if device is not None:
        steps += _plan_device(device, kept)
    routes = {route._replace(number=route.number or index) if route.gateway else route for route in wanted.routes}
    # The kernel takes a device's routes and entries away with it.
    stale = {route for route in seen.routes if route.number not in gone} - routes
    ours = {(route.destination, route.prefix) for route in routes}
    steps += [DeleteRoute(route) for route in sorted(stale) if (route.destination, route.prefix) not in ours]
    if device is not None:
        steps += _plan_entries(device.name, wanted, kept)
    through = device.name if device is not None else ""
    former = {(route.destination, route.prefix) for route in stale}
    steps += [
        AddRoute(route, through if route.gateway else "", (route.destination, route.prefix) in former)
        for route in sorted(routes - seen.routes)
    ]
    # Replaced by another way to the same range; only then may the former go.
    return steps + [DeleteRoute(route) for route in sorted(stale) if (route.destination, route.prefix) in ours]


def plan_removal(seen: Observed) -> list[Step]:
    """Everything of ours gone."""
    return plan(Wanted(), seen)


def _is_same(device: Device, found: SeenDevice) -> bool:
    return (device.name, device.mac, device.vxlan) == (found.name, found.mac, found.vxlan)


def _plan_device(device: Device, kept: SeenDevice | None) -> list[Step]:
    if kept is None:
        fresh: list[Step] = [AddDevice(device)]
        # A new device leaves checksums to the card.
        fresh += [] if device.offload else [SetOffload(device.name, False)]
        return [*fresh, AddAddress(device.name, device.address), SetUp(device.name)]
    steps: list[Step] = []
    if kept.mtu != device.mtu:
        steps.append(SetMtu(device.name, device.mtu))
    if kept.offload != device.offload:
        steps.append(SetOffload(device.name, device.offload))
    address = f"{device.address}/32"
    steps += [DeleteAddress(device.name, other) for other in sorted(kept.addresses - {address})]
    if address not in kept.addresses:
        steps.append(AddAddress(device.name, device.address))
    if not kept.up:
        steps.append(SetUp(device.name))
    return steps


def _plan_entries(name: str, wanted: Wanted, kept: SeenDevice | None) -> list[Step]:
    """A wrong entry for an address or MAC address goes before the right one comes: the kernel may hold both."""
    neighbours = kept.neighbours if kept is not None else frozenset()
    forwarding = kept.forwarding if kept is not None else frozenset()
    steps: list[Step] = [DeleteNeighbour(name, entry) for entry in sorted(neighbours - wanted.neighbours)]
    steps += [DeleteForwarding(name, entry) for entry in sorted(forwarding - wanted.forwarding)]
    steps += [AddForwarding(name, entry) for entry in sorted(wanted.forwarding - forwarding)]
    return steps + [AddNeighbour(name, entry) for entry in sorted(wanted.neighbours - neighbours)]


def _own_range(own: Own) -> frozenset[Route]:
    """A route that refuses what no pod's own route takes; none where hosts live in the range, which is a fault."""
    network = ipaddress.IPv4Network(own.pod_cidr)
    return frozenset() if network.overlaps(own.underlay.network) else frozenset({_route(0, own.pod_cidr, "")})


def _route(index: int, pod_cidr: str, gateway: str) -> Route:
    network = ipaddress.IPv4Network(pod_cidr)
    return Route(index, str(network.network_address), network.prefixlen, gateway)
