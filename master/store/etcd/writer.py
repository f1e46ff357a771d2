"""`Writer`: brings ops to etcd, many at once, and finds out what came of them whatever happens on the way.

What waits is drafted on the mirror and written in one transaction that holds only if nobody has written since. If
another master has, or the answer is lost, the mirror catches up and the same ops are drafted again: those that did
hold return their first result, because every op has a name. So an op is applied once, and its outcome is unknown only
where etcd stays away.

A master that keeps losing the race puts its name under `waiting`, in the transaction that lost; the others then let it
go first.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import msgspec

from barque.client.clock import Clock
from barque.master.store.etcd import layout
from barque.master.store.etcd.client import EtcdClient, EtcdError, EtcdRefusedError, TooLargeError
from barque.master.store.etcd.layout import BATCH_BYTES, BATCH_OPS, Keys, Plan
from barque.master.store.etcd.mirror import Draft
from barque.master.store.etcd.reader import EtcdDamagedError, Reader
from barque.master.store.port import Op, Result, StoreUnavailableError, Unknown
from barque.proto import etcd_pb2 as pb

log = logging.getLogger(__name__)

WAITING_BYTES = 64 * 1024 * 1024

_RETRY_S = 0.05
_LONGEST_RETRY_S = 1.0
# Races lost before a master asks for its turn, and how long the others let it go first.
_RACES = 3
_TURN_S = 0.1
# Labels, fields and the rest of an op, beside its JSON.
_OP_BYTES = 512
_SAMPLES = 512


class InDoubtError(Exception):
    """etcd has not said whether the transaction holds."""


class _Proposal:
    """One call of `commit`: the results so far, and who waits for them."""

    __slots__ = ("answer", "missing", "results")

    def __init__(self, count: int) -> None:
        self.results: list[Result] = [Unknown("the store is stopping")] * count
        self.missing = count
        self.answer: asyncio.Future[list[Result]] = asyncio.get_running_loop().create_future()

    def settle(self, number: int, result: Result) -> None:
        self.results[number] = result
        self.missing -= 1
        if not self.missing and not self.answer.done():
            self.answer.set_result(self.results)

    def refuse(self, why: str) -> None:
        """Nothing of it that is still open was written, and nothing will be."""
        if not self.answer.done():
            self.answer.set_exception(StoreUnavailableError(why))


class _Item(NamedTuple):
    """Op `number` of a proposal."""

    proposal: _Proposal
    number: int
    op: Op

    @property
    def size(self) -> int:
        return len(self.op.json) + _OP_BYTES


class Writer:
    """`patience_s`: how long a write is tried while etcd does not answer; then its client hears 503 or 504."""

    def __init__(
        self, client: EtcdClient, reader: Reader, keys: Keys, boot_id: str, patience_s: float, clock: Clock
    ) -> None:
        self._client = client
        self._reader = reader
        self._keys = keys
        self._boot_id = boot_id
        self._patience_s = patience_s
        self._clock = clock
        self._sequence = itertools.count(1)
        self._waiting: deque[_Item] = deque()
        self._waiting_bytes = 0
        self._work = asyncio.Event()
        # Held by whoever writes: two transactions of one master would only race each other.
        self._turn = asyncio.Lock()
        # Whether the newest call to etcd was answered; if not, a read goes before the next write.
        self._unsure = False
        self._taken_ms: deque[float] = deque(maxlen=_SAMPLES)
        self._stopping = ""

    def percentile_ms(self, percent: int) -> float:
        """Of the time that transactions took lately; 0.0 before the first."""
        taken = sorted(self._taken_ms)
        return taken[min(len(taken) - 1, len(taken) * percent // 100)] if taken else 0.0

    async def commit(self, ops: Sequence[Op]) -> list[Result]:
        """As `Store.commit`; the ops are checked."""
        if self._stopping:
            raise StoreUnavailableError(self._stopping)
        proposal = _Proposal(len(ops))
        items = [_Item(proposal, number, self._named(op)) for number, op in enumerate(ops)]
        size = sum(item.size for item in items)
        if self._waiting and self._waiting_bytes + size > WAITING_BYTES:
            raise StoreUnavailableError(f"{self._waiting_bytes} bytes already wait for etcd")
        self._waiting += items
        self._waiting_bytes += size
        self._work.set()
        return await proposal.answer

    async def run(self) -> None:
        """Write what waits, until cancelled; raises a fault of ours."""
        while True:
            await self._work.wait()
            # Once more around the loop, for whoever was woken by the same answer as the first.
            await asyncio.sleep(0)
            async with self._turn:
                await self._let_others_go()
                items = self._take()
                try:
                    await self._settle(items)
                except BaseException:
                    for item in items:
                        item.proposal.settle(item.number, Unknown("the store is stopping"))
                    raise

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """While it is entered, no commit is written."""
        async with self._turn:
            yield

    async def carry_out(self, make: Callable[[], Plan | None], *more: pb.Compare) -> Plan | None:
        """Write what `make` plans from the newest state; it is asked again where that was not the newest. For whoever
        has the turn. Raises `StoreUnavailableError` where nothing was written, `InDoubtError` where that is not known.

        `more` are compares beside the head's; one that fails refuses the write.
        """
        deadline = self._clock.monotonic() + self._patience_s
        retry_s = _RETRY_S
        doubt = ""
        lost = 0
        while True:
            sent = False
            try:
                if self._unsure:
                    await self._reader.catch_up()
                    self._unsure = False
                plan = make()
                if plan is None:
                    return None
                self._unsure = sent = True
                reply = await self._write(plan, lost, more)
                self._unsure = sent = False
                if reply.succeeded:
                    self._reader.absorb(plan, reply.header.revision)
                    return plan
                lost += 1
                at = _head_of(reply)
                if at == self._reader.head_at and more:
                    raise StoreUnavailableError("what the write stands on has gone")
                await self._reader.reached(at)
                # Whatever was sent before has found its place by now, or never will.
                doubt, retry_s = "", _RETRY_S
                if self._clock.monotonic() > deadline:
                    raise StoreUnavailableError(f"other masters were faster {lost} times: the store is busy")
            except EtcdRefusedError as e:
                if isinstance(e, TooLargeError):
                    self._unsure = False
                    raise
                if sent and await self._was_done_all_the_same(make):
                    return None
                doubt = doubt or (str(e) if self._unsure else "")
                raise _given_up(doubt, f"etcd refuses the write: {e}") from e
            except (EtcdError, StoreUnavailableError) as e:
                doubt = doubt or (str(e) if sent else "")
                if self._clock.monotonic() + retry_s > deadline:
                    raise _given_up(doubt, str(e)) from e
                await self._clock.sleep(retry_s)
                retry_s = min(_LONGEST_RETRY_S, retry_s * 2)

    async def _was_done_all_the_same(self, make: Callable[[], Plan | None]) -> bool:
        """Whether a refused transaction was carried out: etcd does the very one that uses up its space, and says that
        there is none. Where neither is certain, the newest call is left as not answered.
        """
        written_on = self._reader.head_at
        try:
            await self._reader.catch_up()
            done = make() is None
        except (EtcdError, StoreUnavailableError):
            return False
        # Ops have results to be known by; what else there is may be what has moved the head.
        self._unsure = not done and self._reader.head_at != written_on
        return done

    def stop(self, why: str) -> None:
        """Refuse what waits and whatever comes."""
        self._stopping = self._stopping or why
        for item in self._waiting:
            item.proposal.refuse(self._stopping)
        self._waiting.clear()
        self._waiting_bytes = 0

    def _named(self, op: Op) -> Op:
        """Every op has a name, so that it can be drafted again."""
        if op.boot_id:
            return op
        return msgspec.structs.replace(op, boot_id=self._boot_id, sequence=next(self._sequence))

    def _take(self) -> list[_Item]:
        """What one transaction holds of what waits."""
        items: list[_Item] = []
        size = 0
        while self._waiting and len(items) < BATCH_OPS:
            item = self._waiting[0]
            if items and size + item.size > BATCH_BYTES:
                break
            self._waiting.popleft()
            self._waiting_bytes -= item.size
            if not item.proposal.answer.done():
                size += item.size
                items.append(item)
        if not self._waiting:
            self._work.clear()
        return items

    async def _settle(self, items: Sequence[_Item]) -> None:
        """Until each of them has its result."""
        results: list[Result] = []

        def draft() -> Plan | None:
            reader, drafted = self._reader, Draft(self._reader.mirror)
            results[:], changes = drafted.apply([item.op for item in items])
            return layout.plan_batch(self._keys, reader.head, drafted.batch(changes), reader.ring, self._boot_id)

        try:
            await self.carry_out(draft)
        except TooLargeError as e:
            if len(items) > 1:
                for item in items:
                    await self._settle([item])
            else:
                (item,) = items
                _refuse(items, f"{item.op.key}: {e}: etcd takes no more at once than its --max-request-bytes says")
        except StoreUnavailableError as e:
            log.warning("%d writes are refused: %s", len(items), e)
            _refuse(items, str(e))
        except InDoubtError as e:
            log.warning("it is not known whether %d writes hold: %s", len(items), e)
            unknown = Unknown(f"{e}; whether the write holds is known once etcd answers again")
            for item in items:
                item.proposal.settle(item.number, self._reader.mirror.first_result(item.op) or unknown)
        else:
            for item, result in zip(items, results, strict=True):
                item.proposal.settle(item.number, result)

    async def _write(self, plan: Plan, lost: int, more: Sequence[pb.Compare]) -> pb.TxnResponse:
        """The transaction of a plan; where it fails, it tells of the head that was faster."""
        keys, reader = self._keys, self._reader
        request = pb.TxnRequest(
            compare=[layout.modified_at(keys.head, reader.head_at), *more],
            success=plan.requests,
            failure=[layout.read(keys.head, keys_only=True)],
        )
        let_go = reader.waiting
        if let_go:
            request.success.append(layout.put(keys.waiting, b""))
        if lost >= _RACES and reader.waiting != self._boot_id:
            request.failure.append(layout.put(keys.waiting, self._boot_id.encode()))
        began = self._clock.monotonic()
        reply = await self._client.txn(request)
        self._taken_ms.append((self._clock.monotonic() - began) * 1000)
        if reply.succeeded and reader.waiting == let_go:
            reader.waiting = ""
        return reply

    async def _let_others_go(self) -> None:
        """Wait a moment where another master has lost several races."""
        reader = self._reader
        deadline = self._clock.monotonic() + _TURN_S
        while reader.waiting not in ("", self._boot_id):
            left = deadline - self._clock.monotonic()
            if left <= 0 or not await reader.moves(left):
                return


def _refuse(items: Sequence[_Item], why: str) -> None:
    """They were not written; of a commit of which a part was, each op is answered alone."""
    for item in items:
        proposal = item.proposal
        if proposal.missing == len(proposal.results):
            proposal.refuse(why)
        else:
            proposal.settle(item.number, Unknown(f"it was not written: {why}"))


def _given_up(doubt: str, why: str) -> Exception:
    return InDoubtError(doubt) if doubt else StoreUnavailableError(f"{why}; nothing was written")


def _head_of(reply: pb.TxnResponse) -> int:
    """etcd's revision of the head that was faster."""
    kvs = reply.responses[0].response_range.kvs
    if not kvs:
        raise EtcdDamagedError("somebody has removed the cluster's head from etcd")
    return int(kvs[0].mod_revision)
