"""`AccountKey`: signs and verifies the tokens of service accounts, as JWTs (RFC 7519) by ES256 (RFC 7518, 3.4).

The key lies beside the CA's, `service-account.pem`, mode 0600. It is made at the first start; whoever takes it away
ends every token there is, and nothing else. A token names its key by the hash of the public half, as in Kubernetes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from pathlib import Path
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from barque.client.pki import PkiError, write_private

FILE = "service-account.pem"
_ALGORITHM = ec.ECDSA(hashes.SHA256())
# Of each of the two numbers of a signature on P-256.
_NUMBER_BYTES = 32


class TokenError(Exception):
    """A token that is not to be believed; the message says why, for the log alone."""


class AccountKey:
    """One signing key, and the public key that goes with it."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        public = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.id = _encode(hashlib.sha256(public).digest())
        header = {"alg": "ES256", "kid": self.id}
        self._header = _encode(msgspec.json.encode(header))

    @classmethod
    def generate(cls) -> AccountKey:
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def open(cls, directory: Path) -> AccountKey:
        """The key of this directory, made where there is none. Raises `PkiError` where the file is no such key."""
        path = directory / FILE
        if not path.exists():
            made = cls.generate()
            write_private(path, made.pem)
            return made
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), None)
        except (ValueError, TypeError, OSError) as error:
            raise PkiError(f"{path}: not a usable key ({error})") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise PkiError(f"{path}: the key is not ECDSA P-256")
        return cls(key)

    @property
    def pem(self) -> bytes:
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    @property
    def secret(self) -> bytes:
        """The private number: other secrets that all masters must have alike are derived from it."""
        return self._key.private_numbers().private_value.to_bytes(_NUMBER_BYTES, "big")

    @property
    def jwk(self) -> dict[str, str]:
        """The public half as a JSON Web Key (RFC 7517; RFC 7518, 6.2), for others to check tokens with."""
        point = self._key.public_key().public_numbers()
        x, y = (_encode(number.to_bytes(_NUMBER_BYTES, "big")) for number in (point.x, point.y))
        return {"use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": "ES256", "x": x, "y": y}

    def sign(self, claims: dict[str, Any]) -> str:
        """The JWT of these claims."""
        signed = f"{self._header}.{_encode(msgspec.json.encode(claims))}"
        numbers = decode_dss_signature(self._key.sign(signed.encode(), _ALGORITHM))
        return f"{signed}.{_encode(b''.join(number.to_bytes(_NUMBER_BYTES, 'big') for number in numbers))}"

    def verify(self, token: str) -> bytes:
        """The claims (JSON) of a token that this key has signed. Raises `TokenError`."""
        parts = token.split(".")
        # Only our own header is accepted, so no token can choose another algorithm.
        if len(parts) != 3 or parts[0] != self._header:
            raise TokenError("it is no token of this cluster's key")
        claims, signature = _decode(parts[1]), _decode(parts[2])
        if len(signature) != 2 * _NUMBER_BYTES:
            raise TokenError("its signature has the wrong length")
        numbers = (int.from_bytes(signature[at : at + _NUMBER_BYTES], "big") for at in (0, _NUMBER_BYTES))
        try:
            self._key.public_key().verify(encode_dss_signature(*numbers), f"{parts[0]}.{parts[1]}".encode(), _ALGORITHM)
        except InvalidSignature:
            raise TokenError("its signature is wrong") from None
        return claims


def _encode(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    if "=" in text:
        raise TokenError("it is no base64url: padding has no place in a token")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise TokenError(f"it is no base64url: {error}") from None
