"""The key ring and what it seals: on disk, in entries and in snapshots."""

from __future__ import annotations

import stat
from pathlib import Path

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from barque.master.raft.disk import Disk
from barque.master.raft.errors import CorruptFileError, NewerFormatError
from barque.master.store import keyring
from barque.master.store.keyring import (
    BrokenSealError,
    SealError,
    UnknownKeyError,
    log_context,
    open_ring,
    state_context,
)
from barque.master.store.port import Key
from barque.master.store.records import SealedOpError, decode_payload, encode_entry, open_payload, seal_payload
from tests.support.faulty_disk import FaultyDisk
from tests.support.store import a_pod, a_ring, a_ring_in_memory, a_secret, entropy

HERE = b"here"


@given(st.binary(max_size=300), st.binary(max_size=50))
def test_what_is_sealed_opens_where_it_stands_and_nowhere_else(value: bytes, context: bytes) -> None:
    ring = a_ring_in_memory()
    sealed = ring.seal(value, context)
    assert ring.open(sealed, context) == value
    assert ring.seal(value, context) != sealed
    with pytest.raises(BrokenSealError):
        ring.open(sealed, context + b"!")


def test_no_bit_of_a_sealed_value_may_change(tmp_path: Path) -> None:
    ring = a_ring(tmp_path)
    sealed = ring.seal(b"a password", HERE)
    for bit in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SealError):
            ring.open(bytes(changed), HERE)
    for length in range(len(sealed)):
        with pytest.raises(SealError):
            ring.open(sealed[:length], HERE)


def test_every_place_has_a_context_of_its_own() -> None:
    key, other = Key("secrets", "default", "a"), Key("secrets", "defaulta", "")
    contexts = [
        log_context(1, 0, key, 9), log_context(2, 0, key, 9), log_context(1, 1, key, 9), log_context(1, 0, key, 8),
        log_context(1, 0, other, 9), state_context(1, key, 9), state_context(2, key, 9), state_context(1, other, 9),
    ]  # fmt: skip
    assert len(set(contexts)) == len(contexts)


def test_the_ring_is_kept_for_its_owner_alone_and_read_back(tmp_path: Path) -> None:
    ring = a_ring(tmp_path / "keys")
    sealed = ring.seal(b"value", HERE)
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    assert stat.S_IMODE(ring.path.stat().st_mode) == 0o600
    again = open_ring(tmp_path / "keys", Disk(), entropy(2))
    assert again.open(sealed, HERE) == b"value"
    assert (again.key_id, again.created, again.settled) == (ring.key_id, "2026-01-01T00:00:00Z", True)


def test_a_new_key_seals_and_the_old_one_opens_until_it_is_forgotten(tmp_path: Path) -> None:
    ring = a_ring(tmp_path)
    old = ring.seal(b"value", HERE)
    first = ring.key_id
    second = ring.add_key("2026-02-01T00:00:00Z", settled=False)
    assert second == ring.key_id != first
    new = ring.seal(b"value", HERE)
    for some in (ring, a_ring(tmp_path)):
        assert [some.open(sealed, HERE) for sealed in (old, new)] == [b"value", b"value"]
        assert not some.settled
    ring.forget_others()
    for some in (ring, a_ring(tmp_path)):
        assert some.open(new, HERE) == b"value"
        assert some.settled
        with pytest.raises(UnknownKeyError, match=f"is sealed with key {first}, which is not in the key ring"):
            some.open(old, HERE)


def test_a_ring_put_beside_opens_and_never_seals(tmp_path: Path) -> None:
    other = a_ring(tmp_path / "other", seed=2)
    sealed = other.seal(b"from elsewhere", HERE)
    ring = a_ring(tmp_path / "keys")
    with pytest.raises(UnknownKeyError):
        ring.open(sealed, HERE)
    other.path.rename(tmp_path / "keys" / "elsewhere.json")
    ring.read_foreign()
    assert ring.open(sealed, HERE) == b"from elsewhere"
    assert ring.key_id != other.key_id
    ring.forget_others()
    with pytest.raises(UnknownKeyError):
        ring.open(sealed, HERE)


