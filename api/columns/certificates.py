"""Table of CertificateSigningRequest."""

from __future__ import annotations

import datetime

from barque.api.certificate_requests import status_in_words
from barque.api.columns.age import age, human_duration
from barque.api.columns.table import AGE, NAME, Cell, Table, column
from barque.api.types.certificates_v1 import CertificateSigningRequest


def requested_duration(request: CertificateSigningRequest) -> str:
    """How long the certificate is wanted for."""
    seconds = request.spec.expirationSeconds
    return "<none>" if seconds is None else human_duration(seconds)


def _request(request: CertificateSigningRequest, now: datetime.datetime) -> list[Cell]:
    spec = request.spec
    return [
        request.metadata.name,
        age(request.metadata.creationTimestamp, now),
        spec.signerName or "<none>",
        spec.username,
        requested_duration(request),
        status_in_words(request),
    ]


TABLES = {
    "CertificateSigningRequest": Table(
        (
            NAME,
            AGE,
            column("SignerName", "Who is to sign it."),
            column("Requestor", "Who asks for the certificate."),
            column("RequestedDuration", "How long the certificate is to be good for."),
            column("Condition", "What has been decided, and whether the certificate is there."),
        ),
        _request,
    )
}
