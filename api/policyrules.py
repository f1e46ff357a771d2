"""`Rule`: one PolicyRule of RBAC, made ready to be asked. Pure.

Follows Kubernetes' evaluation helpers: `*` is every verb, group or resource; `*/scale` that subresource of every
resource; `pods` the resource without its subresources. A path that ends in `*` is every path that begins so. What a
rule covers of another is judged piece by piece, each piece of a single verb, group and resource.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import NamedTuple

from barque.api.types.rbac_v1 import PolicyRule

ALL = "*"
# Rules of more pieces must be covered whole, by a single rule: a few lines of a manifest can make billions.
MOST_PIECES = 2048


class Rule(NamedTuple):
    """As a PolicyRule; each part a set, but for the paths, of which a few are gone through."""

    verbs: frozenset[str]
    groups: frozenset[str] = frozenset()
    resources: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    paths: tuple[str, ...] = ()

    @classmethod
    def of(cls, rule: PolicyRule) -> Rule:
        return cls(
            frozenset(rule.verbs), frozenset(rule.apiGroups), frozenset(rule.resources), frozenset(rule.resourceNames),
            tuple(rule.nonResourceURLs),
        )  # fmt: skip

    def policy_rule(self) -> PolicyRule:
        return PolicyRule(
            verbs=sorted(self.verbs), apiGroups=sorted(self.groups), resources=sorted(self.resources),
            resourceNames=sorted(self.names), nonResourceURLs=list(self.paths),
        )  # fmt: skip

    def allows(self, verb: str, group: str, resource: str, subresource: str) -> bool:
        """Whether it allows this of resources, of those that it names if it names any."""
        if verb not in self.verbs and ALL not in self.verbs:
            return False
        if group not in self.groups and ALL not in self.groups:
            return False
        if ALL in self.resources:
            return True
        if not subresource:
            return resource in self.resources
        return f"{resource}/{subresource}" in self.resources or f"*/{subresource}" in self.resources

    def allows_path(self, verb: str, path: str) -> bool:
        if verb not in self.verbs and ALL not in self.verbs:
            return False
        return any(_path_covers(own, path) for own in self.paths)

    def covers(self, other: Rule) -> bool:
        """Whether all that `other` allows is allowed by this rule."""
        return (
            _has_all(self.verbs, other.verbs)
            and _has_all(self.groups, other.groups)
            and (ALL in self.resources or all(self._covers_resource(resource) for resource in other.resources))
            and all(any(_path_covers(own, path) for own in self.paths) for path in other.paths)
            and (not self.names or (bool(other.names) and other.names <= self.names))
        )

    def _covers_resource(self, resource: str) -> bool:
        if resource in self.resources:
            return True
        _, slash, subresource = resource.partition("/")
        return bool(slash) and f"*/{subresource}" in self.resources

    def pieces(self) -> Iterator[Rule]:
        """The same as rules of a single verb and a single group, resource and name, or path."""
        for verb, path in product(sorted(self.verbs), self.paths):
            yield Rule(frozenset((verb,)), paths=(path,))
        single = (sorted(self.groups), sorted(self.resources), sorted(self.names) or [""], sorted(self.verbs))
        for group, resource, name, verb in product(*single):
            names = frozenset((name,)) if name else frozenset[str]()
            yield Rule(frozenset((verb,)), frozenset((group,)), frozenset((resource,)), names)

    @property
    def piece_count(self) -> int:
        of_resources = len(self.groups) * len(self.resources) * max(1, len(self.names))
        return len(self.verbs) * (of_resources + len(self.paths))

    def __str__(self) -> str:
        """As Kubernetes writes a rule in one line."""
        parts = (
            ("APIGroups", sorted(self.groups)),
            ("Resources", sorted(self.resources)),
            ("NonResourceURLs", list(self.paths)),
            ("ResourceNames", sorted(self.names)),
            ("Verbs", sorted(self.verbs)),
        )
        return "{" + ", ".join(f"{name}:{quoted(values)}" for name, values in parts if values) + "}"


EVERYTHING = (
    Rule(frozenset((ALL,)), frozenset((ALL,)), frozenset((ALL,))),
    Rule(frozenset((ALL,)), paths=(ALL,)),
)


def missing(owned: Sequence[Rule], wanted: Iterable[Rule]) -> list[Rule]:
    """What of the wanted rules the owned ones do not allow, pieces that differ in their verbs alone put together."""
    lacking: list[Rule] = []
    for rule in wanted:
        if any(own.covers(rule) for own in owned):
            continue
        pieces = rule.pieces() if rule.piece_count <= MOST_PIECES else iter((rule,))
        lacking += [piece for piece in pieces if not any(own.covers(piece) for own in owned)]
    return _compacted(lacking)


def quoted(words: Iterable[str]) -> str:
    """A list of words as Go's %q writes it."""
    return "[" + " ".join('"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"' for word in words) + "]"


def _compacted(rules: Iterable[Rule]) -> list[Rule]:
    verbs: dict[Rule, frozenset[str]] = {}
    for rule in rules:
        but_verbs = rule._replace(verbs=frozenset())
        verbs[but_verbs] = verbs.get(but_verbs, frozenset()) | rule.verbs
    return [rule._replace(verbs=of_rule) for rule, of_rule in verbs.items()]


def _has_all(own: frozenset[str], other: frozenset[str]) -> bool:
    return ALL in own or other <= own


def _path_covers(own: str, path: str) -> bool:
    if own in (ALL, path):
        return True
    return own.endswith(ALL) and path.startswith(own.rstrip(ALL))
