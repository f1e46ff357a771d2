"""What the command says of itself and of the API: resource types, versions, options, completion."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from barque.cli.completing import complete_names, complete_objects
from tests.support.builders import PodBuilder, ServiceBuilder
from tests.support.registry_cluster import RegistryCluster, a_session, run


def lines(*arguments: str) -> list[str]:
    result = run(RegistryCluster(), *arguments)
    assert (result.stderr, result.exit_code) == ("", 0)
    return result.stdout.splitlines()


def test_api_resources() -> None:
    found = lines("api-resources")
    assert found[0].split() == ["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"]
    assert [line.split() for line in found if line.startswith("deployments ")] == [
        ["deployments", "deploy", "apps/v1", "true", "Deployment"]
    ]
    wide = next(line for line in lines("api-resources", "-o", "wide") if line.startswith("pods "))
    assert wide.split()[-1] == "all"
    assert "watch" in wide


def test_resource_types_are_chosen_and_ordered() -> None:
    def names(*arguments: str) -> list[str]:
        return lines("api-resources", "-o", "name", *arguments)

    whole_cluster = names("--namespaced=false", "--verbs=get")
    assert whole_cluster[:3] == ["componentstatuses", "namespaces", "nodes"]
    assert {"nodes.metrics.k8s.io", "clusterroles.rbac.authorization.k8s.io"} <= set(whole_cluster)
    assert "pods" not in whole_cluster
    assert names("--api-group=metrics.k8s.io", "--verbs=watch") == []
    assert names("--categories=all", "--api-group=apps") == ["deployments.apps", "replicasets.apps"]
    assert "deployments.apps" in names("--verbs=list,watch")
    assert names("--verbs=list,fly") == []
    by_kind = [line.split()[-1] for line in lines("api-resources", "--sort-by=kind", "--no-headers")]
    assert by_kind == sorted(by_kind)
    by_name = [name.partition(".")[0] for name in names("--sort-by=name")]
    assert by_name == sorted(by_name)


def test_api_versions() -> None:
    found = lines("api-versions")
    assert found == sorted(set(found))
    assert {"v1", "apps/v1", "discovery.k8s.io/v1"} <= set(found)


def test_options() -> None:
    text = "\n".join(lines("options"))
    assert all(option in text for option in ("--namespace", "--context", "--config", "--request-timeout"))


# --- completion


@pytest.fixture
def cluster() -> RegistryCluster:
    pods = [PodBuilder(name, "default").build() for name in ("web-1", "web-2", "db-1")]
    return RegistryCluster(*pods, ServiceBuilder("web", "default").port(80).build())


def completed(cluster: RegistryCluster, words: list[str], incomplete: str) -> list[str]:
    return [str(item.value) for item in complete_objects(a_session(cluster), words, incomplete)]


def test_types_are_completed(cluster: RegistryCluster) -> None:
    assert completed(cluster, [], "depl") == ["deployments"]
    assert completed(cluster, [], "svc") == ["svc"]
    assert completed(cluster, [], "pods,servi") == ["pods,serviceaccounts", "pods,services"]
    assert cluster.calls == []


def test_names_are_asked_of_the_cluster(cluster: RegistryCluster) -> None:
    assert completed(cluster, ["pods"], "we") == ["web-1", "web-2"]
    assert completed(cluster, ["pods", "web-1"], "we") == ["web-2"]
    assert completed(cluster, [], "po/d") == ["po/db-1"]
    assert completed(cluster, ["pod/web-1"], "svc/") == ["svc/web"]
    assert completed(cluster, ["pod/web-1"], "sv") == []


def test_what_goes_wrong_offers_nothing(cluster: RegistryCluster) -> None:
    assert completed(cluster, ["widgets"], "") == []

    def refuse(*_: object) -> None:
        raise ValueError("odd")

    cluster.on_call = refuse
    assert [item.value for item in complete_names(a_session(cluster), "pods", "")] == []


def complete(line: str, tmp_path: Path) -> list[str]:
    """As bash asks."""
    environment = {
        **os.environ,
        "BARQUE_CONFIG": str(tmp_path / "none"),
        "_BARQUE_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
    }
    argv = [sys.executable, "-c", "from barque.cli.main import main; main()"]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    return [reply.partition(",")[2] for reply in done.stdout.split()]


def test_a_shell_completes_verbs_options_types_and_fields(tmp_path: Path) -> None:
    assert complete("barque api", tmp_path) == ["api-resources", "api-versions"]
    assert complete("barque get --show-l", tmp_path) == ["--show-labels"]
    assert complete("barque get nod", tmp_path) == ["nodes"]
    assert complete("barque explain pod.spec.nodeN", tmp_path) == ["pod.spec.nodeName"]
    assert complete("barque config use", tmp_path) == ["use-context"]
    assert complete("barque get pods web", tmp_path) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_for_shells(shell: str) -> None:
    script = "\n".join(lines("completion", shell))
    assert "_BARQUE_COMPLETE" in script
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True, timeout=60)
