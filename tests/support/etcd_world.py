"""An etcd of the tests' own, masters' engines on it, and what is asked of them.

A `World` has a prefix for itself, so that tests share one etcd.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from barque.master.store.engine_etcd import EngineEtcd
from barque.master.store.port import Absent, Committed, StoreUnavailableError
from tests.support import etcd
from tests.support.expecting import expect_soon_async
from tests.support.store import AnObject

_prefixes = itertools.count(1)


class World:
    """One etcd, and engines on it that are closed at the end."""

    def __init__(self, path: Path) -> None:
        self.prefix = f"/world-{next(_prefixes)}"
        self.path = path
        self._engines: list[EngineEtcd] = []
        self._lines: list[etcd.Line] = []

    async def master(self, name: str = "m1", urls: tuple[str, ...] = (), **options: object) -> EngineEtcd:
        where = urls or etcd.shared().urls
        engine = await etcd.open_engine(where, self.prefix, self.path / name, name=name, **options)  # type: ignore[arg-type]
        self._engines.append(engine)
        return engine

    async def line(self, delay_s: float = 0.0) -> tuple[etcd.Line, str]:
        line = etcd.Line(etcd.shared().urls[0], delay_s)
        self._lines.append(line)
        return line, await line.lay()

    async def end(self) -> None:
        for engine in self._engines:
            await engine.close()
        for line in self._lines:
            await line.close()


def ctl(*words: str) -> str:
    """What etcdctl prints for the shared etcd."""
    done = etcd.shared().members[0].says(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def until(holds: Callable[[], object], what: str, seconds: float = 60) -> None:
    await expect_soon_async(holds, seconds, what)


async def create(store: EngineEtcd, made: AnObject) -> Committed:
    (result,) = await store.commit([made.put(Absent(made.key))])
    assert isinstance(result, Committed), result
    return result


async def refused(call: Awaitable[object]) -> str:
    with pytest.raises(StoreUnavailableError) as error:
        await call
    return str(error.value)


def names(store: EngineEtcd) -> set[str]:
    return {stored.key.name for stored in store.list("pods").items}
