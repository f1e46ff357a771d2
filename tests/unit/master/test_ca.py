"""The master's PKI directory: made once, kept for ever, re-issued when it must be; and what the CA will sign."""

import datetime
import os
import random
from pathlib import Path

import pytest

from barque.api.errors import ApiError
from barque.client import pki
from barque.client.pki import ADMIN, Identity, PkiError
from barque.master.auth.ca import MasterPki
from barque.master.auth.identity import User
from barque.master.auth.key_wrapping import UnwrappingKey
from tests.support.clock import FakeClock

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)
NODE = User("system:node:n1", ("system:nodes",))


def opened(directory: Path, addresses: tuple[str, ...] = ("10.0.0.1",), now: datetime.datetime = NOW) -> MasterPki:
    return MasterPki.open(directory, "m1", addresses, now)


def test_the_first_start_makes_everything_and_the_next_finds_it(tmp_path: Path) -> None:
    first, second = opened(tmp_path / "pki"), opened(tmp_path / "pki", now=NOW + DAY)
    assert (first.ca_pem, first.master, first.admin) == (second.ca_pem, second.master, second.admin)
    assert first.master.subject == ("barque:master:m1", ("barque:masters",))
    names = {"barque-master", "localhost", "127.0.0.1", "::1", "m1", "10.0.0.1"}
    assert pki.hosts_of(first.master.certificate) == names
    assert first.admin.subject == ADMIN


def test_new_addresses_need_a_new_server_certificate_of_the_same_ca(tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path, ("10.0.0.2", "m1.lab"))
    assert first.pin == second.pin
    assert {"10.0.0.2", "m1.lab"} <= pki.hosts_of(second.master.certificate)
    assert first.admin == second.admin


def test_a_master_whose_name_no_host_has_is_not_met_under_it(tmp_path: Path) -> None:
    made = MasterPki.open(tmp_path, "Vor_Anker ü", ["10.0.0.1"], NOW)
    assert pki.hosts_of(made.master.certificate) == {"barque-master", "localhost", "127.0.0.1", "::1", "10.0.0.1"}


def test_half_a_life_later_a_start_re_issues(tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path, now=NOW + 183 * DAY)
    assert second.master.expires > first.master.expires
    assert second.admin.expires > first.admin.expires


def test_a_certificate_from_the_future_is_replaced(tmp_path: Path) -> None:
    """A first start with a clock years ahead must not lock the cluster until then."""
    authority = opened(tmp_path).authority
    authority.identity(pki.master_subject("m1"), NOW + 900 * DAY, opened(tmp_path).hosts).save(tmp_path, "master")
    assert opened(tmp_path).master.certificate.not_valid_before_utc < NOW


def test_a_lost_ca_key_is_never_replaced_silently(tmp_path: Path) -> None:
    opened(tmp_path)
    (tmp_path / "authority.pem").unlink()
    with pytest.raises(PkiError, match=r"authority\.pem is missing .* restore"):
        opened(tmp_path)


def test_a_spoilt_ca_file_is_named(tmp_path: Path) -> None:
    opened(tmp_path)
    (tmp_path / "authority.pem").write_bytes(b"torn")
    with pytest.raises(PkiError, match=r"authority\.pem: not a usable"):
        opened(tmp_path)


def test_a_start_cut_off_after_the_ca_goes_on_with_it(tmp_path: Path) -> None:
    first = opened(tmp_path)
    for name in ("ca.pem", "master.pem", "admin.pem"):
        (tmp_path / name).unlink()
    assert opened(tmp_path).ca_pem == first.ca_pem


def test_a_worker_gets_its_own_name_and_nothing_it_did_not_earn(tmp_path: Path) -> None:
    ca = opened(tmp_path)
    request = pki.create_request(pki.Subject(NODE.name, ("system:masters",)))
    identity = Identity(ca.sign(request.csr_pem, NODE, NOW), request.key_pem, ca.ca_pem)
    identity.check("here")
    assert identity.subject == (NODE.name, ("system:nodes",))
    assert pki.hosts_of(identity.certificate) == {"n1.node.barque"}


