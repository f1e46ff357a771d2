"""Certificates say who one is, last as long as they should, and are refused where they should be."""

import datetime
import os
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from barque.client import pki
from barque.client.pki import ADMIN, Identity, PkiError, Subject

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)


@pytest.fixture(scope="module")
def authority() -> pki.Authority:
    return pki.create_authority(NOW)


def test_a_certificate_names_its_user_and_groups(authority: pki.Authority) -> None:
    identity = authority.identity(pki.node_subject("n1"), NOW, [pki.node_host("n1")])
    assert (identity.name, identity.groups) == ("system:node:n1", ("system:nodes",))
    assert identity.subject.node == "n1"
    assert pki.hosts_of(identity.certificate) == {"n1.node.barque"}


def test_a_name_without_the_group_is_no_node() -> None:
    assert Subject("system:node:n1", ("system:masters",)).node == ""
    assert Subject("n1", ("system:nodes",)).node == ""


def test_the_admins_certificate_serves_nobody(authority: pki.Authority) -> None:
    usages = authority.identity(ADMIN, NOW).certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]


def test_a_year_from_issue_and_a_day_back_for_clocks_that_lag(authority: pki.Authority) -> None:
    identity = authority.identity(ADMIN, NOW)
    assert identity.expires == NOW + 365 * DAY
    assert identity.certificate.not_valid_before_utc == NOW - DAY
    assert identity.past(0.5) == NOW + 182.5 * DAY


def test_no_certificate_outlives_its_ca(authority: pki.Authority) -> None:
    late = NOW + 3600 * DAY
    assert authority.identity(ADMIN, late).expires == NOW + pki.CA_LIFE


def test_the_ca_is_good_for_ten_years_and_signs_no_further_ca(authority: pki.Authority) -> None:
    ca = x509.load_pem_x509_certificate(authority.cert_pem)
    assert ca.not_valid_after_utc == NOW + 3650 * DAY
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value == x509.BasicConstraints(True, 0)


def test_the_pin_is_of_the_public_key_and_tells_cas_apart(authority: pki.Authority) -> None:
    pin = pki.pin_of(authority.cert_pem)
    assert pin.startswith("sha256:")
    assert len(pin) == 7 + 64
    assert pki.pin_matches(authority.cert_pem, f" {pin.upper()}\n")
    assert not pki.pin_matches(pki.create_authority(NOW).cert_pem, pin)
    assert not pki.pin_matches(authority.cert_pem, "")


def test_an_identity_survives_its_files_which_only_the_owner_reads(authority: pki.Authority, tmp_path: Path) -> None:
    identity = authority.identity(ADMIN, NOW)
    path = identity.save(tmp_path / "pki", "admin")
    assert Identity.load(tmp_path / "pki", "admin") == identity
    assert {stat.S_IMODE(f.stat().st_mode) for f in path.parent.iterdir()} == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_writing_leaves_the_old_file_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "admin.pem"
    pki.write_private(path, b"old")

    def disk_full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OSError, match="No space left"):
        pki.write_private(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda i, other: Identity(i.cert_pem, other.key_pem, i.ca_pem), "key does not belong"),
        (lambda i, other: Identity(i.cert_pem, i.key_pem, other.ca_pem), "not issued by this cluster's CA"),
        (lambda i, other: Identity(b"nonsense", i.key_pem, i.ca_pem), "not a usable certificate"),
        (lambda i, other: Identity(i.cert_pem, b"", i.ca_pem), "not a usable certificate"),
    ],
)
def test_what_does_not_belong_together_is_refused(authority: pki.Authority, spoil: object, message: str) -> None:
    identity = authority.identity(ADMIN, NOW)
    other = pki.create_authority(NOW).identity(ADMIN, NOW)
    with pytest.raises(PkiError, match=message):
        spoil(identity, other).check("here")  # type: ignore[operator]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PkiError, match=r"cannot read .*/worker\.pem: No such file"):
        Identity.load(tmp_path, "worker")


def test_a_request_carries_its_name_and_key(authority: pki.Authority) -> None:
    request = pki.create_request(pki.node_subject("n1"))
    asked = pki.read_request(request.csr_pem)
    assert asked.name == "system:node:n1"
    cert_pem = authority.sign(asked.key, pki.node_subject("n1"), NOW)
    Identity(cert_pem, request.key_pem, authority.cert_pem).check("here")


def test_a_request_signed_by_another_key_is_refused() -> None:
    csr = x509.load_pem_x509_csr(pki.create_request(ADMIN).csr_pem).public_bytes(serialization.Encoding.DER)
    forged = x509.load_der_x509_csr(csr[:-1] + bytes([csr[-1] ^ 1]))
    with pytest.raises(PkiError, match="not signed by its own key"):
        pki.read_request(forged.public_bytes(serialization.Encoding.PEM))


def test_a_weak_key_is_refused() -> None:
    key = rsa.generate_private_key(65537, 1024)
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    with pytest.raises(PkiError, match="neither ECDSA"):
        pki.read_request(csr.public_bytes(serialization.Encoding.PEM))


@pytest.mark.parametrize("csr", [b"", b"nonsense", b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END"])
def test_nonsense_is_no_request(csr: bytes) -> None:
    with pytest.raises(PkiError, match="not a certificate signing request"):
        pki.read_request(csr)


@pytest.mark.parametrize("name", ["n1", "a.b-c.d", "0", "x" * 52])
def test_good_node_names(name: str) -> None:
    assert pki.node_subject(name).node == name


@pytest.mark.parametrize(
    "name", ["", "N1", "n_1", "-n", "n.", "a..b", "n1\n", "x" * 53, "../etc", "n1,O=system:masters"]
)
def test_bad_node_names(name: str) -> None:
    with pytest.raises(PkiError, match="node name"):
        pki.node_subject(name)


@pytest.mark.parametrize("names", [[], ["barque-admin", "n1"]])
def test_a_certificate_that_does_not_name_one_user_is_nobodys(names: list[str]) -> None:
    key = rsa.generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name) for name in names])
    made = x509.CertificateBuilder(subject, subject, key.public_key(), 1, NOW, NOW + DAY).sign(key, hashes.SHA256())
    with pytest.raises(PkiError, match="does not name its user in one CN"):
        pki.subject_of(made)
    with pytest.raises(PkiError, match="not a certificate"):
        pki.subject_of(b"-----BEGIN NOTHING-----")
