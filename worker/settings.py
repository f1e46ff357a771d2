"""Where a worker keeps what, and what it may be told. Paths under the data directory are fixed here alone."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from barque.api import addresses
from barque.network.dns.settings import TTL_S
from barque.network.dns.upstreams import StubDomain
from barque.network.overlay.settings import OverlaySettings
from barque.worker.images.images import MAX_PULLS
from barque.worker.runtime.port import LogRotation

DEFAULT_DATA_DIR = Path("/var/lib/barque/worker")
DEFAULT_MANIFESTS = Path("/etc/barque/manifests")
DEFAULT_PORT = 7450
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
    # Where this node resolves names for its pods; "" for the service range's tenth address.
    cluster_dns: str = ""
    # For how long clients may remember what it says, and whom it asks about domains of others.
    dns_ttl_s: int = TTL_S
    stub_domains: tuple[StubDomain, ...] = ()
    # How other hosts' pods are reached, and through which interface.
    overlay: OverlaySettings = OverlaySettings()
    # Of pods' links, in bytes; 0 for what the overlay carries.
    mtu: int = 0
    # 1 pulls images one after another.
    max_parallel_image_pulls: int = MAX_PULLS
    container_log_max_bytes: int = LogRotation().file_bytes
    container_log_max_files: int = LogRotation().files
    # The most processes that one container may have; 0 for as many as there is room for.
    pod_max_pids: int = 0
    # Pods that this node runs by itself, one per file.
    manifests: Path = DEFAULT_MANIFESTS

    @property
    def dns_address(self) -> str:
        """The cluster's DNS address."""
        return self.cluster_dns or addresses.cluster_dns(self.service_cidr)

    @property
    def configuration(self) -> dict[str, object]:
        """These settings in the words of a KubeletConfiguration, as far as it has words for them."""
        return {
            "kind": "KubeletConfiguration",
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "port": int(self.listen.rpartition(":")[2] or DEFAULT_PORT),
            "staticPodPath": str(self.manifests),
            "clusterDNS": [self.dns_address],
            "serializeImagePulls": self.max_parallel_image_pulls == 1,
            "maxParallelImagePulls": self.max_parallel_image_pulls,
            "containerLogMaxSize": str(self.container_log_max_bytes),
            "containerLogMaxFiles": self.container_log_max_files,
            "podPidsLimit": self.pod_max_pids or -1,
        }

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
