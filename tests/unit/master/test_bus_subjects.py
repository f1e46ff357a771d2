"""Subjects: readable where they can be, never ambiguous, never wider than one object."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque.master.bus import subjects
from barque.master.store.port import Key


@pytest.mark.parametrize(
    ("key", "subject"),
    [
        (Key("pods", "default", "web-1"), "barque.lab.change.core.pods.default.web-1"),
        (Key("deployments.apps", "default", "web.v2"), "barque.lab.change.apps.deployments.default.web%2Ev2"),
        (Key("nodes", "", "n1.lab"), "barque.lab.change.core.nodes._.n1%2Elab"),
        (
            Key("endpointslices.discovery.k8s.io", "a", "web-x"),
            "barque.lab.change.discovery%2Ek8s%2Eio.endpointslices.a.web-x",
        ),
    ],
)
def test_change_subjects(key: Key, subject: str) -> None:
    assert subjects.change_subject("lab", key) == subject


def test_a_cluster_named_with_dots_stays_one_token() -> None:
    assert subjects.change_subjects("a.b") == "barque.a%2Eb.change.>"
    assert subjects.event_subject("a.b", Key("events", "ns", "web.17a3")) == "barque.a%2Eb.event.ns.web%2E17a3"


@given(st.text())
def test_a_token_is_never_empty_and_never_a_sign_of_nats(text: str) -> None:
    made = subjects.token(text)
    assert made
    assert not set(made) & set(".*> \t\r\n")
    assert made.isascii()


@given(st.text(), st.text())
def test_different_names_are_different_tokens(one: str, other: str) -> None:
    assert (subjects.token(one) == subjects.token(other)) == (one == other)


def test_the_marker_is_no_objects_subject() -> None:
    assert subjects.resync_subject("lab").count(".") < subjects.change_subject("lab", Key("pods", "a", "b")).count(".")
