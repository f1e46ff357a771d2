"""A certificate for a signing request: the cluster's CA signs what the request names, for the usages that were granted.

In: the parsed request, the names of usages as certificates.k8s.io has them, moments. Out: PEM. The caller has judged
the request; only its own signature and its key are looked at here.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from barque.client.pki import CLOCK_SKEW, LEAF_LIFE, Authority, PkiError, read_request

MIN_LIFE = datetime.timedelta(minutes=10)
_KEY_USAGES = {
    "digital signature": "digital_signature",
    "signing": "digital_signature",
    "content commitment": "content_commitment",
    "key encipherment": "key_encipherment",
    "data encipherment": "data_encipherment",
    "key agreement": "key_agreement",
}
_EXTENDED_USAGES: dict[str, ObjectIdentifier] = {
    "client auth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "server auth": ExtendedKeyUsageOID.SERVER_AUTH,
}
_ALL_KEY_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


def life(requested_s: int | None) -> datetime.timedelta:
    """How long the certificate is good for: as long as is asked, within ten minutes and a year."""
    if requested_s is None:
        return LEAF_LIFE
    return min(max(datetime.timedelta(seconds=requested_s), MIN_LIFE), LEAF_LIFE)


def sign(
    authority: Authority,
    csr: x509.CertificateSigningRequest,
    usages: Iterable[str],
    now: datetime.datetime,
    life: datetime.timedelta,
) -> bytes:
    """The certificate, with the request's subject and alternative names. Raises `PkiError` for a request that is not
    signed by its own key, or a key that is too weak.
    """
    key = read_request(csr.public_bytes(serialization.Encoding.PEM)).key
    ca = x509.load_pem_x509_certificate(authority.cert_pem)
    ca_key = serialization.load_pem_private_key(authority.key_pem, None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    granted = set(usages)
    builder = (
        x509.CertificateBuilder()
        .subject_name(csr.subject)
        .issuer_name(ca.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(now - CLOCK_SKEW, ca.not_valid_before_utc))
        .not_valid_after(min(now + life, ca.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(granted), critical=True)
        .add_extension(_extended_usage(granted), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
    )
    try:
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        builder = builder.add_extension(names.value, critical=names.critical)
    except x509.ExtensionNotFound:
        pass
    except ValueError as error:
        raise PkiError(f"the certificate signing request's extensions cannot be read ({error})") from error
    return builder.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _key_usage(granted: set[str]) -> x509.KeyUsage:
    wanted = {_KEY_USAGES[usage] for usage in granted if usage in _KEY_USAGES}
    return x509.KeyUsage(**{usage: usage in wanted for usage in _ALL_KEY_USAGES})


def _extended_usage(granted: set[str]) -> x509.ExtendedKeyUsage:
    return x509.ExtendedKeyUsage([oid for usage, oid in _EXTENDED_USAGES.items() if usage in granted])
