"""The driver of the pod network: reads what is there and carries out steps, each attachment in a thread of its own.

A thread that has entered a pod's namespace must not return to a pool; it ends with the attachment. At most
`MAX_THREADS` run at once.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from typing import TypeVar

from barque.network.namespaces import enter_namespace, run_in_own_thread
from barque.network.netlink import RouteSocket
from barque.network.pods.plan import (
    POD_DEVICE,
    AddAddress,
    AddNeighbour,
    AddRoute,
    AddVeth,
    Attachment,
    DeleteLink,
    Observed,
    SetMtu,
    SetSysctl,
    SetUp,
    Step,
    is_link_name,
    plan_attach,
)
from barque.network.sysctls import PROC_SYS, write_sysctl

T = TypeVar("T")

MAX_THREADS = 8


class PodDriver:
    """Links, routes and namespaces of pods. Methods raise `OSError`, `SysctlError` or `OccupiedError`."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(MAX_THREADS)

    async def attach(self, wanted: Attachment, namespace_path: str) -> None:
        """Make the pod's network as wanted; idempotent."""
        await self._in_thread(lambda: _attach(wanted, namespace_path))

    async def detach(self, links: Iterable[str]) -> None:
        """Delete these links; those that are gone are passed over."""
        names = tuple(links)
        await self._in_thread(lambda: _delete(names))

    async def present(self) -> dict[str, str]:
        """Address by link, of all pod links of this host ("" where a link has no route)."""
        return await self._in_thread(_present)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        async with self._slots:
            return await run_in_own_thread(work)


def _attach(wanted: Attachment, namespace_path: str) -> None:
    namespace = os.open(namespace_path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with RouteSocket() as host:
            seen = _observe_host(host, wanted.link)
            outside = _End(host, {wanted.link: seen.link_index})
            here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                enter_namespace(namespace)
                with RouteSocket() as pod:
                    seen = _observe_pod(pod, seen)
                    plan = plan_attach(wanted, seen)
                    # Settings are found by the namespace of the thread, not of the socket.
                    enter_namespace(here)
                    for step in plan.host:
                        _carry_out(step, outside, namespace)
                    enter_namespace(namespace)
                    inside = _End(pod, {POD_DEVICE: seen.device_index})
                    for step in plan.pod:
                        _carry_out(step, inside, namespace)
            finally:
                os.close(here)
    finally:
        os.close(namespace)


class _End:
    """A socket in one of the two namespaces, and the indexes of devices as far as they are known (0: not yet)."""

    def __init__(self, sock: RouteSocket, indexes: dict[str, int]) -> None:
        self.sock = sock
        self._indexes = indexes

    def index(self, name: str) -> int:
        """The index of a device. Raises `OSError` where there is none."""
        known = self._indexes.get(name)
        if not known:
            found = self.sock.link(name)
            if found is None:
                raise OSError(f"the device {name} has vanished")
            known = self._indexes[name] = found.number
        return known

    def forget(self, name: str) -> None:
        """Its index is another's from now on."""
        self._indexes.pop(name, None)


def _observe_host(host: RouteSocket, name: str) -> Observed:
    link = host.link(name)
    return Observed(link.number, link.peer) if link else Observed()


def _observe_pod(pod: RouteSocket, seen: Observed) -> Observed:
    device = pod.link(POD_DEVICE)
    return seen._replace(device_index=device.number, device_peer=device.peer) if device else seen


def _carry_out(step: Step, end: _End, namespace: int) -> None:
    sock = end.sock
    match step:
        case AddVeth(link, host_mac, pod_mac, mtu):
            sock.add_veth(link, host_mac, POD_DEVICE, pod_mac, namespace, mtu)
        case DeleteLink(link):
            sock.delete_link(end.index(link))
            end.forget(link)
        case SetUp(device):
            sock.set_link(end.index(device), up=True)
        case SetMtu(device, mtu):
            sock.set_link(end.index(device), mtu=mtu)
        case SetSysctl(name, value, optional):
            if not optional or (PROC_SYS / name).exists():
                write_sysctl(name, value)
        case AddAddress(device, address):
            sock.replace_address(end.index(device), address)
        case AddRoute(device, destination, prefix, gateway):
            sock.replace_route(end.index(device), destination, prefix, gateway)
        case AddNeighbour(device, address, mac):
            sock.replace_neighbour(end.index(device), address, mac)


def _delete(names: Iterable[str]) -> None:
    with RouteSocket() as host:
        for name in names:
            found = host.link(name)
            if found is not None:
                host.delete_link(found.number)


def _present() -> dict[str, str]:
    with RouteSocket() as host:
        names = {link.number: link.name for link in host.links() if is_link_name(link.name) and link.kind == "veth"}
        found = dict.fromkeys(names.values(), "")
        for route in host.routes():
            if route.prefix == 32 and route.number in names:
                found[names[route.number]] = route.destination
        return found
