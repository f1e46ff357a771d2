"""Certificates: the cluster's CA, who a certificate says one is, and the credentials that TLS and gRPC take.

A certificate's subject is a user: CN is the name, each O a group. Servers are recognised by a name that does not depend
on where they run: `barque-master`, `<node>.node.barque`. Keys are ECDSA P-256; a certificate and its key stand together
in one PEM file, so that replacing both is one rename. Nothing here reads the clock: `now` is an argument, in UTC.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import ipaddress
import os
import re
import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import grpc
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_LIFE = datetime.timedelta(days=3650)
LEAF_LIFE = datetime.timedelta(days=365)
# A host whose clock is hours behind must still accept what was issued a moment ago.
CLOCK_SKEW = datetime.timedelta(hours=24)

MASTERS_GROUP = "barque:masters"
ADMINS_GROUP = "system:masters"
NODES_GROUP = "system:nodes"
MASTER_PREFIX = "barque:master:"
NODE_PREFIX = "system:node:"
ADMIN_NAME = "barque-admin"
# What a client expects of any master's certificate, wherever that master runs.
MASTER_HOST = "barque-master"
# X.509 allows a common name 64 characters; `system:node:` takes 12 of them, `barque:master:` 14.
MAX_NODE_NAME = 64 - len(NODE_PREFIX)
MAX_MASTER_NAME = 64 - len(MASTER_PREFIX)
_DNS_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL_MAX, _DNS_NAME_MAX = 63, 253
# What the CA's own common name has behind the cluster's.
_CA_SUFFIX = "-ca"
_PEM_BLOCK = re.compile(rb"-----BEGIN ([A-Z ]+)-----\n.*?-----END \1-----\n?", re.DOTALL)


class PkiError(Exception):
    """A certificate, key or request that cannot be used; the message is one sentence for the user."""


class Subject(NamedTuple):
    """Who a certificate is for."""

    name: str
    groups: tuple[str, ...] = ()

    @property
    def node(self) -> str:
        """The node's name where this is a worker, else ""."""
        is_node = NODES_GROUP in self.groups and self.name.startswith(NODE_PREFIX)
        return self.name.removeprefix(NODE_PREFIX) if is_node else ""


ADMIN = Subject(ADMIN_NAME, (ADMINS_GROUP,))


def master_subject(name: str) -> Subject:
    return Subject(MASTER_PREFIX + name, (MASTERS_GROUP,))


def check_master_name(name: str) -> None:
    """Raise `PkiError` unless `name` is a DNS-1123 subdomain short enough for a certificate's common name."""
    _check_name("master", name, MAX_MASTER_NAME)


def node_subject(name: str) -> Subject:
    """The subject of a worker's certificate. Raises `PkiError` where the node's name cannot stand in one."""
    check_node_name(name)
    return Subject(NODE_PREFIX + name, (NODES_GROUP,))


def node_host(name: str) -> str:
    """What a client expects of this worker's certificate, wherever the worker runs."""
    return f"{name}.node.barque"


def check_node_name(name: str) -> None:
    """Raise `PkiError` unless `name` is a DNS-1123 subdomain short enough for a certificate's common name."""
    _check_name("node", name, MAX_NODE_NAME)


def is_dns_name(name: str) -> bool:
    """Whether `name` is a lower-case DNS-1123 subdomain."""
    return (
        len(name) <= _DNS_NAME_MAX
        and _DNS_NAME.fullmatch(name) is not None
        and all(len(label) <= _LABEL_MAX for label in name.split("."))
    )


def alternative_name(host: str) -> str:
    """`host` as a certificate names it: an IP address, or a DNS name, of which the first label may be `*`. Raises
    `PkiError` where it is neither.
    """
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        name = host.lower()
    if not is_dns_name(name.removeprefix("*.")):
        raise PkiError(f"{host[:80]!r} is neither a DNS name nor an IP address")
    return name


def _check_name(sort: str, name: str, longest: int) -> None:
    if len(name) > longest:
        raise PkiError(f"{sort} name {name[:80]!r} is longer than {longest} characters")
    if not is_dns_name(name):
        raise PkiError(f"{sort} name {name!r} is not a lower-case DNS name (letters, digits, '-' and '.')")


