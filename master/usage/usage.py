"""`Usage`: all of this room in one, as the daemon wires it.

In: samples of workers that beat here (`hear`), those of others over the bus. Out: the view of metrics.k8s.io, and one
line of health.
"""

from __future__ import annotations

from collections.abc import Callable

from barque.client.clock import Clock
from barque.master.bus.link import Link
from barque.master.bus.usage import UsageExchange
from barque.master.store.port import Store
from barque.master.usage.table import UsageTable
from barque.master.usage.view import UsageView
from barque.proto.cluster_pb2 import Component


class Usage:
    """`hear(node, sample)` returns at once; `run()` goes on until cancelled. The arguments are `UsageExchange`'s."""

    def __init__(
        self, store: Store, link: Link, cluster: str, own: str, clock: Clock, others: Callable[[], bool]
    ) -> None:
        self.table = UsageTable(store, clock)
        self.view = UsageView(store, self.table)
        self._exchange = UsageExchange(link, cluster, own, self.table.take, clock, others)
        self.hear = self._exchange.hear
        self.run = self._exchange.run

    def health(self) -> Component:
        """Usage in the cluster's status: what is known, or what is missing."""
        fault = self._exchange.fault
        return Component(name="usage", healthy=not fault, message=fault or self.table.remark())
