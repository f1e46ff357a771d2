"""Keys on their way to a joining master, wrapped so that nobody but that master can read them.

The joiner makes a one-time X25519 key and sends its public half (RFC 7748). The sender makes one of its own for this
wrapping alone; HKDF-SHA256 (RFC 5869) of what both agree on, bound to both public halves and to the `context`, is the
AES-256-GCM key. So a wrapping that was recorded, or is given to another member, opens nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

PUBLIC_BYTES = 32
_KEY_BYTES = 32
_NONCE_BYTES = 12
_LABEL = b"barque keys of a joining master v1\0"


class WrappingError(Exception):
    """Wrapped keys, or a public key, that cannot be used; the message is one sentence."""


class Wrapped(msgspec.Struct, frozen=True):
    """`sender` is the public half that was made for it; `sealed` is the ciphertext with its tag."""

    sender: bytes
    nonce: bytes
    sealed: bytes


class UnwrappingKey:
    """The joiner's one-time key."""

    def __init__(self, private: X25519PrivateKey) -> None:
        self._private = private

    @classmethod
    def generate(cls) -> UnwrappingKey:
        return cls(X25519PrivateKey.generate())

    @classmethod
    def of(cls, data: bytes) -> UnwrappingKey:
        """The key that `data` was made of. Raises `WrappingError`."""
        try:
            return cls(X25519PrivateKey.from_private_bytes(data))
        except ValueError as error:
            raise WrappingError(f"not an X25519 key ({error})") from error

    @property
    def data(self) -> bytes:
        """The private key itself, to be kept until what is wrapped for it has come."""
        return self._private.private_bytes_raw()

    @property
    def public(self) -> bytes:
        return self._private.public_key().public_bytes_raw()

    def unwrap(self, wrapped: Wrapped, context: bytes) -> bytes:
        """What was wrapped for this key in this context. Raises `WrappingError`."""
        key = _agreed(self._private, wrapped.sender, wrapped.sender + self.public, context)
        try:
            return AESGCM(key).decrypt(wrapped.nonce, wrapped.sealed, context)
        except (InvalidTag, ValueError):
            raise WrappingError("the keys from the master were wrapped for another member, or changed") from None


def wrap(secret: bytes, receiver: bytes, context: bytes, entropy: Callable[[int], bytes]) -> Wrapped:
    """Wrap `secret` for the owner of the public key `receiver`; `context` says what for. Raises `WrappingError`."""
    one_time = X25519PrivateKey.from_private_bytes(entropy(_KEY_BYTES))
    sender = one_time.public_key().public_bytes_raw()
    key = _agreed(one_time, receiver, sender + receiver, context)
    nonce = entropy(_NONCE_BYTES)
    return Wrapped(sender, nonce, AESGCM(key).encrypt(nonce, secret, context))


def _agreed(private: X25519PrivateKey, peer: bytes, halves: bytes, context: bytes) -> bytes:
    """The key that both ends compute. A public key of low order, with which they agree on zeros, is refused."""
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(peer))
    except ValueError as error:
        raise WrappingError("not a usable X25519 public key") from error
    return HKDF(hashes.SHA256(), _KEY_BYTES, salt=None, info=_LABEL + halves + context).derive(shared)
