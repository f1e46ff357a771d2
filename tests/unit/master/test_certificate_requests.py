"""CertificateSigningRequests: who asks, who may decide, what is signed, what is cleared away."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from barque.api.certificate_requests import Names
from barque.client.informers import Informers
from barque.client.pki import Authority, create_authority, hosts_of, subject_of
from barque.client.queue import run_workers
from barque.client.supervise import run_all
from barque.master.auth.identity import User, user_of_certificate
from barque.master.controllers.certificates import (
    CertificateApproving,
    CertificateCleaning,
    CertificateSigning,
    serving_refusal,
)
from tests.support.clock import settle
from tests.support.memory_store import Bench, a_bench, refusal, target

CLIENT = "kubernetes.io/kube-apiserver-client"
NODE_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
SERVING = "kubernetes.io/kubelet-serving"
GROUP = "certificates.k8s.io"


def a_request_pem(name: str, groups: Sequence[str] = (), dns: Sequence[str] = (), names: int = 1) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    subject += [x509.NameAttribute(NameOID.COMMON_NAME, name)] * names
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    if dns:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(d) for d in dns]), critical=False)
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return base64.b64encode(pem).decode()


def a_request(
    name: str, request: str, signer: str = CLIENT, usages: Sequence[str] = ("client auth",), **spec: Any
) -> Any:
    return {
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name},
        "spec": {"request": request, "signerName": signer, "usages": list(usages), **spec},
    }  # fmt: skip


def approved(obj: Any, type: str = "Approved") -> Any:
    conditions = [*obj["status"].get("conditions", []), {"type": type, "status": "True", "reason": "Seen"}]
    return {**obj, "status": {**obj["status"], "conditions": conditions}}


def allow(bench: Bench, user: str, verb: str, resource: str, name: str = "") -> Any:
    """A cluster role of this one thing, and its binding."""
    rule = {"apiGroups": [GROUP], "resources": [resource], "verbs": [verb]}
    if name:
        rule["resourceNames"] = [name]
    role = f"{user}-{verb}-{resource}-{name}".replace("/", "-").replace(":", "-").replace("*", "all")
    return _bind(bench, role, rule, user)


async def _bind(bench: Bench, role: str, rule: Any, user: str) -> None:
    group = "rbac.authorization.k8s.io"
    api = {"apiVersion": f"{group}/v1"}
    await bench.create("clusterroles", {**api, "kind": "ClusterRole", "metadata": {"name": role}, "rules": [rule]})
    await bench.create(
        "clusterrolebindings",
        {
            **api, "kind": "ClusterRoleBinding", "metadata": {"name": role},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "User", "apiGroup": group, "name": user}],
        },
    )  # fmt: skip


async def test_who_asks_is_who_was_authenticated_and_the_spec_stays() -> None:
    bench = await a_bench()
    await allow(bench, "jane", "create", "certificatesigningrequests")
    jane = bench.registry.as_user(User("jane", ("dev",), "u1", (("scopes", ("a", "b")),)))
    body = a_request("r", a_request_pem("jane"), username="root", groups=["system:masters"], uid="0")
    made = msgspec.json.decode(await jane.create(target("csr"), msgspec.json.encode(body)))
    spec = made["spec"]
    assert (spec["username"], spec["groups"], spec["uid"]) == ("jane", ["dev"], "u1")
    assert spec["extra"] == {"scopes": ["a", "b"]}
    made["spec"] = {**spec, "usages": ["server auth"]}
    made["metadata"]["labels"] = {"a": "b"}
    changed = await bench.update("csr", made)
    assert changed["spec"] == spec
    assert changed["spec"]["usages"] == ["client auth"]
    assert changed["metadata"]["labels"] == {"a": "b"}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (a_request("r", "bm8="), "spec.request: Invalid value: \"bm8=\": PEM block type must be CERTIFICATE REQUEST"),
        (a_request("r", a_request_pem("a"), "kubernetes.io/legacy-unknown"),
         'spec.signerName: Invalid value: "kubernetes.io/legacy-unknown": '
         "the legacy signerName is not allowed via this API version"),
        (a_request("r", a_request_pem("a"), "nobody"),
         'spec.signerName: Invalid value: "nobody": '
         "must be a fully qualified domain and path of the form 'example.com/signer-name'"),
        (a_request("r", a_request_pem("a"), usages=[]), "spec.usages: Required value"),
        (a_request("r", a_request_pem("a"), usages=["client auth", "client auth"]),
         'spec.usages[1]: Duplicate value: "client auth"'),
        (a_request("r", a_request_pem("a"), expirationSeconds=599),
         "spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 600 seconds (10 minutes)"),
    ],
)  # fmt: skip
async def test_what_cannot_be_a_request_is_refused_by_field(body: Any, said: str) -> None:
    bench = await a_bench()
    refused = await refusal(bench.create("csr", body))
    assert refused.code == 422
    assert refused.message == f'CertificateSigningRequest.certificates.k8s.io "r" is invalid: {said}'


async def test_a_request_with_two_names_is_refused() -> None:
    bench = await a_bench()
    refused = await refusal(bench.create("csr", a_request("r", a_request_pem("a", names=2))))
    assert refused.code == 422
    assert "the subject has more than one common name" in refused.message


@pytest.mark.parametrize(
    ("name", "groups", "signer", "why"),
    [
        ("root", ["system:masters"], CLIENT, f"use of {CLIENT} signer with system:masters group is not allowed"),
        ("m", ["dev", "barque:masters"], CLIENT, f"use of {CLIENT} signer with barque:masters group is not allowed"),
        ("m", ["barque:masters"], SERVING, f"use of {SERVING} signer with barque:masters group is not allowed"),
        ("barque:master:m1", [], CLIENT, f"use of {CLIENT} signer with a master's name is not allowed"),
    ],
)
async def test_nobody_asks_for_the_cluster_itself(name: str, groups: list[str], signer: str, why: str) -> None:
    bench = await a_bench()
    refused = await refusal(bench.create("csr", a_request("r", a_request_pem(name, groups), signer)))
    assert (refused.code, refused.message) == (
        403, f'certificatesigningrequests.certificates.k8s.io "r" is forbidden: {why}',
    )  # fmt: skip


async def test_deciding_needs_the_verb_of_the_signer() -> None:
    bench = await a_bench()
    made = await bench.create("csr", a_request("r", a_request_pem("jane")))
    for verb, resource in (
        ("update", "certificatesigningrequests/approval"),
        ("update", "certificatesigningrequests/status"),
    ):
        await allow(bench, "ann", verb, resource)
    ann = bench.registry.as_user(User("ann"))
    where = target("csr", "r", subresource="approval")
    refused = await refusal(ann.update(where, msgspec.json.encode(approved(made))))
    assert refused.code == 403
    assert refused.message == (
        'certificatesigningrequests.certificates.k8s.io "r" is forbidden: '
        f'user not permitted to approve requests with signerName "{CLIENT}"'
    )
    await allow(bench, "ann", "approve", "signers", "kubernetes.io/*")
    after = msgspec.json.decode(await ann.update(where, msgspec.json.encode(approved(made))))
    assert after["status"]["conditions"][0]["lastUpdateTime"] == "2026-01-01T00:00:00Z"
    after["status"]["certificate"] = base64.b64encode(create_authority(bench.clock.wall()).cert_pem).decode()
    status = target("csr", "r", subresource="status")
    refused = await refusal(ann.update(status, msgspec.json.encode(after)))
    assert refused.message.endswith(f'user not permitted to sign requests with signerName "{CLIENT}"')
    await allow(bench, "ann", "sign", "signers", CLIENT)
    assert msgspec.json.decode(await ann.update(status, msgspec.json.encode(after)))["status"]["certificate"]


async def test_each_way_of_writing_changes_its_own_part_alone() -> None:
    bench = await a_bench()
    made = await bench.create("csr", a_request("r", a_request_pem("jane")))
    refused = await refusal(bench.update("csr", approved(made), "status"))
    assert 'updates may not add a condition of type "Approved"' in refused.message
    refused = await refusal(bench.update("csr", approved(made, "Failed"), "approval"))
    assert 'updates may not add a condition of type "Failed"' in refused.message
    plain = await bench.update("csr", approved(made))
    assert plain["status"] == {}
    yes = await bench.update("csr", approved(plain), "approval")
    refused = await refusal(bench.update("csr", approved(yes, "Denied"), "approval"))
    assert "Approved and Denied conditions are mutually exclusive" in refused.message
    taken_back = {**yes, "status": {}}
    refused = await refusal(bench.update("csr", taken_back, "approval"))
    assert 'updates may not remove a condition of type "Approved"' in refused.message


class Signers:
    """The three controllers over a registry in memory."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.authority: Authority = create_authority(bench.clock.wall(), "test")
        informers = self.informers = Informers(bench.client, bench.clock)
        self.controllers = (
            CertificateApproving(bench.client, informers, bench.clock),
            CertificateSigning(bench.client, informers, bench.clock, self.authority),
            CertificateCleaning(bench.client, informers, bench.clock),
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        parts = {c.name: run_workers(c.queue, c.reconcile, workers=1, name=c.name) for c in self.controllers}
        task = asyncio.create_task(run_all({"informers": self.informers.run(), **parts}))
        await self.settle()
        try:
            yield
            assert not task.done(), task.exception()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def settle(self) -> None:
        for _ in range(8):
            await settle()
            await self.bench.clock.advance(0.02)

    async def issued(self, body: Any) -> dict[str, Any]:
        """The status after the request was made and approved."""
        made = await self.bench.create("csr", body)
        await self.bench.update("csr", approved(made), "approval")
        await self.settle()
        found: dict[str, Any] = (await self.bench.get("csr", made["metadata"]["name"], ""))["status"]
        return found


def pem_of(status: dict[str, Any]) -> bytes:
    return base64.b64decode(status["certificate"])


async def test_an_approved_request_is_signed_and_authenticates() -> None:
    signers = Signers(await a_bench())
    async with signers.running():
        body = a_request("jane", a_request_pem("jane", ["dev"]), expirationSeconds=3600)
        pem = pem_of(await signers.issued(body))
        certificate = x509.load_pem_x509_certificate(pem)
        assert user_of_certificate(pem) == User("jane", ("dev", "system:authenticated"))
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(signers.authority.cert_pem))
        left = certificate.not_valid_after_utc - signers.bench.clock.wall()
        assert 3590 < left.total_seconds() <= 3600
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(purposes) == [ExtendedKeyUsageOID.CLIENT_AUTH]


