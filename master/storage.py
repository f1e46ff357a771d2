"""Where a master's state is: a Raft group with its peers' door, or an etcd that the user runs. `open_storage` opens it.

Part of the composition root: it wires the store's engine with what it stands on.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from barque.client.clock import Clock
from barque.client.pki import Subject, pin_of
from barque.client.renewal import RenewingIdentity
from barque.master.auth.ca import MasterPki
from barque.master.enrolment import membership, on_etcd
from barque.master.raft.admission import refusal, removal
from barque.master.raft.disk import Disk
from barque.master.raft.lanes import ThreadLane
from barque.master.raft.messages import MemberInfo
from barque.master.raft.ports import Ground
from barque.master.raft.transport import PeerDoor
from barque.master.store.engine_etcd import EngineEtcd, EtcdSettings, open_etcd_store
from barque.master.store.engine_raft import EngineRaft, Joining, Settings, open_raft_store
from barque.master.store.etcd.place import Place, refuse_etcd, refuse_raft, remember, remembered
from barque.master.store.etcd.shared_ring import wrapping_key

Engine = EngineRaft | EngineEtcd


class Site(NamedTuple):
    """Where this master is: `own` without an id yet. `etcd` is None where the masters' own Raft keeps the state."""

    data_dir: Path
    own: MemberInfo
    listen: str
    etcd: EtcdSettings | None = None


@contextlib.asynccontextmanager
async def open_storage(site: Site, pki: MasterPki, identity: RenewingIdentity, clock: Clock) -> AsyncIterator[Engine]:
    """The store, closed at the end. Raises `StoreStartError`, `JoinError`, `ValueError`, and `OSError` where disk or
    port refuse.
    """
    opened = _on_etcd(site, pki, clock) if site.etcd is not None else _on_raft(site, identity, clock)
    async with opened as engine:
        yield engine


@contextlib.asynccontextmanager
async def _on_raft(site: Site, identity: RenewingIdentity, clock: Clock) -> AsyncIterator[Engine]:
    joined, path = membership(site.data_dir), site.data_dir / "store"
    refuse_raft(site.data_dir)
    ground = Ground(clock, Disk(), ThreadLane, random.Random(), os.urandom)
    async with contextlib.AsyncExitStack() as opened:
        door = PeerDoor(lambda: identity.current)
        opened.push_async_callback(door.close)
        port = await door.listen(f"{site.listen}:{site.own.peer_port}", identity.server_credentials())
        own = msgspec.structs.replace(site.own, peer_port=port)
        founding: MemberInfo | None = own
        joining: Joining | None = None
        if joined is not None:
            own = msgspec.structs.replace(own, id=joined.info.id)
            founding, joining = None, Joining(joined.cluster_id, own)
        engine = await open_raft_store(
            path, ground, door.attach, Settings(), founding=founding, joining=joining,
            authority=pin_of(identity.current.ca_pem),
        )  # fmt: skip
        opened.push_async_callback(engine.close)

        def admit(cluster: str, member: str, subject: Subject) -> str:
            return refusal(engine.standing, engine.cluster_id, cluster, member, subject)

        def refused(why: str) -> None:
            if why == removal(engine.member_id):
                engine.dismissed()

        door.serve(engine.cluster_id, msgspec.structs.replace(own, id=engine.member_id), admit, refused)
        yield engine


@contextlib.asynccontextmanager
async def _on_etcd(site: Site, pki: MasterPki, clock: Clock) -> AsyncIterator[Engine]:
    etcd, data_dir = site.etcd, site.data_dir
    assert etcd is not None
    refuse_etcd(data_dir)
    joined, place = membership(data_dir), remembered(data_dir)
    own, cluster_id = site.own, "" if place is None else place.cluster_id
    if joined is not None:
        own = msgspec.structs.replace(own, id=joined.info.id)
        cluster_id = cluster_id or (joined.cluster_id if on_etcd(joined.settings) else "")
    wrapping = wrapping_key(pki.authority.key_pem)
    engine = await open_etcd_store(etcd, own, data_dir / "keys", wrapping, clock, cluster_id=cluster_id)
    try:
        remember(data_dir, Place(engine.cluster_id, etcd.endpoints.urls, etcd.prefix))
        yield engine
    finally:
        await engine.close()
