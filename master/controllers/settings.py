"""What an operator may set about the controllers. Times are in seconds."""

from __future__ import annotations

from typing import NamedTuple

from barque.client.pki import Authority


class ControllerSettings(NamedTuple):
    """Defaults are Kubernetes' where it has them.

    `lost_after_s` is four missed heartbeats; `disruption_share` is the share of silent nodes beyond which the fault is
    taken to be ours rather than theirs; `orphaned_pod_s` is how long pods of a removed node are kept, and
    `terminated_pods` how many that have ended. `root_ca` (PEM) is published in every namespace, "" for not at all;
    without an `authority` no certificates are signed.
    """

    workers: int = 4
    heartbeat_interval_s: float = 2.0
    lost_after_s: float = 8.0
    disruption_share: float = 0.55
    pod_sweep_s: float = 10.0
    orphaned_pod_s: float = 40.0
    terminated_pods: int = 12_500
    root_ca: str = ""
    authority: Authority | None = None
