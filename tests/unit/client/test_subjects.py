"""Patterns of the change feed: what they match, and what is refused before anyone waits for it in vain."""

from __future__ import annotations

import pytest

from barque.api.errors import ApiError
from barque.client.subjects import EVERYTHING, Pattern, parse, text_of, token


@pytest.mark.parametrize(
    ("subject", "pattern"),
    [
        (">", EVERYTHING),
        ("apps.>", Pattern("apps")),
        ("*.*.default.>", Pattern(namespace="default")),
        ("apps.deployments.default.>", Pattern("apps", "deployments", "default")),
        ("core.nodes._.n1", Pattern("core", "nodes", "_", "n1")),
        ("discovery%2ek8s%2Eio.endpointslices.*.*", Pattern("discovery%2Ek8s%2Eio", "endpointslices")),
        ("apps.deployments.default.w%65b", Pattern("apps", "deployments", "default", "web")),
    ],
)
def test_patterns(subject: str, pattern: Pattern) -> None:
    assert parse(subject) == pattern


@pytest.mark.parametrize(
    ("subject", "why"),
    [
        ("apps.deployments", "it has 2 of 4 parts, so it matches nothing"),
        ("", "it has 1 of 4 parts"),
        ("core.pods.default.web.v2", "a dot inside a name is written %2E"),
        ("core.pods.default.web.>", "it has more than 4 parts"),
        (">.pods.default.web", 'group: ">" stands for all that follows'),
        ("core..default.web", "resource: it is empty"),
        ("core.pods.def*.web", 'namespace: "def\\*" is no token'),
        ("core.pods.default.%zz", 'name: "%zz" is no token'),
        ("core.pods.default.%ff", 'name: "%ff" is no token'),
        ("core.deployments.default.>", "resource: barque does not serve resource deployments"),
        ("core.events.default.>", "resource: events are not among the changes"),
        ("core.nodes.default.>", 'namespace: nodes have no namespace: write "_"'),
        ("core.pods._.>", "namespace: pods stand in namespaces"),
    ],
)
def test_what_can_never_match_is_refused(subject: str, why: str) -> None:
    with pytest.raises(ApiError, match=why) as refused:
        parse(subject)
    assert refused.value.code == 400
    assert refused.value.message.startswith(f'the subject "{subject}" is invalid: ')


def test_what_matches() -> None:
    pattern = parse("core.pods.*.web")
    found = ["core.pods.a.web", "core.pods.b.web", "core.pods.a.db", "apps.pods.a.web", "core.pods._", "RESYNC"]
    assert [subject for subject in found if pattern.matches(subject)] == [
        "core.pods.a.web",
        "core.pods.b.web",
        "RESYNC",
    ]


@pytest.mark.parametrize("text", ["web", "web.v2", "", "ä>*", "100%"])
def test_tokens_are_read_back(text: str) -> None:
    assert text_of(token(text)) == text
