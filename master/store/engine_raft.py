"""The door of the Raft engine: `open_raft_store`, from a directory to an engine that takes part.

A new directory becomes a group of one (`founding`), or waits until the leader of the cluster it joins calls
(`joining`). One that is not new goes on as who it is; a log of a release without groups becomes a group of one.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from barque.client.clock import timestamp
from barque.master.raft.disk import Disk
from barque.master.raft.errors import Remedy, StoreStartError
from barque.master.raft.lanes import done_in
from barque.master.raft.messages import Configuration, MemberInfo
from barque.master.raft.ports import Connector, Ground, Lane
from barque.master.store.directory import Directory, Identity, open_directory
from barque.master.store.engine import EngineRaft, Settings, Ship
from barque.master.store.hub import Hub
from barque.master.store.keyring import KeyRing, open_ring
from barque.master.store.recovery import recover

__all__ = ["EngineRaft", "Joining", "Settings", "open_raft_store"]

T = TypeVar("T")

# The key ring's directory, beside the store's.
_KEYS = "keys"
# A master that is alone leads as soon as its disk has taken its first entry.
_LEAD_S = 5.0


class Joining(NamedTuple):
    """The cluster that a new member belongs to, and who it is; an `info` without an id gets one."""

    cluster_id: str
    info: MemberInfo


async def open_raft_store(
    path: Path,
    ground: Ground,
    connector: Connector,
    settings: Settings = Settings(),
    *,
    founding: MemberInfo | None = None,
    joining: Joining | None = None,
    authority: str = "",
) -> EngineRaft:
    """Open the store in the directory `path`, creating it at the first start; its keys are kept in `keys` beside it.

    At a later start `founding` tells where this member's doors are now; its id may be "". `authority` names the
    cluster's CA: data that was written under another is refused. Raises `StoreStartError` (in use, damaged, another
    member's, a key missing, written by a newer release) with one line that says what to do, and `OSError` where the
    disk does not work.
    """
    new = _identity(ground, founding, joining, authority)
    lane = ground.lanes("store-snapshot")
    hub = Hub(ground.clock, settings.hub)
    own = joining.info if joining is not None else founding

    def start() -> Ship:
        directory = open_directory(path, ground.disk, new)
        try:
            return _ship(directory, ground, hub, settings, own, lane)
        except BaseException:
            directory.release()
            raise

    try:
        ship = await done_in(lane, start)
    except BaseException:
        lane.close()
        raise
    engine = EngineRaft(ship, ground, connector, settings)
    engine.start()
    if engine.alone:
        # A disk that refuses leaves it as it is: reads go on, and writes are refused with the disk's words.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LEAD_S):
                await engine.led(leads=True)
    return engine


def _identity(ground: Ground, founding: MemberInfo | None, joining: Joining | None, authority: str) -> Identity:
    own = joining.info if joining is not None else founding
    member_id = (own.id if own is not None else "") or ground.entropy(8).hex()
    name = own.name if own is not None else ""
    if joining is not None:
        return Identity(joining.cluster_id, member_id, name, founded=False, alone=False, authority=authority)
    cluster_id = str(uuid.UUID(bytes=ground.entropy(16), version=4))
    return Identity(cluster_id, member_id, name, founded=True, alone=True, authority=authority)


def _ship(
    directory: Directory, ground: Ground, hub: Hub, settings: Settings, own: MemberInfo | None, lane: Lane
) -> Ship:
    identity, disk = directory.identity, ground.disk
    info = msgspec.structs.replace(own, id=identity.member_id) if own is not None else None
    first = Configuration()
    if identity.founded:
        known = info or MemberInfo(identity.member_id, identity.name, "")
        first = Configuration(voters=(identity.member_id,), members=(known,))
    ring = open_ring(directory.path.with_name(_KEYS), disk, ground.entropy)
    _check_emptied(directory, disk, ring)
    recovered = recover(directory, disk, hub, ring, settings.segment_bytes, first)
    try:
        if ring.empty:
            # A log that is older than its ring may hold Secrets as they are: they are sealed soon.
            ring.add_key(timestamp(ground.clock.wall()), settled=directory.first_start)
        if directory.first_start:
            directory.keep_identity()
    except BaseException:
        recovered.wal.close()
        raise
    return Ship(directory, recovered, ring, hub, info, lane)


def _check_emptied(directory: Directory, disk: Disk, ring: KeyRing) -> None:
    """A directory without anything, whose keys are there, was in use. Its member has acknowledged what it does not know
    any more, so it must not take part again; and one that founded a cluster would found another beside it. Raises
    `StoreStartError`.
    """
    # The log is made before the first key.
    if not directory.first_start or ring.empty or any(n.endswith(".wal") for n in disk.names(directory.path)):
        return
    identity = directory.identity
    what = f"{directory.path} is empty, and {ring.path} is not: the data of this master is gone"
    rejoin = Remedy(identity.name)
    if not identity.founded:
        raise StoreStartError(f"{what}; {rejoin}")
    raise StoreStartError(
        f"{what}; where there are others, {rejoin}; where there are none, restore the directory from a backup, or "
        f"rename {ring.path.name} to another name ending in .json, to begin with an empty cluster"
    )
