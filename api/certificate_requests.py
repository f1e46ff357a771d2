"""CertificateSigningRequests: how the signing request inside is read, and what each built-in signer asks of it. Pure.

Follows Kubernetes' apis/certificates/helpers and pkg/controller/certificates/signer, in their words; what goes beyond
them says so. `legacy-unknown` is not among the signers: certificates.k8s.io/v1 refuses requests for it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from barque.api import conditions
from barque.api.types.certificates_v1 import CertificateSigningRequest

if TYPE_CHECKING:
    from cryptography import x509

API_SERVER_CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
LEGACY_UNKNOWN = "kubernetes.io/legacy-unknown"
APPROVED, DENIED, FAILED = "Approved", "Denied", "Failed"

NODES_GROUP, NODE_PREFIX = "system:nodes", "system:node:"
_SIGNATURE, _ENCIPHERMENT, _CLIENT, _SERVER = "digital signature", "key encipherment", "client auth", "server auth"
_PEM_TYPE = b"-----BEGIN CERTIFICATE REQUEST-----"


class Names(NamedTuple):
    """Whom a signing request asks a certificate for."""

    common_name: str
    organizations: tuple[str, ...]
    dns: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()


def parse(request: str) -> x509.CertificateSigningRequest:
    """The signing request in `spec.request`, base64 of PEM. Raises `ValueError`."""
    # Imported here: a process that meets none of them needs no X.509.
    from cryptography import x509

    try:
        pem = base64.b64decode(request, validate=True)
    except binascii.Error as error:
        raise ValueError(f"illegal base64 data: {error}") from None
    if _PEM_TYPE not in pem:
        raise ValueError("PEM block type must be CERTIFICATE REQUEST")
    try:
        csr = x509.load_pem_x509_csr(pem)
        names_in(csr)
    except (ValueError, TypeError) as error:
        raise ValueError(f"not a certificate signing request ({error})") from None
    return csr


def names_in(csr: x509.CertificateSigningRequest) -> Names:
    """The names a request asks for. Raises `ValueError` for extensions that cannot be read."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    def of(oid: x509.ObjectIdentifier) -> tuple[str, ...]:
        return tuple(str(attribute.value) for attribute in csr.subject.get_attributes_for_oid(oid))

    common = of(NameOID.COMMON_NAME)
    if len(common) > 1:
        raise ValueError("the subject has more than one common name")
    subject = Names("".join(common), of(NameOID.ORGANIZATION_NAME))
    try:
        others = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return subject
    return subject._replace(
        dns=tuple(others.get_values_for_type(x509.DNSName)),
        addresses=tuple(str(address) for address in others.get_values_for_type(x509.IPAddress)),
        emails=tuple(others.get_values_for_type(x509.RFC822Name)),
        uris=tuple(others.get_values_for_type(x509.UniformResourceIdentifier)),
    )


def signer_refusal(signer: str, names: Names, usages: Sequence[str]) -> str:
    """Why this signer does not sign such a request, "" if it does."""
    match signer:
        case "kubernetes.io/kube-apiserver-client":
            return _api_server_client_refusal(usages)
        case "kubernetes.io/kube-apiserver-client-kubelet":
            return kubelet_client_refusal(names, usages)
        case "kubernetes.io/kubelet-serving":
            return _kubelet_serving_refusal(names, usages)
    return f"unrecognized signerName: {signer}"


def kubelet_client_refusal(names: Names, usages: Sequence[str]) -> str:
    """Why this is no request for a node's own client certificate, "" if it is one."""
    if names.organizations != (NODES_GROUP,):
        return "subject organization is not system:nodes"
    for values, sort in ((names.dns, "DNS"), (names.emails, "email"), (names.addresses, "IP"), (names.uris, "URI")):
        if values:
            return f"{sort} subjectAltNames are not allowed"
    if not names.common_name.startswith(NODE_PREFIX):
        return "subject common name does not begin with system:node:"
    return _usages_refusal(usages, _CLIENT)


def _kubelet_serving_refusal(names: Names, usages: Sequence[str]) -> str:
    if names.organizations != (NODES_GROUP,):
        return "subject organization is not system:nodes"
    if not names.dns and not names.addresses:
        return "DNS or IP subjectAltName is required"
    for values, sort in ((names.emails, "email"), (names.uris, "URI")):
        if values:
            return f"{sort} subjectAltNames are not allowed"
    if not names.common_name.startswith(NODE_PREFIX):
        return "subject common name does not begin with system:node:"
    return _usages_refusal(usages, _SERVER)


def _usages_refusal(usages: Sequence[str], purpose: str) -> str:
    if set(usages) in ({_SIGNATURE, purpose}, {_SIGNATURE, _ENCIPHERMENT, purpose}):
        return ""
    return f"usages did not match {_listed((_ENCIPHERMENT, _SIGNATURE, purpose))}"


def _api_server_client_refusal(usages: Sequence[str]) -> str:
    if _CLIENT not in usages:
        return f'missing required usage "{_CLIENT}": {_listed(usages)}'
    if not set(usages) <= {_SIGNATURE, _ENCIPHERMENT, _CLIENT}:
        return f"invalid usages for client certificate: {_listed(usages)}"
    return ""


def _listed(words: Iterable[str]) -> str:
    return f"[{' '.join(words)}]"


def has(request: CertificateSigningRequest, condition: str) -> bool:
    """Whether the request has this condition; once there, none goes away."""
    return conditions.find(request.status.conditions, condition) is not None


def status_in_words(request: CertificateSigningRequest) -> str:
    """`Pending`, `Approved,Issued`, `Denied`, …, as tables show it."""
    words = ["Denied" if has(request, DENIED) else "Approved" if has(request, APPROVED) else "Pending"]
    words += ["Failed"] * has(request, FAILED) + ["Issued"] * bool(request.status.certificate)
    return ",".join(words)
