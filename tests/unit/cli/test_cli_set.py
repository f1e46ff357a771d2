"""`barque set image|env|resources`."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.builders import a_deployment, a_pod
from tests.support.registry_cluster import RegistryCluster, run


def cluster_of_web() -> RegistryCluster:
    cluster = RegistryCluster()
    cluster.create(a_deployment("web").image("web:1").build())
    return cluster


def container(cluster: RegistryCluster) -> dict[str, Any]:
    found: dict[str, Any] = cluster.one("deployments", "web")["spec"]["template"]["spec"]["containers"][0]
    return found


def test_an_image_is_changed() -> None:
    cluster = cluster_of_web()
    assert run(cluster, "set", "image", "deployment/web", "main=web:2").stdout == "deployment.apps/web image updated\n"
    assert container(cluster)["image"] == "web:2"
    before = cluster.revision
    # What is so already is not mentioned, and nothing is written.
    again = run(cluster, "set", "image", "deployment/web", "*=web:2")
    assert (again.stdout, again.exit_code, cluster.revision) == ("", 0, before)


def test_an_image_of_a_pod_and_a_rehearsal() -> None:
    cluster = RegistryCluster(a_pod("db").build())
    shown = run(cluster, "set", "image", "pod/db", "main=db:2", "--dry-run=client", "-o", "yaml")
    assert "image: db:2" in shown.stdout
    assert cluster.one("pods", "db")["spec"]["containers"][0]["image"] == "web:1"
    assert run(cluster, "set", "image", "pod/db", "main=db:2").stdout == "pod/db image updated\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["image", "deployment/web"], "error: at least one image update is required\n"),
        (["image", "deployment/web", "app=web:2"], 'error: unable to find container named "app"\n'),
        (["image", "deployment/web", "main="], "error: invalid image spec: main=; it is CONTAINER=IMAGE"),
        (
            ["image", "deployment", "main=web:2", "web"],
            "error: all resources must be specified before image changes: web\n",
        ),
        (["image", "service/web", "main=web:2"], "error: services have no containers\n"),
        (["env", "deployment/web"], "error: at least one environment variable must be provided\n"),
        (["env", "deployment/web", "-c", "app", "A=1"], 'error: unable to find container named "app"\n'),
        (["env", "deployment/web", "=1"], "error: invalid environment variable '=1'"),
        (["resources", "deployment/web"], "error: you must specify an update to requests or limits"),
        (["resources", "deployment/web", "--limits=cpu=much"], "error: invalid --limits: cpu=much: "),
    ],
)
def test_what_makes_no_sense(words: list[str], said: str) -> None:
    result = run(cluster_of_web(), "set", *words)
    assert result.stderr.startswith(said)
    assert result.exit_code == 1


def test_variables_are_set_changed_listed_and_taken_out() -> None:
    cluster = cluster_of_web()
    assert run(cluster, "set", "env", "deployment/web", "A=1", "B=2").stdout == "deployment.apps/web env updated\n"
    assert run(cluster, "set", "env", "deployment/web", "A=3", "--overwrite=false").stderr == (
        "error: 'A' already has a value (1), and --overwrite is false\n"
    )
    assert run(cluster, "set", "env", "deployment/web", "A=3", "B-").exit_code == 0
    assert container(cluster)["env"] == [{"name": "A", "value": "3"}]
    listed = run(cluster, "set", "env", "deployment/web", "--list")
    assert listed.stdout == "# deployment.apps/web, container main\nA=3\n"


def test_a_value_that_came_from_elsewhere_is_replaced() -> None:
    cluster = RegistryCluster()
    made = a_deployment("web").build()
    document = cluster.create(made)
    document["spec"]["template"]["spec"]["containers"][0]["env"] = [
        {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "web", "key": "a"}}}
    ]
    cluster.put(document)
    assert run(cluster, "set", "env", "deploy/web", "--list").stdout.splitlines()[1] == "# A from configmap web, key a"
    assert run(cluster, "set", "env", "deploy/web", "A=1").exit_code == 0
    assert container(cluster)["env"] == [{"name": "A", "value": "1"}]


def test_resources_are_set() -> None:
    cluster = cluster_of_web()
    words = ["--limits=cpu=200m,memory=512Mi", "--requests=cpu=100m"]
    told = run(cluster, "set", "resources", "deployment", "web", *words)
    assert told.stdout == "deployment.apps/web resource requirements updated\n"
    assert container(cluster)["resources"]["limits"] == {"cpu": "200m", "memory": "512Mi"}
    run(cluster, "set", "resources", "deployment", "web", "--limits=cpu=1")
    assert container(cluster)["resources"]["limits"] == {"cpu": "1", "memory": "512Mi"}
