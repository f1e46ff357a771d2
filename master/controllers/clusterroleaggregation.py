"""Cluster roles that are put together of others: the rules of all that their `aggregationRule` selects.

In: an informer of ClusterRoles. Out: the rules of each role that has an aggregation rule, in the order of the names of
those that they come from, each once. Follows Kubernetes' clusterrole-aggregation-controller.
"""

from __future__ import annotations

import msgspec

from barque.api import selectors
from barque.api.types.rbac_v1 import ClusterRole, PolicyRule
from barque.client.client import Client
from barque.client.clock import Clock
from barque.client.informers import Informers
from barque.client.queue import WorkQueue


class ClusterRoleAggregationController:
    """Reconciles ClusterRoles by name."""

    name = "clusterrole-aggregation"

    def __init__(self, client: Client, informers: Informers, clock: Clock) -> None:
        self.queue = WorkQueue(clock)
        self._client = client
        self._roles = informers.of(ClusterRole)
        self._roles.add_handler(self._handle)

    def _handle(self, old: ClusterRole | None, new: ClusterRole | None) -> None:
        """Any role may be a part of any other: there are some hundreds at most, and they seldom change."""
        for role in self._roles.list():
            if role.aggregationRule is not None:
                self.queue.add(role.metadata.name)

    async def reconcile(self, key: str) -> float | None:
        role = self._roles.get(key)
        if role is None or role.aggregationRule is None:
            return None
        rules = aggregated_rules(role, self._roles.list())
        if rules != role.rules:
            await self._client.update(msgspec.structs.replace(role, rules=rules))
        return None


def aggregated_rules(role: ClusterRole, all_roles: list[ClusterRole]) -> list[PolicyRule]:
    """The rules of a role that has an aggregation rule."""
    assert role.aggregationRule is not None
    rules: list[PolicyRule] = []
    for selector in role.aggregationRule.clusterRoleSelectors:
        wanted = selectors.from_label_selector(selector)
        chosen = [each for each in all_roles if wanted.matches(each.metadata.labels)]
        for each in sorted(chosen, key=lambda each: each.metadata.name):
            if each.metadata.name != role.metadata.name:
                rules += [rule for rule in each.rules if rule not in rules]
    return rules
