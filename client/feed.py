"""The change feed as a process outside of the masters follows it: through any of them, resumed on another one.

`follow` is one call, until it breaks; `subjects` has what may be asked for. What came last is known by its sequence, on
every master the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Literal, NamedTuple

import grpc
import grpc.aio
import msgspec

from barque.api.errors import unavailable
from barque.client import wire
from barque.client.remote import Connection
from barque.proto import feed_pb2


class Change(msgspec.Struct):
    """A message of the feed. After RESYNC, whose object is None, read the state anew: changes up to `revision` are
    missing. `generation` rises with each RESYNC and with each new stream.
    """

    revision: int
    verb: Literal["ADDED", "MODIFIED", "DELETED", "RESYNC"]
    cluster: str
    generation: int
    object: msgspec.Raw


class FeedEntry(NamedTuple):
    """One message as it stands in the stream; `subject` is what follows `barque.<cluster>.change.`."""

    sequence: int
    subject: str
    message: bytes


class FeedPage(NamedTuple):
    """Entries in order; `sequence` is what to go on after, also where there are none."""

    entries: list[FeedEntry]
    sequence: int


async def follow(connection: Connection, subject: str, after: int) -> AsyncGenerator[FeedPage, None]:
    """The entries after a sequence, 0 for those from now on; the first page tells where that is.

    Raises 503 when the call breaks, and the next one goes to another master; 410 where entries are missing. The caller
    closes it.
    """
    await connection.ready()
    master = connection.master
    call = connection.feed.Follow(feed_pb2.FollowRequest(subject=subject, after=after))
    try:
        async for batch in call:
            entries = [FeedEntry(entry.sequence, entry.subject, entry.message) for entry in batch.entries]
            yield FeedPage(entries, batch.sequence)
        raise unavailable(f"the master {master} ended the feed")
    except grpc.aio.AioRpcError as error:
        ended = wire.api_error(error)
        if ended.code == 503:
            connection.channels.move_on(master)
        raise ended from error
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise unavailable(f"the master {master} ended the feed") from None
    finally:
        call.cancel()
