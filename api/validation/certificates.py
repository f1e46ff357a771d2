"""Validation of CertificateSigningRequest."""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple

from barque.api import certificate_requests, names
from barque.api.certificate_requests import APPROVED, DENIED, FAILED
from barque.api.errors import FieldError, duplicate, forbidden, invalid, not_supported, required, too_long
from barque.api.types.certificates_v1 import CertificateSigningRequest, CertificateSigningRequestStatus

USAGES = (
    "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment",
    "decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel",
    "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime",
    "server auth", "signing", "timestamping",
)  # fmt: skip
_MIN_EXPIRATION_S = 600
_MAX_DOMAIN, _MAX_PATH = 253, 63 + 1 + 253
_FINAL = (APPROVED, DENIED, FAILED)
_CONTENT = "<certificate data>"


def check(request: CertificateSigningRequest) -> list[FieldError]:
    spec = request.spec
    faults = []
    try:
        certificate_requests.parse(spec.request)
    except ValueError as error:
        faults.append(invalid("spec.request", spec.request, str(error)))
    if not spec.usages:
        faults.append(required("spec.usages"))
    seen: set[str] = set()
    for index, usage in enumerate(spec.usages):
        if usage not in USAGES:
            faults.append(not_supported(f"spec.usages[{index}]", usage, list(USAGES)))
        elif usage in seen:
            faults.append(duplicate(f"spec.usages[{index}]", usage))
        seen.add(usage)
    if spec.signerName == certificate_requests.LEGACY_UNKNOWN:
        why = "the legacy signerName is not allowed via this API version"
        faults.append(invalid("spec.signerName", spec.signerName, why))
    else:
        faults += check_signer_name(spec.signerName, "spec.signerName")
    if spec.expirationSeconds is not None and spec.expirationSeconds < _MIN_EXPIRATION_S:
        why = "may not specify a duration less than 600 seconds (10 minutes)"
        faults.append(invalid("spec.expirationSeconds", spec.expirationSeconds, why))
    return faults + _check_conditions(request.status)


def check_signer_name(name: str, path: str) -> list[FieldError]:
    """A domain, a slash, and a path of labels."""
    if not name:
        return [required(path)]
    segments = name.split("/")
    if len(segments) != 2:
        why = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        return [invalid(path, name, why)]
    domain, rest = segments
    faults = [] if len(domain) <= _MAX_DOMAIN else [too_long(path, _MAX_DOMAIN)]
    faults += [
        invalid(path, segment, f'validating label "{label}": {fault}')
        for segment in (domain, rest)
        for label in segment.split(".")
        for fault in names.dns1123_label(label)
    ]
    if "." not in domain:
        faults.append(invalid(path, domain, "should be a domain with at least two segments separated by dots"))
    return faults + ([] if len(rest) <= _MAX_PATH else [too_long(path, _MAX_PATH)])


def _check_conditions(status: CertificateSigningRequestStatus) -> list[FieldError]:
    faults = []
    seen: set[str] = set()
    for index, condition in enumerate(status.conditions):
        path = f"status.conditions[{index}]"
        if not condition.type:
            faults.append(required(f"{path}.type"))
        elif condition.type in seen:
            faults.append(duplicate(f"{path}.type", condition.type))
        allowed = ["True"] if condition.type in _FINAL else ["False", "True", "Unknown"]
        if not condition.status:
            faults.append(required(f"{path}.status"))
        elif condition.status not in allowed:
            faults.append(not_supported(f"{path}.status", condition.status, allowed))
        if condition.type in (APPROVED, DENIED) and {APPROVED, DENIED} - {condition.type} <= seen:
            why = "Approved and Denied conditions are mutually exclusive"
            faults.append(invalid(f"{path}.type", condition.type, why))
        seen.add(condition.type)
    return faults


class _Grants(NamedTuple):
    """What a way of writing may do to the status."""

    adds: tuple[str, ...]
    certificate: bool


_STATUS, _APPROVAL = _Grants((FAILED,), certificate=True), _Grants((APPROVED, DENIED), certificate=False)


def check_status(new: CertificateSigningRequest, old: CertificateSigningRequest) -> list[FieldError]:
    """A signer's write: a certificate, once, or that there will be none."""
    return _check_change(new.status, old.status, _STATUS)


def check_approval(new: CertificateSigningRequest, old: CertificateSigningRequest) -> list[FieldError]:
    """An approver's write: yes or no, once."""
    return _check_change(new.status, old.status, _APPROVAL)


def _check_change(
    new: CertificateSigningRequestStatus, old: CertificateSigningRequestStatus, grants: _Grants
) -> list[FieldError]:
    faults = _check_conditions(new)
    for type in _FINAL:
        before, after = (type in [c.type for c in status.conditions] for status in (old, new))
        if before and not after:
            faults.append(forbidden("status.conditions", f'updates may not remove a condition of type "{type}"'))
        if after and not before and type not in grants.adds:
            faults.append(forbidden("status.conditions", f'updates may not add a condition of type "{type}"'))
    if new.certificate != old.certificate:
        if not grants.certificate:
            faults.append(forbidden("status.certificate", "updates may not set certificate content"))
        elif old.certificate:
            faults.append(forbidden("status.certificate", "updates may not modify existing certificate content"))
        else:
            faults += _check_certificate(new.certificate)
    return faults


def _check_certificate(encoded: str) -> list[FieldError]:
    """PEM of certificates and nothing else."""
    from cryptography import x509

    try:
        x509.load_pem_x509_certificates(base64.b64decode(encoded, validate=True))
    except (ValueError, binascii.Error) as error:
        return [invalid("status.certificate", _CONTENT, str(error))]
    return []
