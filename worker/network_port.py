"""What a worker needs of the pod network; `barque.network.pods.network.PodNetwork` is the real one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from barque.network.pods.host_ports import PortMapping


class PodNetwork(Protocol):
    """Addresses of this node's pods. Every method may be called again and completes what is missing."""

    async def start(self, pod_cidr: str, mtu: int = 1500) -> None: ...

    def use_mtu(self, mtu: int) -> None:
        """Give pods that are attached from now on this MTU, in bytes."""
        ...

    async def attach(self, pod_uid: str, netns_path: str, ports: Sequence[PortMapping] = ()) -> str:
        """Connect the pod's network namespace and open these host ports to it, and no others.

        Returns its address, the same on every call until `detach`. Raises
        `barque.network.pods.host_ports.PortTakenError` where another pod of this host holds one of the ports.
        """
        ...

    async def detach(self, pod_uid: str) -> None: ...

    def addresses(self) -> dict[str, str]: ...

    async def retain(self, uids: set[str]) -> None:
        """Drop what belongs to none of these pods."""
        ...

    async def run(self) -> None:
        """Keep the host's part as it must be, until cancelled."""
        ...
