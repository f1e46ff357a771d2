"""The leader's epoch: an object of the store's own that names who may write as the leader.

Each term of leadership begins by writing a fresh value there, on a compare with what stood there before. Whatever is
written in that term compares the value, so the state machine itself refuses what a deposed leader sends late, however
long it was under way (the fencing token of Lamport's and Chubby's locks). No API serves the object and the change feed
leaves it out; snapshots hold it like any other, so that a restored state begins with a new term.
"""

from __future__ import annotations

import asyncio

import msgspec

from barque.master.store.port import Absent, Committed, Compare, FieldIs, Key, Op, RevisionIs, Store

LEADER = Key("leaderepochs.barque.io", "", "leader")
_FIELD = "epoch"


class Epoch:
    """One term of leadership; `value` is random and never used again. `over` is set once the term is known to have
    ended because a write in it was refused.
    """

    def __init__(self, value: str) -> None:
        self.value = value
        self.over = asyncio.Event()

    @property
    def holds(self) -> Compare:
        """What every write of this term compares."""
        return FieldIs(LEADER, _FIELD, self.value)


async def begin(store: Store, member: str, value: str) -> Epoch | None:
    """Begin the term of `member`; None where another was quicker, or may have been. Raises `StoreUnavailableError`."""
    await store.barrier()
    held = store.get(LEADER)
    before = Absent(LEADER) if held is None else RevisionIs(LEADER, held.revision)
    document = {
        "apiVersion": "barque.io/v1",
        "kind": "LeaderEpoch",
        "metadata": {"name": LEADER.name, "resourceVersion": ""},
        "holder": member,
        "epoch": value,
    }
    json = msgspec.json.encode(document)
    slot = json.index(b'"resourceVersion":"') + len(b'"resourceVersion":"')
    op = Op("put", LEADER, json, slot, fields={_FIELD: value}, compares=(before,))
    (result,) = await store.commit([op])
    return Epoch(value) if isinstance(result, Committed) else None


def is_internal(key: Key) -> bool:
    """Whether this is the store's own affair and nobody else's."""
    return key.resource == LEADER.resource
