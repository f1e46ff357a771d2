"""`barque wait`: conditions, values, beginnings and ends, and when the time is up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from barque.cli.output import CliError
from barque.cli.waiting import parse_goal
from tests.support.builders import DeploymentBuilder, PodBuilder
from tests.support.registry_cluster import RegistryCluster, run


def a_pod(name: str = "web-1") -> PodBuilder:
    return PodBuilder(name, "default").labelled(app="web")


def web(generation: int = 1) -> DeploymentBuilder:
    return DeploymentBuilder("web", "default").generation(generation).condition("Available", "True")


def met(goal: str, obj: dict[str, Any] | None) -> bool:
    return parse_goal(goal).met(obj)


def test_wait_for_a_condition() -> None:
    cluster = RegistryCluster(a_pod().build())
    cluster.on_idle = [lambda: cluster.put(a_pod().ready().build())]
    result = run(cluster, "wait", "--for=condition=Ready", "pod/web-1")
    assert (result.stdout, result.stderr, result.exit_code) == ("pod/web-1 condition met\n", "", 0)


def test_wait_for_a_value() -> None:
    cluster = RegistryCluster(a_pod().ready().ip("10.244.0.9").build())
    path = "--for=jsonpath={.status.podIPs[0].ip}=10.244.0.9"
    assert run(cluster, "wait", path, "pod/web-1").stdout == "pod/web-1 condition met\n"


def test_wait_for_the_end() -> None:
    cluster = RegistryCluster(a_pod().build())
    cluster.on_idle = [lambda: cluster.remove("pods", "web-1")]
    assert run(cluster, "wait", "--for=delete", "pod/web-1").stdout == "pod/web-1 condition met\n"
    assert run(cluster, "wait", "--for=delete", "pod/web-1").exit_code == 0
    assert run(cluster, "wait", "--for=delete", "pod", "-l", "app=web").exit_code == 0


def test_an_object_of_the_same_name_is_not_the_one_that_was_waited_for() -> None:
    cluster = RegistryCluster(a_pod().uid("first").build())

    def made_anew() -> None:
        cluster.remove("pods", "web-1")
        cluster.put(a_pod().uid("second").build())

    cluster.on_idle = [made_anew]
    assert run(cluster, "wait", "--for=delete", "pod/web-1").exit_code == 0


def test_wait_for_a_beginning() -> None:
    cluster = RegistryCluster()
    cluster.on_idle = [lambda: cluster.put(a_pod().build())]
    assert run(cluster, "wait", "--for=create", "pod/web-1").stdout == "pod/web-1 condition met\n"
    some = RegistryCluster()
    some.on_idle = [lambda: some.put(a_pod("other").labelled(app="db").build()), lambda: some.put(a_pod().build())]
    assert run(some, "wait", "--for=create", "pods", "-l", "app=web").stdout == "pod/web-1 condition met\n"


def test_several_objects() -> None:
    cluster = RegistryCluster(a_pod("web-1").ready().build(), a_pod("web-2").build())
    cluster.on_idle = [lambda: cluster.put(a_pod("web-2").ready().build())]
    result = run(cluster, "wait", "--for=condition=Ready", "pods", "--all")
    assert result.stdout == "pod/web-1 condition met\npod/web-2 condition met\n"
    named = run(cluster, "wait", "--for=condition=ready=true", "pod/web-2", "pod/web-1")
    assert named.stdout == "pod/web-2 condition met\npod/web-1 condition met\n"


def test_a_timeout_of_nothing_looks_once() -> None:
    cluster = RegistryCluster(a_pod().build())
    result = run(cluster, "wait", "--for=condition=Ready", "pod/web-1", "--timeout=0")
    assert (result.stdout, result.exit_code) == ("", 1)
    assert result.stderr == "error: timed out waiting for the condition on pods/web-1\n"
    cluster.put(a_pod().ready().build())
    assert run(cluster, "wait", "--for=condition=Ready", "pod/web-1", "--timeout=0").exit_code == 0


def test_the_time_is_up() -> None:
    cluster = RegistryCluster(web().build())

    cluster.on_idle = [asyncio.Event().wait]  # nothing ever happens
    result = run(cluster, "wait", "--for=condition=Ready", "deploy/web", "--timeout=10ms")
    assert result.stderr == "error: timed out waiting for the condition on deployments.apps/web\n"


def test_what_is_not_there() -> None:
    missing = run(RegistryCluster(), "wait", "--for=condition=Ready", "pod/gone")
    assert missing.stderr == 'Error from server (NotFound): pods "gone" not found\n'
    none = run(RegistryCluster(), "wait", "--for=condition=Ready", "pods", "--all")
    assert (none.stderr, none.exit_code) == ("error: no matching resources found\n", 1)
    which = run(RegistryCluster(), "wait", "--for=condition=Ready", "pods")
    assert which.stderr == "error: which of them? Give names, -l LABELS or --all\n"


def test_a_condition_of_an_older_spec_does_not_count() -> None:
    cluster = RegistryCluster(web(1).observed().generation(2).build())
    cluster.on_idle = [lambda: cluster.put(web(2).observed().build())]
    assert run(cluster, "wait", "--for=condition=Available", "deployment/web").exit_code == 0
    assert cluster.on_idle == []


POD = {
    "metadata": {"name": "web-1"},
    "status": {
        "phase": "Running",
        "podIPs": [{"ip": "10.244.0.9"}, {"ip": "fd00::9"}],
        "restarts": 3,
        "conditions": [{"type": "Ready", "status": "False", "reason": "Probe"}],
    },
}


@pytest.mark.parametrize(
    ("goal", "reached"),
    [
        ("condition=Ready", False),
        ("condition=ready=False", True),
        ("condition=Ready=false", True),
        ("condition=Other", False),
        ("jsonpath={.status.phase}=Running", True),
        ("jsonpath='{.status.phase}'=Running", True),
        ("jsonpath={.status.phase}='Running'", True),
        ("jsonpath=.status.phase=Running", True),
        ("jsonpath={.status.phase}=Pending", False),
        ("jsonpath={.status.phase}", True),
        ("jsonpath={.status.reason}", False),
        ("jsonpath={.status.restarts}=3", True),
        ("jsonpath={.status.podIPs[7].ip}=x", False),
        ('jsonpath={.status.conditions[?(@.type=="Ready")].status}=False', True),
        ("create", True),
        ("delete", False),
    ],
)
def test_goals(goal: str, reached: bool) -> None:
    assert met(goal, POD) is reached


def test_nothing_has_no_condition_and_no_value() -> None:
    assert [met(goal, None) for goal in ("condition=Ready=False", "jsonpath={.status}", "create", "delete")] == [
        False,
        False,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("goal", "words"),
    [
        ("luck", 'unrecognized condition: "luck"; use condition=NAME[=VALUE], jsonpath=PATH[=VALUE], create or delete'),
        ("condition=", 'unrecognized condition: "condition="; use'),
        ("jsonpath=", "jsonpath expression cannot be empty"),
        ("jsonpath={.a[x]}=1", "{.a[x]}: invalid array index x"),
        ("jsonpath={.a}=", "jsonpath wait has to have a value after the equals sign"),
    ],
)
def test_goals_that_cannot_be_read(goal: str, words: str) -> None:
    with pytest.raises(CliError) as refused:
        parse_goal(goal)
    assert refused.value.message.startswith(words)


def test_a_value_is_one_and_not_a_list() -> None:
    with pytest.raises(CliError, match="matches more than one value"):
        met("jsonpath={.status.podIPs[*].ip}=x", POD)
    with pytest.raises(CliError, match="leads to a nested object or list"):
        met("jsonpath={.status.podIPs}=x", POD)
