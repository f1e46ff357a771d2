"""The priority that a new pod is given."""

from __future__ import annotations

import pytest

from barque.api.errors import ApiError
from barque.master.admission.priorities import admit_priority
from tests.support.workloads import a_pod


@pytest.mark.parametrize(
    ("name", "asked", "given"),
    [
        ("", None, None),
        ("", 0, 0),
        ("system-cluster-critical", None, 2_000_000_000),
        ("system-node-critical", 2_000_001_000, 2_000_001_000),
    ],
)
def test_a_pod_has_the_priority_of_its_class(name: str, asked: int | None, given: int | None) -> None:
    pod = a_pod()
    pod.spec.priorityClassName, pod.spec.priority = name, asked
    admit_priority(pod)
    assert pod.spec.priority == given


def test_a_priority_is_not_for_the_asking() -> None:
    pod = a_pod()
    pod.spec.priority = 2_000_001_000
    with pytest.raises(ApiError) as refused:
        admit_priority(pod)
    assert refused.value.code == 403
    assert refused.value.message == (
        'pods "web-1" is forbidden: the integer value of priority (2000001000) must not be provided in pod spec; '
        "priority admission controller computed 0 from the given PriorityClass name"
    )
