"""`barque cluster`: status, snapshots saved and restored, the key rotated."""

from __future__ import annotations

import datetime
import hashlib
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque.api.errors import unavailable
from barque.cli.cluster_page import render
from barque.cli.masters import Seen
from barque.cli.snapshots import size_text
from barque.client import pki
from barque.client.profile import Profile
from barque.proto import cluster_pb2
from tests.support.registry_cluster import RegistryCluster, run

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
HEALTHY = {"objects": 12, "log_bytes": 3 * 1024 * 1024, "snapshot_bytes": 512, "fsync_p50_ms": 0.8, "fsync_p99_ms": 4.2}


def a_status(healthy: bool = True, **store: Any) -> Any:
    return cluster_pb2.StatusReply(
        cluster_id="c-1",
        version="0.1.0",
        members=[cluster_pb2.Member(name="m1", address="10.0.0.1:7443", leader=True)],
        revision=42,
        components=[cluster_pb2.Component(name="bus", healthy=healthy, message="" if healthy else "no answer")],
        store=cluster_pb2.StoreFigures(**store) if store else None,
    )


class Masters:
    """Answers for the Cluster service; `snapshot` is what it has, `received` what it was given."""

    def __init__(self, status: Any = None) -> None:
        self.status = status or a_status()
        self.snapshot = [b"barque", b"-", b"snapshot"]
        self.broken = False
        self.received: list[Any] = []

    async def Status(self, _: Any) -> Any:
        return self.status

    async def SaveSnapshot(self, _: Any) -> AsyncIterator[Any]:
        for data in self.snapshot:
            yield cluster_pb2.SnapshotChunk(data=data)
        if self.broken:
            raise unavailable("the master 10.0.0.1:7443 broke off the call")

    async def RestoreSnapshot(self, chunks: AsyncIterator[Any]) -> Any:
        self.received = [chunk async for chunk in chunks]
        return cluster_pb2.RestoreSnapshotReply(revision=1_000_000_042, objects=12)

    async def RotateKey(self, _: Any) -> Any:
        return cluster_pb2.RotateKeyReply(key_id="k-2", secrets=7)


@pytest.fixture
def cluster() -> RegistryCluster:
    made = RegistryCluster()
    made.cluster = Masters()
    return made


# --- status


def test_status(cluster: RegistryCluster) -> None:
    result = run(cluster, "cluster", "status")
    assert result.stdout == (
        "Cluster:   c-1\nVersion:   0.1.0\nRevision:  42\n\n"
        "MASTER   ADDRESS         ROLE\nm1       10.0.0.1:7443   leader\n\n"
        "PART   STATE   MESSAGE\nbus    ok\n"
    )
    cluster.cluster.status = a_status(healthy=False)
    assert run(cluster, "cluster", "status").exit_code == 1


def a_profile(now: datetime.datetime = NOW) -> Profile:
    return Profile.of(["10.0.0.1"], pki.create_authority(now).identity(pki.ADMIN, now))


def page(now: datetime.datetime = NOW, **store: Any) -> list[str]:
    seen = Seen(a_status(**{**HEALTHY, **store}), "")
    return render(seen, seen, a_profile(), now).splitlines()


def test_what_the_store_holds_and_how_its_disk_does() -> None:
    lines = page(loop_stall_max_ms=12, key_id="k-1", key_created="2025-12-30T00:00:00Z")
    assert lines[:10] == [
        "Cluster:           c-1",
        "Version:           0.1.0",
        "Revision:          42",
        "Objects:           12",
        "On disk:           log 3.0 MiB, snapshot 512 bytes",
        "Fsync:             0.8 ms p50, 4.2 ms p99",
        "Loop stall:        12.0 ms at most",
        "Secrets' key:      k-1, 2d old",
        "Your certificate:  ends 2027-01-01",
        "Cluster's CA:      ends 2035-12-30",
    ]


def test_what_is_not_well_is_said_in_words() -> None:
    assert page(fsync_p99_ms=40.0)[5].endswith("40.0 ms p99; the disk is slow")
    assert page(fsync_p99_ms=400.0)[5].endswith("400.0 ms p99; the disk is too slow: every write waits for it")
    assert page(loop_stall_max_ms=900)[6].endswith("900.0 ms at most; something holds it up, answers are late")
    assert page(NOW + datetime.timedelta(days=350))[7] == "Your certificate:  ends 2027-01-01; soon"
    assert page(NOW + datetime.timedelta(days=400))[7] == "Your certificate:  ends 2027-01-01; it has ended"


# --- snapshots


