"""What Kubernetes' clients could not read gets in through no field, and moments stand in one form."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from barque.api import resources
from barque.api.decode import convert, decode_object
from barque.api.errors import ApiError
from barque.api.ranges import settle
from barque.api.types.apiextensions_v1 import JSONSchemaProps
from barque.api.types.base import Object
from barque.api.types.core_v1 import Pod, PodStatus
from barque.api.types.policy_v1 import PodDisruptionBudgetStatus


def read(plural: str, group: str = "", **parts: Any) -> Any:
    return decode_object(msgspec.json.encode(parts), resources.by_plural(group, plural))[0]


def lease(renewed: str) -> Any:
    return read("leases", "coordination.k8s.io", spec={"renewTime": renewed})


@pytest.mark.parametrize(
    ("written", "stands"),
    [
        ("2026-01-01T00:00:00.123456Z", "2026-01-01T00:00:00.123456Z"),
        # Go's MicroTime takes six digits and nothing else: one lease that has fewer breaks every informer.
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000000Z"),
        ("2026-01-01T00:00:00.1Z", "2026-01-01T00:00:00.100000Z"),
        ("2026-01-01T00:00:00.123456789Z", "2026-01-01T00:00:00.123456Z"),
        ("2026-01-01T00:30:00.5+02:00", "2025-12-31T22:30:00.500000Z"),
        ("0001-01-01T00:00:00Z", ""),
        ("", ""),
    ],
)
def test_moments_to_the_microsecond(written: str, stands: str) -> None:
    assert lease(written).spec.renewTime == stands


@pytest.mark.parametrize(
    ("written", "stands"),
    [
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("2026-01-01T00:00:00.999999Z", "2026-01-01T00:00:00Z"),
        ("2026-01-01T00:00:00-05:30", "2026-01-01T05:30:00Z"),
        ("0900-01-01T00:00:00Z", "0900-01-01T00:00:00Z"),
    ],
)
def test_moments_to_the_second_wherever_they_stand(written: str, stands: str) -> None:
    condition = {"type": "Ready", "status": "True", "lastTransitionTime": written}
    pod = read("pods", status={"startTime": written, "conditions": [condition]})
    assert (pod.status.startTime, pod.status.conditions[0].lastTransitionTime) == (stands, stands)


def test_moments_in_a_map_too() -> None:
    budget = PodDisruptionBudgetStatus(disruptedPods={"a": "2026-01-01T00:00:00.5Z", "b": "soon"})
    assert [fault.partition(":")[0] for fault in settle(budget)] == ["disruptedPods[b]"]
    assert budget.disruptedPods == {"a": "2026-01-01T00:00:00Z", "b": "soon"}


@pytest.mark.parametrize(
    "written",
    [
        "abc", "2026-01-01", "2026-13-01T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:00:60Z",
        "2026-01-01T00:00:00", "2026-01-01t00:00:00z", "20260101T000000Z", "2026-01-01T00:00:00,5Z",
        "0001-01-01T00:00:00+02:00", "9999-12-31T23:59:59-02:00", "٢٠٢٦-01-01T00:00:00Z", " 2026-01-01T00:00:00Z",
    ],
)  # fmt: skip
def test_what_is_no_moment_is_refused(written: str) -> None:
    for parts in ({"metadata": {"creationTimestamp": written}}, {"status": {"startTime": written}}):
        with pytest.raises(ApiError) as refused:
            read("pods", **parts)
        assert (refused.value.code, "expected a time as RFC 3339 writes it" in refused.value.message) == (400, True)


def test_faults_are_named_by_path_and_all_of_them() -> None:
    statuses = [{"name": "a", "restartCount": 2**31, "state": {"running": {"startedAt": "soon"}}}]
    with pytest.raises(ApiError) as refused:
        read("pods", metadata={"generation": 2**63}, status={"containerStatuses": statuses})
    assert refused.value.message == (
        'Pod in version "v1" cannot be handled as a Pod: '
        "metadata.generation: expected int64, got 9223372036854775808, "
        "status.containerStatuses[0].restartCount: expected int32, got 2147483648, "
        'status.containerStatuses[0].state.running.startedAt: expected a time as RFC 3339 writes it, got "soon"'
    )


@pytest.mark.parametrize(
    ("group", "plural", "parts", "fault"),
    [
        ("apps", "deployments", {"spec": {"replicas": 2**31}}, "spec.replicas: expected int32"),
        ("apps", "deployments", {"status": {"replicas": -(2**31) - 1}}, "status.replicas: expected int32"),
        ("apps", "deployments", {"status": {"observedGeneration": 2**63}}, "status.observedGeneration: expected int64"),
        ("", "services", {"spec": {"ports": [{"targetPort": 2**31}]}}, "spec.ports[0].targetPort: expected int32"),
        ("", "nodes", {"status": {"images": [{"sizeBytes": 2**63}]}}, "status.images[0].sizeBytes: expected int64"),
        ("", "podtemplates", {"template": {"metadata": {"deletionTimestamp": "x"}}}, "template.metadata.deletionTime"),
        ("", "secrets", {"metadata": {"managedFields": [{"time": "x"}]}}, "metadata.managedFields[0].time: expected"),
    ],
)
def test_no_field_of_any_kind_is_left_out(group: str, plural: str, parts: dict[str, Any], fault: str) -> None:
    with pytest.raises(ApiError, match="cannot be handled") as refused:
        convert(parts, resources.by_plural(group, plural))
    assert fault in refused.value.message


def test_what_fits_passes() -> None:
    security = {"runAsUser": 2**40, "fsGroup": 0}
    pod = read("pods", spec={"securityContext": security, "terminationGracePeriodSeconds": 2**63 - 1})
    assert pod.spec.securityContext.runAsUser == 2**40
    schema = JSONSchemaProps(properties={"a": JSONSchemaProps(maxLength=2**63)})
    assert settle(schema) == ["properties[a].maxLength: expected int64, got 9223372036854775808"], "what holds its like"
    for resource in resources.RESOURCES:
        kind: type[Object] = resource.type
        assert settle(kind()) == []


def test_what_stood_before_may_stay() -> None:
    pods = resources.by_plural("", "pods")
    old = Pod(status=PodStatus(startTime="soon", message="a"))
    changed = convert({"status": {"startTime": "soon"}}, pods, "Strict", old)
    assert changed == Pod(status=PodStatus(startTime="soon")), "what a patch has changed beside it"
    assert convert({"status": {"startTime": "2026-01-01T00:00:00Z"}}, pods, "Strict", old)
    for status in ({"startTime": "later"}, {"startTime": "soon", "observedGeneration": 2**63}):
        with pytest.raises(ApiError):
            convert({"status": status}, pods, "Strict", old)
    assert old.status.startTime == "soon"
