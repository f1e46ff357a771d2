"""`Informers`: one shared informer for each kind, whoever asks, so that each object is decoded and held once.

In: a client and a clock. Out: `of(kind)`, asked for before `run()` begins; `run()` keeps them all.
"""

from __future__ import annotations

from typing import Any, TypeVar

from barque.api.types.base import Object
from barque.client.client import Client
from barque.client.clock import Clock
from barque.client.informer import Informer
from barque.client.supervise import run_all

T = TypeVar("T", bound=Object)


class Informers:
    """The informers of all that run on one client."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._informers: dict[type[Object], Informer[Any]] = {}

    def of(self, kind: type[T]) -> Informer[T]:
        found = self._informers.get(kind)
        if found is None:
            found = self._informers[kind] = Informer(self._client, kind, clock=self._clock)
        return found

    async def wait_synced(self) -> None:
        """Until every informer asked for holds its first complete list."""
        for informer in self._informers.values():
            await informer.wait_synced()

    async def run(self) -> None:
        """Keep them until cancelled. Raises `UnexpectedEndError` where a handler fails."""
        await run_all({kind.__name__: informer.run() for kind, informer in self._informers.items()})