def test_a_snapshot_is_saved(cluster: RegistryCluster, tmp_path: Path) -> None:
    file = tmp_path / "monday"
    result = run(cluster, "cluster", "snapshot", "save", str(file))
    digest = hashlib.sha256(b"barque-snapshot").hexdigest()
    assert (result.stdout, result.stderr) == (f"snapshot saved to {file} (15 bytes, sha256 {digest})\n", "")
    assert file.read_bytes() == b"barque-snapshot"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_snapshot_that_is_cut_short_leaves_nothing(cluster: RegistryCluster, tmp_path: Path) -> None:
    cluster.cluster.broken = True
    result = run(cluster, "cluster", "snapshot", "save", str(tmp_path / "monday"))
    assert (result.stdout, result.exit_code, list(tmp_path.iterdir())) == ("", 1, [])
    assert "broke off the call" in result.stderr


def test_a_file_is_replaced_only_when_asked_for(cluster: RegistryCluster, tmp_path: Path) -> None:
    file = tmp_path / "monday"
    file.write_bytes(b"older")
    refused = run(cluster, "cluster", "snapshot", "save", str(file))
    assert refused.stderr == f"error: {file} is there already; --force replaces it\n"
    assert file.read_bytes() == b"older"
    assert run(cluster, "cluster", "snapshot", "save", "--force", str(file)).exit_code == 0
    assert file.read_bytes() == b"barque-snapshot"
    assert "is a folder" in run(cluster, "cluster", "snapshot", "save", str(tmp_path)).stderr
    assert "cannot write to" in run(cluster, "cluster", "snapshot", "save", str(tmp_path / "no" / "x")).stderr


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    file = tmp_path / "monday"
    file.write_bytes(b"x" * (1024 * 1024 + 5))
    return file


def test_a_snapshot_is_restored_once_the_clusters_id_was_typed(cluster: RegistryCluster, saved: Path) -> None:
    result = run(cluster, "cluster", "snapshot", "restore", str(saved), stdin="c-1\n")
    assert result.stdout == "restored 12 objects; the cluster is at revision 1000000042 now\n"
    assert f"This replaces the whole state of cluster c-1, on all of its masters, by that of {saved}:" in result.stderr
    assert [(len(c.data), c.total_bytes) for c in cluster.cluster.received] == [(1048576, 1048581), (5, 0)]


def test_without_that_nothing_is_changed(cluster: RegistryCluster, saved: Path) -> None:
    for typed in ("c-2\n", "\n", ""):
        result = run(cluster, "cluster", "snapshot", "restore", str(saved), stdin=typed)
        assert (result.stdout, result.exit_code) == ("", 1)
        assert result.stderr.endswith("error: not confirmed; nothing was changed\n")
    assert cluster.cluster.received == []
    assert run(cluster, "cluster", "snapshot", "restore", str(saved), "--yes").exit_code == 0
    missing = run(cluster, "cluster", "snapshot", "restore", str(saved.parent / "gone"), "--yes")
    assert missing.stderr == f"error: {saved.parent / 'gone'} is no file\n"


def test_the_key_is_rotated(cluster: RegistryCluster) -> None:
    assert run(cluster, "cluster", "rotate-key").stdout == "key rotated: k-2 seals 7 secrets now\n"


@given(st.integers(0, 2**50))
def test_sizes_are_short_and_right(size: int) -> None:
    number, unit = size_text(size).split()
    factor = 1024 ** ["bytes", "KiB", "MiB", "GiB", "TiB"].index(unit)
    assert abs(float(number) * factor - size) <= factor * 0.05 + 1e-6
    assert float(number) < 1024.05 or unit == "TiB"


def test_the_version_of_both(cluster: RegistryCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert run(cluster, "version", "--config", "x").stdout == "Client Version: v0.1.0\nServer Version: v0.1.0\n"
    assert run(cluster, "version", "--client").stdout == "Client Version: v0.1.0\n"
    assert run(cluster, "version", "--config", "x", "-o", "yaml").stdout == (
        "clientVersion:\n  gitVersion: v0.1.0\nserverVersion:\n  gitVersion: v0.1.0\n"
    )
    monkeypatch.setenv("BARQUE_CONFIG", str(tmp_path / "none"))
    fresh = run(cluster, "version")
    assert (fresh.exit_code, fresh.stderr) == (0, "No cluster is set up here yet; `barque up` starts one.\n")


def test_the_clients_version_is_told_though_no_master_answers() -> None:
    cluster = RegistryCluster()

    async def gone(_: Any) -> Any:
        raise unavailable("no master is reachable (10.0.0.1:7443: connection refused)")

    cluster.cluster = SimpleNamespace(Status=gone)
    result = run(cluster, "version", "--config", "x")
    assert (result.stdout, result.exit_code) == ("Client Version: v0.1.0\n", 1)
    assert result.stderr.startswith("Unable to reach the cluster: ")
