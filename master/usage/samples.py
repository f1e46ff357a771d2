"""What of a worker's sample is believed. Pure.

In: the bytes that came with a heartbeat. Out: a `NodeUsage` whose numbers can be, or `BadSampleError` that says what is
wrong. Whose pods they are is not decided here.
"""

from __future__ import annotations

import re

import msgspec

from barque.client.usage import (
    MAX_CONTAINERS,
    MAX_PODS,
    MAX_SAMPLE_BYTES,
    ContainerUsage,
    NodeUsage,
    PodUsage,
    decode,
)

# Far beyond any machine: what is larger was made up or is an error of arithmetic.
MAX_NANOCORES = 100_000 * 10**9
MAX_BYTES = 2**60
# A worker measures every ten seconds; after a pause of its machine the window is longer.
MAX_WINDOW_S = 3600.0
_MAX_UID = 128
_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")


class BadSampleError(ValueError):
    """The sample is not taken; the message says why."""


def read_sample(data: bytes) -> NodeUsage:
    """The sample, every number of it checked. Raises `BadSampleError`."""
    if len(data) > MAX_SAMPLE_BYTES:
        raise BadSampleError(f"it has {len(data)} bytes, at most {MAX_SAMPLE_BYTES} are taken")
    try:
        usage = decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadSampleError(f"it cannot be read: {error}") from None
    if not 0 < usage.window_s <= MAX_WINDOW_S:
        raise BadSampleError(f"its window is {usage.window_s} s")
    _check(usage.cpu_nanocores, usage.memory_bytes, "the node")
    if len(usage.pods) > MAX_PODS:
        raise BadSampleError(f"it names {len(usage.pods)} pods, at most {MAX_PODS} are taken")
    if sum(len(pod.containers) for pod in usage.pods) > MAX_CONTAINERS:
        raise BadSampleError(f"it names more than {MAX_CONTAINERS} containers")
    for pod in usage.pods:
        _check_pod(pod)
    return usage


def _check_pod(pod: PodUsage) -> None:
    if len(pod.uid) > _MAX_UID:
        raise BadSampleError(f"the uid of pod {pod.name[:_MAX_UID]!r} is too long")
    for container in pod.containers:
        _check_container(container)


def _check_container(container: ContainerUsage) -> None:
    if _NAME.fullmatch(container.name) is None:
        raise BadSampleError(f"{container.name[:_MAX_UID]!r} is no name of a container")
    _check(container.cpu_nanocores, container.memory_bytes, f"container {container.name!r}")


def _check(nanocores: int, memory_bytes: int, whose: str) -> None:
    if not 0 <= nanocores <= MAX_NANOCORES:
        raise BadSampleError(f"{whose} cannot use {nanocores} nanocores")
    if not 0 <= memory_bytes <= MAX_BYTES:
        raise BadSampleError(f"{whose} cannot use {memory_bytes} bytes of memory")
