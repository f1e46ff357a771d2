"""Which masters there are now: asked of one of them, used by a connection, and kept in the profile it came from.

A list is believed only where the master that tells it stands in it under the very address by which it was reached. Who
came another way (loopback, a forwarded port, a name) would be told addresses that may lead nowhere for them, and keeps
what they have.
"""

from __future__ import annotations

from collections.abc import Sequence

from barque.client.remote import Connection
from barque.proto import cluster_pb2

_DEADLINE_S = 3.0


def plan_masters(known: Sequence[str], reached: str, told: Sequence[str]) -> list[str] | None:
    """The list to use from now on, None to keep the one that is known. The order is the masters' own, so that it does
    not change with whoever tells it.
    """
    if reached not in told or set(told) == set(known):
        return None
    return list(dict.fromkeys(told))


def voters_of(reply: cluster_pb2.StatusReply) -> list[cluster_pb2.Member]:
    """The masters that vote; one that does not yet still catches up, and would have its clients wait."""
    return [member for member in reply.members if member.voter or not reply.HasField("group")]


async def learn_masters(connection: Connection) -> list[str] | None:
    """Ask the master in use who the masters are; the connection uses what is new, which is returned. Raises what a stub
    raises, and 503 where no master is reachable.
    """
    channels = connection.channels
    await connection.ready()
    reached = channels.master
    reply = await connection.cluster.Status(cluster_pb2.StatusRequest(), timeout=_DEADLINE_S)
    found = plan_masters(channels.masters, reached, [member.address for member in voters_of(reply)])
    if found is not None:
        channels.learn(found)
    return found
