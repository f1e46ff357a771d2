"""nkeys and their tokens, against what NATS publishes."""

from __future__ import annotations

import base64

import msgspec
import pytest

from barque.master.bus.nkeys import Kind, Nkey, NkeyError, decode_public, encode_public, verify

# The pair of keys in NATS' documentation of nkey authentication.
SEED = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
PUBLIC = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"
ACCOUNT = Nkey(Kind.ACCOUNT, b"a" * 32)


def test_a_published_pair_of_keys() -> None:
    secret = base64.b32decode(SEED + "=" * (-len(SEED) % 8))[2:-2]
    key = Nkey(Kind.USER, secret)
    assert key.name == PUBLIC
    assert encode_public(Kind.USER, decode_public(PUBLIC, Kind.USER)) == PUBLIC


@pytest.mark.parametrize(("kind", "letter"), [(Kind.ACCOUNT, "A"), (Kind.SERVER, "N"), (Kind.USER, "U")])
def test_a_name_begins_with_its_kind(kind: Kind, letter: str) -> None:
    assert Nkey(kind, bytes(32)).name[0] == letter


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (PUBLIC[:-1] + "5", "checksum"),
        (PUBLIC.replace("4RCS", "4RCT"), "checksum"),
        (PUBLIC[:-8], "checksum"),
        (ACCOUNT.name, "not of kind user"),
        ("u" + PUBLIC[1:], "no key's name"),
        ("", "checksum"),
        ("Ü", "no key's name"),
    ],
)
def test_names_that_are_none(name: str, why: str) -> None:
    with pytest.raises(NkeyError, match=why):
        decode_public(name, Kind.USER)


def test_a_token_says_who_signed_what() -> None:
    token = ACCOUNT.sign({"sub": PUBLIC, "nats": {"type": "user"}}, 1_700_000_000)
    issuer, claims = verify(token.encode(), Kind.ACCOUNT)
    said = msgspec.json.decode(claims)
    assert issuer == said.pop("iss") == ACCOUNT.name
    assert len(said.pop("jti")) == 52
    assert said == {"sub": PUBLIC, "nats": {"type": "user"}, "iat": 1_700_000_000}
    assert token.split(".")[0] == "eyJ0eXAiOiJKV1QiLCJhbGciOiJlZDI1NTE5LW5rZXkifQ"


def test_tokens_that_are_not_believed() -> None:
    header, claims, signature = ACCOUNT.sign({"sub": "x"}, 1).split(".")
    other = Nkey(Kind.ACCOUNT, b"b" * 32).sign({"sub": "x"}, 1).split(".")
    none = base64.urlsafe_b64encode(b'{"typ":"JWT","alg":"none"}').rstrip(b"=").decode()
    for token, why in (
        (f"{header}.{claims}.{other[2]}", "signature is wrong"),
        (f"{header}.{other[1]}.{signature}", "signature is wrong"),
        (f"{header}.{claims}.", "signature is wrong"),
        (f"{none}.{claims}.{signature}", "algorithm"),
        (f"{header}.{claims}", "three parts"),
        (f"{header}.e30.{signature}", "cannot be read"),
        (f"{header}.!!!.{signature}", "base64url"),
        ("", "three parts"),
    ):
        with pytest.raises(NkeyError, match=why):
            verify(token.encode(), Kind.ACCOUNT)
    with pytest.raises(NkeyError, match="not of kind server"):
        verify(f"{header}.{claims}.{signature}".encode(), Kind.SERVER)
