"""Masters whose state an etcd keeps, as real processes: founded, joined, killed, paused, and without their etcd.

What the engine does by itself is in `test_store_etcd`.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import itertools
import os
import shlex
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from barque.api.errors import ApiError
from barque.api.types.core_v1 import Pod
from barque.client.clock import SystemClock
from barque.client.pki import Identity, Subject, create_authority
from barque.client.remote import Connection
from barque.client.verbs import Page, Selection
from barque.proto import cluster_pb2
from tests.support import etcd
from tests.support.builders import DeploymentBuilder
from tests.support.expecting import expect_soon, expect_soon_async
from tests.support.host import dying_with_parent
from tests.support.store_process import START_TIMEOUT_S, MasterProcess, of

pytestmark = [pytest.mark.skipif(bool(etcd.missing()), reason=etcd.missing()), pytest.mark.timeout(500)]

# A master leads for as long as its lease lasts; etcd looks for those that have ended every half second. A busy machine,
# or an etcd whose disk is slow, adds some seconds to that.
LEASE_S = 5.0
TAKEN_OVER_S = LEASE_S + 15.0
# Long enough for a busy machine, and no test waits that long where all is well.
SOON_S = 90.0
# In which a read is refused that etcd does not answer.
READ_S = 5.0 + 5.0
STALE = Page(resource_version="0")

_prefixes = itertools.count(1)


class Said(NamedTuple):
    status: int
    out: str
    error: str


class EtcdMaster(MasterProcess):
    """A master that was told of its etcd with `settings`, or, once `join` has been called, by the one it joined."""

    def __init__(self, directory: Path, name: str, settings: Sequence[str]) -> None:
        directory.mkdir()
        super().__init__(directory, dying_with_parent("KILL"))
        self.name = name
        self.settings = list(settings)
        self._joined = False

    def options(self) -> list[str]:
        return [
            "--data-dir",
            str(self.data),
            "--listen",
            "127.0.0.1",
            *([] if self._joined else self.site()),
            *self.settings,
        ]

    async def join(self, first: EtcdMaster) -> str:
        """As an operator does, with the line that `add-member` prints; what it said."""
        joined = await self.barque(*await self.line_of(first))
        assert joined.status == 0, joined.error
        self._joined = True
        return joined.out

    async def line_of(self, first: EtcdMaster) -> list[str]:
        """What joins this master, as the first one's operator is told it."""
        made = await first.barque("cluster", "add-member", "--master", f"127.0.0.1:{first.ports[1]}")
        return [*shlex.split(made.out)[1:], "--data-dir", str(self.data), *self.site()]

    async def barque(self, *words: str) -> Said:
        """The command line, with this master's profile."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "barque.cli", *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "HOME": str(self.directory), "BARQUE_CONFIG": str(self.directory / "config")},
        )  # fmt: skip
        try:
            out, error = await asyncio.wait_for(process.communicate(), START_TIMEOUT_S)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return Said(process.returncode, out.decode(), error.decode())

    async def refusal(self, *settings: str) -> str:
        """The one line with which a start with these settings ends."""
        kept, self.settings = self.settings, list(settings)
        try:
            await self.launch()
            status, said = await self.ended()
        finally:
            self.settings = kept
        assert status == 1
        (line,) = [line for line in said.splitlines() if "the master stops: " in line]
        assert line == said.splitlines()[-1]
        return line.removeprefix("error: the master stops: ")

    @property
    def ports(self) -> list[int]:
        """Of gRPC, HTTPS, the bus, peers where there are any, and the bus's routes."""
        return self._ports

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def site(self) -> list[str]:
        grpc, https, bus, peer, route = map(str, self._ports)
        return [
            "--name", self.name, "--address", "127.0.0.1", "--grpc-port", grpc, "--https-port", https,
            "--peer-port", peer, "--bus-port", bus, "--route-port", route,
            "--profile", str(self.directory / "config"),
        ]  # fmt: skip


