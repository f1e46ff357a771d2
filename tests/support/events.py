"""Events through real masters, and what those say of their bus."""

from __future__ import annotations

import asyncio

from barque.api.errors import ApiError
from barque.api.types import core_v1 as core
from barque.api.types.meta_v1 import ObjectMeta
from barque.client.remote import Connection
from barque.proto import cluster_pb2
from tests.support.masters import Masters


def bus_of(masters: Masters, name: str) -> cluster_pb2.Component:
    """What this master says of the bus. Raises `KeyError` where it says nothing."""
    return {part.name: part for part in masters.status(name).components}["bus"]


async def make_event(connection: Connection, name: str) -> None:
    """As soon as the bus takes it; nothing where it is there."""
    about = core.ObjectReference(kind="Namespace", name="default", namespace="default")
    event = core.Event(metadata=ObjectMeta(name=name, namespace="default"), involvedObject=about, reason="Tested")
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
    """Of the namespace `default`."""
    return {event.metadata.name for event in (await connection.client.list(core.Event, "default")).items}
