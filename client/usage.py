"""What a worker tells the masters about the use of its node: one sample, as it travels with a heartbeat.

Rates are the worker's own, over a window that its monotonic clock measured, so no clock need be right. The master that
receives a sample stamps it, checks that the pods are that node's, and shares it with the others over the bus.
"""

from __future__ import annotations

import msgspec

# How often a worker measures.
SAMPLE_INTERVAL_S = 10.0
# A master takes no larger sample: at some 150 bytes a container, thousands of containers on a node.
MAX_SAMPLE_BYTES = 1024 * 1024


class ContainerUsage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`cpu_nanocores` is the average over the sample's window, `memory_bytes` the working set."""

    name: str
    cpu_nanocores: int
    memory_bytes: int
    disk_bytes: int = 0


class PodUsage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Network counts are bytes since the pod's network began; zero for pods on the node's own."""

    namespace: str
    name: str
    uid: str
    containers: list[ContainerUsage]
    received_bytes: int = 0
    sent_bytes: int = 0


class NodeUsage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One sample of a node. `window_s` is what the rates are averaged over."""

    window_s: float
    cpu_nanocores: int
    memory_bytes: int
    disk_bytes: int
    pods: list[PodUsage]


def encode(usage: NodeUsage) -> bytes:
    return msgspec.msgpack.encode(usage)


def decode(data: bytes) -> NodeUsage:
    """Raises `msgspec.DecodeError` for what is no sample."""
    return msgspec.msgpack.decode(data, type=NodeUsage)
