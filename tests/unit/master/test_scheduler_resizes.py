"""What a pod that is being resized takes from its node in the scheduler's eyes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from barque.api.views import PodView
from barque.master.scheduler.demand import demand_of


def a_pod(reason: str) -> PodView:
    pod: dict[str, Any] = {
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "web", "resources": {"requests": {"cpu": "50", "memory": "1Gi"}}}]},
        "status": {"containerStatuses": [{"name": "web", "allocatedResources": {"cpu": "500m", "memory": "1Gi"}}]},
    }
    if reason:
        pod["status"]["conditions"] = [{"type": "PodResizePending", "status": "True", "reason": reason}]
    return msgspec.json.decode(msgspec.json.encode(pod), type=PodView)


@pytest.mark.parametrize(("reason", "cpu_milli"), [("", 50_000), ("Deferred", 50_000), ("Infeasible", 500)])
def test_what_no_node_will_give_is_not_taken_from_it(reason: str, cpu_milli: int) -> None:
    demand = demand_of(a_pod(reason))
    assert (demand.cpu_milli, demand.memory_bytes) == (cpu_milli, 2**30)
