"""Where a worker keeps what, and what it may be told. Paths under the data directory are fixed here alone."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

DEFAULT_DATA_DIR = Path("/var/lib/barque/worker")
DEFAULT_PORT = 7450
DEFAULT_MTU = 1500
# The cluster's own defaults, as the masters have them too.
CLUSTER_CIDR = "10.244.0.0/16"
SERVICE_CIDR = "10.96.0.0/12"


class WorkerError(Exception):
    """Why the worker cannot start, in one line that says what to do."""


class Settings(NamedTuple):
    """What `barque worker run` was told; "" and empty mean: as the join left it, or found out."""

    data_dir: Path = DEFAULT_DATA_DIR
    masters: tuple[str, ...] = ()
    node_name: str = ""
    node_ip: str = ""
    listen: str = f"0.0.0.0:{DEFAULT_PORT}"
    docker_host: str = ""
    cluster_cidr: str = CLUSTER_CIDR
    service_cidr: str = SERVICE_CIDR
    mtu: int = DEFAULT_MTU

    @property
    def profile(self) -> Path:
        """Masters, certificate and key, as `worker join` saved them."""
        return self.data_dir / "profile.yaml"

    @property
    def node_file(self) -> Path:
        """What the cluster gave this node."""
        return self.data_dir / "node.json"

    @property
    def pods(self) -> Path:
        return self.data_dir / "pods"

    @property
    def desired(self) -> Path:
        return self.data_dir / "desired"

    @property
    def references(self) -> Path:
        """ConfigMaps and Secrets that the pods name."""
        return self.data_dir / "references"

    @property
    def network(self) -> Path:
        return self.data_dir / "network"

    @property
    def lock(self) -> Path:
        return self.data_dir / "lock"
