"""What a cluster stands on before its first master starts: the CA and certificates, the store's directory, a profile
and a kubeconfig.

`lay` is idempotent: it makes what is missing and keeps what is there. A profile that holds another cluster under the
same name is refused and left as it is.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from barque.client import kubeconfig
from barque.client import profile as profiles
from barque.client.profile import Profile
from barque.master.auth.ca import MasterPki


class Site(NamedTuple):
    """Where the cluster is founded: the master's name and directory, and the addresses others reach it at."""

    data_dir: Path
    name: str
    addresses: Sequence[str]
    cluster: str = "barque"


def is_laid(data_dir: Path) -> bool:
    """Whether a cluster has been founded in this directory."""
    return (data_dir / "pki" / "authority.pem").exists()


def lay(site: Site, now: datetime.datetime) -> MasterPki:
    """Make the directories, the CA, and the certificates of the master and the administrator. Raises `PkiError`."""
    site.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    pki = MasterPki.open(site.data_dir / "pki", site.name, site.addresses, now, site.cluster)
    (site.data_dir / "store").mkdir(mode=0o700, exist_ok=True)
    return pki


def check_profile(path: Path, site: Site, masters: list[str], https_port: int) -> None:
    """Raise `ProfileError` or `KubeconfigError` where `write_profile` would, before anything is made."""
    ca_file = site.data_dir / "pki" / "ca.pem"
    ca = ca_file.read_text() if is_laid(site.data_dir) and ca_file.exists() else ""
    wanted = Profile(masters, ca, "", "", site.cluster)
    if path.exists():
        profiles.load_contexts(path).add(site.cluster, wanted)
    kubeconfig.check_beside(path, site.cluster, wanted, https_port)


def write_profile(path: Path, site: Site, pki: MasterPki, masters: list[str], https_port: int) -> Path:
    """Put the administrator's way in into the profile at `path`, beside those to other clusters, and into the
    kubeconfig that lies beside it, which is returned.

    The context has the cluster's name. Raises `ProfileError`, as where the name is another cluster's, and
    `KubeconfigError`.
    """
    admin = Profile.of(masters, pki.admin, cluster=site.cluster)
    profiles.remember(path, site.cluster, admin)
    return kubeconfig.remember_beside(path, site.cluster, admin, https_port)
