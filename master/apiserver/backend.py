"""`Backend`: where the objects of one resource are kept, as the registry sees it.

`StoreBackend` keeps them in the replicated store; `master.bus.events` keeps Event records in the bus. Both speak in
the store port's own words (`Key`, `Op`, `Stored`, `Filter`, `Result`), on encoded bytes, so that a list or a watch
passes bytes through untouched. The registry has defaulted, validated and stamped (uid, timestamps) every object
before a backend sees it.

What a backend must keep of an `Op`:

* its verb and its compares on its own key: `Absent(key)` makes a put a create, `RevisionIs(key, n)` an update or
  delete of exactly that state, no compare an unconditional put or delete. A failed one is `Refused(compare=its index,
  revision=the current revision or 0)`. A put that changes no byte answers `Committed(the old revision,
  changed=False)`;
* the revision: `Committed.revision` rises with every write of this backend and is what stands in the slot of the bytes
  read back (`op.json[: op.slot] + str(revision) + op.json[op.slot :]`). For the bus it is the stream's sequence;
* compares on other keys, `reserve` and `release` only where `guards` is True: the registry then relies on them. Where
  it is False the registry checks the namespace itself before it writes, and never reserves.

Reads tell what this master has applied, at once. `await current()` first where everything acknowledged before, by any
master, must be seen: once for a request, whatever it goes on to read. Requests that wait for it together share it.

Failures are `ApiError`s already: 503 where nothing was and will be written, 410 where the history asked for is gone,
504 for a revision that does not come. `Unknown` is a result, not an error: each op of a commit is answered alone.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Protocol

import msgspec

from barque.api.errors import ApiError, expired, too_large_revision, unavailable
from barque.api.types.meta_v1 import StatusDetails
from barque.master.store.epoch import Epoch
from barque.master.store.port import (
    Batch,
    Filter,
    FutureRevisionError,
    HistoryGoneError,
    Key,
    Listing,
    Op,
    Refused,
    Result,
    SlowWatcherError,
    Store,
    Stored,
    StoreUnavailableError,
    Subscription,
    Watched,
)

# An election is over within three seconds, mostly sooner.
RETRY_AFTER_S = 1


class Backend(Protocol):
    """Keeps the objects of a resource. Raises `ApiError` alone; see the module's text for the contract."""

    @property
    def guards(self) -> bool:
        """Whether compares on other keys and reservations are honoured."""
        ...

    async def current(self) -> None:
        """Wait until every write acknowledged anywhere before this call can be read here. Raises 503."""
        ...

    async def get(self, key: Key) -> Stored | None:
        """The object as this master has it."""
        ...

    async def reach(self, revision: int) -> None:
        """Wait until this revision can be read. Raises 504 where it does not come within 3 s."""
        ...

    async def list(self, resource: str, selected: Filter = Filter(), revision: int | None = None) -> Listing:
        """All selected objects at one revision, ordered by namespace and name; from it a watch can go on.

        The newest one, or the one asked for, which must have been reached. Raises 410 where that is gone.
        """
        ...

    def watch(self, resource: str, since: int, selected: Filter = Filter()) -> AsyncIterator[Sequence[Watched]]:
        """Changes after revision `since`, ordered and gap-free, in batches, with a BOOKMARK at least once a minute.
        Entering or leaving the filter is ADDED or DELETED. Ends only by an `ApiError` or by `aclose()`.
        """
        ...

    def subscribe(self, resource: str, since: int, selected: Filter, on_news: Callable[[], None]) -> Subscription:
        """The same without a task that waits: `on_news` is called, at once and so only to make a note of it, whenever
        there may be something to take. `since` must have been reached. Raises as `watch`.
        """
        ...

    async def commit(self, ops: Sequence[Op]) -> Sequence[Result | ApiError]:
        """Write durably, each op atomic alone and answered alone, in order; an `ApiError` is the answer of an op that
        was not and will not be written.
        """
        ...