async def test_what_a_signer_does_not_sign_fails_with_the_reason() -> None:
    signers = Signers(await a_bench())
    async with signers.running():
        for name, body, why in (
            ("a", a_request("a", a_request_pem("jane"), usages=["client auth", "server auth"]),
             "invalid usages for client certificate: [client auth server auth]"),
            ("b", a_request("b", a_request_pem("system:node:n1"), NODE_CLIENT),
             "subject organization is not system:nodes"),
            ("c", a_request("c", a_request_pem("system:node:n1", ["system:nodes"]), SERVING,
                            ["digital signature", "server auth"]), "DNS or IP subjectAltName is required"),
            ("d", a_request("d", a_request_pem("system:node:n1", ["system:nodes"], ["barque-master"]), SERVING,
                            ["digital signature", "server auth"]),
             'DNS subjectAltName "barque-master" is not the node\'s own'),
        ):  # fmt: skip
            status = await signers.issued(body)
            assert "certificate" not in status, name
            failed = status["conditions"][1]
            assert (failed["type"], failed["reason"], failed["message"]) == ("Failed", "SignerValidationFailed", why)
        usages = ["digital signature", "server auth"]
        serving = a_request("e", a_request_pem("system:node:n1", ["system:nodes"], ["n1.lab"]), SERVING, usages)
        certificate = x509.load_pem_x509_certificate(pem_of(await signers.issued(serving)))
        assert hosts_of(certificate) == {"n1.lab"}
        assert subject_of(certificate).node == "n1"
        theirs = await signers.issued(a_request("f", a_request_pem("x"), "example.com/other"))
        assert [c["type"] for c in theirs["conditions"]] == ["Approved"]


