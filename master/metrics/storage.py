"""What the store holds, how its log and disk do, and how the group of masters stands as this one sees it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from barque.api.resources import stored_resources
from barque.master.metrics.exposition import Family, Kind, counter, gauge, render_labels, sample
from barque.master.raft.ports import GroupFigures
from barque.master.store.port import Filter, Listing, StoreFigures


class Storage(Protocol):
    """What is asked of the store; see `store.port.Store`."""

    @property
    def revision(self) -> int: ...

    @property
    def leads(self) -> bool: ...

    def figures(self) -> StoreFigures: ...

    def list(self, resource: str, selected: Filter = Filter(), revision: int | None = None) -> Listing: ...


class GroupSeen(Protocol):
    """What is asked of the group; see `store.group.Group`."""

    def group_figures(self) -> GroupFigures: ...


def storage_families(store: Storage) -> Iterator[Family]:
    """Objects by resource, and the figures of log, snapshot and disk."""
    name = "apiserver_storage_objects"
    names = [resource.group_resource for resource in stored_resources()]
    counts = (sample(name, len(store.list(of).items), render_labels({"resource": of})) for of in names)
    yield Family(name, "gauge", "Stored objects by resource.", counts)
    figures = store.figures()
    yield gauge("barque_store_objects", "All stored objects, Barque's own records among them.", figures.objects)
    yield counter("barque_store_revision", "The revision of the last applied write.", store.revision)
    yield gauge("barque_store_log_bytes", "The size of the log on disk.", figures.log_bytes)
    yield gauge("barque_store_snapshot_bytes", "The size of the newest snapshot on disk.", figures.snapshot_bytes)
    name = "barque_store_fsync_duration_seconds"
    quantiles = {"0.5": figures.fsync_p50_ms, "0.99": figures.fsync_p99_ms}
    lines = [sample(name, ms / 1000, render_labels({"quantile": q})) for q, ms in quantiles.items()]
    yield Family(name, "gauge", "How long the disk took to hold the newest appends, in seconds.", lines)


def group_families(group: GroupSeen) -> Iterator[Family]:
    """The Raft group: who leads, terms and indexes, and how the other members do."""
    figures = group.group_figures()
    yield gauge("barque_raft_has_leader", "Whether a leader is known, 0 or 1.", int(bool(figures.leader)))
    leads = bool(figures.leader) and figures.leader == figures.member
    yield gauge("barque_raft_is_leader", "Whether this master leads, 0 or 1.", int(leads))
    yield counter("barque_raft_term", "The term.", figures.term)
    yield counter("barque_raft_last_index", "The last entry of the log.", figures.last_index)
    yield counter("barque_raft_commit_index", "The last committed entry.", figures.commit)
    yield counter("barque_raft_applied_index", "The last applied entry.", figures.applied)
    yield gauge(
        "barque_raft_election_timeout_seconds", "The election timeout in force, which follows stalls and syncs.",
        figures.election_s,
    )  # fmt: skip
    yield gauge("barque_raft_faults", "What keeps this master from others or its disk now.", len(figures.faults))
    others = [peer for peer in figures.peers if peer.info.id != figures.member]
    labels = {peer.info.id: render_labels({"peer": peer.info.name}) for peer in others}
    yield _of_peers(
        "barque_raft_peer_silence_seconds", "gauge", "Since another master was heard, in seconds.",
        ((labels[peer.info.id], peer.silent_s) for peer in others if peer.silent_s is not None),
    )  # fmt: skip
    yield _of_peers(
        "barque_raft_peer_match_index", "counter", "How far another master's log is known to agree with this one's.",
        ((labels[peer.info.id], peer.match) for peer in others),
    )  # fmt: skip


def _of_peers(name: str, kind: Kind, text: str, values: Iterator[tuple[str, float]]) -> Family:
    return Family(name, kind, text, (sample(name, value, labels) for labels, value in values))
