"""The key ring: which keys seal Secrets at rest, and the sealing itself. See docs/decisions/0006-secrets-at-rest.md.

AES-256-GCM with random 96-bit nonces. A sealed value is: layout number (1 byte), key id (8), nonce (12), ciphertext and
tag. `context` is authenticated with it and says where the value stands, so that it opens nowhere else.

The ring is one small JSON file in a directory beside the store, written whole before any value is sealed with a key in
it, and never part of the log. The newest key is the primary: it seals; the others, if any, only open what is still to
be sealed anew. A key's id is derived from its bytes, so a changed key file is noticed and a wrong key never tried.

Random nonces are safe for 2^32 values under one key (NIST SP 800-38D, 8.3). The ring counts them across restarts, in
blocks written ahead, and asks for a new key at half of that.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from barque.master.raft.disk import Disk
from barque.master.raft.errors import CorruptFileError, NewerFormatError
from barque.master.store.port import Key

log = logging.getLogger(__name__)

FILE_FORMAT = 1
RING_FILE = "ring.json"

_LAYOUT = b"\x01"
_KEY_BYTES = 32
_ID_BYTES = 8
_NONCE_BYTES = 12
_NONCE_AT = len(_LAYOUT) + _ID_BYTES
_TEXT_AT = _NONCE_AT + _NONCE_BYTES

# Uses are written ahead in blocks: one small file for a million values, and a restart wastes at most a block.
_USES_BLOCK = 1 << 20
# Half of what random nonces allow; the other half is for what is sealed until the new key is there.
MAX_USES = 1 << 31

_encode_context = msgspec.msgpack.Encoder().encode


class SealError(Exception):
    """A sealed value that does not open; the message has no file, which the reader of the file adds."""


class UnknownKeyError(SealError):
    """Sealed with a key that the ring does not hold."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"is sealed with key {key_id}, which is not in the key ring")
        self.key_id = key_id


class BrokenSealError(SealError):
    """The value, its place, or the key was changed."""


class _Key(msgspec.Struct):
    """`uses` may have been made, not more."""

    id: str
    created: str
    uses: int
    key: bytes


class _File(msgspec.Struct):
    """The ring on disk. `settled`: nothing on disk is sealed with another key than the primary, or not at all."""

    format: int
    primary: str
    settled: bool
    keys: list[_Key]