class World:
    """Masters that are ended at the last."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.masters: list[EtcdMaster] = []

    def master(self, name: str, *settings: str) -> EtcdMaster:
        """A master that has not been started; without settings it has to join first."""
        self.masters.append(EtcdMaster(self._folder / f"{len(self.masters)}-{name}", name, settings))
        return self.masters[-1]

    async def cluster(self, *settings: str, names: Sequence[str] = ("m1", "m2", "m3")) -> list[EtcdMaster]:
        """Running masters of one cluster; the first, which founded it, leads."""
        first, *others = masters = [self.master(names[0], *settings), *(self.master(name) for name in names[1:])]
        await first.start()
        await asyncio.gather(*(other.join(first) for other in others))
        await asyncio.gather(*(other.start() for other in others))
        return masters

    async def end(self) -> None:
        for master in self.masters:
            await master.end()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    yield made
    await made.end()


def on_shared_etcd() -> list[str]:
    return ["--store", "etcd", "--etcd-endpoints", etcd.shared().urls[0], "--etcd-prefix", f"/w{next(_prefixes)}"]


async def until(holds: Callable[[], Awaitable[object]], what: str) -> None:
    await expect_soon_async(holds, SOON_S, what)


async def leader(connection: Connection) -> str:
    """Who leads, as the connected master sees it."""
    reply = await connection.cluster.Status(cluster_pb2.StatusRequest())
    return next((member.name for member in reply.members if member.leader), "")


async def put(connection: Connection, name: str, kind: str = "configmaps") -> int:
    made = await connection.verbs.create(of(kind), msgspec.json.encode({"metadata": {"name": name}}))
    return int(msgspec.json.decode(made)["metadata"]["resourceVersion"])


async def names(connection: Connection, page: Page = Page()) -> set[str]:
    """Of the test's own ConfigMaps."""
    listed = await connection.verbs.list(of("configmaps"), page=page)
    found = {msgspec.json.decode(item)["metadata"]["name"] for item in listed.items}
    return found - {"kube-root-ca.crt"}


async def pods(connection: Connection, app: str) -> int:
    return len((await connection.client.list(Pod, "default", labels=f"app={app}")).items)


async def refused(call: Awaitable[object]) -> ApiError:
    with pytest.raises(ApiError) as error:
        await call
    return error.value


async def test_a_master_founded_on_etcd_keeps_everything(world: World) -> None:
    settings = on_shared_etcd()
    master = world.master("m1", *settings)
    await master.start()
    manifest = master.directory / "a.yaml"
    manifest.write_text(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {x: 'y'}}\n---\n"
        "{apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {word: abracadabra}}\n"
    )
    applied = await master.barque("apply", "-f", str(manifest))
    assert applied.out == "configmap/a created\nsecret/s created\n"
    async with master.connect() as connection:
        since = (await connection.verbs.list(of("configmaps"))).resource_version
        before = await put(connection, "before-the-kill")
    await master.end(signal.SIGKILL)
    await master.start()
    # The lease of its earlier life does not have to run out first.
    *_, served = master.log.rpartition("founding a cluster")[2].split("serving on")[:2]
    assert "this master leads\n" in served
    shown = await master.barque("get", "configmaps", "-o", "name")
    assert {"configmap/a", "configmap/before-the-kill"} <= set(shown.out.split())
    secret = await master.barque("get", "secret", "s", "-o", "jsonpath={.data.word}")
    assert secret.out == "YWJyYWNhZGFicmE="
    async with master.connect() as connection:
        after = await put(connection, "after-it")
        seen: list[int] = []
        async with asyncio.timeout(SOON_S):
            async for batch in connection.verbs.watch(of("configmaps"), resource_version=since):
                seen += [event.revision for event in batch if event.type == "ADDED"]
                if after in seen:
                    break
        assert [revision for revision in seen if revision in (before, after)] == [before, after]
        assert seen == sorted(set(seen))
    assert not any((master.data / "store").iterdir())
    assert "abracadabra" not in etcd.shared().members[0].says("get", "--prefix", settings[-1]).stdout
    await master.end(signal.SIGTERM)
    elsewhere = settings[3]
    assert await master.refusal() == (
        f"this master's state is in etcd: start it with --store etcd --etcd-endpoints {elsewhere} --etcd-prefix "
        f"{settings[-1]}; to leave etcd, save a snapshot, remove {master.data / 'etcd.json'}, and restore it"
    )
    mistyped = await master.refusal(*settings[:-1], "/nowhere")
    assert mistyped.startswith("etcd has no cluster under /nowhere/, and this master is one of a cluster that exists")
    await master.start()


async def _leads(connection: Connection, name: str) -> bool:
    return await leader(connection) == name


