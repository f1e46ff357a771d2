"""The keys of Secrets where several masters share them: in etcd, themselves sealed with a key that only masters have.

Whoever reads etcd's disk, its backups or its traffic finds the ring and all Secrets sealed. What opens the ring is
derived from a secret that every master of the cluster holds anyway (its CA's key), so that nothing has to be copied and
a new key reaches all masters by itself.

The ring itself is the one of `keyring`: here its file stands in etcd, and what it writes is kept until a transaction
has put it there. Rings of elsewhere, to read what they have sealed, are files beside it as ever.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from barque.master.raft.disk import Disk
from barque.master.raft.errors import StoreStartError
from barque.master.store.keyring import RING_FILE, KeyRing, open_ring

_NONCE_BYTES = 12


def wrapping_key(secret: bytes) -> bytes:
    """The key that seals the ring, of a secret that all masters share and nobody else knows."""
    return HKDF(hashes.SHA256(), 32, salt=None, info=b"barque: key ring in etcd").derive(secret)


class SharedRing:
    """Opens the ring that stands in etcd, and seals the next one."""

    def __init__(self, wrapping: bytes, directory: Path, entropy: Callable[[int], bytes], where: str) -> None:
        """`directory` is where rings of elsewhere are; `where` names the key in etcd, for messages."""
        self._cipher = AESGCM(wrapping)
        self._directory = directory
        self._entropy = entropy
        self._where = where

    def open(self, value: bytes) -> KeyRing:
        """Raises `StoreStartError` where it was sealed with another master key. Blocks."""
        try:
            file = self._cipher.decrypt(value[:_NONCE_BYTES], value[_NONCE_BYTES:], self._where.encode())
        except InvalidTag:
            raise StoreStartError(
                f"{self._where} does not open with this master's keys, so it is another cluster's: give this one "
                "another --etcd-prefix, or make it a master of that one with `barque master join`"
            ) from None
        return open_ring(self._directory, _RingFile(file), self._entropy)

    def found(self, created: str) -> tuple[KeyRing, bytes]:
        """A first ring of one key, and its value for etcd."""
        return self._change(_RingFile(b""), lambda ring: ring.add_key(created, settled=True))

    def with_new_key(self, value: bytes, created: str) -> tuple[KeyRing, bytes]:
        """The ring with a new primary, which is not settled, and its value. Blocks, as the others do."""
        return self._change(self._file(value), lambda ring: ring.add_key(created, settled=False))

    def with_primary_alone(self, value: bytes) -> tuple[KeyRing, bytes]:
        return self._change(self._file(value), KeyRing.forget_others)

    def _file(self, value: bytes) -> _RingFile:
        return _RingFile(self._cipher.decrypt(value[:_NONCE_BYTES], value[_NONCE_BYTES:], self._where.encode()))

    def _change(self, file: _RingFile, change: Callable[[KeyRing], object]) -> tuple[KeyRing, bytes]:
        ring = open_ring(self._directory, file, self._entropy)
        change(ring)
        nonce = self._entropy(_NONCE_BYTES)
        return ring, nonce + self._cipher.encrypt(nonce, file.content, self._where.encode())


class _RingFile(Disk):
    """The disk, but for the ring's own file: that one is `content`."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def read(self, path: Path, size: int = -1) -> bytes:
        if path.name != RING_FILE:
            return super().read(path, size)
        if not self.content:
            raise FileNotFoundError(path)
        return self.content

    def write_file(self, path: Path, data: bytes) -> None:
        self.content = data