class KeyRing:
    """Made by `open_ring`. Methods that say so block and are called one at a time; the others may be called from any
    thread.
    """

    def __init__(self, path: Path, disk: Disk, entropy: Callable[[int], bytes], kept: _File | None) -> None:
        self.path = path
        self._disk = disk
        self._entropy = entropy
        self._keys: list[_Key] = kept.keys if kept else []
        self._primary = kept.primary if kept else ""
        self._ciphers = {bytes.fromhex(key.id): AESGCM(key.key) for key in self._keys}
        self._sealer: tuple[bytes, AESGCM] | None = None
        self.settled = kept is None or kept.settled
        self._uses = 0
        self._reserved_uses = 0
        if self._keys:
            self._use(self._primary)

    @property
    def empty(self) -> bool:
        """There is no key yet."""
        return not self._keys

    @property
    def key_id(self) -> str:
        return self._primary

    @property
    def created(self) -> str:
        """When the primary was made, RFC 3339."""
        return next((key.created for key in self._keys if key.id == self._primary), "")

    @property
    def worn(self) -> bool:
        """The primary has sealed so many values that a new one is due."""
        return self._uses >= MAX_USES

    def seal(self, value: bytes, context: bytes) -> bytes:
        assert self._sealer is not None, "a ring without a key seals nothing"
        key_id, cipher = self._sealer
        self._uses += 1
        nonce = self._entropy(_NONCE_BYTES)
        return b"".join((_LAYOUT, key_id, nonce, cipher.encrypt(nonce, value, context)))

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """Raises `SealError`."""
        if len(sealed) < _TEXT_AT or not sealed.startswith(_LAYOUT):
            raise BrokenSealError("is not a sealed value that this release reads")
        key_id = sealed[len(_LAYOUT) : _NONCE_AT]
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise UnknownKeyError(key_id.hex())
        try:
            return cipher.decrypt(sealed[_NONCE_AT:_TEXT_AT], sealed[_TEXT_AT:], context)
        except InvalidTag:
            raise BrokenSealError(f"does not open with key {key_id.hex()}") from None

    def add_key(self, created: str, *, settled: bool) -> str:
        """A new primary, durable before this returns; the others stay. `settled` as in the file. Blocks; `OSError`."""
        made = self._entropy(_KEY_BYTES)
        key = _Key(_key_id(made), created, _USES_BLOCK, made)
        self._write(_File(FILE_FORMAT, key.id, settled, [*self._keys, key]))
        self._keys.append(key)
        self._ciphers[bytes.fromhex(key.id)] = AESGCM(key.key)
        self.settled = settled
        self._use(key.id, fresh=True)
        return key.id

    def forget_others(self) -> None:
        """Only the primary is needed any more. Blocks; `OSError`."""
        kept = [key for key in self._keys if key.id == self._primary]
        self._write(_File(FILE_FORMAT, self._primary, True, kept))
        self._keys = kept
        self._ciphers = {bytes.fromhex(key.id): AESGCM(key.key) for key in kept}
        self.settled = True

    def reserve_uses(self) -> None:
        """Write ahead how often the primary may have been used. Blocks; cheap unless a block is nearly used up.

        A disk that refuses is tried again at the next call: the bound is far enough off for that.
        """
        if self._reserved_uses - self._uses > _USES_BLOCK // 2:
            return
        primary = next(key for key in self._keys if key.id == self._primary)
        before, primary.uses = primary.uses, self._uses + _USES_BLOCK
        try:
            self._write(_File(FILE_FORMAT, self._primary, self.settled, self._keys))
        except OSError as e:
            primary.uses = before
            log.warning("cannot write %s: %s", self.path, e)
            return
        self._reserved_uses = primary.uses

    def read_foreign(self) -> None:
        """Learn the keys of other rings put beside this one (`*.json`), to read what was sealed elsewhere. Blocks;
        raises `StoreStartError` or `OSError`.
        """
        for name in self._disk.names(self.path.parent):
            if name.endswith(".json") and name != self.path.name:
                for key in _read_file(self.path.parent / name, self._disk).keys:
                    self._ciphers.setdefault(bytes.fromhex(key.id), AESGCM(key.key))

    def _use(self, key_id: str, *, fresh: bool = False) -> None:
        primary = next(key for key in self._keys if key.id == key_id)
        self._primary = key_id
        self._sealer = (bytes.fromhex(key_id), AESGCM(primary.key))
        self._uses = 0 if fresh else primary.uses
        self._reserved_uses = primary.uses

    def _write(self, file: _File) -> None:
        self._disk.write_file(self.path, msgspec.json.format(msgspec.json.encode(file)))


def open_ring(directory: Path, disk: Disk, entropy: Callable[[int], bytes]) -> KeyRing:
    """The ring kept in `directory`, an empty one where there is none yet; other rings beside it open, never seal.

    Raises `StoreStartError` or `OSError`.
    """
    disk.make_directory(directory)
    path = directory / RING_FILE
    try:
        kept = _read_file(path, disk)
    except FileNotFoundError:
        kept = None
    ring = KeyRing(path, disk, entropy, kept)
    ring.read_foreign()
    return ring


def log_context(index: int, position: int, key: Key, slot: int) -> bytes:
    """Op number `position` of log entry `index`."""
    return _encode_context(("log", index, position, key.resource, key.namespace, key.name, slot))


def state_context(revision: int, key: Key, slot: int) -> bytes:
    """The object in a snapshot, last written at `revision`."""
    return _encode_context(("state", revision, 0, key.resource, key.namespace, key.name, slot))


def _read_file(path: Path, disk: Disk) -> _File:
    remedy = "put it back from a backup; without it no Secret can be read"
    data = disk.read(path)
    try:
        file = msgspec.json.decode(data, type=_File)
    except msgspec.DecodeError as e:
        raise CorruptFileError(path, 0, str(e), remedy) from e
    if file.format > FILE_FORMAT:
        raise NewerFormatError(str(path), file.format, FILE_FORMAT)
    for key in file.keys:
        if len(key.key) != _KEY_BYTES or key.id != _key_id(key.key):
            raise CorruptFileError(path, max(0, data.find(key.id.encode())), f"key {key.id} was changed", remedy)
    if all(key.id != file.primary for key in file.keys):
        raise CorruptFileError(path, 0, f"its primary key {file.primary} is missing", remedy)
    return file


def _key_id(key: bytes) -> str:
    return hashlib.sha256(b"barque key id\0" + key).digest()[:_ID_BYTES].hex()