def test_the_administrator_may_renew(tmp_path: Path) -> None:
    ca = opened(tmp_path)
    assert pki.subject_of(ca.sign(pki.create_request(ADMIN).csr_pem, User(*ADMIN), NOW)) == ADMIN


@pytest.mark.parametrize(
    ("asks_for", "user", "message"),
    [
        (pki.node_subject("n2"), NODE, "system:node:n1 may not ask for a certificate of system:node:n2"),
        (ADMIN, NODE, "may not ask for a certificate of barque-admin"),
        (pki.master_subject("m2"), User("barque:master:m2", ("barque:masters",)), "neither a worker nor"),
        (ADMIN, User("barque-admin", ("system:nodes",)), "neither a worker nor"),
    ],
)
def test_what_the_ca_refuses_to_sign(tmp_path: Path, asks_for: pki.Subject, user: User, message: str) -> None:
    with pytest.raises(ApiError, match=message) as refused:
        opened(tmp_path).sign(pki.create_request(asks_for).csr_pem, user, NOW)
    assert refused.value.code == 403


def test_nonsense_is_a_bad_request(tmp_path: Path) -> None:
    with pytest.raises(ApiError) as refused:
        opened(tmp_path).sign(b"nonsense", NODE, NOW)
    assert refused.value.code == 400


async def test_the_master_renews_itself_and_finds_it_at_the_next_start(tmp_path: Path) -> None:
    clock = FakeClock()
    ca = opened(tmp_path, now=clock.wall() - 9 * DAY)
    renewing = ca.renewing(clock, random.Random(1))
    old = renewing.current
    await renewing.renew_now()
    assert renewing.current.expires > old.expires
    assert pki.hosts_of(renewing.current.certificate) == pki.hosts_of(old.certificate)
    assert opened(tmp_path, now=clock.wall()).master == renewing.current


@pytest.mark.parametrize("now", [NOW - 2 * DAY, NOW + 3651 * DAY])
def test_a_clock_with_which_nobody_could_connect_is_named(tmp_path: Path, now: datetime.datetime) -> None:
    opened(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(PkiError, match=f"this machine's clock says {now:%Y-%m-%d} 00:00 UTC, but the cluster's"):
        opened(tmp_path, now=now)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("hours", [-23, 23])
def test_a_clock_that_is_hours_off_does_no_harm(tmp_path: Path, hours: int) -> None:
    elsewhere = NOW + datetime.timedelta(hours=hours)
    made = opened(tmp_path, now=elsewhere)
    assert made.master.certificate.not_valid_before_utc <= NOW < made.master.expires
    assert opened(tmp_path, now=NOW).authority == made.authority


def test_the_ca_knows_its_clusters_name(tmp_path: Path) -> None:
    assert MasterPki.open(tmp_path, "m1", [], NOW, "lab-ca").authority.cluster == "lab-ca"


def test_keys_of_another_ca_are_not_laid(tmp_path: Path) -> None:
    ours, other = opened(tmp_path / "m1"), opened(tmp_path / "other")
    receiver = UnwrappingKey.generate()
    keys = receiver.unwrap(other.wrapped_for(receiver.public, b"m2", os.urandom), b"m2")
    identity = ours.authority.identity(pki.master_subject("m2"), NOW, ["10.0.0.2"])
    with pytest.raises(PkiError, match="the CA's key from the master is not that of the pinned CA"):
        MasterPki.lay_joined(tmp_path / "m2", identity, keys)
    with pytest.raises(PkiError, match="the keys from the master cannot be read"):
        MasterPki.lay_joined(tmp_path / "m2", identity, b"nonsense")
    assert not (tmp_path / "m2").exists()
