"""Which keys in etcd hold what, and the transactions that write them. Pure.

Under the cluster's prefix:

| key | value |
|---|---|
| `head` | `Head`: the newest batch. Every write puts it and compares that nobody else has since |
| `state/GENERATION/RESOURCE/NAMESPACE/NAME` | `Row`: an object at its revision, and its reservations |
| `results/SLOT` | `Results`: what the ops of a batch came to; the slots are used round and round |
| `generation` | which state counts; a restore writes a new one beside it, then turns to it |
| `restoring/GENERATION` | leased by the master that writes it: nobody else may remove it |
| `ring` | the keys of Secrets, themselves sealed (`shared_ring`) |
| `members/MEMBER` | `MemberInfo` of a running master, leased by it |
| `leader` | the id of the leading master, leased by it |
| `waiting` | a master that has lost several races for `head`: the others let it go first |

One transaction is one batch of ops, each evaluated on the state before it. That state is certain to be the newest one,
because the transaction compares `head`'s etcd revision. So compares, reservations, results, and any field's value need
no keys of their own, a batch costs one fsync whatever its size, and the store's revisions are its own: without gaps but
for restores, whatever else is written to the same etcd.

A head carries what the rows cannot say: states that the same batch superseded again, and deletes with their revisions.
So whoever follows the heads sees every change in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from barque.master.raft.errors import NewerFormatError
from barque.master.store.etcd.mirror import Batch, Mirror, OfBoots, Step
from barque.master.store.keyring import KeyRing
from barque.master.store.port import Key, Stored
from barque.master.store.records import SEALED_RESOURCES, open_stored, seal_stored
from barque.proto import etcd_pb2 as pb

FORMAT = 1

# A resent op is at most one reconnection old; each slot holds the results of a whole batch.
SLOTS = 4096
# etcd refuses more in one transaction by default (--max-txn-ops 128), and a batch writes head, slot and `waiting`, too.
BATCH_OPS = 100
# etcd refuses larger requests by default (--max-request-bytes 1.5 MiB); the rest is for labels, results and keys.
BATCH_BYTES = 1024 * 1024


class Keys:
    """The keys under one prefix, which is not empty."""

    def __init__(self, prefix: str) -> None:
        if not prefix.strip("/"):
            raise ValueError(f"{prefix!r} is no prefix of etcd's keys: it must have a name, as /barque")
        self.root = prefix.rstrip("/").encode() + b"/"
        self.end = after(self.root)
        self.head = self.root + b"head"
        self.ring = self.root + b"ring"
        self.generation = self.root + b"generation"
        self.leader = self.root + b"leader"
        self.waiting = self.root + b"waiting"
        self.results = self.root + b"results/"
        self.states = self.root + b"state/"
        self.restoring = self.root + b"restoring/"
        self.members = self.root + b"members/"

    def slot(self, number: int) -> bytes:
        return self.results + b"%04d" % (number % SLOTS)

    def state(self, generation: str) -> bytes:
        """Where all objects of the generation are."""
        return self.states + generation.encode() + b"/"

    def object(self, generation: str, key: Key) -> bytes:
        return self.state(generation) + str(key).encode()

    def generation_of(self, key: bytes) -> str:
        """The generation that a key under `states` or `restoring` belongs to."""
        under = self.states if key.startswith(self.states) else self.restoring
        return key[len(under) :].partition(b"/")[0].decode()


class Head(msgspec.Struct, frozen=True, array_like=True):
    """Batch `number`, written by the master `writer`; `revision` is the store's after it. `sealed` counts the values
    sealed with the newest key.
    """

    format: int
    cluster_id: str
    generation: str
    number: int
    revision: int
    writer: str
    sealed: int = 0
    between: tuple[Stored, ...] = ()
    deleted: tuple[tuple[Key, int], ...] = ()
    results: OfBoots = []


class Row(msgspec.Struct, frozen=True, array_like=True):
    stored: Stored
    held: tuple[str, ...]


class Results(msgspec.Struct, frozen=True, array_like=True):
    """Of batch `number`, which made `changes` changes and wrote `size` bytes."""

    number: int
    changes: int
    size: int
    of_boots: OfBoots


class Plan(NamedTuple):
    """One transaction, and what it makes of the state; `ring`: another key ring that it brings,
    and its value; `mirror`: a state that takes the place of the present one.
    """

    head: Head
    batch: Batch
    requests: list[pb.RequestOp]
    ring: tuple[KeyRing, bytes] | None = None
    mirror: Mirror | None = None


_encoder = msgspec.msgpack.Encoder()
_head_decoder = msgspec.msgpack.Decoder(Head)
_row_decoder = msgspec.msgpack.Decoder(Row)
_results_decoder = msgspec.msgpack.Decoder(Results)


def after(prefix: bytes) -> bytes:
    """The end of the range of all keys that begin so."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


def put(key: bytes, value: bytes, lease: int = 0) -> pb.RequestOp:
    return pb.RequestOp(request_put=pb.PutRequest(key=key, value=value, lease=lease))


