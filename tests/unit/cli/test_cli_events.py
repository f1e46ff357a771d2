"""`barque events`: the newest last, by object and by type, and followed."""

from __future__ import annotations

import json

import pytest

from barque.api.errors import unavailable
from barque.api.types import core_v1, meta_v1
from barque.client.verbs import Target
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
        "2m          Normal    Scheduled   Pod/web-1   it is Scheduled\n"
        "60s         Warning   BackOff     Pod/db-1    it is BackOff\n"
        "10s         Normal    Started     Pod/web-1   it is Started\n"
    )


def test_what_happened_often_says_how_often_and_since_when(cluster: RegistryCluster) -> None:
    counted = an_event("f", "59:58", "Pulling")
    counted.count, counted.firstTimestamp = 12, "2025-12-31T23:55:00Z"
    series = an_event("g", "", "Unhealthy", type="Warning")
    series.lastTimestamp, series.eventTime = "", "2025-12-31T22:00:00.000000Z"
    series.series = core_v1.EventSeries(count=3, lastObservedTime="2025-12-31T23:59:59.000000Z")
    for event in (counted, series):
        cluster.put(event)
    assert [line.split("   ")[0] for line in run(cluster, "events").stdout.splitlines()[-2:]] == [
        "2s (x12 over 5m)",
        "1s (x3 over 120m)",
    ]


def test_of_what_is_in_no_namespace() -> None:
    event = an_event("a", "59:50", "NodeReady", about="n1")
    event.involvedObject = core_v1.ObjectReference(kind="Node", name="n1")
    cluster = RegistryCluster(event)
    told = run(cluster, "events", "--for=node/n1", "-n", "kube-system", "--no-headers").stdout
    assert told.split() == ["10s", "Normal", "NodeReady", "Node/n1", "it", "is", "NodeReady"]


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


def test_both_groups_can_be_asked_for(cluster: RegistryCluster) -> None:
    core = run(cluster, "get", "events").stdout
    assert core.splitlines()[0].split() == ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    assert run(cluster, "get", "events.events.k8s.io").stdout == core
    newer = json.loads(run(cluster, "get", "events.events.k8s.io", "a", "-o", "json").stdout)
    assert (newer["apiVersion"], newer["note"]) == ("events.k8s.io/v1", "it is Started")


def test_while_events_cannot_be_read_that_is_said(cluster: RegistryCluster) -> None:
    def on_call(verb: str, target: Target) -> None:
        raise unavailable("events cannot be read yet: the bus is away")

    cluster.on_call = on_call
    for verb in (["events"], ["get", "events"]):
        result = run(cluster, *verb)
        assert (result.stdout, result.exit_code) == ("", 1)
        assert "events cannot be read yet: the bus is away" in result.stderr


def test_what_was_told_is_not_told_again_when_the_history_is_gone(cluster: RegistryCluster) -> None:
    def lose_the_history() -> None:
        cluster.put(an_event("b", "59:59", "Scheduled"))
        cluster.compact()

    cluster.on_idle = [lose_the_history]
    told = run(cluster, "events", "-w", "--no-headers").stdout.splitlines()
    assert [line.split()[2] for line in told] == ["Scheduled", "BackOff", "Started", "Scheduled"]


def test_events_are_followed(cluster: RegistryCluster) -> None:
    cluster.on_idle = [
        lambda: cluster.put(an_event("e", "59:59", "Killing")),
        lambda: cluster.remove("events", "a"),
    ]
    result = run(cluster, "events", "-w", "--for=pod/web-1", "--no-headers")
    assert [line.split()[2] for line in result.stdout.splitlines()] == ["Scheduled", "Started", "Killing"]
    assert result.exit_code == 130
