"""Members compare what they hold: a hash of the whole state after the same entry, once a minute.

`hash_state` walks a picture of the state in slices of a millisecond or two, between which the loop does other work.
Objects and reservations are added up, since members may hold them in different orders (one has loaded them from a
snapshot); the windows of results are hashed in their order, which decides what is forgotten next.

`Comparison` says who deviates: whoever differs from what most voters have or, where no side is the larger, from the
leader.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import msgspec

from barque.master.store.fsm import View

_BYTES = 16
_MASK = (1 << 8 * _BYTES) - 1
_SLICE_BYTES = 256 * 1024
_SLICE_ROWS = 250
# Entries whose hashes are remembered; a slow member's come late.
_KEPT = 4

_encode = msgspec.msgpack.Encoder(order="deterministic").encode


def hash_state(view: View) -> Iterator[bytes]:
    """Yields b"" between two slices, and at last the hash."""
    objects, size, rows = 0, 0, 0
    for stored in view.objects:
        objects += _number(_encode(stored))
        size += len(stored.json)
        rows += 1
        if size >= _SLICE_BYTES or rows >= _SLICE_ROWS:
            size = rows = 0
            yield b""
    reserved = 0
    for number, row in enumerate(view.reserved):
        reserved += _number(_encode(row))
        if number % _SLICE_ROWS == _SLICE_ROWS - 1:
            yield b""
    windows = []
    for boot_id, floor, kept in view.results:
        windows.append(hashlib.blake2b(_encode((boot_id, floor, sorted(kept.items(), key=_sequence)))).digest())
        yield b""
    whole = (view.revision, len(view.objects), _packed(objects), len(view.reserved), _packed(reserved), windows)
    yield hashlib.blake2b(_encode(whole), digest_size=_BYTES).digest()


class Comparison:
    """The hashes that members have told of, by entry."""

    def __init__(self) -> None:
        self._found: dict[int, dict[str, bytes]] = {}

    def add(self, index: int, member: str, digest: bytes) -> None:
        self._found.setdefault(index, {})[member] = digest
        while len(self._found) > _KEPT:
            del self._found[min(self._found)]

    def deviant(self, index: int, member: str, leader: str, voters: Sequence[str]) -> bool:
        """Whether `member` has at `index` another state than most of `voters`; where all of them have told and there
        is no such majority, whether it has another one than the leader.
        """
        found = self._found.get(index, {})
        own = found.get(member)
        if own is None:
            return False
        told = [found[voter] for voter in voters if voter in found]
        most = max(told, key=told.count, default=own)
        if told.count(most) * 2 > len(voters):
            return own != most
        return len(told) == len(voters) and own != found.get(leader, own)


def _number(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=_BYTES).digest(), "little")


def _packed(total: int) -> bytes:
    return (total & _MASK).to_bytes(_BYTES, "little")


def _sequence(row: tuple[int, object]) -> int:
    return row[0]