@dataclass(frozen=True)
class Identity:
    """A certificate, its private key, and the CA that others of the cluster are checked against; all PEM."""

    cert_pem: bytes
    key_pem: bytes
    ca_pem: bytes

    @classmethod
    def load(cls, directory: Path, name: str) -> Identity:
        """Read `<directory>/<name>.pem` and `<directory>/ca.pem`, as `save` leaves them. Raises `PkiError`."""
        path = directory / f"{name}.pem"
        try:
            pair, ca_pem = path.read_bytes(), (directory / "ca.pem").read_bytes()
        except OSError as error:
            raise PkiError(f"cannot read {error.filename}: {error.strerror}") from error
        cert_pem, key_pem = split_pem(pair)
        identity = cls(cert_pem, key_pem, ca_pem)
        identity.check(str(path))
        return identity

    def save(self, directory: Path, name: str) -> Path:
        """Write durably and atomically, readable by the owner alone; return the file with certificate and key."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(directory / "ca.pem", self.ca_pem)
        path = directory / f"{name}.pem"
        write_private(path, self.cert_pem + self.key_pem)
        return path

    def check(self, where: str) -> None:
        """Raise `PkiError` naming `where` unless certificate, key and CA can be read and belong together."""
        try:
            key = serialization.load_pem_private_key(self.key_pem, None)
            matches = spki(key.public_key()) == spki(self.certificate.public_key())
            self.certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(self.ca_pem))
        except InvalidSignature:
            raise PkiError(f"{where}: the certificate was not issued by this cluster's CA") from None
        except (ValueError, TypeError) as error:
            raise PkiError(f"{where}: not a usable certificate and key ({error})") from error
        if not matches:
            raise PkiError(f"{where}: the key does not belong to the certificate")

    @cached_property
    def certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.cert_pem)

    @property
    def subject(self) -> Subject:
        return subject_of(self.certificate)

    @property
    def name(self) -> str:
        """The user name: `barque-admin`, `system:node:n1`, `barque:master:m1`."""
        return self.subject.name

    @property
    def groups(self) -> tuple[str, ...]:
        return self.subject.groups

    @property
    def expires(self) -> datetime.datetime:
        return self.certificate.not_valid_after_utc

    def past(self, fraction: float) -> datetime.datetime:
        """When this fraction of the certificate's life, counted from the moment of issue, is over."""
        issued = self.certificate.not_valid_before_utc + CLOCK_SKEW
        return issued + fraction * (self.expires - issued)

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """For a gRPC client; the server's name is set per channel (`grpc.ssl_target_name_override`)."""
        return grpc.ssl_channel_credentials(self.ca_pem, self.key_pem, self.cert_pem)

    def server_credentials(self) -> grpc.ServerCredentials:
        """For a gRPC server that admits certificates of this CA only; see also `renewal.RenewingIdentity`."""
        return grpc.ssl_server_credentials([(self.key_pem, self.cert_pem)], self.ca_pem, require_client_auth=True)

    def server_context(self) -> ssl.SSLContext:
        """For an HTTPS server to which clients come with a certificate of this CA, or with none."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata=self.ca_pem.decode())
        self.install(context)
        return context

    def client_context(self) -> ssl.SSLContext:
        """For a client that trusts this CA alone and shows its certificate."""
        context = trust(self.ca_pem)
        self.install(context)
        return context

    def install(self, context: ssl.SSLContext) -> None:
        """Make `context` show this certificate from the next handshake on."""
        # Python's ssl reads a key from a file only.
        with tempfile.NamedTemporaryFile(prefix="barque-") as file:
            file.write(self.cert_pem + self.key_pem)
            file.flush()
            context.load_cert_chain(file.name)


def trust(ca_pem: bytes) -> ssl.SSLContext:
    """A TLS client context that trusts this CA and nothing else. Raises `PkiError` on bytes that are no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=ca_pem.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise PkiError(f"not a CA certificate ({error})") from error
    return context


class Authority(NamedTuple):
    """The cluster's CA with its key: what may issue."""

    cert_pem: bytes
    key_pem: bytes

    @property
    def cluster(self) -> str:
        """The name that the cluster was founded under."""
        names = _attributes(x509.load_pem_x509_certificate(self.cert_pem).subject, NameOID.COMMON_NAME)
        return names[0].removesuffix(_CA_SUFFIX) if names else ""

    @property
    def valid(self) -> tuple[datetime.datetime, datetime.datetime]:
        """From when until when it is."""
        certificate = x509.load_pem_x509_certificate(self.cert_pem)
        return certificate.not_valid_before_utc, certificate.not_valid_after_utc

    def sign(self, key: PublicKey, subject: Subject, now: datetime.datetime, hosts: Sequence[str] = ()) -> bytes:
        """Issue a certificate (PEM) for a year. `hosts` are the DNS names and IP addresses a server is met under; with
        none, the certificate is good for clients only.
        """
        ca = x509.load_pem_x509_certificate(self.cert_pem)
        ca_key = serialization.load_pem_private_key(self.key_pem, None)
        assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if hosts else [])]
        builder = (
            x509.CertificateBuilder()
            .subject_name(_x509_name(subject))
            .issuer_name(ca.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_SKEW)
            .not_valid_after(min(now + LEAF_LIFE, ca.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        )
        if hosts:
            names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def identity(self, subject: Subject, now: datetime.datetime, hosts: Sequence[str] = ()) -> Identity:
        """A fresh key and its certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        return Identity(self.sign(key.public_key(), subject, now, hosts), _key_pem(key), self.cert_pem)


PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


def create_authority(now: datetime.datetime, cluster: str = "barque") -> Authority:
    """A new cluster CA, good for ten years."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "barque"),
            x509.NameAttribute(NameOID.COMMON_NAME, cluster + _CA_SUFFIX),
        ]
    )
    key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .add_extension(key_id, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key))


