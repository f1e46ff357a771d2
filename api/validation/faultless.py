"""What was found to be without fault a moment ago, so that the replicas of one workload are not judged one by one."""

from __future__ import annotations

import msgspec

from barque.api import codec
from barque.api.types.core_v1 import Pod

# As many workloads as grow at once; what is longer is rare enough to be judged each time.
_MOST = 256
_LONGEST_BYTES = 8 * 1024


class Faultless:
    """The newest bytes that were remembered."""

    def __init__(self) -> None:
        self._known: dict[bytes, None] = {}

    def __contains__(self, said: bytes) -> bool:
        return said in self._known

    def remember(self, said: bytes) -> None:
        """Forgets the oldest where there are too many."""
        if len(said) > _LONGEST_BYTES:
            return
        if len(self._known) >= _MOST:
            del self._known[next(iter(self._known))]
        self._known[said] = None


def sayings(pod: Pod) -> bytes | None:
    """All of a pod that rules look at besides its metadata's own; None where they look at its name, too."""
    spec = pod.spec
    if spec.resourceClaims or any(volume.ephemeral is not None for volume in spec.volumes):
        return None
    said = codec.encode(spec)
    return said + msgspec.json.encode(pod.metadata.annotations) if pod.metadata.annotations else said
