"""The whole program of rules and what of it has changed. Pure.

`set_service` takes in one service's ports; `take_changes` tells which chains differ from those told before. The cost of
a changed endpoint is that of its service's chains alone; only a port that appears, vanishes, gets its first endpoint or
loses its last one plans the dispatch anew.

Whatever the kernel holds, `base`, `of_services` of all, and `rest` make it right. First comes what the services' chains
jump to, then these, so many at a time, then what leads to them, then what is no longer wanted goes: every state on the
way is complete.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from barque.network.iptables.chains import PROXY_JUMPS, ChainId, Rules
from barque.network.proxy.render import Door, render_base, render_dispatch, render_doors, render_service_port
from barque.network.proxy.state import ServicePort


class Changes(NamedTuple):
    """Chains to write and to remove. `filter_first`: refusals are being added, which must stand before the way goes.
    `udp`: UDP ports are among what changed, so flows may have become stale; `closed` are those that are no more.
    """

    put: dict[ChainId, Rules]
    remove: frozenset[ChainId]
    filter_first: bool = False
    udp: bool = False
    closed: tuple[ServicePort, ...] = ()

    @property
    def tables(self) -> tuple[str, str]:
        """The order of tables in which no packet finds neither a way nor a refusal."""
        return ("filter", "nat") if self.filter_first else ("nat", "filter")


class _Rendered(NamedTuple):
    """What one service has come to."""

    ports: tuple[ServicePort, ...] = ()
    doors: tuple[Door, ...] = ()
    chains: dict[ChainId, Rules] = {}  # noqa: RUF012  # never changed


class Program:
    """All chains of the service proxy on one node."""

    def __init__(self, cluster_cidr: str) -> None:
        self._cluster_cidr = cluster_cidr
        self._services: dict[str, _Rendered] = {}
        self._dispatch: dict[ChainId, Rules] = render_base() | render_dispatch(())
        self._dispatch_due = False
        self._put: dict[ChainId, Rules] = dict(self._dispatch)
        self._remove: set[ChainId] = set()
        self._more_refused = False
        self._udp_changed = False
        self._closed: list[ServicePort] = []

    @property
    def size(self) -> int:
        """How many service ports there are."""
        return sum(len(service.ports) for service in self._services.values())

    def keys(self) -> set[str]:
        """The services taken in."""
        return set(self._services)

    def ports(self) -> list[ServicePort]:
        return [port for service in self._services.values() for port in service.ports]

    def set_service(self, key: str, ports: tuple[ServicePort, ...]) -> None:
        """Take in what a service now is; `()` where it is no longer."""
        former = self._services.get(key, _Rendered())
        if ports == former.ports:
            return
        chains: dict[ChainId, Rules] = {}
        for port in ports:
            chains |= render_service_port(port, self._cluster_cidr)
        new = _Rendered(ports, tuple(door for port in ports for door in render_doors(port)), chains)
        self._dispatch_due |= new.doors != former.doors
        self._udp_changed |= _udp(ports) != _udp(former.ports)
        self._closed += [port.without_endpoints() for port in _udp(former.ports) if not port.is_among(ports)]
        self._note(former.chains, chains)
        if ports:
            self._services[key] = new
        else:
            self._services.pop(key, None)

    def take_changes(self) -> Changes:
        """What has changed since the last call."""
        if self._dispatch_due:
            doors = (door for service in self._services.values() for door in service.doors)
            dispatch = render_base() | render_dispatch(doors)
            self._more_refused = _refusals(dispatch) > _refusals(self._dispatch)
            self._note(self._dispatch, dispatch)
            self._dispatch = dispatch
            self._dispatch_due = False
        closed = tuple(self._closed)
        changes = Changes(self._put, frozenset(self._remove), self._more_refused, self._udp_changed, closed)
        self._put, self._remove, self._more_refused, self._udp_changed, self._closed = {}, set(), False, False, []
        return changes

    def chains(self) -> dict[ChainId, Rules]:
        """Every chain as it must be, as of the last `take_changes`."""
        everything = dict(self._dispatch)
        for service in self._services.values():
            everything |= service.chains
        return everything

    def base(self, present: Collection[ChainId]) -> Changes:
        """What does not depend on services, and the chains that the kernel's own jump to, as far as they lack."""
        entrances = {ChainId(jump.table, jump.target): () for jump in PROXY_JUMPS}
        lacking: dict[ChainId, Rules] = {chain: rules for chain, rules in entrances.items() if chain not in present}
        return Changes(lacking | render_base(), frozenset())

    def of_services(self, keys: Iterable[str]) -> Changes:
        """The chains of these services."""
        put: dict[ChainId, Rules] = {}
        for key in keys:
            if key in self._services:
                put |= self._services[key].chains
        return Changes(put, frozenset())

    def rest(self, present: Collection[ChainId]) -> Changes:
        """What leads to services, and the removal of those of the `present` chains that are not wanted."""
        closed = self.take_changes().closed
        unwanted = frozenset(present) - self.chains().keys()
        return Changes(self._dispatch, unwanted, filter_first=True, udp=True, closed=closed)

    def _note(self, former: dict[ChainId, Rules], new: dict[ChainId, Rules]) -> None:
        for chain, rules in new.items():
            if former.get(chain) != rules:
                self._put[chain] = rules
                self._remove.discard(chain)
        for chain in former.keys() - new.keys():
            self._remove.add(chain)
            self._put.pop(chain, None)


def _udp(ports: tuple[ServicePort, ...]) -> list[ServicePort]:
    return [port for port in ports if port.protocol == "udp"]


def _refusals(dispatch: dict[ChainId, Rules]) -> int:
    return sum(len(rules) for chain, rules in dispatch.items() if chain.table == "filter")