class StoreBackend:
    """Objects in the replicated store.

    `boot_id` names this process's life: with a running number it names each op, so that an op sent again after a lost
    answer is not written twice. With an `epoch` everything is written as the leader of that term, or refused with 503
    and the term declared over.
    """

    guards = True

    def __init__(self, store: Store, boot_id: str, epoch: Epoch | None = None) -> None:
        self._store = store
        self._boot_id = boot_id
        self._epoch = epoch
        self._sequence = itertools.count(1)

    async def current(self) -> None:
        try:
            await self._store.barrier()
        except StoreUnavailableError as down:
            raise away(down) from down

    async def get(self, key: Key) -> Stored | None:
        return self._store.get(key)

    async def reach(self, revision: int) -> None:
        if revision <= self._store.revision:
            return
        with ReadingHistory(revision, self._store):
            await self._store.wait_for_revision(revision)

    async def list(self, resource: str, selected: Filter = Filter(), revision: int | None = None) -> Listing:
        with ReadingHistory(revision or 0, self._store):
            return self._store.list(resource, selected, revision)

    async def watch(self, resource: str, since: int, selected: Filter = Filter()) -> AsyncIterator[Sequence[Watched]]:
        changes = self._store.watch(resource, since, selected)
        try:
            with ReadingHistory(since, self._store):
                async for batch in changes:
                    yield batch
        finally:
            close = getattr(changes, "aclose", None)
            if close is not None:
                await close()

    def subscribe(self, resource: str, since: int, selected: Filter, on_news: Callable[[], None]) -> Subscription:
        with ReadingHistory(since, self._store):
            return Subscribed(self._store.subscribe(resource, since, selected, on_news), since, self._store)

    async def commit(self, ops: Sequence[Op]) -> Sequence[Result]:
        named = [self._named(op) for op in ops]
        try:
            results = await self._store.commit(named)
        except StoreUnavailableError as down:
            raise away(down) from down
        if self._epoch is not None and any(map(_is_deposed, ops, results)):
            self._epoch.over.set()
            raise unavailable("this master leads no longer: another one has taken over what it was doing")
        return results

    def _named(self, op: Op) -> Op:
        """The op under a name of its own. The epoch is compared last, so that no other compare changes its number."""
        compares = op.compares if self._epoch is None else (*op.compares, self._epoch.holds)
        return msgspec.structs.replace(op, boot_id=self._boot_id, sequence=next(self._sequence), compares=compares)


class _Revised(Protocol):
    @property
    def revision(self) -> int: ...


class ReadingHistory:
    """What the history of `of` refuses to whoever asked for `revision`, as the API says it: a context.

    No generator, which each watch would keep for as long as it lasts.
    """

    __slots__ = ("_of", "_revision")

    def __init__(self, revision: int, of: _Revised) -> None:
        self._revision = revision
        self._of = of

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        match error:
            case HistoryGoneError():
                raise expired(f"too old resource version: {self._revision} ({error.oldest})") from error
            case FutureRevisionError():
                raise too_large_revision(self._revision, self._of.revision) from error
            case SlowWatcherError():
                why = f"the watch fell behind and was cut off; resume from its last revision: {error}"
                raise unavailable(why) from error
            case StoreUnavailableError():
                raise away(error) from error


class Subscribed(ReadingHistory):
    """A subscription to the history of `of` that ends by an `ApiError`."""

    __slots__ = ("_subscription",)

    def __init__(self, subscription: Subscription, since: int, of: _Revised) -> None:
        super().__init__(since, of)
        self._subscription = subscription

    def take(self) -> Batch | None:
        with self:
            return self._subscription.take()

    def close(self) -> None:
        self._subscription.close()


def away(down: StoreUnavailableError) -> ApiError:
    """503 that says by `retryAfterSeconds` that nothing was done: whoever hears it may try elsewhere or again."""
    return ApiError(503, "ServiceUnavailable", str(down), StatusDetails(retryAfterSeconds=RETRY_AFTER_S))


def _is_deposed(op: Op, result: Result) -> bool:
    """Whether the op was refused for its epoch."""
    return isinstance(result, Refused) and result.compare == len(op.compares)
