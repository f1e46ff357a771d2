"""What one rule allows and covers."""

from __future__ import annotations

import pytest

from barque.api.policyrules import EVERYTHING, MOST_PIECES, Rule, missing
from barque.api.types.rbac_v1 import PolicyRule


def rule(verbs: str, groups: str, resources: str, names: str = "") -> Rule:
    def listed(text: str) -> list[str]:
        return ["" if word == "core" else word for word in text.split(",")] if text else []

    return Rule.of(
        PolicyRule(
            verbs=listed(verbs), apiGroups=listed(groups), resources=listed(resources), resourceNames=listed(names)
        )
    )


def paths(verbs: str, *urls: str) -> Rule:
    return Rule.of(PolicyRule(verbs=verbs.split(","), nonResourceURLs=list(urls)))


@pytest.mark.parametrize(
    ("of", "verb", "group", "resource", "subresource", "expected"),
    [
        (rule("get", "core", "pods"), "get", "", "pods", "", True),
        (rule("get", "core", "pods"), "list", "", "pods", "", False),
        (rule("get", "core", "pods"), "get", "apps", "pods", "", False),
        (rule("get", "core", "pods"), "get", "", "pods", "log", False),
        (rule("get", "core", "pods/log"), "get", "", "pods", "log", True),
        (rule("get", "core", "pods/log"), "get", "", "pods", "", False),
        (rule("*", "*", "*"), "brew", "x.org", "tea", "hot", True),
        (rule("update", "apps", "*/scale"), "update", "apps", "deployments", "scale", True),
        (rule("update", "apps", "*/scale"), "update", "apps", "deployments", "status", False),
        (rule("update", "apps", "*/scale"), "update", "apps", "deployments", "", False),
        # As in Kubernetes: no wildcard for the subresources of one resource.
        (rule("get", "core", "pods/*"), "get", "", "pods", "log", False),
        (rule("*", "core", "pods"), "delete", "", "pods", "", True),
        (rule("get", "*", "pods"), "get", "metrics.k8s.io", "pods", "", True),
        (paths("get", "*"), "get", "", "pods", "", False),
    ],
)
def test_what_a_rule_allows(of: Rule, verb: str, group: str, resource: str, subresource: str, expected: bool) -> None:
    assert of.allows(verb, group, resource, subresource) is expected


@pytest.mark.parametrize(
    ("of", "verb", "path", "expected"),
    [
        (paths("get", "/healthz"), "get", "/healthz", True),
        (paths("get", "/healthz"), "get", "/healthz/etcd", False),
        (paths("get", "/healthz/*"), "get", "/healthz/etcd", True),
        (paths("get", "/healthz/*"), "get", "/healthz", False),
        (paths("get", "/health*"), "get", "/healthz", True),
        (paths("*", "*"), "post", "/anything", True),
        (paths("get", "/healthz"), "post", "/healthz", False),
        (rule("*", "*", "*"), "get", "/healthz", False),
    ],
)
def test_which_paths_a_rule_allows(of: Rule, verb: str, path: str, expected: bool) -> None:
    assert of.allows_path(verb, path) is expected


@pytest.mark.parametrize(
    ("own", "other", "expected"),
    [
        (rule("get,list", "core", "pods"), rule("get", "core", "pods"), True),
        (rule("get", "core", "pods"), rule("get,list", "core", "pods"), False),
        (rule("*", "*", "*"), rule("get", "apps", "deployments/scale", "web"), True),
        (rule("get", "core", "pods", "a"), rule("get", "core", "pods"), False),
        (rule("get", "core", "pods", "a,b"), rule("get", "core", "pods", "a"), True),
        (rule("get", "core", "pods", "a"), rule("get", "core", "pods", "a,b"), False),
        (rule("get", "core", "pods"), rule("get", "core", "pods", "a"), True),
        (rule("get", "apps", "*/scale"), rule("get", "apps", "deployments/scale"), True),
        (rule("get", "apps", "*/scale"), rule("get", "apps", "deployments"), False),
        (rule("get", "core", "pods"), rule("get", "core", "*"), False),
        (rule("*", "*", "*"), paths("get", "/healthz"), False),
        (paths("get", "/api/*"), paths("get", "/api/v1"), True),
        (paths("get", "/api/v1"), paths("get", "/api/*"), False),
        (paths("get", "/api*"), paths("get", "/api/*"), True),
    ],
)
def test_what_a_rule_covers_of_another(own: Rule, other: Rule, expected: bool) -> None:
    assert own.covers(other) is expected


def test_what_is_missing_is_told_piece_by_piece() -> None:
    owned = [rule("get", "core", "pods"), rule("list", "core", "pods,secrets")]
    assert missing(owned, [rule("get,list", "core", "pods")]) == []
    lacking = missing(owned, [rule("get,list,watch", "core", "pods,secrets")])
    assert sorted(map(str, lacking)) == [
        '{APIGroups:[""], Resources:["pods"], Verbs:["watch"]}',
        '{APIGroups:[""], Resources:["secrets"], Verbs:["get" "watch"]}',
    ]
    assert [str(each) for each in missing([], EVERYTHING)] == [
        '{APIGroups:["*"], Resources:["*"], Verbs:["*"]}',
        '{NonResourceURLs:["*"], Verbs:["*"]}',
    ]


def test_a_rule_of_millions_of_pieces_is_judged_whole() -> None:
    many = ",".join(f"r{number}" for number in range(300))
    huge = rule(many, many, many)
    assert huge.piece_count == 27_000_000 > MOST_PIECES
    assert missing([rule("*", "*", "*")], [huge]) == []
    assert missing([rule("get", "core", "pods")], [huge]) == [huge]