def test_a_node_serves_under_its_own_names_alone() -> None:
    def refused(name: str) -> bool:
        return bool(serving_refusal(Names("system:node:n1", ("system:nodes",), (name,))))

    assert [n for n in ("n1.node.barque", "n1", "n1.lab") if refused(n)] == []
    foreign = ("n2.node.barque", "Barque-Master", "kubernetes.default.svc", "kubernetes", "localhost.", "*.lab")
    assert [n for n in foreign if not refused(n)] == []


async def test_a_nodes_own_request_is_approved_where_it_may_ask() -> None:
    bench = await a_bench()
    signers = Signers(bench)
    await allow(bench, "system:node:n1", "create", "certificatesigningrequests")
    await allow(bench, "system:node:n1", "create", "certificatesigningrequests/selfnodeclient")
    await allow(bench, "jane", "create", "certificatesigningrequests")
    await allow(bench, "jane", "create", "certificatesigningrequests/selfnodeclient")
    usages = ["digital signature", "client auth"]
    async with signers.running():
        for user, name in (("system:node:n1", "own"), ("jane", "foreign")):
            request = a_request_pem("system:node:n1", ["system:nodes"])
            body = msgspec.json.encode(a_request(name, request, NODE_CLIENT, usages))
            await bench.registry.as_user(User(user)).create(target("csr"), body)
        serving = a_request(
            "serving",
            a_request_pem("system:node:n1", ["system:nodes"], ["n1"]),
            SERVING,
            ["digital signature", "server auth"],
        )
        await bench.registry.as_user(User("system:node:n1")).create(target("csr"), msgspec.json.encode(serving))
        await signers.settle()
        own = (await bench.get("csr", "own", ""))["status"]
        assert own["conditions"][0]["reason"] == "AutoApproved"
        assert own["conditions"][0]["message"] == (
            "Auto approving self kubelet client certificate after SubjectAccessReview."
        )
        assert user_of_certificate(pem_of(own)) == User("system:node:n1", ("system:nodes", "system:authenticated"))
        assert (await bench.get("csr", "foreign", ""))["status"] == {}
        assert (await bench.get("csr", "serving", ""))["status"] == {}


