"""`barque kubeconfig` and `barque auth whoami`."""

from __future__ import annotations

import base64
import datetime
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from cryptography import x509

from barque.cli.main import cli
from barque.cli.session import Session
from barque.client import pki
from barque.client.profile import Contexts, Profile
from barque.client.verbs import Target
from barque.proto import cluster_pb2
from tests.support.registry_cluster import ClusterConnection, RegistryCluster, run

NOW = datetime.datetime.now(datetime.UTC)
AUTHORITY = pki.create_authority(NOW)
PROFILE = Profile.of(["10.0.0.1:7443"], AUTHORITY.identity(pki.ADMIN, NOW), cluster="lab", namespace="shop")


class Masters:
    async def Status(self, _: Any) -> Any:
        member = cluster_pb2.Member(name="m1", address="10.0.0.1:7443", leader=True)
        return cluster_pb2.StatusReply(members=[member], https_port=6443)


@pytest.fixture
def cluster() -> RegistryCluster:
    made = RegistryCluster(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot", "namespace": "default"}}
    )
    made.cluster = Masters()
    return made


def kubeconfig(cluster: RegistryCluster, tmp_path: Path, *arguments: str, profile: Profile = PROFILE) -> Result:
    Contexts({"lab": profile}, "lab").save(tmp_path / "profile")
    session = Session(connect=lambda profile, warn: ClusterConnection(cluster, warn, profile))
    argv = ["kubeconfig", *arguments, "--config", str(tmp_path / "profile")]
    return CliRunner().invoke(cli, argv, obj=session, prog_name="barque")


def written(result: Result) -> Any:
    assert (result.stderr, result.exit_code) == ("", 0)
    return yaml.safe_load(result.stdout)


def test_ones_own_way_in(cluster: RegistryCluster, tmp_path: Path) -> None:
    config = written(kubeconfig(cluster, tmp_path))
    (entry,) = config["clusters"]
    assert entry["cluster"] == {
        "certificate-authority-data": base64.b64encode(PROFILE.ca.encode()).decode(),
        "server": "https://10.0.0.1:6443",
    }
    (user,) = config["users"]
    assert base64.b64decode(user["user"]["client-key-data"]).decode() == PROFILE.key
    (context,) = config["contexts"]
    assert context == {"name": "lab", "context": {"cluster": "lab", "user": "barque-admin@lab", "namespace": "shop"}}


def test_a_master_known_by_another_name_is_expected_by_its_own(cluster: RegistryCluster, tmp_path: Path) -> None:
    aliased = Profile.of(["gate.example:7443"], PROFILE.identity, cluster="lab")
    (entry,) = written(kubeconfig(cluster, tmp_path, profile=aliased))["clusters"]
    assert entry["cluster"]["server"] == "https://gate.example:6443"
    assert entry["cluster"]["tls-server-name"] == "barque-master"


def test_a_server_that_is_named_is_taken_at_its_word(cluster: RegistryCluster, tmp_path: Path) -> None:
    (entry,) = written(kubeconfig(cluster, tmp_path, "--server", "https://api.example.org:6443"))["clusters"]
    assert set(entry["cluster"]) == {"certificate-authority-data", "server"}
    assert entry["cluster"]["server"] == "https://api.example.org:6443"


def test_a_service_accounts_token(cluster: RegistryCluster, tmp_path: Path) -> None:
    config = written(kubeconfig(cluster, tmp_path, "--service-account", "default/robot", "--duration", "20m"))
    body = config["users"][0]["user"]["token"].split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    assert claims["sub"] == "system:serviceaccount:default:robot"
    assert claims["exp"] - claims["iat"] == 1200
    assert config["current-context"] == "default/robot@lab"
    assert config["contexts"][0]["context"]["namespace"] == "default"


def test_another_users_certificate_is_asked_for_and_approved(cluster: RegistryCluster, tmp_path: Path) -> None:
    """The signer's part, which is a controller's, is done by the test."""

    def sign(verb: str, target: Target) -> None:
        if (verb, target.resource.kind) != ("get", "CertificateSigningRequest"):
            return
        request = cluster.one("certificatesigningrequests", target.name)
        assert request["status"]["conditions"][0]["type"] == "Approved"
        assert request["spec"]["expirationSeconds"] == 3600
        csr = base64.b64decode(request["spec"]["request"])
        key = pki.read_request(csr).key
        subject = x509.load_pem_x509_csr(csr).subject
        assert subject.rfc4514_string() == "CN=jane,O=crew,O=dev"
        issued = AUTHORITY.sign(key, pki.Subject("jane", ("dev", "crew")), NOW)
        cluster.put(request | {"status": request["status"] | {"certificate": base64.b64encode(issued).decode()}})

    cluster.on_call = sign
    arguments = ("--user", "jane", "--group", "dev", "--group", "crew", "--duration", "1h")
    config = written(kubeconfig(cluster, tmp_path, *arguments))
    user = config["users"][0]["user"]
    parts = [base64.b64decode(user[part]) for part in ("client-certificate-data", "client-key-data")]
    identity = pki.Identity(parts[0], parts[1], AUTHORITY.cert_pem)
    identity.check("jane")
    assert identity.subject == pki.Subject("jane", ("dev", "crew"))
    assert config["current-context"] == "jane@lab"


def test_it_joins_what_is_in_a_file(cluster: RegistryCluster, tmp_path: Path) -> None:
    path = tmp_path / "kube" / "config"
    path.parent.mkdir()
    path.write_text("clusters: [{name: work, cluster: {server: https://work}}]\ncurrent-context: work\n")
    result = kubeconfig(cluster, tmp_path, "--output", str(path), "--name", "boat")
    assert (result.stdout, result.stderr) == ("", f'Context "boat" written to {path}.\n')
    config = yaml.safe_load(path.read_text())
    assert [each["name"] for each in config["clusters"]] == ["work", "lab"]
    assert [each["name"] for each in config["contexts"]] == ["boat"]
    assert config["current-context"] == "work"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--user", "a", "--service-account", "b/c"), "exclude each other"),
        (("--group", "a"), "--group goes with --user"),
        (("--duration", "1h"), "--duration goes with"),
        (("--service-account", "a/"), "NAMESPACE/NAME"),
    ],
)
def test_options_that_do_not_go_together(
    cluster: RegistryCluster, tmp_path: Path, arguments: tuple[str, ...], why: str
) -> None:
    result = kubeconfig(cluster, tmp_path, *arguments)
    assert (result.exit_code, why in result.stderr) == (2, True)


def test_whoami(cluster: RegistryCluster) -> None:
    result = run(cluster, "auth", "whoami")
    assert result.stdout == "ATTRIBUTE   VALUE\nUsername    barque-admin\nGroups      [system:masters]\n"
    review = json.loads(run(cluster, "auth", "whoami", "-o", "json").stdout)
    assert review["kind"] == "SelfSubjectReview"
