"""Who may speak to a member. Pure: what is claimed and what is known in, "" or a sentence for the refused side out.

A certificate says which master speaks; the configuration says whether it is a member. A member that was away may know
an old configuration only, and the leader it must learn from may not stand in that one: so while no leader is known,
every master of this cluster that was not removed is heard.
"""

from __future__ import annotations

from barque.client.pki import MASTER_PREFIX, MASTERS_GROUP, Subject
from barque.master.raft.ready import Standing


def removal(member: str) -> str:
    """What a removed member is told; the same words tell it that it need not come again."""
    return f"member {member} was removed from the cluster; empty its data directory and join it anew"


def refusal(standing: Standing, own_cluster: str, cluster: str, member: str, subject: Subject) -> str:
    """Why `subject`, who says it is `member` of `cluster`, is not heard; "" where it is."""
    if MASTERS_GROUP not in subject.groups or not subject.name.startswith(MASTER_PREFIX):
        return f"{subject.name} is no master: only masters of the cluster may speak here"
    if cluster != own_cluster:
        return f"this is a master of the cluster {own_cluster}, not of {cluster}"
    configuration = standing.configuration
    if member in configuration.removed:
        return removal(member)
    info = configuration.info(member)
    if info is None:
        if standing.leader in ("", member):
            return ""
        return f"member {member} is not known to the cluster; add it with `barque master join`"
    if subject.name != MASTER_PREFIX + info.name:
        return f"member {member} is the master {info.name}, and the certificate is of {subject.name}"
    return ""
