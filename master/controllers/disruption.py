"""Removing pods: each says first on itself why it goes, then it is deleted.

In: pods as they were seen. Out: the condition `DisruptionTarget`, which workloads and people read, and the deletion of
those that carry it. A pod that has changed in between is left to its caller's next look.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from barque.api import conditions
from barque.api.errors import ApiError
from barque.api.types.core_v1 import Pod, PodCondition
from barque.api.views import PodView
from barque.client.client import Client, target_of
from barque.client.patches import seen_patch
from barque.client.verbs import Delete, Patch

# Pods per commit.
BATCH = 200


class Disruption(NamedTuple):
    """Why pods go; without a reason they are not marked.

    `fails` is for pods that nobody runs any more: their phase becomes Failed, and they go at once.
    """

    reason: str
    message: str
    fails: bool = False


async def disrupt(client: Client, pods: Sequence[PodView], why: Disruption, stamp: str) -> list[ApiError]:
    """Mark and delete the pods; returns what was refused, but not what is gone already. Raises `ApiError`."""
    refusals: list[ApiError] = []
    for start in range(0, len(pods), BATCH):
        part = pods[start : start + BATCH]
        marks = {pod.metadata.uid: mark for pod in part if (mark := _mark(pod, why, stamp)) is not None}
        answers = dict(zip(marks, await client.batch(list(marks.values())) if marks else (), strict=True))
        refused = {uid: answer for uid, answer in answers.items() if isinstance(answer, ApiError)}
        deletes = [_delete(pod, why) for pod in part if pod.metadata.uid not in refused]
        deleted = await client.batch(deletes) if deletes else []
        failures = [*refused.values(), *(answer for answer in deleted if isinstance(answer, ApiError))]
        refusals += [failure for failure in failures if failure.reason != "NotFound"]
    return refusals


def _mark(pod: PodView, why: Disruption, stamp: str) -> Patch | None:
    """The pod's status with the reason; None where it says so already."""
    listed = list(pod.status.conditions)
    condition = PodCondition(
        type="DisruptionTarget", status="True", reason=why.reason, message=why.message, lastTransitionTime=stamp
    )
    status: dict[str, Any] = {}
    if why.reason and conditions.set_condition(listed, condition):
        status["conditions"] = listed
    if why.fails and pod.status.phase not in ("Succeeded", "Failed"):
        status["phase"] = "Failed"
    return seen_patch(pod, {"status": status}, "status") if status else None


def _delete(pod: PodView, why: Disruption) -> Delete:
    options: dict[str, Any] = {"preconditions": {"uid": pod.metadata.uid}}
    if why.fails:
        options["gracePeriodSeconds"] = 0
    return Delete(target_of(Pod, pod.metadata.name, pod.metadata.namespace), msgspec.json.encode(options))