async def test_two_prefixes_are_two_clusters_and_one_prefix_is_of_one(world: World) -> None:
    one, other = world.master("m1", *on_shared_etcd()), world.master("m1", *on_shared_etcd())
    await asyncio.gather(one.start(), other.start())
    async with one.connect() as of_one, other.connect() as of_other:
        await put(of_one, "of-one")
        assert (await names(of_one), await names(of_other)) == ({"of-one"}, set())
        ids = [(await c.cluster.Status(cluster_pb2.StatusRequest())).cluster_id for c in (of_one, of_other)]
        assert ids[0] != ids[1]
    anothers = (
        f"etcd key {one.settings[-1]}/ring does not open with this master's keys, so it is another cluster's: give "
        "this one another --etcd-prefix, or make it a master of that one with `barque master join`"
    )
    stranger, on_disk = world.master("m9"), world.master("m8")
    _, refusal = await asyncio.gather(on_disk.start(), stranger.refusal(*one.settings))
    assert refusal == anothers
    await asyncio.gather(other.end(signal.SIGTERM), on_disk.end(signal.SIGTERM))
    moved, mixed = await asyncio.gather(other.refusal(*one.settings), on_disk.refusal(*one.settings))
    assert moved == anothers
    assert mixed == (
        f"this master's state is in {on_disk.data / 'store'}: start it without --store etcd; to go to etcd, save a "
        f"snapshot, move {on_disk.data / 'store'} away, and restore it"
    )


