"""Conditions, what a pod's status says, and the hash of its template."""

from __future__ import annotations

import datetime

import msgspec

from barque.api import podstatus
from barque.api.conditions import find, is_true, set_condition
from barque.api.hashing import template_hash
from barque.api.types.core_v1 import Container, PodCondition, PodTemplateSpec, ResourceRequirements
from tests.support.builders import a_deployment, a_pod

NOW = datetime.datetime(2026, 1, 1, 0, 1, tzinfo=datetime.UTC)  # a minute after the builders' START


def condition(status: str, at: str, reason: str = "") -> PodCondition:
    return PodCondition(type="Ready", status=status, lastTransitionTime=at, reason=reason)


def test_a_condition_keeps_its_transition_time_while_its_status_stays() -> None:
    conditions = [condition("False", "t1", "Starting")]
    assert not set_condition(conditions, condition("False", "t2", "Starting"))
    assert conditions == [condition("False", "t1", "Starting")]
    assert set_condition(conditions, condition("False", "t2", "Failing"))
    assert conditions == [condition("False", "t1", "Failing")]
    assert set_condition(conditions, condition("True", "t3", "Failing"))
    assert conditions == [condition("True", "t3", "Failing")]


def test_conditions_are_found_by_type() -> None:
    conditions: list[PodCondition] = []
    assert find(conditions, "Ready") is None
    assert not is_true(conditions, "Ready")
    assert set_condition(conditions, condition("True", "t1"))
    assert find(conditions, "Ready") == condition("True", "t1")
    assert is_true(conditions, "Ready")


def test_ready_and_available() -> None:
    ready = a_pod().ready(since="2026-01-01T00:00:30Z").build()
    assert podstatus.is_ready(ready)
    assert podstatus.is_available(ready, 0, NOW)
    assert podstatus.is_available(ready, 30, NOW)
    assert not podstatus.is_available(ready, 31, NOW)
    assert podstatus.available_in(ready, 40, NOW) == 10
    starting = a_pod().not_ready().build()
    assert not podstatus.is_ready(starting)
    assert not podstatus.is_available(starting, 0, NOW)
    assert podstatus.available_in(starting, 0, NOW) is None
    undated = a_pod().ready(since="").build()
    assert podstatus.is_available(undated, 0, NOW)
    assert not podstatus.is_available(undated, 1, NOW)


def test_active_and_terminal() -> None:
    assert podstatus.is_active(a_pod().build())
    assert not podstatus.is_active(a_pod().ready().deleting().build())
    for ended in (a_pod().failed().build(), a_pod().succeeded().build()):
        assert podstatus.is_terminal(ended)
        assert not podstatus.is_active(ended)


def test_a_pod_asks_for_what_its_containers_ask_for() -> None:
    pod = a_pod().requesting(cpu="250m", memory="64Mi").build()
    pod.spec.containers.append(Container(name="b", resources=ResourceRequirements(requests={"cpu": "0.25"})))
    pod.spec.containers.append(Container(name="c"))
    assert podstatus.requests(pod.spec) == {"cpu": "500m", "memory": "64Mi"}


def test_quality_of_service() -> None:
    both = {"cpu": "1", "memory": "1Gi"}
    guaranteed = a_pod().container("a", resources=ResourceRequirements(limits=dict(both)))
    assert guaranteed.build().status.qosClass == "Guaranteed"
    assert guaranteed.container("b").build().status.qosClass == "Burstable"
    assert a_pod().requesting(cpu="1").build().status.qosClass == "Burstable"
    assert a_pod().build().status.qosClass == "BestEffort"


def test_the_template_hash_depends_on_the_template_alone() -> None:
    template = a_deployment("web").build().spec.template
    assert template is not None
    same = msgspec.json.decode(msgspec.json.encode(template), type=PodTemplateSpec)
    assert template_hash(template, None) == template_hash(same, None)
    assert template_hash(template, None) != template_hash(template, 1)
    assert template_hash(template, 1) != template_hash(template, 2)
    other = a_deployment("web").image("web:2").build().spec.template
    assert other is not None
    assert template_hash(other, None) != template_hash(template, None)
    assert set(template_hash(template, None)) <= set("bcdfghjklmnpqrstvwxz2456789")


def test_the_template_hash_is_stable_across_releases_and_map_order() -> None:
    template = a_deployment("web").selecting(a="1", b="2").build().spec.template
    turned = a_deployment("web").selecting(b="2", a="1").build().spec.template
    assert template is not None
    assert turned is not None
    assert template_hash(template, None) == template_hash(turned, None)
    assert template_hash(PodTemplateSpec(), None) == "llhw52vgfl"
