"""Where a pod comes from: the masters, or this node's own folder of manifests; kubelet's annotations. Pure."""

from __future__ import annotations

from barque.api.types import core_v1

SOURCE = "kubernetes.io/config.source"
HASH = "kubernetes.io/config.hash"
SEEN = "kubernetes.io/config.seen"
MIRROR = "kubernetes.io/config.mirror"


def is_static(pod: core_v1.Pod) -> bool:
    """Whether the pod comes from this node's own folder."""
    return pod.metadata.annotations.get(SOURCE, "api") != "api" and not is_mirror(pod)


def is_mirror(pod: core_v1.Pod) -> bool:
    """Whether the pod only shows a static one; nothing is run for it."""
    return MIRROR in pod.metadata.annotations
