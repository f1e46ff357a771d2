"""The masters one by one: most verbs take whichever answers, but what belongs to one master must be asked of it.

The leader alone hears every member, so what is shown of them is its view where it can be reached.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from barque.api.errors import ApiError
from barque.cli.session import translating
from barque.proto import cluster_pb2

if TYPE_CHECKING:
    from barque.cli.session import Connection, Session

# A master in the same network answers within milliseconds; one that does not within this is as good as away.
ASK_TIMEOUT_S = 5.0


class Seen(NamedTuple):
    """A StatusReply, and the master that gave it by name ("" where the masters are no group)."""

    reply: Any
    by: str


async def status(connection: Connection) -> Seen:
    """What the connected master says, without regard to any other."""
    reply = await connection.cluster.Status(cluster_pb2.StatusRequest())
    own = reply.group.member
    return Seen(reply, next((member.name for member in reply.members if own and member.id == own), own))


async def seen_by_leader(session: Session, connection: Connection) -> Seen:
    """The leader's view, or that of the connected master where the leader does not answer."""
    near = await session.call(status(connection))
    leader = next((member for member in near.reply.members if member.leader), None)
    if leader is None or leader.id == near.reply.group.member:
        return near
    found = await each_status(session, [leader.address])
    return next((seen for seen in found.values() if seen is not None), near)


async def each_status(session: Session, addresses: Sequence[str]) -> dict[str, Seen | None]:
    """What each of these masters says, all asked at once; None for one that does not answer."""

    async def ask(address: str) -> Seen | None:
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S), connected_to(session, address) as one:
                return await status(one)
        except (ApiError, TimeoutError):
            return None

    answers = await asyncio.gather(*(ask(address) for address in addresses))
    return dict(zip(addresses, answers, strict=True))


@asynccontextmanager
async def connected_to(session: Session, address: str) -> AsyncIterator[Connection]:
    """A connection to this master and no other. Raises `ApiError` where it does not answer or refuses."""
    profile = msgspec.structs.replace(session.profile, masters=[address])
    connection = session.connect(profile, lambda warning: session.screen.note(f"Warning: {warning}"))
    try:
        with translating():
            await connection.ready()
            yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def connected_to_leader(session: Session, connection: Connection) -> AsyncIterator[Connection]:
    """The leader, where it is another than the connected master and answers; else the connected master."""
    seen = await session.call(status(connection))
    leader = next((m for m in seen.reply.members if m.leader and m.id != seen.reply.group.member), None)
    if leader is None or (await each_status(session, [leader.address]))[leader.address] is None:
        yield connection
        return
    async with connected_to(session, leader.address) as one:
        yield one
