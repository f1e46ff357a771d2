"""Helm, unmodified, against one master: a chart is installed, upgraded, rolled back and uninstalled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import kubectl as clients
from tests.support.rest_master import Answer, RestMaster

CHART = """
apiVersion: v2
name: crew
version: 0.1.0
"""
TEMPLATES = """
apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Release.Name }}-words}
data: {word: {{ .Values.word }}}
---
apiVersion: v1
kind: Service
metadata: {name: {{ .Release.Name }}}
spec:
  selector: {app: {{ .Release.Name }}}
  ports: [{port: 80}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: {{ .Release.Name }}}}
  template:
    metadata: {labels: {app: {{ .Release.Name }}}}
    spec:
      containers: [{name: app, image: busybox}]
"""


# Two of its commands wait for a minute themselves, where need be.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    folder = tmp_path / "crew"
    (folder / "templates").mkdir(parents=True)
    (folder / "Chart.yaml").write_text(CHART)
    (folder / "values.yaml").write_text("word: ahoy\nreplicas: 0\n")
    (folder / "templates" / "all.yaml").write_text(TEMPLATES)
    return folder


@pytest.fixture
def helm(rest_master: RestMaster) -> clients.ClientBinary:
    try:
        return clients.helm()
    except clients.MissingClientError as missing:
        pytest.skip(f"not tested with this client: {missing}")


def test_a_release_comes_changes_goes_back_and_goes(
    rest_master: RestMaster, helm: clients.ClientBinary, chart: Path
) -> None:
    def run(*arguments: str) -> str:
        options = ("--namespace", "charts", "--create-namespace") if "install" in arguments else ("-n", "charts")
        return helm.run(*arguments, *options, kubeconfig=rest_master.kubeconfig).stdout

    def ask(path: str) -> Answer:
        return rest_master.ask(f"/{path.replace('NS', 'namespaces/charts')}")

    def found() -> tuple[Any, ...]:
        words = json.loads(ask("api/v1/NS/configmaps/boat-words").body)
        crew = json.loads(ask("apis/apps/v1/NS/deployments/boat").body)
        return words["data"]["word"], crew["spec"]["replicas"]

    assert "STATUS: deployed" in run("install", "boat", str(chart), "--wait", "--timeout=60s")
    assert found() == ("ahoy", 0)
    assert json.loads(ask("api/v1/NS/services/boat").body)["spec"]["clusterIP"]
    assert "REVISION: 2" in run("upgrade", "boat", str(chart), "--set", "word=hoist,replicas=2")
    assert found() == ("hoist", 2)
    run("rollback", "boat", "1")
    assert found() == ("ahoy", 0)
    assert [revision["status"] for revision in json.loads(run("history", "boat", "-o", "json"))] == [
        "superseded", "superseded", "deployed",
    ]  # fmt: skip
    assert "uninstalled" in run("uninstall", "boat", "--wait", "--timeout=60s")
    for path in ("api/v1/NS/configmaps/boat-words", "api/v1/NS/services/boat", "apis/apps/v1/NS/deployments/boat"):
        assert ask(path).status == 404
