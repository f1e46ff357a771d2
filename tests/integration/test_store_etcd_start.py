"""How the engine on an external etcd starts: together with others, on a slow etcd, over TLS, and what it refuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import pytest

from barque.client.clock import SystemClock
from barque.client.pki import Subject, create_authority
from barque.master.raft.errors import NewerFormatError, StoreStartError
from barque.master.raft.messages import MemberInfo
from barque.master.store.engine_etcd import EngineEtcd, EtcdSettings, open_etcd_store
from barque.master.store.etcd import layout
from barque.master.store.etcd.client import Endpoints, EtcdAwayError
from barque.master.store.etcd.election import Election
from barque.master.store.port import Committed
from tests.support import etcd
from tests.support.etcd_world import World, create, ctl, names, until
from tests.support.store import a_pod

pytestmark = pytest.mark.skipif(bool(etcd.missing()), reason=etcd.missing())

web = a_pod("web")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    yield world
    await world.end()


async def test_a_start_waits_for_an_etcd_that_is_slow_to_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    claim, calls = Election.claim_name, 0

    async def slow(election: Election) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise EtcdAwayError("etcd does not answer")
        await claim(election)

    monkeypatch.setattr(Election, "claim_name", slow)
    store = await world.master()
    await create(store, web)
    assert calls == 2


async def test_a_start_says_what_is_wrong(world: World, tmp_path: Path) -> None:
    keys, clock, info = tmp_path / "keys", SystemClock(), MemberInfo("", "m1", "127.0.0.1")

    def opening(url: str, prefix: str = "/x", start_s: float = 60) -> Awaitable[EngineEtcd]:
        settings = EtcdSettings(Endpoints((url,), call_s=5), prefix, start_s=start_s)
        return open_etcd_store(settings, info, keys, etcd.WRAPPING, clock)

    with pytest.raises(StoreStartError, match=r"etcd does not answer at 127.0.0.1:1: .*check --etcd-endpoints"):
        await opening("http://127.0.0.1:1", start_s=0.1)
    for wrong in ("127.0.0.1:2379", "http://host", "ftp://a:1", "http://a:1/path"):
        with pytest.raises(ValueError, match="no endpoint of etcd"):
            await opening(wrong)
    with pytest.raises(ValueError, match="all http or all https"):
        Endpoints(("http://a:1", "https://b:1")).targets()
    store = await world.master()
    newer = layout.encode_head(layout.Head(99, store.cluster_id, "0", 0, 0, ""))
    await store.close()
    # etcdctl takes values as text: the engine's own client puts the bytes.
    await _put(layout.Keys(world.prefix).head, newer)
    with pytest.raises(NewerFormatError, match="has format 99"):
        await opening(etcd.shared().urls[0], world.prefix)
    ctl("del", f"{world.prefix}/ring")
    with pytest.raises(StoreStartError, match="keys are missing"):
        await opening(etcd.shared().urls[0], world.prefix)


async def _put(key: bytes, value: bytes) -> None:
    from barque.master.store.etcd.client import EtcdClient
    from barque.proto import etcd_pb2 as pb

    client = EtcdClient(Endpoints(etcd.shared().urls))
    await client.txn(pb.TxnRequest(success=[layout.put(key, value)]))
    await client.close()


async def test_masters_that_start_together_found_one_cluster(world: World) -> None:
    engines = await asyncio.gather(*(world.master(f"m{n}") for n in range(3)))
    assert len({engine.cluster_id for engine in engines}) == 1
    assert len({engine.figures().key_id for engine in engines}) == 1
    await until(lambda: sum(engine.leads for engine in engines) == 1, "one leads")
    await asyncio.gather(*(create(engine, a_pod(f"of-{n}")) for n, engine in enumerate(engines)))
    for engine in engines:
        await engine.barrier()
        assert names(engine) == {"of-0", "of-1", "of-2"}


async def test_etcd_over_tls_with_client_certificates(tmp_path: Path) -> None:
    now = SystemClock().wall()
    authority = create_authority(now)

    def files(name: str) -> etcd.Tls:
        identity = authority.identity(Subject(name, ()), now, ["127.0.0.1"])
        tls = etcd.Tls(tmp_path / "ca.pem", tmp_path / f"{name}.pem", tmp_path / f"{name}-key.pem")
        for file, pem in zip(tls, (identity.ca_pem, identity.cert_pem, identity.key_pem), strict=True):
            file.write_bytes(pem)
        return tls

    with etcd.running(tls=files("etcd")) as own:
        store = await etcd.open_engine(own.urls, "/b", tmp_path / "keys", tls=files("master"))
        try:
            assert await create(store, web) == Committed(1)
            assert await store.barrier() == 1
        finally:
            await store.close()
        settings = EtcdSettings(Endpoints(own.urls, tmp_path / "ca.pem", call_s=5), "/b", start_s=60)
        with pytest.raises(StoreStartError, match=r"it does not take this master's certificate \(--etcd-cert"):
            await open_etcd_store(
                settings, MemberInfo("", "m1", "127.0.0.1"), tmp_path / "keys", etcd.WRAPPING, SystemClock()
            )
