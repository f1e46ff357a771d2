"""`RbacAuthorizer`: decisions by roles and bindings, remembered until one of these changes.

A decision is the same for every name of a resource unless a rule names some, so it is mostly remembered without the
name: a client that goes through thousands of objects takes one entry.
"""

from __future__ import annotations

from collections.abc import Iterator

from barque.api.policyrules import Rule
from barque.api.types.rbac_v1 import RoleRef
from barque.master.auth.attributes import NO_OPINION, Attributes, Decision
from barque.master.auth.identity import User
from barque.master.auth.rbac.grants import Grant, Grants, role_key
from barque.master.store.port import Key, Store

# Decisions of a few hundred clients; a full memory starts over.
MOST_REMEMBERED = 8192
# Requests that say more than this are decided each time, lest long words fill the memory.
LONGEST_REMEMBERED = 1024


class RbacAuthorizer:
    """Decides on what `store` has applied."""

    def __init__(self, store: Store) -> None:
        self._grants = Grants(store)
        # None stands for "it depends on the name".
        self._decided: dict[tuple[object, ...], Decision | None] = {}

    @property
    def generation(self) -> int:
        """A number that changes whenever a role or a binding has changed."""
        self._refresh()
        return self._grants.generation

    def decide(self, asked: Attributes) -> Decision:
        """Allowed, or no opinion; the reason names the binding, or the roles that bindings name in vain."""
        self._refresh()
        user, decided = asked.user, self._decided
        key = (
            user.name, user.groups, asked.verb, asked.group, asked.resource, asked.subresource, asked.namespace,
            asked.path,
        )  # fmt: skip
        found = decided.get(key, _UNKNOWN)
        if found is _UNKNOWN:
            found = self._decide(asked, any_name=True)
            self._remember(key, found, asked)
        if found is not None:
            return found
        named = (*key, asked.name)
        exact = decided.get(named)
        if exact is None:
            exact = self._decide(asked) or NO_OPINION
            self._remember(named, exact, asked)
        return exact

    def rules(self, user: User, namespace: str) -> tuple[list[Rule], list[str]]:
        """Every rule that holds for this user in the namespace ("": cluster-wide), and which roles are missing."""
        self._refresh()
        found: list[Rule] = []
        faults: list[str] = []
        for grant in self._grants.of(user, namespace):
            rules = self._grants.rules(grant.role)
            if rules is None:
                faults.append(missing_role(grant.role))
            else:
                found += rules
        return found, faults

    def granted(self, user: User) -> Iterator[tuple[str, Rule]]:
        """Every rule of this user, and in which namespace it holds, "" for everywhere."""
        self._refresh()
        for grant in self._grants.everywhere(user):
            for rule in self._grants.rules(grant.role) or ():
                yield grant.binding.namespace, rule

    def rules_of_role(self, reference: RoleRef, namespace: str) -> tuple[Rule, ...] | None:
        """The rules of the role that a binding in this namespace names; None where it is not there."""
        self._refresh()
        return self._grants.rules(role_key(reference, namespace))

    def _refresh(self) -> None:
        if self._grants.refresh():
            self._decided.clear()

    def _remember(self, key: tuple[object, ...], decision: Decision | None, asked: Attributes) -> None:
        said = (asked.user.name, asked.namespace, asked.name, asked.resource, asked.subresource, asked.path)
        if sum(map(len, said)) > LONGEST_REMEMBERED:
            return
        if len(self._decided) >= MOST_REMEMBERED:
            self._decided.clear()
        self._decided[key] = decision

    def _decide(self, asked: Attributes, *, any_name: bool = False) -> Decision | None:
        """With `any_name` whatever the name is, so None where only a rule for certain names may allow it."""
        lacking: list[str] = []
        depends = False
        for grant in self._grants.of(asked.user, asked.namespace):
            rules = self._grants.rules(grant.role)
            if rules is None:
                lacking.append(missing_role(grant.role))
                continue
            for rule in rules:
                if asked.path:
                    if rule.allows_path(asked.verb, asked.path):
                        return _allowed(grant)
                elif rule.allows(asked.verb, asked.group, asked.resource, asked.subresource):
                    if not rule.names or (not any_name and asked.name in rule.names):
                        return _allowed(grant)
                    depends = True
        if depends and any_name:
            return None
        return Decision(reason=f"RBAC: {_listed(lacking)}") if lacking else NO_OPINION


_UNKNOWN = Decision(reason="not decided yet")


def missing_role(role: Key) -> str:
    """What Kubernetes says of a role that is not there."""
    plural, _, group = role.resource.partition(".")
    return f'{plural.removesuffix("s")}.{group} "{role.name}" not found'


def _allowed(grant: Grant) -> Decision:
    return Decision(allowed=True, reason=f"RBAC: allowed by {grant}")


def _listed(faults: list[str]) -> str:
    distinct = list(dict.fromkeys(faults))
    return distinct[0] if len(distinct) == 1 else f"[{', '.join(distinct)}]"