def delete(key: bytes, end: bytes = b"") -> pb.RequestOp:
    return pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=key, range_end=end))


def read(key: bytes, *, keys_only: bool = False) -> pb.RequestOp:
    return pb.RequestOp(request_range=pb.RangeRequest(key=key, keys_only=keys_only))


def modified_at(key: bytes, revision: int) -> pb.Compare:
    """`key` was last written at etcd's `revision`; 0: it does not exist."""
    return pb.Compare(target=pb.Compare.MOD, key=key, mod_revision=revision)


def exists(key: bytes) -> pb.Compare:
    return pb.Compare(target=pb.Compare.CREATE, result=pb.Compare.GREATER, key=key, create_revision=0)


def encode_head(head: Head) -> bytes:
    return _encoder.encode(head)


def decode_head(value: bytes, where: str) -> Head:
    """Raises `NewerFormatError`, naming `where`."""
    try:
        head = _head_decoder.decode(value)
    except msgspec.ValidationError:
        found = msgspec.msgpack.decode(value)[0]
        if found > FORMAT:
            raise NewerFormatError(where, found, FORMAT) from None
        raise
    if head.format > FORMAT:
        raise NewerFormatError(where, head.format, FORMAT)
    return head


def encode_row(stored: Stored, held: tuple[str, ...], ring: KeyRing) -> bytes:
    return _encoder.encode(Row(_seal(stored, ring), held))


def decode_row(value: bytes, ring: KeyRing) -> Row:
    """Raises `SealError`."""
    row = _row_decoder.decode(value)
    opened = _open(row.stored, ring)
    return row if opened is row.stored else Row(opened, row.held)


def decode_results(value: bytes) -> Results:
    return _results_decoder.decode(value)


def plan_batch(keys: Keys, newest: Head, batch: Batch, ring: KeyRing, writer: str) -> Plan | None:
    """The transaction that writes a batch; None where there is nothing to write."""
    if not batch.steps and not batch.results:
        return None
    last = {step.key: step for step in batch.steps}
    between = tuple(
        _seal(step.after, ring) for step in batch.steps if step.after is not None and last[step.key] is not step
    )
    head = Head(
        FORMAT,
        newest.cluster_id,
        newest.generation,
        newest.number + 1,
        batch.revision,
        writer,
        newest.sealed + sum(step.after is not None and is_sealed(step.key) for step in batch.steps),
        between,
        tuple((step.key, step.revision) for step in batch.steps if step.after is None),
        batch.results,
    )
    requests: list[pb.RequestOp] = []
    size = sum(len(stored.json) for stored in between)
    for key, step in last.items():
        at = keys.object(newest.generation, key)
        if step.after is None:
            requests.append(delete(at))
        else:
            value = encode_row(step.after, batch.held.get(key, ()), ring)
            size += len(value)
            requests.append(put(at, value))
    requests.append(put(keys.slot(head.number), slot_value(head, len(batch.steps), size)))
    return Plan(head, batch, [*requests, put(keys.head, encode_head(head))])


def plan_upkeep(
    keys: Keys, newest: Head, requests: Iterable[pb.RequestOp], sealed: int, ring: tuple[KeyRing, bytes] | None = None
) -> Plan:
    """A transaction that changes how things are kept, and none of the objects. `sealed` values are sealed by now with
    the newest key; `ring` is written, too.
    """
    head = msgspec.structs.replace(
        newest, number=newest.number + 1, writer="", sealed=sealed, between=(), deleted=(), results=[]
    )
    written = [*requests, put(keys.slot(head.number), slot_value(head, 0, 0)), put(keys.head, encode_head(head))]
    if ring is not None:
        written.append(put(keys.ring, ring[1]))
    return Plan(head, Batch(head.revision, (), {}, []), written, ring)


def slot_value(head: Head, changes: int, size: int) -> bytes:
    return _encoder.encode(Results(head.number, changes, size, head.results))


def read_batch(head: Head, rows: Sequence[bytes], ring: KeyRing, known: int) -> Batch:
    """The batch of a head and the rows that came with it; `known` is the store's revision before it. Raises
    `SealError`.
    """
    steps = [Step(revision, key, None) for key, revision in head.deleted]
    steps += [Step(stored.revision, stored.key, _open(stored, ring)) for stored in head.between]
    held: dict[Key, tuple[str, ...]] = {key: () for key, _ in head.deleted}
    for value in rows:
        stored, reservations = msgspec.structs.astuple(decode_row(value, ring))
        if stored.revision > known:  # Else it is only sealed anew.
            steps.append(Step(stored.revision, stored.key, stored))
            held[stored.key] = reservations
    return Batch(head.revision, sorted(steps, key=lambda step: step.revision), held, head.results)


def is_sealed(key: Key) -> bool:
    return key.resource in SEALED_RESOURCES


def _seal(stored: Stored, ring: KeyRing) -> Stored:
    return seal_stored(stored, ring) if is_sealed(stored.key) else stored


def _open(stored: Stored, ring: KeyRing) -> Stored:
    return open_stored(stored, ring) if is_sealed(stored.key) else stored
