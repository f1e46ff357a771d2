"""The pod's fsGroup on a volume that is the pod's own: the group owns it, may read and write it, and hands it down.

Follows Kubernetes' SetVolumeOwnership. Only fresh directories are given to a group here, so that there is nothing to go
through: `fsGroupChangePolicy` has no effect on such volumes, as in Kubernetes.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

# rw for what is in it, x and set-group-id for the directory: what is made there later belongs to the group too.
_GROUP_BITS = 0o2770


def give_to_group(directory: Path, group: int) -> None:
    """Blocks for one system call or two."""
    os.chown(directory, -1, group)
    directory.chmod(stat.S_IMODE(directory.stat().st_mode) | _GROUP_BITS)
