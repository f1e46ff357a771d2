"""Tables that came with us go with us, in a real kernel; what others put into them keeps them."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from barque.network.cleanup import cleanup
from barque.network.iptables.driver import Iptables, open_iptables
from barque.network.iptables.nft import NftSocket
from barque.network.iptables.tables import present_tables
from barque.network.pods.network import PodNetwork
from tests.support.namespaces import Namespace, missing, saved

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(missing()), reason=missing())]


class Ship:
    """A host without any table, as before a worker's first start."""

    def __init__(self, host: Namespace, state_dir: Path) -> None:
        self.host, self.state_dir = host, state_dir

    def start(self) -> str:
        """Start the pod network as the worker does; the variant of iptables it uses."""

        async def story() -> Iptables:
            iptables = await open_iptables(self.state_dir)
            await PodNetwork(self.state_dir, iptables).start("10.244.3.0/24", 1450)
            iptables.close()
            return iptables

        return self.host.call(lambda: asyncio.run(story())).mode

    def cleanup(self) -> list[str]:
        return self.host.call(lambda: asyncio.run(cleanup(self.state_dir)))

    def tables(self) -> list[str]:
        return sorted(self.host.call(present_tables))


@pytest.fixture
def ship(tmp_path: Path) -> Iterator[Ship]:
    host = Namespace("host")
    try:
        yield Ship(host, tmp_path / "network")
    finally:
        host.close()


def test_nothing_is_left_where_nothing_was(ship: Ship) -> None:
    before = ship.host.run("iptables-save")
    assert ship.start() == "nft"
    assert ship.tables() == ["filter", "nat"]
    # A restart, even by a worker that was killed, does not forget what the first start found.
    ship.start()
    ship.cleanup()
    assert ship.tables() == []
    assert ship.host.run("iptables-save") == before == ""
    assert ship.cleanup() == []


def test_a_table_that_was_there_stays(ship: Ship) -> None:
    ship.host.run("iptables-nft", "-t", "nat", "-N", "OTHERS")
    ship.host.run("iptables-nft", "-t", "nat", "-X", "OTHERS")
    assert ship.tables() == ["nat"]
    ship.start()
    ship.cleanup()
    assert ship.tables() == ["nat"]


@pytest.mark.parametrize(
    "command",
    [
        ["iptables-nft", "-A", "INPUT", "-s", "192.0.2.1", "-j", "DROP"],
        ["iptables-nft", "-P", "FORWARD", "DROP"],
        ["iptables-nft", "-N", "OTHERS"],
    ],
    ids=" ".join,
)
def test_a_table_in_which_somebody_else_put_something_stays(ship: Ship, command: list[str]) -> None:
    ship.start()
    ship.host.run(*command)
    ship.cleanup()
    assert ship.tables() == ["filter"]
    assert "BARQUE" not in saved(ship.host, "nft")


def test_a_change_between_look_and_deletion_saves_the_table(ship: Ship) -> None:
    def story() -> None:
        with NftSocket() as sock:
            generation = sock.generation()
            ship.host.run("iptables-nft", "-A", "INPUT", "-j", "ACCEPT")
            with pytest.raises(OSError, match=os.strerror(errno.ERESTART)):
                sock.delete_tables(["filter"], generation)
            # The socket is as good as before.
            assert [table.name for table in sock.tables()] == ["filter"]

    ship.host.call(story)
    assert "-A INPUT -j ACCEPT" in saved(ship.host, "nft")
