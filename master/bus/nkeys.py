"""nkeys and their JWTs: how NATS names Ed25519 keys, and how one vouches for what another may do.

A key's name is base32 of a letter for its kind, the 32 bytes of the public key and a CRC-16 of both. A token is a JWT
(RFC 7519) of algorithm `ed25519-nkey`, whose claims `iss` and `sub` are such names. Follows the specification in
nats-architecture-and-design, ADR-14, and the claims of nats-io/jwt, version 2. Pure.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from enum import IntEnum
from typing import Any, NamedTuple

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SEED_BYTES = 32
VERSION = 2
_HEADER = {"typ": "JWT", "alg": "ed25519-nkey"}


class Kind(IntEnum):
    """What a key is for: its name begins with this letter."""

    ACCOUNT = 0 << 3
    SERVER = 13 << 3
    USER = 20 << 3


class NkeyError(Exception):
    """A name that is no key's, or a token that is not to be believed; the message says why."""


class Token(NamedTuple):
    """A token whose signature is right: the name of the key that signed it, and what it says (JSON)."""

    issuer: str
    claims: bytes


class Nkey:
    """A key that signs. `name` is public."""

    def __init__(self, kind: Kind, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.name = encode_public(kind, self._key.public_key().public_bytes_raw())

    def sign(self, claims: dict[str, Any], issued_s: int) -> str:
        """The token of these claims, from this key, issued at `issued_s` (seconds since the epoch)."""
        said = {**claims, "iss": self.name, "iat": issued_s}
        # The token's own name: a hash of all that it says.
        said["jti"] = _base32(hashlib.new("sha512_256", msgspec.json.encode(said)).digest())
        signed = f"{_base64(msgspec.json.encode(_HEADER))}.{_base64(msgspec.json.encode(said))}"
        return f"{signed}.{_base64(self._key.sign(signed.encode()))}"


def verify(token: bytes, issuer: Kind) -> Token:
    """Read a token signed by the key, of this kind, that it names itself. Raises `NkeyError`."""
    parts = token.split(b".")
    if len(parts) != 3:
        raise NkeyError("it has not the three parts of a token")
    header, claims, signature = (_from_base64(part) for part in parts)
    try:
        algorithm = msgspec.json.decode(header, type=_Header).alg
        name = msgspec.json.decode(claims, type=_Issued).iss
    except msgspec.DecodeError as error:
        raise NkeyError(f"it cannot be read: {error}") from error
    if algorithm != _HEADER["alg"]:
        raise NkeyError("its algorithm is not ed25519-nkey")
    try:
        key = Ed25519PublicKey.from_public_bytes(decode_public(name, issuer))
        key.verify(signature, parts[0] + b"." + parts[1])
    except InvalidSignature:
        raise NkeyError("its signature is wrong") from None
    return Token(name, claims)


def encode_public(kind: Kind, public: bytes) -> str:
    """The name of a public key (32 bytes)."""
    raw = bytes([kind]) + public
    return _base32(raw + _checksum(raw))


def decode_public(name: str, kind: Kind) -> bytes:
    """The 32 bytes of the public key with this name. Raises `NkeyError` where it is none, or of another kind."""
    try:
        raw = base64.b32decode(name + "=" * (-len(name) % 8))
    except (binascii.Error, ValueError) as error:
        raise NkeyError(f"no key's name: {error}") from None
    if len(raw) != 1 + SEED_BYTES + 2 or _checksum(raw[:-2]) != raw[-2:]:
        raise NkeyError("no key's name: its checksum is wrong")
    if raw[0] != kind:
        raise NkeyError(f"the key is not of kind {kind.name.lower()}")
    return raw[1:-2]


class _Header(msgspec.Struct):
    alg: str


class _Issued(msgspec.Struct):
    iss: str


def _checksum(raw: bytes) -> bytes:
    """CRC-16/XMODEM, the low byte first."""
    return binascii.crc_hqx(raw, 0).to_bytes(2, "little")


def _base32(raw: bytes) -> str:
    return base64.b32encode(raw).rstrip(b"=").decode()


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _from_base64(text: bytes) -> bytes:
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise NkeyError(f"it is no base64url: {error}") from None
