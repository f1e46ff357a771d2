"""`Masters`: who the masters are and which of them leads, as this one knows at the moment.

In: this master, its store, and the group where the store is one. Out: what clients, the cluster's own services and the
status page are told. Only voters are told of: one that still catches up would have its clients wait.
"""

from __future__ import annotations

from collections.abc import Sequence

from barque.master.raft.messages import MemberInfo
from barque.master.store.group import Group
from barque.master.store.port import Store


class Masters:
    """`group` is None where the store's engine has no members of its own: this master is all there is to tell of."""

    def __init__(self, own: MemberInfo, store: Store, group: Group | None = None) -> None:
        self.own = own
        self._store = store
        self._group = group

    def all(self) -> Sequence[MemberInfo]:
        """The masters that vote, in the order of their names; this one alone until it knows of a group."""
        if self._group is None:
            return [self.own]
        configuration = self._group.configuration
        voting = [info for info in configuration.members if info.id in configuration.voters]
        return sorted(voting, key=lambda info: info.name) or [self.own]

    def leader(self) -> MemberInfo | None:
        """Who leads; None while none is known."""
        if self._group is None:
            return self.own if self._store.leads else None
        return self._group.configuration.info(self._group.group_figures().leader)

    def doors(self) -> list[str]:
        """The gRPC doors of all of them, `host:port`."""
        return [info.grpc_address for info in self.all()]

    def addresses(self) -> list[str]:
        """The hosts of all of them."""
        return list(dict.fromkeys(info.host for info in self.all()))

    def door_of_leader(self) -> str:
        """The gRPC door of the master that leads; "" where it is this one, or none is known."""
        leader = self.leader()
        return "" if leader is None or self._store.leads else leader.grpc_address
