"""The masters' answers about newcomers on the bus."""

from __future__ import annotations

import datetime
import logging
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from barque.client import pki
from barque.client.pki import Identity, Subject
from barque.client.subjects import Pattern
from barque.master.auth.account_keys import AccountKey
from barque.master.auth.identity import User
from barque.master.bus import callout
from barque.master.bus.access import MastersAccess
from barque.master.bus.callout import Admission, Answer, issuer_of
from barque.master.bus.link import Link
from barque.master.bus.nkeys import Kind, Nkey, verify
from barque.master.bus.permissions import permissions_of, watchable_by
from barque.master.bus.topology import Topology
from tests.support.clock import FakeClock

NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
NOW_S = int(NOW.timestamp())
CA = pki.create_authority(NOW)
KEY = AccountKey.generate()
ISSUER = issuer_of(KEY)
SERVER = Nkey(Kind.SERVER, b"s" * 32)
NEWCOMER = Nkey(Kind.USER, b"u" * 32).name
ADMIN = CA.identity(pki.ADMIN, NOW)


def an_admission(*masters: str, clock: FakeClock | None = None) -> Admission:
    clock = clock or FakeClock()
    nowhere = MastersAccess("127.0.0.1:1", lambda: Topology(None, ()), lambda: ADMIN)
    return Admission(Link(nowhere, clock), ISSUER, CA.cert_pem, "lab", clock, lambda: masters, _watchable)


def _watchable(user: User) -> tuple[Pattern, ...]:
    return (Pattern("core", "pods"),) if user.name == "jane" else watchable_by(user)


def a_question(identity: Identity | None, *, at_s: int = NOW_S, signed_by: Nkey = SERVER, **other: Any) -> bytes:
    chain = [[identity.cert_pem.decode(), CA.cert_pem.decode()]] if identity is not None else []
    asked = {"server_id": {"id": SERVER.name, "name": "m1"}, "user_nkey": NEWCOMER, "client_info": {"host": "10.0.0.9"}}
    claims = {"aud": callout.AUDIENCE, "sub": ISSUER.name, "nats": {**asked, "client_tls": {"verified_chains": chain}}}
    return signed_by.sign(claims | other, at_s).encode()


def told(answer: Answer) -> dict[str, Any]:
    """What the server reads: signed by the masters, about this newcomer, to this server."""
    issuer, claims = verify(answer.token.encode(), Kind.ACCOUNT)
    said: dict[str, Any] = msgspec.json.decode(claims)
    assert (issuer, said["sub"], said["aud"]) == (ISSUER.name, NEWCOMER, SERVER.name)
    nats: dict[str, Any] = said["nats"]
    assert (nats["type"], nats["version"]) == ("authorization_response", 2)
    return nats


def rights_in(answer: Answer) -> dict[str, Any]:
    assert answer.refusal == ""
    issuer, claims = verify(told(answer)["jwt"].encode(), Kind.ACCOUNT)
    said: dict[str, Any] = msgspec.json.decode(claims)
    assert (issuer, said["sub"]) == (ISSUER.name, NEWCOMER)
    return said


def test_the_administrators_rights() -> None:
    said = rights_in(an_admission().decide(a_question(ADMIN)))
    expected = permissions_of(User(*pki.ADMIN), watchable_by(User(*pki.ADMIN)), "lab")
    assert expected is not None
    assert said["nats"] == {
        "pub": {"allow": list(expected.publish)},
        "sub": {"allow": list(expected.subscribe)},
        "subs": -1,
        "data": -1,
        "payload": -1,
        "type": "user",
        "version": 2,
        "allowed_connection_types": ["STANDARD"],
    }
    assert (said["aud"], said["name"], said["iat"], said["exp"]) == ("ADMINS", "barque-admin", NOW_S, NOW_S + 900)


def test_a_present_master_may_do_everything_for_a_minute() -> None:
    master = CA.identity(pki.master_subject("m2"), NOW, [pki.MASTER_HOST])
    said = rights_in(an_admission("m1", "m2").decide(a_question(master)))
    assert (said["aud"], said["exp"]) == ("BARQUE", NOW_S + 60)
    assert (said["nats"]["pub"], said["nats"]["sub"]) == ({"allow": [">"]}, {"allow": [">"]})
    assert an_admission("m1").decide(a_question(master)).refusal == "it is no master of this cluster any more"


