"""The masters' nats-servers as one cluster: real servers; the masters come and go, servers die, hang and run full."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from barque.client.clock import SystemClock
from barque.master.auth.ca import MasterPki
from barque.master.bus.access import MastersAccess
from barque.master.bus.binary import find_nats_server
from barque.master.bus.config import Patience
from barque.master.bus.link import Link
from barque.master.bus.roster import pin_of_key
from barque.master.bus.topology import Topology
from tests.support.events import bus_of, event_names, make_event
from tests.support.expecting import expect_soon, expect_soon_async
from tests.support.host import dying_with_parent
from tests.support.masters import AMaster, Masters
from tests.support.nats_cluster import QUICK, WITHIN_S, NatsCluster, admitted, admitted_as_route, expect_refusal
from tests.support.ports import free_ports

NAMES = ("m1", "m2", "m3")
ROOT = Path(__file__).parents[2]
# Servers elect twice, and again on a busy machine; where all is well each takes some seconds.
pytestmark = pytest.mark.timeout(400)


@pytest.fixture
async def three(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[NatsCluster]:
    patience: dict[str, Patience] = getattr(request, "param", {})
    cluster = NatsCluster(tmp_path, NAMES, NAMES, **patience)
    try:
        await cluster.start()
        await cluster.whole()
        yield cluster
    finally:
        await cluster.stop()


async def test_it_serves_while_masters_come_and_go(tmp_path: Path) -> None:
    cluster = NatsCluster(tmp_path, NAMES, ["m1"])
    m1, m2, m3 = (cluster[name] for name in NAMES)
    try:
        await cluster.start()
        await cluster.whole()
        await cluster.put(m3, "a learner's")
        cluster.voters, cluster.learners = ["m1", "m2"], ["m3"]
        await cluster.whole()
        await cluster.put(m2, "of two")
        before = m1.server.pid
        cluster.voters, cluster.learners = list(NAMES), []
        await cluster.whole()
        await cluster.put(m3, "of three")
        assert m1.server.pid == before, "the third one needs no restart of the others"
        # What a server alone has left would spoil the streams of several.
        assert await cluster.texts(m1) == {"of two", "of three"}
        assert m1.stores == ["clustered"]

        cluster.voters = ["m1", "m2"]
        await cluster.whole()
        await expect_soon_async(lambda: m3.server.pid is None, WITHIN_S, "m3's server has ended")
        assert m1.server.pid == before
        await cluster.put(m1, "of the two that are left")
        assert len(await cluster.texts(m2)) == 3

        cluster.voters = ["m1"]
        await expect_soon_async(
            lambda: m2.server.pid is None and m1.server.pid not in (None, before), WITHIN_S, "m1's server stands alone"
        )
        await cluster.whole()
        await cluster.put(m1, "alone again")
        assert await cluster.texts(m1) == {"alone again"}
        assert m1.stores == ["standalone"]
    finally:
        await cluster.stop()


@pytest.mark.parametrize("three", [{"patience": QUICK}], ids=["quick"], indirect=True)
async def test_a_paused_server_is_noticed_and_replaced(three: NatsCluster) -> None:
    m1, m2 = three["m1"], three["m2"]
    await three.put(m1, "before")
    paused = m2.server.pid
    assert paused is not None
    os.kill(paused, signal.SIGSTOP)
    words = "restarting: nats-server did not answer for 1.5 s"
    await expect_soon_async(lambda: m2.server.fault.startswith(words), WITHIN_S, words)
    await three.put(m1, "meanwhile")
    await three.whole()
    assert m2.server.pid != paused
    await three.put(m2, "after")
    assert await three.texts(m2) == {"before", "meanwhile", "after"}


@contextlib.asynccontextmanager
async def gone_astray(cluster: NatsCluster) -> AsyncIterator[Link]:
    """A link of m1's as while its own server is down: it comes to the last voter's."""

    def others() -> Topology:
        return Topology(None, tuple(ship.place for ship in reversed(cluster.voting)))

    link = Link(MastersAccess("", others, lambda: cluster["m1"].identity), SystemClock())
    running = asyncio.create_task(link.run())
    try:
        async with asyncio.timeout(WITHIN_S):
            await link.up()
        yield link
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_only_the_present_masters_get_in(three: NatsCluster) -> None:
    m1, m3 = three["m1"], three["m3"]
    worker = three.identity_of_worker()
    await (await admitted(lambda: three.connect(m1, m3.identity))).close()
    await expect_soon_async(lambda: admitted_as_route(m1, m3.identity), WITHIN_S, "m3's server is admitted")
    assert not await admitted_as_route(m1, worker)
    await expect_refusal(lambda: three.connect(m1, worker))
    # Of the same CA and of a master's name, but not what that master shows.
    assert not await admitted_as_route(m1, three.identity_of("m3"))

    # A master that was removed and has not heard of it: its server runs on, and lets the others in.
    m3.believed = m3.topology()
    async with gone_astray(three) as link:
        at_m3 = link.session
        three.voters = ["m1", "m2"]
        await three.whole()

        async def shut_out() -> bool:
            # The pins are read anew a moment after the masters have changed.
            return not await admitted_as_route(m1, m3.identity)

        await expect_soon_async(shut_out, WITHIN_S, "m3's server is admitted no more", pause_s=0.1)
        await expect_refusal(lambda: three.connect(m1, m3.identity))
        words = "m1's and m2's nats-server are away"
        await expect_soon_async(lambda: words in m3.fault, WITHIN_S, words)
        await three.put(m1, "without it")
        await expect_soon_async(lambda: link.session not in (None, at_m3), WITHIN_S, "who was at m3's server left it")
        assert await (await link.up()).stream_state("S") is not None


async def test_a_renewed_certificate_is_followed(three: NatsCluster) -> None:
    m1, m2, m3 = (three[name] for name in NAMES)
    old, pids = m2.identity, [ship.server.pid for ship in three.voting]
    m2.renew()
    renewed = pin_of_key(m2.identity.certificate)
    others = (m1, m3)
    await expect_soon_async(
        lambda: all(renewed in ship.server.roster.pins(ship.topology()) for ship in others), WITHIN_S, "the new pin"
    )

    async def followed() -> bool:
        return not await admitted_as_route(m1, old) and await admitted_as_route(m1, m2.identity)

    await expect_soon_async(followed, WITHIN_S, "the new certificate alone is admitted", pause_s=0.1)
    await three.whole()
    await three.put(m2, "renewed")
    assert [ship.server.pid for ship in three.voting] == pids


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk needs root")
def test_a_full_disk_is_said_and_healed(tmp_path: Path) -> None:
    """In a process with mounts of its own, on a disk of 24 MiB of which 12 are given back."""
    script = """
        import asyncio
        from pathlib import Path
        from tests.support.expecting import expect_soon_async
        from tests.support.nats_cluster import WITHIN_S, NatsCluster

        async def main():
            cluster = NatsCluster(Path("{directory}"), ["m1"], ["m1"])
            ship = cluster["m1"]
            ballast = Path("{directory}") / "ballast"
            try:
                await cluster.start()
                await cluster.whole()
                first = ship.server.pid
                ballast.write_bytes(bytes(12 * 1024 * 1024))
                async with asyncio.timeout(2 * WITHIN_S):
                    while not ship.server.fault.startswith("the disk is full: "):
                        try:
                            await cluster.put(ship, "x" * 1_000_000, within_s=1)
                        except TimeoutError:
                            pass
                assert ship.server.pid == first, "a restart would be of no use"
                ballast.unlink()
                await expect_soon_async(lambda: ship.server.pid not in (None, first), WITHIN_S, "a new server")
                await cluster.whole()
                await cluster.put(ship, "room again")
            finally:
                await cluster.stop()

        asyncio.run(main())
    """
    mount = 'mount -t tmpfs -o size=24m tmpfs "$1" && exec "$2" -c "$3"'
    code = textwrap.dedent(script).replace("{directory}", str(tmp_path))
    inside = ["unshare", "--mount", "sh", "-c", mount, "sh", str(tmp_path), sys.executable, code]
    done = subprocess.run(
        [*dying_with_parent("KILL"), *inside],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_nats_of_the_users(tmp_path: Path) -> None:
    """No server of the master's own; that it is away and back again is said."""
    theirs = MasterPki.open(tmp_path / "theirs", "nats", [], datetime.datetime.now(datetime.UTC)).master
    pair, (port,) = theirs.save(tmp_path / "tls", "tls"), free_ports(1)
    config = tmp_path / "nats.conf"
    files = f'cert_file: "{pair}", key_file: "{pair}", ca_file: "{pair.parent / "ca.pem"}"'
    streams = f'jetstream {{ store_dir: "{tmp_path / "theirs"}", sync_interval: always }}'
    config.write_text(f'listen: "127.0.0.1:{port}"\ntls {{ {files}, verify: true }}\n{streams}')
    masters = Masters(tmp_path)
    m1 = masters.by_name["m1"] = AMaster(tmp_path, "m1")
    command = [*dying_with_parent("KILL"), str(asyncio.run(find_nats_server())), "-c", str(config)]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        options = {"url": f"tls://127.0.0.1:{port}", "ca": pair.parent / "ca.pem", "cert": pair, "key": pair}
        m1.start(*(f"--bus-{name}={value}" for name, value in options.items()))
        expect_soon(lambda: bus_of(masters, "m1").message == f"at 127.0.0.1:{port}", WITHIN_S, "the bus is well")
        masters.run(lambda connection: make_event(connection, "kept"), "m1")
        server.kill()
        server.wait()
        words = "cannot connect to 127.0.0.1:"
        expect_soon(lambda: words in bus_of(masters, "m1").message, WITHIN_S, "its absence is said")
        server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        expect_soon(lambda: bus_of(masters, "m1").healthy, WITHIN_S, "it is back")
        expect_soon(lambda: masters.run(event_names, "m1") >= {"kept"}, WITHIN_S, "the Event is there")
        assert not (m1.data / "bus").exists()
    finally:
        server.kill()
        server.wait()
        masters.close()