async def test_three_masters_serve_and_the_leader_is_killed(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    masters = await world.cluster(*on_shared_etcd())
    async with contextlib.AsyncExitStack() as open_:
        doors = [await open_.enter_async_context(master.connect(masters[0].data)) for master in masters]
        for turn in range(30):
            written = await put(doors[turn % 3], f"n{turn}")
            # Whoever has heard of a write finds it at any master.
            for door in doors:
                assert f"n{turn}" in await names(door)
                got = msgspec.json.decode(await door.verbs.get(of("configmaps", f"n{turn}")))
                assert int(got["metadata"]["resourceVersion"]) == written
        await until(lambda: _all_say(doors, "m1"), "m1 leads")
        shown = await masters[2].barque("cluster", "members")
        assert [line.split() for line in shown.out.splitlines()] == [
            ["NAME", "ADDRESS", "ROLE"],
            ["m1", masters[0].address, "leader"],
            ["m2", masters[1].address, "follower"],
            ["m3", masters[2].address, "follower"],
        ]
        assert shown.error == "the masters that run; their state is in etcd, whose own members etcdctl shows\n"

        await masters[0].end(signal.SIGKILL)
        killed = time.monotonic()
        await doors[1].client.create(DeploymentBuilder("web", "default").replicas(3).build())
        written_s = time.monotonic() - killed
        await until(lambda: _another_leads(doors[2], "m1"), "another leads")
        led_s = time.monotonic() - killed
        with capsys.disabled():
            print(f"\nleader killed: a write after {written_s:.2f} s, another leads after {led_s:.2f} s")
        assert led_s < TAKEN_OVER_S

        async def controlled() -> bool:
            return await pods(doors[2], "web") == 3

        await until(controlled, "controllers run there")
        await until(lambda: _another_leads(doors[1], "m1"), "all hear of it")

        async def listed() -> bool:
            shown = await masters[1].barque("cluster", "members")
            return [line.split()[0] for line in shown.out.splitlines()[1:]] == ["m2", "m3"]

        await until(listed, "the one that was killed is listed no more")

        await masters[0].start()
        await until(lambda: _all_say(doors, "m2", "m3"), "the one that is back hears who leads")
        assert {f"n{turn}" for turn in range(30)} <= await names(doors[0])


async def _all_say(connections: Sequence[Connection], *names: str) -> bool:
    told = {await leader(connection) for connection in connections}
    return len(told) == 1 and told <= set(names)


async def _another_leads(connection: Connection, than: str) -> bool:
    return await leader(connection) not in ("", than)


async def test_what_a_paused_leader_writes_late_is_refused(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = await world.cluster(*on_shared_etcd(), names=("m1", "m2"))
    replicas = 150
    async with new.connect(old.data) as door:

        async def begun() -> bool:
            return await pods(door, "web") > 10

        await door.client.create(DeploymentBuilder("web", "default").replicas(replicas).build())
        await until(begun, "the leader has begun")
        # With whatever it was about to send.
        old.signal(signal.SIGSTOP)
        paused = time.monotonic()
        await until(lambda: _leads(door, "m2"), "the other leads")
        led_s = time.monotonic() - paused
        with capsys.disabled():
            print(f"\nleader paused: another leads after {led_s:.2f} s")
        assert led_s < TAKEN_OVER_S

        async def all_there() -> bool:
            return await pods(door, "web") == replicas

        await until(all_there, "the other has gone on")
        made = asyncio.create_task(_made_and_removed(door, "web"))
        # Work at the very moment when the old one wakes, in a world that it has not seen.
        await door.client.create(DeploymentBuilder("later", "default").replicas(5).build())
        old.signal(signal.SIGCONT)

        async def deposed() -> bool:
            return "this master leads no longer" in old.log

        await until(deposed, "it knows")

        async def later() -> bool:
            return await pods(door, "later") == 5

        await until(later, "the new leader goes on")
        await asyncio.sleep(0.5)
        made.cancel()
        assert await made == []
        assert (await pods(door, "web"), await pods(door, "later")) == (replicas, 5)
        assert "controllers and scheduler begin" in new.log
        assert old.log.count("controllers and scheduler begin") == 1
        async with old.connect() as itself:
            await until(lambda: _leads(itself, "m2"), "it knows who leads")
            await put(itself, "it-still-serves")
        # Who stops in order hands over at once.
        held = leader_key(old)
        assert held
        await new.end(signal.SIGTERM)
        assert leader_key(old) != held, "its lease has to run out"
        async with old.connect() as itself:
            await until(lambda: _leads(itself, "m1"), "the first leads again")


def leader_key(founder: EtcdMaster) -> str:
    """Who leads, as etcd has it; "" where nobody does."""

    def ask() -> tuple[str]:
        said = etcd.shared().members[0].says("get", f"{founder.settings[-1]}/leader")
        assert said.returncode == 0, said.stderr
        return (said.stdout,)

    return expect_soon(ask, SOON_S, "etcd's answer")[0]


async def _made_and_removed(connection: Connection, app: str) -> list[str]:
    """Until cancelled: the pods of the app that have come or gone."""
    seen: list[str] = []
    selection = Selection(labels=f"app={app}")
    listed = await connection.verbs.list(of("pods"), selection)
    with contextlib.suppress(asyncio.CancelledError):
        async for batch in connection.verbs.watch(of("pods"), selection, listed.resource_version):
            seen += [event.type for event in batch if event.type in ("ADDED", "DELETED")]
    return seen


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[Callable[[str], etcd.Tls]]:
    """Certificates for etcd by the name of their CA; `etcd` is the one of the server."""
    now = SystemClock().wall()
    authorities = {name: create_authority(now) for name in ("etcd", "other")}

    def files(name: str) -> etcd.Tls:
        identity = authorities[name].identity(Subject(name, ()), now, ["127.0.0.1"])
        made = etcd.Tls(*(tmp_path / f"{name}-{part}.pem" for part in ("ca", "cert", "key")))
        for file, pem in zip(made, (identity.ca_pem, identity.cert_pem, identity.key_pem), strict=True):
            file.write_bytes(pem)
        return made

    return files


async def test_etcd_over_tls_goes_away_and_comes_back(world: World, tls: Callable[[str], etcd.Tls]) -> None:
    good, bad = tls("etcd"), tls("other")
    with etcd.running(tls=good) as own:

        def settings(ca: Path, cert: Path | None, key: Path | None) -> tuple[str, ...]:
            client = ["--etcd-cert", str(cert), "--etcd-key", str(key)] if cert else []
            return ("--store", "etcd", "--etcd-endpoints", own.urls[0], "--etcd-ca", str(ca), *client)

        no_certificate = ": it does not take this master's certificate (--etcd-cert, --etcd-key)"
        refusals = {
            settings(bad.ca, good.cert, good.key): ": its certificate is not one of --etcd-ca",
            settings(good.ca, None, None): no_certificate,
            settings(good.ca, bad.cert, bad.key): no_certificate,
            settings(good.ca, good.cert, bad.key): " makes no TLS with etcd: KEY_VALUES_MISMATCH",
        }
        said = await asyncio.gather(*(world.master("m9").refusal(*given) for given in refusals))
        assert [line for line, end in zip(said, refusals.values(), strict=True) if not line.endswith(end)] == []
        first, second = await world.cluster(*settings(*good), names=("m1", "m2"))
        # Masters without a majority refuse after 5 s, and so do these; an impatient client hears that.
        impatient = first.connect(patience_s=0.0), second.connect(first.data, patience_s=0.0)
        async with impatient[0] as one, impatient[1] as two:
            await put_until_it_holds(one, "kept")
            assert await names(two) == {"kept"}
            own.members[0].kill()
            away = f"etcd does not answer at {own.urls[0].removeprefix('https://')}: "
            for lost in await asyncio.gather(*(refused(put(connection, "lost")) for connection in (one, two))):
                assert lost.code in (503, 504)
                assert away in lost.message
            async with asyncio.timeout(READ_S):
                read = await asyncio.gather(*(refused(names(connection)) for connection in (one, two)))
            for unread in read:
                assert (unread.code, unread.message.startswith(away)) == (503, True)
            for master in (first, second):
                said_by_rest = await asyncio.to_thread(list_over_https, master, first.data)
                assert (said_by_rest["code"], said_by_rest["message"].startswith(away)) == (503, True)
                assert said_by_rest["details"]["retryAfterSeconds"] > 0
            for connection in (one, two):
                assert await names(connection, STALE) == {"kept"}

            async def told() -> bool:
                status = await first.barque("cluster", "status")
                (row,) = [line.split(maxsplit=2) for line in status.out.splitlines() if line.startswith("store ")]
                why = f"{away}Failed to connect to remote host: Connection refused"
                assert (status.status, *row[1:]) == (1, "failing", why)
                return True

            # The first attempts may have met the very end of it.
            await until(told, "the state tells why")
            members = await second.barque("cluster", "members")
            assert [line.split()[0] for line in members.out.splitlines()] == ["NAME", "m1", "m2"]
            stale = await second.barque("get", "configmaps", "--stale", "-o", "name")
            assert "configmap/kept" in stale.out.split()
            own.start()
            healed = [put_until_it_holds(connection, f"again-{n}") for n, connection in enumerate((one, two))]
            await asyncio.gather(*healed)

            async def both_have_all() -> bool:
                return await names(one) - {"lost"} == {"kept", "again-0", "again-1"} == await names(two) - {"lost"}

            await until(both_have_all, "both tell the same")
            await until(lambda: _someone_leads(one), "someone leads")


def list_over_https(master: EtcdMaster, data: Path) -> Any:
    """What an administrator's client hears who lists ConfigMaps, within the time that a read may take."""
    context = Identity.load(data / "pki", "admin").client_context()
    context.check_hostname = False
    door = http.client.HTTPSConnection("127.0.0.1", master.ports[1], timeout=READ_S, context=context)
    with contextlib.closing(door):
        door.request("GET", "/api/v1/namespaces/default/configmaps")
        return msgspec.json.decode(door.getresponse().read())


async def _someone_leads(connection: Connection) -> bool:
    await connection.client.list(Pod, "default")
    return await leader(connection) != ""


async def put_until_it_holds(connection: Connection, name: str) -> None:
    async def holds() -> bool:
        if name in await names(connection, STALE):
            return True
        await put(connection, name)
        return False

    await until(holds, f"{name} is written")


async def test_the_groups_verbs_and_a_name_that_is_taken(world: World) -> None:
    settings = on_shared_etcd()
    first, second, namesake, late = world.master("m1", *settings), *(world.master("m2") for _ in range(3))
    await first.start()
    joined = await second.join(first)
    assert f"  etcd          {settings[3]}, keys under {settings[-1]}\n" in joined
    assert joined.endswith("  barque cluster members   shows it: once it runs\n")
    # It may take the name while the other does not run, and then does not run beside it.
    await namesake.join(first)
    await namesake.start()
    line = await late.line_of(first)
    refusal, taken, removed, transferred, recovered, rotated = await asyncio.gather(
        second.refusal(),
        late.barque(*line),
        first.barque("cluster", "remove-member", "m2"),
        first.barque("cluster", "transfer", "m2"),
        first.barque("cluster", "recover-quorum"),
        first.barque("cluster", "rotate-key"),
    )
    assert refusal == (
        f"a master named m2 runs already, at {namesake.address}: stop that one, or give this one a data directory and "
        "a --name of its own"
    )
    assert "a master named 'm2' is a member already" in taken.error
    conflict = "Error from server (Conflict): this cluster's state is in etcd, and "
    assert [each.status for each in (removed, transferred, recovered, rotated)] == [1, 1, 1, 0]
    assert removed.error == f"{conflict}a master is one for as long as it runs: stop it on its machine\n"
    assert transferred.error == f"{conflict}who leads is not chosen: a leading master that is stopped hands over\n"
    assert recovered.error.startswith(f"{conflict}one master is as good as three: where etcd has lost its majority")
    # One ring for all: it is done once.
    assert (rotated.out.count("key rotated"), rotated.out.startswith("key rotated: ")) == (1, True)
