"""What befalls the bus of real masters, and a server's store: the rest goes on, the state is named, and it heals."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from nats.js.errors import APIError

from barque.api.types import core_v1 as core
from barque.api.types.meta_v1 import ObjectMeta
from barque.client.remote import Connection
from barque.master.bus.link import BusAwayError
from tests.support.events import bus_of, event_names, make_event
from tests.support.expecting import expect_soon, expect_soon_async
from tests.support.masters import AMaster, Masters
from tests.support.nats_cluster import QUICK, WITHIN_S, NatsCluster

# Writes of other objects take some milliseconds; on a busy machine some more, and a few of them much more.
UNDISTURBED_S = 1.5
# Two elections of nats-server take up to 20 s, and on a busy machine there is a third.
HEALED_S = 120.0
# What the first test waits for, the masters' beginning included.
pytestmark = pytest.mark.timeout(500)


@pytest.fixture(scope="module")
def masters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Masters]:
    """Three of them, for all tests: each leaves the bus well."""
    made = Masters(tmp_path_factory.mktemp("masters"))
    try:
        made.found()
        made.join("m2")
        made.join("m3")
        made.wait_whole()
        expect_well(made)
        yield made
    finally:
        made.close()


def test_three_masters_lose_a_nats_server(masters: Masters) -> None:
    """Events made through one are listed by all, also while the server is away that had led JetStream."""
    leading = expect_soon(lambda: leader_of_jetstream(masters), HEALED_S, "a leader of JetStream")
    killed = pid_of(leading)
    os.kill(killed, signal.SIGKILL)
    write_undisturbed(masters, leading.name)
    masters.run(lambda connection: make_event(connection, "made"), leading.name)
    for master in masters:
        expect_listed(masters, master.name)
    expect_soon(lambda: pid_of(leading) != killed, HEALED_S, "its nats-server is back")
    expect_well(masters)


def test_a_corrupted_store_is_filled_again(masters: Masters) -> None:
    """The server does not start on it any more; what the others have, it gets from them."""
    masters.run(lambda connection: make_event(connection, "made"), "m1")
    # It is said for a second or so, in which a busy machine may keep the one who asks.
    assert any(tells_of_a_corrupted_store(masters, masters["m3"]) for _ in range(3))
    write_undisturbed(masters, "m3")
    expect_well(masters)
    expect_listed(masters, "m3")


def tells_of_a_corrupted_store(masters: Masters, master: AMaster) -> bool:
    """Spoil it; whether the master was heard to tell why, before it began with an empty one."""
    expect_well(masters)
    remark, emptied = "Can't start JetStream", "this server begins with an empty one"
    lives, server = master.log.count(emptied), pid_of(master)
    # A server that stands still renames nothing, and writes nothing anew.
    os.kill(server, signal.SIGSTOP)
    for file in [path for path in (master.data / "bus" / "clustered").rglob("*") if path.is_file()]:
        content = bytearray(file.read_bytes())
        content[len(content) // 2 :] = bytes(byte ^ 0xFF for byte in content[len(content) // 2 :])
        file.write_bytes(content)
    os.kill(server, signal.SIGKILL)

    def told() -> bool:
        shown = masters.barque("get", "componentstatuses", "bus", "-o", "json", to=master.name).out
        return remark in shown and remark in bus_of(masters, master.name).message

    def begun_anew() -> bool:
        return master.log.count(emptied) > lives

    heard: list[bool] = []
    expect_soon(lambda: heard.append(told()) or heard[-1] or begun_anew(), HEALED_S, "it is said why", pause_s=0.01)
    expect_soon(begun_anew, HEALED_S, "the server begins with an empty store")
    return any(heard)


async def test_a_store_that_is_removed_is_made_anew(tmp_path: Path) -> None:
    """A server alone calls itself well, and answers no writer any more."""
    cluster = NatsCluster(tmp_path, ["m1"], ["m1"], QUICK)
    ship = cluster["m1"]
    try:
        await cluster.start()
        await cluster.whole()
        await cluster.put(ship, "before")
        first = ship.server.pid
        os.kill(first or 0, signal.SIGKILL)
        await expect_soon_async(lambda: ship.server.pid not in (None, first), WITHIN_S, "another server")
        await cluster.whole()
        second = ship.server.pid
        # In one step: the server may be writing there.
        removed = (ship.settings.directory / "standalone").rename(tmp_path / "removed")
        shutil.rmtree(removed, ignore_errors=True)
        session = await ship.link.up()
        with contextlib.suppress(BusAwayError, APIError, TimeoutError):
            async with asyncio.timeout(2):
                await session.publish("s", b"lost", {})
        await cluster.put(ship, "after")
        assert ship.server.pid != second
        assert await cluster.texts(ship) == {"after"}
    finally:
        await cluster.stop()


def expect_well(masters: Masters) -> None:
    def well() -> bool:
        said = [bus_of(masters, master.name) for master in masters]
        return all(bus.healthy and bus.message.endswith("leads JetStream, streams on 3 of 3") for bus in said)

    expect_soon(well, HEALED_S, "the bus is well on all masters")


def leader_of_jetstream(masters: Masters) -> AMaster:
    """As m1 tells. Raises `LookupError` while it does not know."""
    return masters[bus_of(masters, "m1").message.split(", ")[1].removesuffix(" leads JetStream")]


def expect_listed(masters: Masters, name: str) -> None:
    expect_soon(lambda: "made" in masters.run(event_names, name), HEALED_S, f"{name} lists the Event")


def pid_of(master: AMaster) -> int:
    pid: int = msgspec.json.decode((master.data / "bus" / "nats.pid").read_bytes())["pid"]
    return pid


def write_undisturbed(masters: Masters, name: str) -> None:
    """ConfigMaps through this master, most of them at once: all, were they to wait for the bus, would take long."""
    took: list[float] = []

    async def write(connection: Connection) -> None:
        for _ in range(10):
            began = time.monotonic()
            made = core.ConfigMap(metadata=ObjectMeta(generateName="undisturbed-", namespace="default"))
            await connection.client.create(made)
            took.append(time.monotonic() - began)

    masters.run(write, name, patience_s=30.0)
    assert statistics.median(took) < UNDISTURBED_S, took