async def test_requests_are_cleared_away_in_time() -> None:
    bench = await a_bench()
    signers = Signers(bench)
    async with signers.running():
        await signers.issued(a_request("issued", a_request_pem("a")))
        denied = await bench.create("csr", a_request("denied", a_request_pem("a")))
        await bench.update("csr", approved(denied, "Denied"), "approval")
        await bench.create("csr", a_request("pending", a_request_pem("a")))
        foreign = await bench.create("csr", a_request("foreign", a_request_pem("a"), "example.com/other"))
        await bench.update("csr", approved(foreign), "approval")
        await signers.settle()
        await bench.clock.advance(3500)
        await signers.settle()
        assert await bench.names("csr") == ["denied", "foreign", "issued", "pending"]
        await bench.clock.advance(200)
        await signers.settle()
        assert await bench.names("csr") == ["foreign", "pending"]
        await bench.clock.advance(24 * 3600)
        await signers.settle()
        assert await bench.names("csr") == ["foreign"]


async def test_a_decision_of_the_last_second_there_is_keeps_a_request_and_stops_nobody() -> None:
    bench = await a_bench()
    signers = Signers(bench)
    async with signers.running():
        for name in ("last", "denied"):
            denied = approved(await bench.create("csr", a_request(name, a_request_pem("a"))), "Denied")
            if name == "last":
                denied["status"]["conditions"][0]["lastUpdateTime"] = "9999-12-31T23:59:59Z"
            await bench.update("csr", denied, "approval")
        await signers.settle()
        await bench.clock.advance(3700)
        await signers.settle()
        assert await bench.names("csr") == ["last"]
