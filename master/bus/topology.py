"""Which nats-servers there are and how they stand to one another. Pure.

One master's server stands alone; those of several masters are a cluster. Only voters have a server: a master that is
still catching up uses theirs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from barque.master.raft.messages import Configuration, MemberInfo

# JetStream keeps at most five copies; three bear the loss of one server.
MAX_REPLICAS = 3
_ID_LETTERS = 8


class ServerPlace(NamedTuple):
    """One master's nats-server. `name` is never used again, not even by the same master joining anew.

    `door_port` is where that master shows its certificate to whoever asks: its HTTPS door.
    """

    name: str
    master: str
    host: str
    client_port: int
    route_port: int
    door_port: int = 6443

    @property
    def client_address(self) -> str:
        return f"{self.host}:{self.client_port}"

    @property
    def route_address(self) -> str:
        return f"{self.host}:{self.route_port}"


class Topology(NamedTuple):
    """All servers, in the order of their masters' names. `own` is None where this master has none (yet); `learners`
    are the names of the masters that have none and use the others'.
    """

    own: ServerPlace | None
    servers: tuple[ServerPlace, ...]
    learners: tuple[str, ...] = ()

    @property
    def others(self) -> tuple[ServerPlace, ...]:
        return tuple(place for place in self.servers if place != self.own)

    @property
    def masters(self) -> tuple[str, ...]:
        """The names of all masters."""
        return tuple(sorted({*(place.master for place in self.servers), *self.learners}))

    @property
    def clustered(self) -> bool:
        return len(self.servers) > 1

    @property
    def replicas(self) -> int:
        """How many copies of a stream there are to be."""
        return min(max(len(self.servers), 1), MAX_REPLICAS)


def topology_of(own_id: str, voters: Iterable[MemberInfo], learners: Iterable[MemberInfo] = ()) -> Topology:
    """The topology of these voting masters, as the one with `own_id` sees it."""
    places = {info.id: place_of(info) for info in sorted(voters, key=lambda info: info.name)}
    return Topology(places.get(own_id), tuple(places.values()), tuple(sorted(info.name for info in learners)))


def topology_in(own: MemberInfo, configuration: Configuration) -> Topology:
    """The topology of a group. `own` tells of this master's own doors: the group may not know yet that they moved."""
    known = [own if info.id == own.id else info for info in configuration.members]
    voters = [info for info in known if info.id in configuration.voters]
    return topology_of(own.id, voters, (info for info in known if info not in voters))


def place_of(info: MemberInfo) -> ServerPlace:
    """Where a master's server is."""
    name = f"{info.name}-{info.id[:_ID_LETTERS]}"
    return ServerPlace(name, info.name, info.host, info.bus_port, info.route_port, info.https_port)