class Request(NamedTuple):
    """A certificate signing request and the private key it was made with; both PEM."""

    csr_pem: bytes
    key_pem: bytes


def create_request(subject: Subject) -> Request:
    """A fresh key and the request that asks for `subject`; the issuer decides groups and names."""
    key = ec.generate_private_key(ec.SECP256R1())
    csr = x509.CertificateSigningRequestBuilder().subject_name(_x509_name(subject)).sign(key, hashes.SHA256())
    return Request(csr.public_bytes(serialization.Encoding.PEM), _key_pem(key))


class Requested(NamedTuple):
    """What a verified request asks for."""

    name: str
    key: PublicKey


def read_request(csr_pem: bytes) -> Requested:
    """Check a request's own signature and key. Raises `PkiError` where it must not be signed."""
    try:
        csr = x509.load_pem_x509_csr(csr_pem)
        valid = csr.is_signature_valid
        key = csr.public_key()
        name = _attributes(csr.subject, NameOID.COMMON_NAME)
    except (ValueError, TypeError) as error:
        raise PkiError(f"not a certificate signing request ({error})") from error
    if not valid:
        raise PkiError("the certificate signing request is not signed by its own key")
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2048:
        return Requested(name[0] if name else "", key)
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
        return Requested(name[0] if name else "", key)
    raise PkiError("the certificate signing request's key is neither ECDSA P-256 or P-384 nor RSA of 2048 bits or more")


def subject_of(certificate: x509.Certificate | bytes) -> Subject:
    """Who a certificate (parsed or PEM) is for. Raises `PkiError` where it cannot be read or names not one user."""
    try:
        if isinstance(certificate, bytes):
            certificate = x509.load_pem_x509_certificate(certificate)
        names = _attributes(certificate.subject, NameOID.COMMON_NAME)
        groups = _attributes(certificate.subject, NameOID.ORGANIZATION_NAME)
    except ValueError as error:
        raise PkiError(f"not a certificate ({error})") from error
    if len(names) != 1 or not names[0]:
        raise PkiError("the certificate does not name its user in one CN")
    return Subject(names[0], tuple(groups))


def hosts_of(certificate: x509.Certificate) -> set[str]:
    """The DNS names and IP addresses a server certificate is good for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    return addresses | set(names.get_values_for_type(x509.DNSName))


def pin_of(ca_pem: bytes) -> str:
    """`sha256:<hex>` of the CA's public key (SubjectPublicKeyInfo), as in RFC 7469 and kubeadm. Raises `PkiError`."""
    try:
        return "sha256:" + hashlib.sha256(spki(x509.load_pem_x509_certificate(ca_pem).public_key())).hexdigest()
    except ValueError as error:
        raise PkiError(f"not a CA certificate ({error})") from error


def pin_matches(ca_pem: bytes, pin: str) -> bool:
    return hmac.compare_digest(pin_of(ca_pem).encode(), pin.strip().lower().encode())


def split_pem(pair: bytes) -> tuple[bytes, bytes]:
    """The certificate and the key out of one PEM file."""
    blocks = [(m.group(1), m.group(0)) for m in _PEM_BLOCK.finditer(pair)]
    certificates = b"".join(text for kind, text in blocks if kind == b"CERTIFICATE")
    keys = b"".join(text for kind, text in blocks if kind.endswith(b"PRIVATE KEY"))
    return certificates, keys


def write_private(path: Path, data: bytes) -> None:
    """Replace a file atomically and durably, mode 0600; its directory must exist."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mkstemp makes it 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _x509_name(subject: Subject) -> x509.Name:
    groups = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in subject.groups]
    return x509.Name([*groups, x509.NameAttribute(NameOID.COMMON_NAME, subject.name)])


def _attributes(name: x509.Name, oid: x509.ObjectIdentifier) -> list[str]:
    return [str(attribute.value) for attribute in name.get_attributes_for_oid(oid)]


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def spki(key: object) -> bytes:
    """The public key as SubjectPublicKeyInfo, DER."""
    encoded: bytes = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    return encoded