def test_a_changed_key_file_is_noticed(tmp_path: Path) -> None:
    path = a_ring(tmp_path).path
    whole = path.read_bytes()
    ring = msgspec.json.decode(whole)
    key = ring["keys"][0]["key"]
    swapped = ("B" if key[0] == "A" else "A") + key[1:]
    for changed, why in (
        (whole.replace(key.encode(), swapped.encode()), "was changed"),
        (whole.replace(b'"primary": "' + ring["primary"].encode(), b'"primary": "0000'), "is missing"),
        (whole[:-5], "truncated"),
    ):
        path.write_bytes(changed)
        with pytest.raises(CorruptFileError, match=f"{path} is damaged .*{why}.*put it back from a backup"):
            open_ring(tmp_path, Disk(), entropy())
    path.write_bytes(whole.replace(b'"format": 1', b'"format": 9'))
    with pytest.raises(NewerFormatError, match="format 9"):
        open_ring(tmp_path, Disk(), entropy())


def test_uses_are_counted_across_restarts_and_never_too_low(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring, "_USES_BLOCK", 10)
    monkeypatch.setattr(keyring, "MAX_USES", 60)
    made = 0
    ring = a_ring(tmp_path)
    while not ring.worn:
        for _ in range(4):
            ring.reserve_uses()
            ring.seal(b"", HERE)
            made += 1
        ring = a_ring(tmp_path)
        assert made <= ring._uses <= made + 10 * (made // 4)
    ring.add_key("later", settled=False)
    assert not ring.worn


def test_a_full_disk_does_not_stop_the_sealing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring, "_USES_BLOCK", 10)
    a_ring(tmp_path)
    disk = FaultyDisk()
    ring = open_ring(tmp_path, disk, entropy())
    before = ring.path.read_bytes()
    disk.space = 0
    for _ in range(30):
        ring.reserve_uses()
        assert ring.open(ring.seal(b"v", HERE), HERE) == b"v"
    assert ring.path.read_bytes() == before
    disk.space = None
    ring.reserve_uses()
    assert a_ring(tmp_path)._uses >= 30


def test_an_entry_seals_its_secrets_and_nothing_else(tmp_path: Path) -> None:
    ring = a_ring(tmp_path)
    ops = [a_pod("web").saying("pod text").put(), a_secret("db").saying("hunter2").put(), a_secret("db").delete()]
    plain, decoded = encode_entry(ops)
    without, _ = encode_entry([ops[0], ops[2]])
    assert seal_payload(without, 7, ring) is without
    sealed = seal_payload(plain, 7, ring)
    assert b"hunter2" in plain
    assert b"hunter2" not in sealed
    assert b"pod text" in sealed
    assert open_payload(sealed, 7, ring) == decoded
    assert open_payload(plain, 7, ring) == decoded


def test_a_sealed_op_opens_in_its_own_entry_only(tmp_path: Path) -> None:
    ring = a_ring(tmp_path)
    sealed = seal_payload(encode_entry([a_secret("db").put()])[0], 7, ring)
    with pytest.raises(SealedOpError, match="secrets/default/db does not open with key") as caught:
        open_payload(sealed, 8, ring)
    assert isinstance(caught.value.cause, BrokenSealError)
    with pytest.raises(SealedOpError):
        open_payload(sealed.replace(b"db", b"dc"), 7, ring)
    with pytest.raises(SealedOpError, match="is sealed with key") as caught:
        open_payload(sealed, 7, a_ring(tmp_path / "other", seed=3))
    assert isinstance(caught.value.cause, UnknownKeyError)


def test_a_reader_of_plain_entries_refuses_a_sealed_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a log entry of format 2 is sealed where it must be plain"):
        decode_payload(seal_payload(encode_entry([a_secret("db").put()])[0], 1, a_ring(tmp_path)))
