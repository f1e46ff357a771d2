"""A certificate for another user: asked for by a CertificateSigningRequest, approved by the caller, and waited for."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from barque.cli.output import CliError

if TYPE_CHECKING:
    from barque.cli.session import Connection, Session

SIGNER = "kubernetes.io/kube-apiserver-client"
_POLL_S = 0.1
_ENDS = ("Denied", "Failed")


class Certified(NamedTuple):
    """A certificate and its key, PEM."""

    cert: str
    key: str


def signing_request(csr_pem: bytes, life_s: int) -> dict[str, Any]:
    """The object that asks for it; 0 seconds are as long as the signer gives."""
    spec: dict[str, Any] = {
        "request": base64.b64encode(csr_pem).decode(),
        "signerName": SIGNER,
        "usages": ["digital signature", "client auth"],
    }
    if life_s:
        spec["expirationSeconds"] = life_s
    return {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"generateName": "kubeconfig-"},
        "spec": spec,
    }


async def certify(session: Session, connection: Connection, user: str, groups: Sequence[str], life_s: int) -> Certified:
    """A certificate for the user, whose key never leaves this process. Raises `ApiError`, and `CliError` where it is
    not issued.
    """
    import msgspec

    from barque.api import resources
    from barque.cli.writing import decoded
    from barque.client.pki import Subject, create_request
    from barque.client.verbs import Target

    request = create_request(Subject(user, tuple(groups)))
    target = Target(resources.by_kind("certificates.k8s.io/v1", "CertificateSigningRequest"))
    body = msgspec.json.encode(signing_request(request.csr_pem, life_s))
    made = await decoded(session, connection.verbs.create(target, body))
    target = target._replace(name=made["metadata"]["name"])
    made.setdefault("status", {})["conditions"] = [
        {
            "type": "Approved",
            "status": "True",
            "reason": "BarqueKubeconfig",
            "message": "This CSR was approved by whoever asked for it with `barque kubeconfig`.",
        }
    ]
    approval = target._replace(subresource="approval")
    await decoded(session, connection.verbs.update(approval, msgspec.json.encode(made)))
    certificate = await _issued(session, connection, target)
    return Certified(certificate, request.key_pem.decode())


async def _issued(session: Session, connection: Connection, target: Any) -> str:
    """The certificate once it is there."""
    from barque.cli.writing import decoded

    deadline = session.clock.monotonic() + (session.timeout_s or float("inf"))
    while True:
        status = (await decoded(session, connection.verbs.get(target))).get("status", {})
        if status.get("certificate"):
            return base64.b64decode(status["certificate"]).decode()
        ended = next((c for c in status.get("conditions", []) if c["type"] in _ENDS), None)
        if ended is not None:
            raise CliError(f"no certificate was issued: {ended.get('message') or ended['type']}")
        if session.clock.monotonic() > deadline:
            raise CliError(f"no certificate was issued within {session.timeout_s:g}s for the request {target.name}")
        await session.clock.sleep(_POLL_S)
