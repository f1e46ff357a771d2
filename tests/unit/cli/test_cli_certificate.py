"""`barque certificate approve|deny`, and `describe csr`."""

from __future__ import annotations

import base64
from typing import Any

from barque.api.types.certificates_v1 import CertificateSigningRequest, CertificateSigningRequestSpec
from barque.api.types.meta_v1 import ObjectMeta
from barque.client.pki import Subject, create_request
from tests.support.registry_cluster import RegistryCluster, run

SIGNER = "kubernetes.io/kube-apiserver-client"


def cluster_with(*names: str) -> RegistryCluster:
    cluster = RegistryCluster()
    for name in names:
        request = base64.b64encode(create_request(Subject(name, ("dev", "ops"))).csr_pem).decode()
        spec = CertificateSigningRequestSpec(
            request=request, signerName=SIGNER, usages=["client auth"], expirationSeconds=7200
        )
        cluster.create(CertificateSigningRequest(metadata=ObjectMeta(name=name), spec=spec))
    return cluster


def decisions(cluster: RegistryCluster, name: str) -> list[tuple[Any, Any]]:
    conditions = cluster.one("csr", name)["status"].get("conditions", [])
    return [(condition["type"], condition["message"]) for condition in conditions]


def test_requests_are_approved_and_denied_once() -> None:
    cluster = cluster_with("jane", "bob")
    kind = "certificatesigningrequest.certificates.k8s.io"
    assert run(cluster, "certificate", "approve", "jane", "--dry-run=server").stdout == (
        f"{kind}/jane approved (server dry run)\n"
    )
    assert decisions(cluster, "jane") == []
    assert run(cluster, "certificate", "approve", "csr/jane").stdout == f"{kind}/jane approved\n"
    approved = [("Approved", "This CSR was approved by barque certificate approve.")]
    assert decisions(cluster, "jane") == approved
    revision = cluster.revision
    assert run(cluster, "certificate", "approve", "jane").stdout == f"{kind}/jane approved\n"
    assert cluster.revision == revision
    refused = run(cluster, "certificate", "deny", "jane", "bob")
    assert refused.exit_code == 1
    assert refused.stderr == 'error: certificate signing request "jane" is already approved\n'
    assert refused.stdout == f"{kind}/bob denied\n"
    assert decisions(cluster, "jane") == approved
    assert decisions(cluster, "bob") == [("Denied", "This CSR was denied by barque certificate deny.")]
    assert run(cluster, "certificate", "approve").stderr.startswith("error: give the name of a request")


def test_a_request_is_shown_with_whom_it_is_for() -> None:
    cluster = cluster_with("jane")
    assert run(cluster, "get", "csr", "--no-headers").stdout.split() == [
        "jane", "0s", SIGNER, "barque-admin", "120m", "Pending",
    ]  # fmt: skip
    page = run(cluster, "describe", "csr", "jane").stdout
    assert "Requesting User:     barque-admin\n" in page
    assert "Requested Duration:  120m\n" in page
    assert "  Common Name:    jane\n" in page
    assert "  Organization:   dev\n                  ops\n" in page
