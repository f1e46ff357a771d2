"""`View`: a backend of objects that a master makes of what it knows at the moment. Nothing is kept, nothing written.

Revisions mean nothing here: whichever is asked for, the answer is of now, and so is each page of a list. The registry
refuses the verbs that a view has not by `Resource.verbs`; the methods here refuse them once more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

from barque.api.errors import method_not_allowed
from barque.master.store.port import Filter, Key, Listing, Op, Result, Stored, Subscription, Watched


class View:
    """A read-only `Backend`; those that are one say what `get` and `list` give."""

    guards = False

    async def current(self) -> None:
        """What is shown is what this master knows: no other one is asked, so it is shown without a quorum, too."""

    async def reach(self, revision: int) -> None: ...

    async def get(self, key: Key) -> Stored | None:
        raise NotImplementedError

    async def list(self, resource: str, selected: Filter = Filter(), revision: int | None = None) -> Listing:
        raise NotImplementedError

    def watch(self, resource: str, since: int, selected: Filter = Filter()) -> AsyncIterator[Sequence[Watched]]:
        raise method_not_allowed("watch", resource)

    def subscribe(self, resource: str, since: int, selected: Filter, on_news: Callable[[], None]) -> Subscription:
        raise method_not_allowed("watch", resource)

    async def commit(self, ops: Sequence[Op]) -> Sequence[Result]:
        raise method_not_allowed("write", ops[0].key.resource)
