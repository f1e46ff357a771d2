"""What befalls the bus of real masters, and a server's store: the rest goes on, the state is named, and it heals."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from nats.js.errors import APIError

from barque.api.errors import ApiError
from barque.api.types import core_v1 as core
from barque.api.types.meta_v1 import ObjectMeta
from barque.client.remote import Connection
from barque.master.bus.link import BusAwayError
from barque.proto import cluster_pb2
from tests.support.host import expect_soon as until
from tests.support.masters import AMaster, Masters
from tests.support.nats_cluster import NatsCluster, expect_soon

# Writes of other objects take some milliseconds; on a busy machine some more.
UNDISTURBED_S = 3.0


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
    leading = masters[bus_of(masters, "m1").message.split(", ")[1].removesuffix(" leads JetStream")]
    killed = pid_of(leading)
    os.kill(killed, signal.SIGKILL)
    write_undisturbed(masters, leading.name)
    masters.run(make_event, leading.name)
    for master in masters:
        until(lambda name=master.name: "made" in masters.run(event_names, name), 30, f"{master.name} lists it")
    until(lambda: pid_of(leading) != killed, 30, "its nats-server is back")
    expect_well(masters)


def test_a_corrupted_store_is_filled_again(masters: Masters) -> None:
    """The server does not start on it any more; what the others have, it gets from them."""
    store = masters["m3"].data / "bus" / "clustered"
    for file in [path for path in store.rglob("*") if path.is_file()]:
        content = bytearray(file.read_bytes())
        content[len(content) // 2 :] = bytes(byte ^ 0xFF for byte in content[len(content) // 2 :])
        file.write_bytes(content)
    os.kill(pid_of(masters["m3"]), signal.SIGKILL)
    until(lambda: "Can't start JetStream" in bus_of(masters, "m3").message, 30, "it is said why")
    said = masters.barque("get", "componentstatuses", "bus", "-o", "json", to="m3").out
    assert "Can't start JetStream" in said
    write_undisturbed(masters, "m3")
    expect_well(masters)
    assert masters.run(event_names, "m3") >= {"made"}


async def test_a_store_that_is_removed_is_made_anew(tmp_path: Path) -> None:
    """A server alone calls itself well, and answers no writer any more."""
    cluster = NatsCluster(tmp_path, ["m1"], ["m1"])
    ship = cluster["m1"]
    try:
        await cluster.start()
        await cluster.whole()
        await cluster.put(ship, "before")
        first = ship.server.pid
        os.kill(first or 0, signal.SIGKILL)
        await expect_soon(lambda: ship.server.pid not in (None, first))
        await cluster.whole()
        second = ship.server.pid
        (store,) = tmp_path.rglob("standalone")
        shutil.rmtree(store)
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

    until(well, 60, "the bus is well on all masters")


def bus_of(masters: Masters, name: str) -> cluster_pb2.Component:
    return next(part for part in masters.status(name).components if part.name == "bus")


def pid_of(master: AMaster) -> int:
    pid: int = msgspec.json.decode((master.data / "bus" / "nats.pid").read_bytes())["pid"]
    return pid


def write_undisturbed(masters: Masters, name: str) -> None:
    """ConfigMaps through this master, each at once."""

    async def write(connection: Connection) -> None:
        for _ in range(10):
            made = core.ConfigMap(metadata=ObjectMeta(generateName="undisturbed-", namespace="default"))
            await asyncio.wait_for(connection.client.create(made), UNDISTURBED_S)

    masters.run(write, name)


async def make_event(connection: Connection) -> None:
    """As soon as the bus takes it."""
    about = core.ObjectReference(kind="Namespace", name="default", namespace="default")
    event = core.Event(metadata=ObjectMeta(name="made", namespace="default"), involvedObject=about, reason="Tested")
    while True:
        try:
            await connection.client.create(event)
            return
        except ApiError as error:
            # After "outcome unknown" it may be there.
            if error.code == 409:
                return
            if error.code not in (503, 504):
                raise
            await asyncio.sleep(0.2)


async def event_names(connection: Connection) -> set[str]:
    return {event.metadata.name for event in (await connection.client.list(core.Event, "default")).items}
