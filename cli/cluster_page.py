"""The page of `cluster status`. Pure: masters' answers and the profile in, text out."""

from __future__ import annotations

import datetime
from typing import Any

from barque.api import timestamps
from barque.api.columns.age import human_duration
from barque.cli.description import Page
from barque.cli.masters import Seen
from barque.cli.members_page import role
from barque.cli.snapshots import size_text
from barque.cli.tables import render as table
from barque.client.pki import PkiError
from barque.client.profile import Profile

# An fsync of a healthy SSD takes a few milliseconds; beyond these, writes feel it and an election may.
SLOW_FSYNC_MS = 25.0
BAD_FSYNC_MS = 100.0
# No callback should hold a master's event loop longer.
STALL_MS = 100.0
# Certificates renew themselves long before; one that is this near its end has not.
ENDING = datetime.timedelta(days=30)


def render(near: Seen, far: Seen, profile: Profile, now: datetime.datetime) -> str:
    """`near` is what the connected master says of itself; `far`, of the members, the leader where it answers."""
    reply, page = near.reply, Page()
    page.field(0, "Cluster", reply.cluster_id)
    page.field(0, "Version", reply.version)
    page.field(0, "Revision", reply.revision)
    if reply.HasField("store"):
        _store(page, reply.store, now)
    _certificates(page, profile, now)
    if reply.HasField("group"):
        _group(page, near)
        members = [[m.name, m.address, role(m), m.state or "-"] for m in far.reply.members]
        text = page.render() + "\n" + table(["Master", "Address", "Role", "State"], members)
    else:
        members = [[m.name, m.address, role(m)] for m in reply.members]
        text = page.render() + "\n" + table(["Master", "Address", "Role"], members)
    if reply.components:
        rows = [[c.name, "ok" if c.healthy else "failing", c.message] for c in reply.components]
        text += "\n" + table(["Part", "State", "Message"], rows)
    advice = reply.group.advice or far.reply.group.advice
    return text + (f"\nWarning: {advice}\n" if advice else "")


def _group(page: Page, near: Seen) -> None:
    group = near.reply.group
    leader = next((member.name for member in near.reply.members if member.leader), "none")
    page.field(0, "Answered by", near.by or group.member)
    page.field(0, "Leader", f"{leader}, term {group.term}")
    page.field(0, "Log", f"entry {group.last_index}, committed {group.commit}, applied {group.applied}")
    follows = f"stalls {_ms(group.stall_ms)}, syncs {_ms(group.fsync_ms)}"
    page.field(0, "Election after", f"{group.election_timeout_ms:.0f} ms ({follows})")
    for fault in group.faults:
        page.field(0, "Fault", fault)


def _store(page: Page, store: Any, now: datetime.datetime) -> None:
    page.field(0, "Objects", store.objects)
    page.field(0, "On disk", f"log {size_text(store.log_bytes)}, snapshot {size_text(store.snapshot_bytes)}")
    page.field(0, "Fsync", f"{_ms(store.fsync_p50_ms)} p50, {_ms(store.fsync_p99_ms)} p99{_slow(store.fsync_p99_ms)}")
    stalled = "; something holds it up, answers are late" if store.loop_stall_max_ms > STALL_MS else ""
    page.field(0, "Loop stall", f"{_ms(store.loop_stall_max_ms)} at most{stalled}")
    if store.key_id:
        made = timestamps.parse(store.key_created)
        age = f", {human_duration((now - made).total_seconds())} old" if made is not None else ""
        page.field(0, "Secrets' key", f"{store.key_id}{age}")


def _slow(p99_ms: float) -> str:
    if p99_ms > BAD_FSYNC_MS:
        return "; the disk is too slow: every write waits for it"
    return "; the disk is slow" if p99_ms > SLOW_FSYNC_MS else ""


def _ms(value: float) -> str:
    return f"{value:.1f} ms"


def _certificates(page: Page, profile: Profile, now: datetime.datetime) -> None:
    """When the user's own certificate and the cluster's CA end."""
    for name, pem in (("Your certificate", profile.cert), ("Cluster's CA", profile.ca)):
        try:
            expires = _expires(pem)
        except (PkiError, ValueError):
            continue
        warning = "; it has ended" if expires < now else "; soon" if expires - now < ENDING else ""
        page.field(0, name, f"ends {expires:%Y-%m-%d}{warning}")


def _expires(pem: str) -> datetime.datetime:
    from cryptography import x509

    return x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc
