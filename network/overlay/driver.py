"""The overlay's hands: reads what the kernel has of ours and carries out steps. Blocking; for threads.

Everything happens in the calling thread's network namespace. What vanishes between two looks is no error: the next look
sees it.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence

from barque.network.netlink import RTPROT_BARQUE, Link, RouteSocket
from barque.network.overlay import offload
from barque.network.overlay.plan import (
    AddAddress,
    AddDevice,
    AddForwarding,
    AddNeighbour,
    AddRoute,
    DeleteAddress,
    DeleteDevice,
    DeleteForwarding,
    DeleteNeighbour,
    DeleteRoute,
    Device,
    Observed,
    SeenDevice,
    SetMtu,
    SetOffload,
    SetUp,
    Step,
    is_device_name,
    plan_removal,
)
from barque.network.sysctls import PROC_SYS, write_sysctl

# Left to the link: packets of pods come in by it, and no neighbour of it speaks IPv6.
_SETTINGS = (("net/ipv4/conf/{}/forwarding", "1"), ("net/ipv4/conf/{}/send_redirects", "0"))
_OPTIONAL_SETTING = ("net/ipv6/conf/{}/disable_ipv6", "1")


class OverlayError(Exception):
    """The kernel refuses a step; the message says which and what to do."""


def observe() -> Observed:
    """Links with our name and routes with our protocol number. Raises `OSError`."""
    with RouteSocket() as sock:
        return _observe(sock)


def carry_out(steps: Sequence[Step]) -> None:
    """In order. Raises `OverlayError`, `OSError` or `SysctlError`; the steps before the failed one stand.

    A range that another program has a route to fails alone: the other routes are made first.
    """
    taken: list[str] = []
    with RouteSocket() as sock:
        hands = _Hands(sock)
        for step in steps:
            try:
                hands.carry_out(step)
            except FileExistsError:
                if not isinstance(step, AddRoute):
                    raise
                taken.append(f"{step.route.destination}/{step.route.prefix}")
    if taken:
        raise OverlayError(f"another program has a route to {', '.join(taken)}: remove it (ip route)")


def remove_overlay() -> list[str]:
    """Take everything of ours away, whoever made it; what was done, for people. Raises `OSError`."""
    with RouteSocket() as sock:
        seen = _observe(sock)
        hands = _Hands(sock)
        for step in plan_removal(seen):
            hands.carry_out(step)
    gone = {device.number for device in seen.devices}
    left = sum(route.number not in gone for route in seen.routes)
    done = [f"removed the overlay's device {device.name}" for device in seen.devices]
    return done + ([f"removed {left} routes of the overlay"] if left else [])


def _observe(sock: RouteSocket) -> Observed:
    addresses = sock.addresses()
    devices: list[SeenDevice] = []
    for _, name in socket.if_nameindex():
        link = sock.link(name) if is_device_name(name) else None
        if link is not None:
            held = frozenset(f"{a.address}/{a.prefix}" for a in addresses if a.number == link.number)
            devices.append(_see(sock, link, held))
    return Observed(tuple(devices), frozenset(sock.routes(RTPROT_BARQUE)))


def _see(sock: RouteSocket, link: Link, addresses: frozenset[str]) -> SeenDevice:
    try:
        offloads = offload.offloads_checksums(link.name)
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        offloads = False
    return SeenDevice(
        link.number,
        link.name,
        link.mac,
        link.mtu,
        link.up,
        addresses,
        link.vxlan,
        offloads,
        frozenset(sock.neighbours(link.number)),
        frozenset(sock.forwarding(link.number)) if link.vxlan is not None else frozenset(),
    )


class _Hands:
    """A socket, and the indexes of devices as far as they are known."""

    def __init__(self, sock: RouteSocket) -> None:
        self._sock = sock
        self._indexes: dict[str, int] = {}

    def carry_out(self, step: Step) -> None:
        sock = self._sock
        match step:
            case DeleteDevice(number, name):
                sock.delete_link(number)
                self._indexes.pop(name, None)
            case AddDevice(device):
                self._add(device)
            case SetMtu(name, mtu):
                sock.set_link(self._index(name), mtu=mtu)
            case SetOffload(name, on):
                offload.set_checksum_offload(name, on)
            case AddAddress(name, address):
                sock.replace_address(self._index(name), address)
            case DeleteAddress(name, address):
                at, _, prefix = address.partition("/")
                sock.delete_address(self._index(name), at, int(prefix))
            case SetUp(name):
                self._set_up(name)
            case AddNeighbour(name, entry):
                sock.replace_neighbour(self._index(name), entry.address, entry.mac)
            case DeleteNeighbour(name, entry):
                sock.delete_neighbour(self._index(name), entry.address)
            case AddForwarding(name, entry):
                sock.replace_forwarding(self._index(name), entry)
            case DeleteForwarding(name, entry):
                sock.delete_forwarding(self._index(name), entry)
            case AddRoute(route, name, replace) if name:
                sock.add_host_route(route._replace(number=self._index(name)), onlink=True, replace=replace)
            case AddRoute(route, _, replace):
                sock.add_host_route(route, onlink=False, replace=replace)
            case DeleteRoute(route):
                sock.delete_host_route(route)

    def _add(self, device: Device) -> None:
        try:
            self._sock.add_vxlan(device.name, device.mac, device.mtu, device.vxlan)
        except OSError as error:
            raise OverlayError(_refusal(device, error)) from error

    def _set_up(self, name: str) -> None:
        for setting, value in _SETTINGS:
            write_sysctl(setting.format(name), value)
        setting, value = _OPTIONAL_SETTING
        if (PROC_SYS / setting.format(name)).exists():
            write_sysctl(setting.format(name), value)
        try:
            self._sock.set_link(self._index(name), up=True)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise OverlayError(
                f"{name} cannot be set up: another program uses its UDP port; name another with --vxlan-port"
            ) from error

    def _index(self, name: str) -> int:
        known = self._indexes.get(name)
        if not known:
            found = self._sock.link(name)
            if found is None:
                raise OSError(errno.ENODEV, f"the device {name} has vanished")
            known = self._indexes[name] = found.number
        return known


def _refusal(device: Device, error: OSError) -> str:
    vxlan = device.vxlan
    if error.errno == errno.EEXIST:
        return (
            f"another device of this host uses VXLAN network {vxlan.vni} on UDP port {vxlan.port}, as Flannel's does: "
            "name another with --vxlan-vni or --vxlan-port, the same on all nodes"
        )
    if error.errno in (errno.EOPNOTSUPP, errno.EAFNOSUPPORT):
        return "this kernel has no VXLAN (modprobe vxlan): load it, or use --overlay host-gw"
    return f"{device.name} cannot be made: {error.strerror or error}"
