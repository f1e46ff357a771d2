"""How many Events may be written, to the token."""

from __future__ import annotations

import contextlib
import itertools

import pytest

from barque.api.errors import ApiError
from barque.api.types import core_v1, events_v1
from barque.api.types.core_v1 import EventSource, ObjectReference
from barque.master.admission.events import DEFAULT_LIMITS, EventLimit, EventLimits

WEB = ObjectReference(kind="Pod", namespace="default", name="web", uid="u1", apiVersion="v1")
DB = ObjectReference(kind="Pod", namespace="default", name="db", uid="u2", apiVersion="v1")
WORKER = EventSource(component="worker", host="n1")


def an_event(about: ObjectReference = WEB, source: EventSource = WORKER) -> core_v1.Event:
    return core_v1.Event(involvedObject=about, source=source)


def admitted(
    limits: EventLimits, count: int, now: float, event: core_v1.Event | events_v1.Event, user: str = "u", ns: str = "n"
) -> int:
    """How many of `count` writes at one moment are let in."""
    found = 0
    for _ in range(count):
        with contextlib.suppress(ApiError):
            limits.admit(event, ns, user, now)
            found += 1
    return found


def test_a_burst_and_then_the_rate() -> None:
    limits = EventLimits([EventLimit("SourceAndObject", 25, 50)])
    assert admitted(limits, 100, 0.0, an_event()) == 50
    assert admitted(limits, 100, 1.0, an_event()) == 25
    assert [admitted(limits, 10, 1.0 + n / 25, an_event()) for n in range(1, 6)] == [1, 1, 1, 1, 1]
    assert admitted(limits, 100, 3600.0, an_event()) == 50


def test_the_words_are_those_of_kubernetes() -> None:
    limits = EventLimits([EventLimit("SourceAndObject", 0.25, 1)])
    admitted(limits, 1, 0.0, an_event())
    with pytest.raises(ApiError) as refused:
        limits.admit(an_event(), "default", "u", 0.0)
    assert refused.value.message == (
        "Too many requests: limit reached on type SourceAndObject for key workern1Poddefaultwebu1v1"
    )
    assert (refused.value.code, refused.value.reason) == (429, "TooManyRequests")
    assert refused.value.details is not None
    assert refused.value.details.retryAfterSeconds == 4


def test_one_object_leaves_the_others_alone() -> None:
    """What is refused takes nothing from the wider limits, in whichever order they are given."""
    limits = EventLimits([EventLimit("Server", 100, 100), EventLimit("SourceAndObject", 10, 10)])
    assert admitted(limits, 10_000, 0.0, an_event()) == 10
    assert admitted(limits, 20, 0.0, an_event(DB)) == 10
    assert admitted(limits, 20, 0.0, an_event(source=EventSource(component="worker", host="n2"))) == 10
    assert limits.refused == 9990 + 10 + 10


def test_both_groups_count_together() -> None:
    limits = EventLimits([EventLimit("SourceAndObject", 10, 10)])
    assert admitted(limits, 6, 0.0, an_event()) == 6
    assert admitted(limits, 10, 0.0, events_v1.Event(regarding=WEB, deprecatedSource=WORKER)) == 4
    assert admitted(limits, 20, 0.0, events_v1.Event()) == 10


@pytest.mark.parametrize(("type", "user", "namespace"), [("User", "other", "n"), ("Namespace", "u", "other")])
def test_by_user_and_by_namespace(type: str, user: str, namespace: str) -> None:
    limits = EventLimits([EventLimit(type, 1, 2)])  # type: ignore[arg-type]
    assert admitted(limits, 5, 0.0, an_event()) == 2
    assert admitted(limits, 5, 0.0, an_event(DB)) == 0
    assert admitted(limits, 5, 0.0, an_event(), user, namespace) == 2


def test_the_server_bears_what_a_cluster_is_to_record() -> None:
    limits = EventLimits()
    objects = [ObjectReference(kind="Pod", name=f"p{n}") for n in range(1500)]
    for second in range(5):
        assert sum(admitted(limits, 1, float(second), an_event(about)) for about in objects) == 1500
    assert DEFAULT_LIMITS[0] == EventLimit("SourceAndObject", 25, 50, 4096)


def test_one_user_leaves_half_to_the_others() -> None:
    """Somebody who makes up an object for each Event."""
    limits = EventLimits()
    made_up = (an_event(ObjectReference(kind="Pod", name=f"p{n}")) for n in itertools.count())
    for second in range(5):
        loud = sum(admitted(limits, 1, float(second), next(made_up), "loud") for _ in range(4000))
        assert loud == (3000 if second == 0 else 1500)
        assert sum(admitted(limits, 1, float(second), next(made_up), "other") for _ in range(1400)) == 1400


def test_buckets_are_bounded_and_those_in_use_stay() -> None:
    limits = EventLimits([EventLimit("SourceAndObject", 1, 2, cache_size=10)])
    assert admitted(limits, 2, 0.0, an_event()) == 2
    for n in range(100):
        admitted(limits, 1, 0.0, an_event(ObjectReference(name=f"p{n}")))
        assert admitted(limits, 1, 0.0, an_event()) == 0
        assert len(limits) <= 10
