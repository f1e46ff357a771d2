"""What a worker tells the masters about the use of its node: one sample, as it travels with a heartbeat.

Rates are the worker's own, over a window that its monotonic clock measured, so no clock need be right. The master that
receives a sample stamps it, checks that the pods are that node's, and shares it with the others over the bus.
"""

from __future__ import annotations

import msgspec

# How often a worker measures.
SAMPLE_INTERVAL_S = 10.0
# A master takes no larger sample. Kubernetes' own advice is 110 pods a node; such a sample is taken in some 10 ms.
MAX_PODS = 1024
MAX_CONTAINERS = 4096
MAX_SAMPLE_BYTES = 1024 * 1024


class ContainerUsage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`cpu_nanocores` is the average over the sample's window, or over the container's life where that is shorter;
    `memory_bytes` the working set. `disk_bytes` is the writable layer and the logs, as of up to a minute ago.
    """

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


def fit(usage: NodeUsage, max_bytes: int = MAX_SAMPLE_BYTES) -> NodeUsage:
    """The sample as far as a master takes it: where not all pods find room, those that use least memory stay out."""
    containers = sum(len(pod.containers) for pod in usage.pods)
    if len(usage.pods) <= MAX_PODS and containers <= MAX_CONTAINERS and len(encode(usage)) <= max_bytes:
        return usage
    # With room for the length of the list.
    room = max_bytes - len(encode(msgspec.structs.replace(usage, pods=[]))) - 8
    kept, containers = list[PodUsage](), 0
    for pod in sorted(usage.pods, key=_memory_of, reverse=True):
        size = len(msgspec.msgpack.encode(pod))
        if len(kept) < MAX_PODS and containers + len(pod.containers) <= MAX_CONTAINERS and size <= room:
            kept.append(pod)
            containers += len(pod.containers)
            room -= size
    return msgspec.structs.replace(usage, pods=kept)


def _memory_of(pod: PodUsage) -> int:
    return sum(container.memory_bytes for container in pod.containers)
