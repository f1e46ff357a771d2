"""`barque events`: the newest last, by object and by type, and followed."""

from __future__ import annotations

import json

import pytest

from barque.api.types import core_v1, meta_v1
from tests.support.registry_cluster import RegistryCluster, run


def an_event(
    name: str, at: str, reason: str, *, about: str = "web-1", type: str = "Normal", namespace: str = "default"
) -> core_v1.Event:
    return core_v1.Event(
        metadata=meta_v1.ObjectMeta(name=name, namespace=namespace),
        involvedObject=core_v1.ObjectReference(kind="Pod", name=about, namespace=namespace),
        reason=reason,
        message=f"it is {reason}",
        lastTimestamp=f"2025-12-31T23:{at}Z",
        type=type,
    )


@pytest.fixture
def cluster() -> RegistryCluster:
    return RegistryCluster(
        an_event("a", "59:50", "Started"),
        an_event("b", "58:00", "Scheduled"),
        an_event("c", "59:00", "BackOff", about="db-1", type="Warning"),
        an_event("d", "59:55", "Elsewhere", namespace="shop"),
    )


def test_the_newest_stands_last(cluster: RegistryCluster) -> None:
    assert run(cluster, "events").stdout == (
        "LAST SEEN   TYPE      REASON      OBJECT      MESSAGE\n"
        "2m          Normal    Scheduled   pod/web-1   it is Scheduled\n"
        "60s         Warning   BackOff     pod/db-1    it is BackOff\n"
        "10s         Normal    Started     pod/web-1   it is Started\n"
    )


def test_of_every_namespace(cluster: RegistryCluster) -> None:
    lines = run(cluster, "events", "-A", "--no-headers").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["default", "default", "default", "shop"]


def test_of_one_object_and_of_one_type(cluster: RegistryCluster) -> None:
    def reasons(*arguments: str) -> list[str]:
        return [line.split()[2] for line in run(cluster, "events", "--no-headers", *arguments).stdout.splitlines()]

    assert reasons("--for", "pod/web-1") == ["Scheduled", "Started"]
    assert reasons("--types=Warning") == ["BackOff"]
    assert reasons("--types=normal,WARNING") == ["Scheduled", "BackOff", "Started"]
    assert run(cluster, "events", "--types=Odd").stderr == "error: valid --types are Normal or Warning\n"


def test_in_full(cluster: RegistryCluster) -> None:
    items = json.loads(run(cluster, "events", "-o", "json").stdout)["items"]
    assert [item["reason"] for item in items] == ["Scheduled", "BackOff", "Started"]


def test_nothing_happened() -> None:
    nothing = run(RegistryCluster(), "events")
    assert (nothing.stdout, nothing.stderr) == ("", "No events found in default namespace.\n")
    assert run(RegistryCluster(), "events", "-A").stderr == "No events found.\n"


def test_events_are_followed(cluster: RegistryCluster) -> None:
    cluster.on_idle = [
        lambda: cluster.put(an_event("e", "59:59", "Killing")),
        lambda: cluster.remove("events", "a"),
    ]
    result = run(cluster, "events", "-w", "--for=pod/web-1", "--no-headers")
    assert [line.split()[2] for line in result.stdout.splitlines()] == ["Scheduled", "Started", "Killing"]
    assert result.exit_code == 130