def test_a_watchers_account() -> None:
    said = rights_in(an_admission().decide(a_question(CA.identity(Subject("jane", ()), NOW))))
    assert said["aud"] == "WATCHERS"
    assert said["nats"]["sub"]["allow"][0] == "barque.lab.change.core.pods.>"


def test_rights_end_with_the_certificate() -> None:
    soon = int(ADMIN.expires.timestamp()) - 10
    assert rights_in(an_admission().decide(a_question(ADMIN, at_s=soon)))["exp"] == soon + 10


STRANGER = pki.create_authority(NOW).identity(pki.ADMIN, NOW)


@pytest.mark.parametrize(
    ("identity", "at", "why"),
    [
        (CA.identity(pki.node_subject("n1"), NOW), NOW, "it may not watch anything"),
        (CA.identity(Subject("barque-admin", ("dev",)), NOW), NOW, "it may not watch anything"),
        (CA.identity(Subject("barque:master:m1", ("dev",)), NOW), NOW, "it may not watch anything"),
        (CA.identity(Subject("barque:master:m9", (pki.MASTERS_GROUP, pki.ADMINS_GROUP)), NOW), NOW, "no master"),
        (STRANGER, NOW, "not of this cluster's CA"),
        (ADMIN, NOW + datetime.timedelta(days=366), "expired"),
        (ADMIN, NOW - datetime.timedelta(days=2), "not valid yet"),
        (None, NOW, "no certificate"),
        (Identity(b"-----BEGIN CERTIFICATE-----\n", b"", b""), NOW, "not of this cluster's CA"),
    ],
)
def test_who_is_refused(identity: Identity | None, at: datetime.datetime, why: str) -> None:
    answer = an_admission("m1").decide(a_question(identity, at_s=int(at.timestamp())))
    assert why in answer.refusal
    said = told(answer)
    assert (said["error"], "jwt" in said, answer.host) == (answer.refusal, False, "10.0.0.9")


def test_questions_that_are_no_servers() -> None:
    other = Nkey(Kind.SERVER, b"o" * 32)
    questions = {
        "another server": a_question(ADMIN, signed_by=other),
        "asked of others": a_question(ADMIN, sub=Nkey(Kind.ACCOUNT, b"x" * 32).name),
        "not of kind server": a_question(ADMIN, signed_by=ISSUER),
        "asked of others ": a_question(ADMIN, aud="somebody"),
        "signature": a_question(ADMIN)[:-4] + b"AAAA",
        "three parts": b"",
        "missing required field": a_question(ADMIN, nats={}),
        "Expected `int`": a_question(ADMIN, at_s=1 << 60),
    }
    for why, question in questions.items():
        with pytest.raises(callout._Unanswerable, match=why.strip()):
            an_admission().decide(question)


async def test_the_same_refusal_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    admission = an_admission(clock=clock)
    with caplog.at_level(logging.WARNING):
        for name in ("n1", "n1", "n2", "n1"):
            admission._tell(name, f"{name} refused")
        assert [record.message for record in caplog.records] == ["n1 refused", "n2 refused"]
        await clock.advance(callout.LOGGED_EVERY_S)
        admission._tell("n1", "n1 refused again")
    assert caplog.records[2].message == "n1 refused again"
    for number in range(2 * callout.LOGGED_USERS):
        admission._tell(f"x{number}", "x")
    assert len(admission._logged) == callout.LOGGED_USERS


def test_every_master_derives_the_same_key_for_ever() -> None:
    """Two versions of Barque in one cluster must derive the same one too."""
    key = AccountKey(ec.derive_private_key(12345, ec.SECP256R1()))
    assert issuer_of(key).name == "ABZH7YG2KEOQT7KNGG6R5YZNSXOWN2457P5W4CPTUENOCCZRRUIFTZUU"
    assert issuer_of(AccountKey.generate()).name != issuer_of(AccountKey.generate()).name
