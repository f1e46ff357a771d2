"""Where a worker keeps what, and what it may be told. Paths under the data directory are fixed here alone."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from barque.worker.images.images import MAX_PULLS
from barque.worker.runtime.port import LogRotation

DEFAULT_DATA_DIR = Path("/var/lib/barque/worker")
DEFAULT_MANIFESTS = Path("/etc/barque/manifests")
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
    # 1 pulls images one after another.
    max_parallel_image_pulls: int = MAX_PULLS
    container_log_max_bytes: int = LogRotation().file_bytes
    container_log_max_files: int = LogRotation().files
    # The most processes that one container may have; 0 for as many as there is room for.
    pod_max_pids: int = 0
    # Pods that this node runs by itself, one per file.
    manifests: Path = DEFAULT_MANIFESTS

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
        """Each pod's volumes and files, by uid."""
        return self.data_dir / "pods"

    @property
    def desired(self) -> Path:
        """This node's pods, as the masters last had them."""
        return self.data_dir / "desired"

    @property
    def references(self) -> Path:
        """ConfigMaps and Secrets that the pods name."""
        return self.data_dir / "references"

    @property
    def images(self) -> Path:
        """Which images this worker brought here, and when they were used."""
        return self.data_dir / "images.json"

    @property
    def network(self) -> Path:
        """The pods' addresses and ports, and what was changed on the host."""
        return self.data_dir / "network"

    @property
    def sandboxes(self) -> Path:
        """Pod sandboxes without containers, and the OCI runtime that brings containers into them."""
        return self.data_dir / "sandboxes"

    @property
    def seccomp(self) -> Path:
        """The node's own seccomp profiles, by the paths that pods name."""
        return self.data_dir / "seccomp"

    @property
    def lock(self) -> Path:
        """Held by the one worker, or cleanup, that runs on this directory."""
        return self.data_dir / "lock"
