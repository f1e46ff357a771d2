"""The masters' exchange of samples: what waits is bounded, the newest counts, a bus that is away is not waited for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from barque.master.bus import usage
from barque.master.bus.link import BusAwayError
from barque.master.bus.usage import Told, UsageExchange
from tests.support.clock import FakeClock, settle


class Bus:
    """A link, and its session at once: `told` is what was published while it was not `away`."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Told]] = []
        self.session: Any = self
        self.fault = "connection refused"

    def cut(self) -> None:
        self.session = None

    async def tell(self, subject: str, payload: bytes) -> None:
        if self.session is None:
            raise BusAwayError(self.fault)
        self.told.append((subject, usage._decode(payload)))

    async def up(self) -> Any:
        await asyncio.get_running_loop().create_future()


class Exchange(UsageExchange):
    def __init__(self, bus: Any, *, takes: bool = True, others: bool = True) -> None:
        self.taken: list[tuple[str, bytes]] = []
        super().__init__(bus, "lab", "m1", lambda n, s: self.taken.append((n, s)) or takes, FakeClock(), lambda: others)  # type: ignore[func-returns-value]


async def told(exchange: UsageExchange, bus: Bus) -> list[tuple[str, bytes]]:
    """What the others are told of what waits."""
    running = asyncio.create_task(exchange.run())
    await settle()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return [(message.node, message.sample) for _, message in bus.told]


async def test_what_is_taken_is_told_and_what_is_refused_is_not() -> None:
    bus = Bus()
    exchange = Exchange(bus)
    exchange.hear("n.1", b"a")
    assert exchange.taken == [("n.1", b"a")]
    assert await told(exchange, bus) == [("n.1", b"a")]
    assert bus.told == [("barque.lab.usage.n%2E1", Told("m1", "n.1", b"a"))]
    refusing = Exchange(Bus(), takes=False)
    refusing.hear("n1", b"a")
    assert refusing._waiting == {}


async def test_the_newest_of_a_node_takes_the_place_of_one_that_waits() -> None:
    bus = Bus()
    exchange = Exchange(bus)
    for sample in (b"a", b"bb", b"c"):
        exchange.share("n1", sample)
    exchange.share("n2", b"d")
    assert exchange._waiting_bytes == 2
    assert await told(exchange, bus) == [("n1", b"c"), ("n2", b"d")]
    assert (exchange._waiting, exchange._waiting_bytes) == ({}, 0)


async def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "MAX_WAITING_BYTES", 10)
    bus = Bus()
    exchange = Exchange(bus)
    for node in ("n1", "n2", "n3"):
        exchange.share(node, b"12345")
    assert exchange.dropped == 1
    assert await told(exchange, bus) == [("n1", b"12345"), ("n2", b"12345")]


async def test_nothing_waits_for_a_bus_that_is_away() -> None:
    bus = Bus()
    exchange = Exchange(bus)
    exchange.share("n1", b"a")
    bus.cut()
    assert await told(exchange, bus) == []
    exchange.share("n2", b"b")
    assert (exchange._waiting, exchange._waiting_bytes) == ({}, 0)
    assert exchange.fault == "the usage of nodes that beat to other masters is not heard: connection refused"


async def test_alone_a_master_misses_nothing() -> None:
    bus = Bus()
    exchange = Exchange(bus, others=False)
    exchange.hear("n1", b"a")
    bus.cut()
    assert (exchange.fault, exchange._waiting) == ("", {})


async def test_what_one_tells_oneself_is_not_taken_twice() -> None:
    exchange = Exchange(Bus())
    for data in (b"junk", usage._encode(Told("m1", "n1", b"a")), usage._encode(Told("m2", "n2", b"b"))):
        exchange._hear(data)
    assert exchange.taken == [("n2", b"b")]
