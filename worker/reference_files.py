"""`ReferenceFiles`: the ConfigMaps and Secrets of this node's pods on disk, for a start while no master answers.

One file per object, mode 0600, replaced atomically. It is a copy of what the masters keep: a file that cannot be read
is dropped and fetched again. Secrets are sealed (AES-GCM) under a key derived from the worker's private key, so that a
copy of this directory tells nothing, and a file that was forgotten here tells nothing once the certificate is renewed.
Root on this host holds the private key and reads them all the same, as it does in Docker's own files, where the values
stand as containers' environments.
"""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from barque.api import codec
from barque.api.types import core_v1
from barque.api.types.base import Object

log = logging.getLogger(__name__)

Key = tuple[type[Object], str, str]
_KINDS: dict[str, type[Object]] = {kind.__name__: kind for kind in (core_v1.ConfigMap, core_v1.Secret)}
_PLAIN, _SEALED, _UNFINISHED = ".json", ".sealed", ".new"
_KEY_BYTES = 32
# As NIST SP 800-38D recommends; random ones may be used some 2**32 times with one key.
_NONCE_BYTES = 12


class ReferenceFiles:
    """Files in one directory. Methods block for the length of a small file, `load` and `rekey` for that of all."""

    def __init__(self, directory: Path, private_key_pem: bytes) -> None:
        self._directory = directory
        self._cipher = _cipher(private_key_pem)
        # `rekey` runs in a thread of its own; what is written or removed meanwhile must not come back in its old form.
        self._lock = threading.Lock()

    def load(self) -> dict[Key, Object]:
        """All that is there."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        found: dict[Key, Object] = {}
        for path in self._directory.iterdir():
            kind = _KINDS.get(path.name.partition("_")[0])
            try:
                if kind is None or path.suffix != _suffix(kind):
                    raise ValueError("not a file of this directory")
                obj = codec.decode(kind, _read(path, self._cipher))
            except (ValueError, InvalidTag, msgspec.DecodeError) as error:
                log.warning("dropping the cached %s: %s", path, error or "sealed under another key")
                path.unlink()
                continue
            assert isinstance(obj, core_v1.ConfigMap | core_v1.Secret)
            found[kind, obj.metadata.namespace, obj.metadata.name] = obj
        return found

    def write(self, key: Key, value: Object) -> None:
        with self._lock:
            self._write(self._path(key), codec.encode(value))

    def remove(self, key: Key) -> None:
        with self._lock:
            self._path(key).unlink(missing_ok=True)

    def rekey(self, private_key_pem: bytes) -> None:
        """The worker's key was renewed: seal the Secrets anew. A crash leaves out some, which the next `load` drops."""
        with self._lock:
            former, self._cipher = self._cipher, _cipher(private_key_pem)
        for path in list(self._directory.glob(f"*{_SEALED}")):
            with self._lock:
                try:
                    self._write(path, _read(path, former))
                except (FileNotFoundError, ValueError, InvalidTag) as error:
                    # Removed or written anew since the key changed, or damaged: then `load` will say so.
                    log.debug("not sealed anew: %s: %s", path, error)

    def _write(self, path: Path, data: bytes) -> None:
        if path.suffix == _SEALED:
            nonce = os.urandom(_NONCE_BYTES)
            data = nonce + self._cipher.encrypt(nonce, data, path.name.encode())
        following = path.with_suffix(_UNFINISHED)
        with open(os.open(following, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
        following.replace(path)

    def _path(self, key: Key) -> Path:
        # Neither a namespace nor a name can hold an underscore.
        return self._directory / f"{key[0].__name__}_{key[1]}_{key[2]}{_suffix(key[0])}"


def _read(path: Path, cipher: AESGCM) -> bytes:
    data = path.read_bytes()
    if path.suffix != _SEALED:
        return data
    # The name is sealed along, so that no file passes for another.
    return cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], path.name.encode())


def _suffix(kind: type[Object]) -> str:
    return _SEALED if kind is core_v1.Secret else _PLAIN


def _cipher(private_key_pem: bytes) -> AESGCM:
    """HKDF (RFC 5869) of the private key: strong already, so it needs no salt."""
    private = serialization.load_pem_private_key(private_key_pem, None).private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return AESGCM(HKDF(hashes.SHA256(), _KEY_BYTES, salt=None, info=b"barque worker secrets").derive(private))
