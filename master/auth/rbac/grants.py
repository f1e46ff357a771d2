"""`Grants`: the bindings of the store by whom they give rights to, and the rules of the roles they name.

`refresh` looks whether any of the four kinds has changed, which costs a fraction of a microsecond where none has, and
takes in what did: so there is no moment at which a write that was acknowledged here does not count yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from barque.api import codec
from barque.api.defaults.rbac import GROUP
from barque.api.policyrules import Rule
from barque.api.types.rbac_v1 import ClusterRole, ClusterRoleBinding, Role, RoleBinding, RoleRef, Subject
from barque.master.auth.identity import User
from barque.master.store.port import Key, Store, Stored

ROLES, CLUSTER_ROLES = f"roles.{GROUP}", f"clusterroles.{GROUP}"
ROLE_BINDINGS, CLUSTER_ROLE_BINDINGS = f"rolebindings.{GROUP}", f"clusterrolebindings.{GROUP}"
RESOURCES = (ROLES, CLUSTER_ROLES, ROLE_BINDINGS, CLUSTER_ROLE_BINDINGS)
_ROLE_TYPES: dict[str, type[Role | ClusterRole]] = {ROLES: Role, CLUSTER_ROLES: ClusterRole}
_BINDING_TYPES: dict[str, type[RoleBinding | ClusterRoleBinding]] = {
    ROLE_BINDINGS: RoleBinding,
    CLUSTER_ROLE_BINDINGS: ClusterRoleBinding,
}
_ACCOUNT = "system:serviceaccount:"

# A namespace, "" for the cluster, and a user or a group there.
_Place = tuple[str, str, str]


class Grant(NamedTuple):
    """One subject of one binding. `role` is the store key of its role."""

    binding: Key
    role: Key
    subject: Subject

    def __str__(self) -> str:
        """As Kubernetes tells by what a request is allowed."""
        binding, kind = self.binding, "ClusterRole" if self.role.resource == CLUSTER_ROLES else "Role"
        where = f'RoleBinding "{binding.name}/{binding.namespace}"'
        if not binding.namespace:
            where = f'ClusterRoleBinding "{binding.name}"'
        return f'{where} of {kind} "{self.role.name}" to {self._subject}'

    @property
    def _subject(self) -> str:
        subject = self.subject
        if subject.kind != "ServiceAccount":
            return f'{subject.kind} "{subject.name}"'
        return f'{subject.kind} "{subject.name}/{subject.namespace or self.binding.namespace}"'


class Grants:
    """See the module's text. Everything is asked after a `refresh`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen = -1
        self.generation = -1
        self._known: dict[str, dict[Key, Stored]] = {resource: {} for resource in RESOURCES}
        self._rules: dict[Key, tuple[Rule, ...]] = {}
        self._granted: dict[_Place, dict[tuple[Key, int], Grant]] = {}
        self._places: dict[Key, list[tuple[_Place, int]]] = {}

    def refresh(self) -> bool:
        """Take in what has changed; whether anything has."""
        revision = self._store.revision
        if revision == self._seen:
            return False
        self._seen = revision
        generation = self._store.newest(RESOURCES)
        if generation == self.generation:
            return False
        self.generation = generation
        for resource in RESOURCES:
            self._take_in(resource)
        return True

    def of(self, user: User, namespace: str) -> Iterator[Grant]:
        """The grants that hold for this user in the namespace: the cluster's first, then those made in it."""
        for place in ("", namespace) if namespace else ("",):
            yield from self._at(place, "User", user.name)
            for group in user.groups:
                yield from self._at(place, "Group", group)

    def everywhere(self, user: User) -> Iterator[Grant]:
        """All grants of this user, in whatever namespace."""
        mine = {("User", user.name), *(("Group", group) for group in user.groups)}
        for (_, kind, name), grants in self._granted.items():
            if (kind, name) in mine:
                yield from grants.values()

    def rules(self, role: Key) -> tuple[Rule, ...] | None:
        """The rules of a role; None where it is not there."""
        return self._rules.get(role)

    def _at(self, namespace: str, kind: str, name: str) -> Iterable[Grant]:
        found = self._granted.get((namespace, kind, name))
        return () if found is None else found.values()

    def _take_in(self, resource: str) -> None:
        known = self._known[resource]
        present = {stored.key: stored for stored in self._store.list(resource).items}
        for key in known.keys() - present.keys():
            self._forget(key)
        for key, stored in present.items():
            before = known.get(key)
            if before is stored or (before is not None and before.revision == stored.revision):
                continue
            self._forget(key)
            if resource in _ROLE_TYPES:
                role = codec.decode(_ROLE_TYPES[resource], stored.json)
                self._rules[key] = tuple(map(Rule.of, role.rules))
            else:
                self._bind(key, codec.decode(_BINDING_TYPES[resource], stored.json))
        self._known[resource] = present

    def _bind(self, key: Key, binding: RoleBinding | ClusterRoleBinding) -> None:
        role = role_key(binding.roleRef or RoleRef(), key.namespace)
        for number, subject in enumerate(binding.subjects):
            whom = _whom(subject, key.namespace)
            if whom is None:
                continue
            place = (key.namespace, *whom)
            self._granted.setdefault(place, {})[key, number] = Grant(key, role, subject)
            self._places.setdefault(key, []).append((place, number))

    def _forget(self, key: Key) -> None:
        self._rules.pop(key, None)
        for place, number in self._places.pop(key, ()):
            grants = self._granted[place]
            del grants[key, number]
            if not grants:
                del self._granted[place]


def role_key(reference: RoleRef, namespace: str) -> Key:
    """Where the role that a binding of this namespace names is kept."""
    if reference.kind == "Role":
        return Key(ROLES, namespace, reference.name)
    return Key(CLUSTER_ROLES, "", reference.name)


def _whom(subject: Subject, namespace: str) -> tuple[str, str] | None:
    """The user or group that a subject of a binding in this namespace is."""
    if subject.kind != "ServiceAccount":
        return (subject.kind, subject.name) if subject.kind in ("User", "Group") else None
    where = subject.namespace or namespace
    return ("User", f"{_ACCOUNT}{where}:{subject.name}") if where else None
