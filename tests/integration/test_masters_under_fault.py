"""Three real masters whose machines misbehave: a full disk, a slow one, restarts under load, releases that differ,
certificates and clocks, and what leads when a leader is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import grpc
import msgspec
import pytest

from barque.api.errors import ApiError
from barque.api.types.apps_v1 import Deployment
from barque.api.types.core_v1 import ConfigMap
from barque.api.types.meta_v1 import ObjectMeta
from barque.client.client import Client
from barque.client.pki import MASTER_HOST, Authority, node_subject, split_pem
from barque.client.remote import Connection
from barque.proto import raft_pb2, raft_pb2_grpc
from tests.bench import schedule
from tests.bench.fleet import Fleet as Workers
from tests.bench.master import Master
from tests.support.expecting import expect_soon
from tests.support.masters import SOON_S, Fleet, Masters
from tests.support.store_process import of

# The bus wants 64 of them.
DISK_MIB = 128
# Each founds three masters where the one before has failed, and some start them several times.
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """m3 has a disk of its own, where that can be mounted."""
    made = Fleet(lambda: tmp_path_factory.mktemp("masters"), DISK_MIB if os.geteuid() == 0 else 0)
    yield made
    made.close()


@pytest.fixture
def masters(fleet: Fleet) -> Masters:
    """Three of them, whole: those that the test before has left so, or new ones."""
    return fleet.whole()


# Disks


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
@pytest.mark.parametrize("leads", [False, True], ids=["follower", "leader"])
def test_a_full_disk_on_one_master(masters: Masters, leads: bool) -> None:
    third = masters.lead("m3") if leads else masters["m3"]
    if not leads:
        masters.lead("m1")
    filler = third.seen(third.data) / "filler"
    try:
        fill(filler)
        with Writer(masters) as writer:
            full = ["disk: cannot write to the log: [Errno 28] No space left on device"]
            expect_soon(lambda: faults(masters, "m3") == full, SOON_S, "m3 names its fault")
            writer.more(50)
            said = masters.barque("cluster", "status", to="m3", status=1).out
            assert "Fault:" in said
            assert "No space left on device" in said
            assert masters.leader() is not third
            # So does whoever leads, of that one.
            expect_soon(lambda: "failing" in masters.barque("cluster", "members").out, SOON_S, "the leader hears of it")
            words = "master m3: cannot write to the log: [Errno 28] No space left on device"

            def told() -> bool:
                # Where m3 led the bus, that has no leader for seconds, and the command fails: not asked here.
                return words in masters.barque("cluster", "status", to=masters.leader().name, status=None).out

            expect_soon(told, SOON_S, "the leader tells of it")
        assert writer.failures == []
    finally:
        filler.unlink()
    expect_soon(lambda: not faults(masters, "m3"), SOON_S, "m3 is well again")
    masters.wait_whole()
    writer.check("m3")


@pytest.mark.flaky(reruns=0)  # What is lost is lost: no second try.
def test_a_slow_disk_on_one_master(masters: Masters) -> None:
    masters.lead("m1")
    third = masters["m3"]
    third.stop()
    third.odd = ["sync=0.2"]
    third.start()
    try:
        with Writer(masters) as writer:
            expect_soon(lambda: masters.status("m3").group.election_timeout_ms >= 2000, SOON_S, "m3 is patient")

            def write() -> None:
                masters.lead("m1")
                writer.more(60)
                time.sleep(2)

            masters.undisturbed(write)
            assert masters.leader().name == "m1"
        assert writer.failures == []
        assert statistics.median(writer.took) < 0.2, "writes wait for the slow follower"
        words = "the disk is too slow: every write waits for it"
        expect_soon(
            lambda: words in masters.barque("cluster", "status", to="m3", status=None).out, SOON_S, "m3 says so"
        )
        masters.lead("m3")
        with Writer(masters) as writer:
            masters.undisturbed(lambda: writer.more(10))
        assert writer.failures == []
    finally:
        third.odd = []
        third.stop()
        third.start()


# Restarts and releases


@pytest.mark.flaky(reruns=0)  # What is lost is lost: no second try.
def test_masters_are_restarted_one_after_another_under_load(masters: Masters) -> None:
    with Writer(masters, count=4) as writer:

        def restart(name: str) -> bool:
            """Whether the others have a leader once it has ended."""
            writer.more(20)
            masters[name].stop()
            other = next(master for master in masters if master.runs)
            led = masters.told(other) not in ("", name)
            writer.more(20)
            masters[name].start()
            masters.wait_whole()
            return led

        # One that leads hands over before it ends: nobody waits for an election, unless the machine is too busy.
        handed_over = [restart(masters.lead(name).name) for name in ("m1", "m2")]
        assert any(handed_over), handed_over
        masters.lead("m1")
        masters.undisturbed(lambda: restart("m3"))
    assert writer.failures == []
    for name in masters.by_name:
        writer.check(name)


def test_the_leader_writes_what_the_oldest_release_reads(masters: Masters) -> None:
    file = masters.directory / "saved.snapshot"
    masters.barque("cluster", "snapshot", "save", str(file))
    third, others = masters["m3"], [masters["m1"], masters["m2"]]
    # What a leader knows of the third is of before: an inspection must not come first, whoever leads.
    for master in others:
        master.stop()
        master.odd = ["inspect=600"]
        master.start()
    masters.wait_whole()
    masters.lead("m1")
    third.stop()
    third.odd = ["format=2"]
    third.start()
    try:
        masters.wait_whole()
        restore = ["cluster", "snapshot", "restore", str(file), "--yes"]

        def refused() -> bool:
            said = masters.barque(*restore, status=1).line
            return "m3 runs a release that cannot restore: upgrade it first" in said

        expect_soon(refused, SOON_S, "the restore is refused", pause_s=0.5)
        assert third.runs
        # What the others write while it is away is not for it.
        third.stop()
        third.odd = []
        third.start()
        expect_soon(lambda: not masters.barque(*restore, status=None).status, SOON_S, "the restore is taken")
        third.stop()
        expect_soon(lambda: not masters.barque(*restore, status=None).status, SOON_S, "the restore is taken by two")
        third.odd = ["format=2"]
        third.launch()
        said = third.ended()
        assert said.status == 1
        assert "Traceback" not in said.err
        assert said.line == (
            "error: the master stops: a log entry has format 3, this release reads up to 2: start the release that "
            "wrote it"
        )
    finally:
        third.odd = []
        if not third.runs:
            third.start()
        for master in others:
            master.odd = []
            master.stop()
            master.start()


# Certificates and clocks


def test_a_workers_certificate_does_not_open_the_peers_door(masters: Masters) -> None:
    authority = Authority(*split_pem((masters["m1"].data / "pki" / "authority.pem").read_bytes()))
    worker = authority.identity(node_subject("n1"), datetime.datetime.now(datetime.UTC))
    cluster, members = masters.status("m1").cluster_id, {m.name: m for m in masters.status("m1").members}
    info = msgspec.msgpack.encode((members["m2"].id, "m2", "127.0.0.1", 1, 1, 1))
    metadata = (("barque-cluster", cluster), ("barque-member-bin", info), ("barque-peer", members["m1"].id))
    options = [("grpc.ssl_target_name_override", MASTER_HOST)]
    door = members["m1"].peer_address
    with grpc.secure_channel(door, worker.channel_credentials(), options) as channel:

        def refusal() -> str:
            with pytest.raises(grpc.RpcError) as refused:
                raft_pb2_grpc.RaftStub(channel).Deliver(iter([raft_pb2.Frame()]), metadata=metadata, timeout=30)
            # gRPC's client may take a refusal that comes while it sends for a fault of its own.
            assert refused.value.code() is not grpc.StatusCode.INTERNAL, refused.value
            return f"{refused.value.code().name}: {refused.value.details()}"

        told = expect_soon(refusal, SOON_S, "a refusal")
    assert told == "PERMISSION_DENIED: system:node:n1 is no master: only masters of the cluster may speak here"


def test_clocks_off_by_hours_and_certificates_renewed(masters: Masters) -> None:
    """m2 is hours behind, and m3, hours ahead, renews its certificate every few seconds: the group does not notice."""
    second, third = masters["m2"], masters["m3"]
    masters.lead("m1")
    second.stop()
    second.odd = ["hours=-5"]
    second.start()
    third.stop()
    third.odd = ["hours=7", "life=16"]
    # A certificate of that life must be its own from the start.
    (third.seen(third.data) / "pki" / "master.pem").unlink()
    third.start()
    try:
        masters.wait_whole()
        with Writer(masters) as writer:

            def renew() -> None:
                words = "renewed the certificate of barque:master:m3"
                before = third.log.count(words)
                expect_soon(lambda: third.log.count(words) > before, SOON_S, "a renewal")
                writer.more(30)

            masters.undisturbed(renew)
        assert writer.failures == []
        warned = [line for line in third.log.splitlines() if "WARNING barque.master.raft" in line]
        # A disk may be slow for other reasons.
        assert not [line for line in warned if "to sync" not in line]
    finally:
        for master in (second, third):
            master.odd = []
            master.stop()
        (third.seen(third.data) / "pki" / "master.pem").unlink()
        for master in (second, third):
            master.start()
    third.stop()
    third.odd = [f"hours={-24 * 400}"]
    third.launch()
    said = third.ended()
    third.odd = []
    third.start()
    assert said.line.startswith("error: the master stops: this machine's clock says ")
    assert said.line.endswith("set the clock (nobody could connect otherwise)")


# Who leads


def test_what_a_killed_leader_did_another_goes_on_with(masters: Masters) -> None:
    leader, other = masters.lead("m2"), masters["m1"]
    expect_soon(lambda: "this master leads: controllers and scheduler begin" in leader.log, SOON_S, "m2 works")
    with Workers(cast(Master, other), 3):
        leader.kill()

        async def deploy(client: Client) -> None:
            try:
                await client.create(schedule.a_deployment("web", 12))
            except ApiError as error:
                # After "outcome unknown" it may be there.
                if error.code != 409:
                    raise

        def deployed() -> bool:
            masters.run(lambda connection: deploy(connection.client), "m1", "m3", patience_s=30)
            return True

        expect_soon(deployed, SOON_S, "the deployment is taken")

        async def available(client: Client) -> int:
            return (await client.get(Deployment, "web", "default")).status.availableReplicas or 0

        expect_soon(lambda: masters.client(available, "m1", "m3") == 12, SOON_S, "the deployment is rolled out")
    begins = "this master leads: controllers and scheduler begin"
    expect_soon(lambda: begins in masters.leader().log, SOON_S, "its successor works")
    leader.start()
    masters.wait_whole()
    assert masters.leader() is leader or begins not in leader.log
    successor = masters.lead("m1")
    expect_soon(lambda: begins in successor.log, SOON_S, "it works")
    # A leader that lives on stops its own.
    masters.lead("m2")
    stops = "this master leads no longer (it was voted out or lost the quorum): controllers and scheduler stop"
    expect_soon(lambda: stops in successor.log, SOON_S, "the old leader's work stops")
    assert other.runs


# What the tests do meanwhile


class Writer:
    """Clients that write ConfigMaps through all masters, one after another each, in a thread's own loop."""

    _numbers = iter(range(10**9))

    def __init__(self, masters: Masters, count: int = 2) -> None:
        self.acknowledged: list[str] = []
        self.failures: list[str] = []
        # Of each acknowledged write, in seconds.
        self.took: list[float] = []
        self._masters = masters
        self._count = count
        self._ends = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._ends.set()
        self._thread.join(SOON_S)
        assert not self._thread.is_alive()

    def more(self, count: int) -> None:
        """Wait until so many more writes are acknowledged."""
        wanted = len(self.acknowledged) + count
        expect_soon(lambda: len(self.acknowledged) >= wanted, SOON_S, f"{count} more writes; {self.failures}")

    def check(self, name: str) -> None:
        """This master has all that was acknowledged."""

        async def ask(connection: Connection) -> set[str]:
            listed = await connection.verbs.list(of("configmaps"))
            return {msgspec.json.decode(item)["metadata"]["name"] for item in listed.items}

        assert self.acknowledged
        assert set(self.acknowledged) <= self._masters.run(ask, name, patience_s=30.0)

    async def _run(self) -> None:
        # As the CLI's: while masters elect a leader, they are asked again for a while.
        async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            for _ in range(self._count):
                connection = await stack.enter_async_context(self._masters.connect(patience_s=30.0))
                group.create_task(self._write(connection.client))

    async def _write(self, client: Client) -> None:
        while not self._ends.is_set():
            name = f"written-{next(self._numbers)}"
            began = time.monotonic()
            try:
                await client.create(ConfigMap(metadata=ObjectMeta(name=name, namespace="default")))
                self.took.append(time.monotonic() - began)
                self.acknowledged.append(name)
            except ApiError as error:
                self.failures.append(f"{name}: {error.code} {error.message}")
            await asyncio.sleep(0.01)


def faults(masters: Masters, name: str) -> list[str]:
    """What this master says is wrong with its log."""
    return [fault for fault in masters.status(name).group.faults if not fault.startswith("peer ")]


def fill(file: Path) -> None:
    """Take all the space there is."""
    with file.open("wb", buffering=0) as taken, contextlib.suppress(OSError):
        for size in (1 << 16, 1):
            with contextlib.suppress(OSError):
                while taken.write(bytes(size)) == size:
                    pass
