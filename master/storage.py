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
from barque.client.pki import Subject
from barque.client.renewal import RenewingIdentity
from barque.master.auth.ca import MasterPki
from barque.master.enrolment import membership
from barque.master.raft.admission import refusal
from barque.master.raft.disk import Disk
from barque.master.raft.lanes import ThreadLane
from barque.master.raft.messages import MemberInfo
from barque.master.raft.ports import Ground
from barque.master.raft.transport import PeerDoor
from barque.master.store.engine_etcd import EngineEtcd, EtcdSettings, open_etcd_store
from barque.master.store.engine_raft import EngineRaft, Joining, Settings, open_raft_store
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
    ground = Ground(clock, Disk(), ThreadLane, random.Random(), os.urandom)
    async with contextlib.AsyncExitStack() as opened:
        door = PeerDoor(lambda: identity.current)
        opened.push_async_callback(door.close)
        port = await door.listen(f"{site.listen}:{site.own.peer_port}", identity.server_credentials())
        own = msgspec.structs.replace(site.own, peer_port=port)
        if joined is None:
            engine = await open_raft_store(path, ground, door.attach, Settings(), founding=own)
        else:
            own = msgspec.structs.replace(own, id=joined.info.id)
            joining = Joining(joined.cluster_id, own)
            engine = await open_raft_store(path, ground, door.attach, Settings(), joining=joining)
        opened.push_async_callback(engine.close)

        def admit(cluster: str, member: str, subject: Subject) -> str:
            return refusal(engine.standing, engine.cluster_id, cluster, member, subject)

        door.serve(engine.cluster_id, msgspec.structs.replace(own, id=engine.member_id), admit)
        yield engine


@contextlib.asynccontextmanager
async def _on_etcd(site: Site, pki: MasterPki, clock: Clock) -> AsyncIterator[Engine]:
    assert site.etcd is not None
    wrapping = wrapping_key(pki.authority.key_pem)
    engine = await open_etcd_store(site.etcd, site.own, site.data_dir / "keys", wrapping, clock)
    try:
        yield engine
    finally:
        await engine.close()
