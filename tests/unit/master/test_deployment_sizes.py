"""How large each ReplicaSet should be: percentages, surge, proportions."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque.api.types.apps_v1 import ReplicaSet
from barque.api.types.base import IntOrString
from barque.master.controllers import revisions, rollout_sizes
from tests.support.workloads import a_deployment, a_replica_set


def a_set(name: str, replicas: int, available: int, *, noted: int | None = None, most: int | None = None) -> ReplicaSet:
    rs = a_replica_set(name, replicas)
    rs.metadata.creationTimestamp = {"old": "2025-01-01T00:00:00Z", "mid": "2025-02-01T00:00:00Z"}.get(
        name, "2025-03-01T00:00:00Z"
    )
    rs.status.replicas, rs.status.availableReplicas = replicas, available
    if noted is not None:
        revisions.annotate_sizes(rs, noted, most or noted)
    return rs


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "expected"),
    [
        (3, "25%", "25%", (1, 0)),
        (4, "25%", "25%", (1, 1)),
        (10, "25%", "25%", (3, 2)),
        (10, 3, 0, (3, 0)),
        (3, 0, 0, (0, 1)),
        (1, "0%", "10%", (0, 1)),
        (7, "100%", "100%", (7, 7)),
    ],
)
def test_percentages_round_as_in_kubernetes(
    replicas: int, surge: IntOrString, unavailable: IntOrString, expected: tuple[int, int]
) -> None:
    deployment = a_deployment(replicas=replicas, surge=surge, unavailable=unavailable)
    assert rollout_sizes.fenceposts(deployment) == expected


def test_more_than_all_is_never_unavailable() -> None:
    assert rollout_sizes.max_unavailable(a_deployment(replicas=2, unavailable=5)) == 2


def test_grows_the_new_set_by_the_surge_first() -> None:
    deployment = a_deployment(replicas=10, surge=3, unavailable=2)
    sizes = rollout_sizes.plan_rolling_update(deployment, a_set("new", 0, 0), [a_set("old", 10, 10)])
    assert sizes == {"new": 3}


def test_shrinks_the_old_set_only_as_the_new_becomes_available() -> None:
    deployment = a_deployment(replicas=10, surge=3, unavailable=2)
    steps = [
        (a_set("new", 3, 0), a_set("old", 10, 10), {"old": 8}),
        (a_set("new", 5, 0), a_set("old", 8, 8), {}),
        (a_set("new", 5, 3), a_set("old", 8, 8), {"old": 5}),
        # The old set's status has not yet seen its smaller size: it counts for no more than that size.
        (a_set("new", 5, 3), a_set("old", 5, 8), {"new": 8}),
        (a_set("new", 8, 3), a_set("old", 5, 8), {}),
    ]
    for new, old, expected in steps:
        assert rollout_sizes.plan_rolling_update(deployment, new, [old]) == expected


def test_broken_old_pods_go_first() -> None:
    deployment = a_deployment(replicas=10, surge=0, unavailable=2)
    old, mid = a_set("old", 5, 5), a_set("mid", 5, 2)
    assert rollout_sizes.plan_rolling_update(deployment, a_set("new", 0, 0), [old, mid]) == {"mid": 3}


def test_broken_old_pods_stay_where_new_ones_are_still_starting() -> None:
    deployment = a_deployment(replicas=10, surge=3, unavailable=2)
    assert rollout_sizes.plan_rolling_update(deployment, a_set("new", 5, 0), [a_set("old", 8, 6)]) == {}


def test_a_status_that_counts_more_than_the_spec_wishes_is_not_believed() -> None:
    deployment = a_deployment(replicas=10, surge=0, unavailable=2)
    assert rollout_sizes.plan_rolling_update(deployment, a_set("new", 2, 4), [a_set("old", 8, 8)]) == {"old": 6}


def test_a_set_larger_than_wished_shrinks() -> None:
    deployment = a_deployment(replicas=2)
    assert rollout_sizes.plan_rolling_update(deployment, a_set("new", 5, 5), []) == {"new": 2}


def test_the_only_active_set_takes_the_whole_scaling() -> None:
    deployment = a_deployment(replicas=7)
    sizes = rollout_sizes.plan_scaling(deployment, a_set("new", 3, 3), [a_set("old", 0, 0)])
    assert sizes == {"new": 7}


def test_scaling_in_the_middle_of_a_rollout_is_proportional() -> None:
    deployment = a_deployment(replicas=15, surge=3, unavailable=2)
    new, old = a_set("new", 5, 0, noted=10, most=13), a_set("old", 8, 8, noted=10, most=13)
    assert rollout_sizes.is_scaling(deployment, [new, old])
    assert rollout_sizes.plan_scaling(deployment, new, [old]) == {"old": 11, "new": 7}


def test_scaling_to_zero_takes_everything_away() -> None:
    deployment = a_deployment(replicas=0, surge=3)
    new, old = a_set("new", 5, 0, noted=10, most=13), a_set("old", 8, 8, noted=10, most=13)
    assert rollout_sizes.plan_scaling(deployment, new, [old]) == {"old": 0, "new": 0}


@given(
    before=st.integers(1, 60),
    after=st.integers(1, 60),
    surge=st.integers(0, 10),
    split=st.lists(st.integers(0, 20), min_size=2, max_size=4),
)
def test_proportions_add_up_to_what_is_allowed(before: int, after: int, surge: int, split: list[int]) -> None:
    sets = [a_set(f"s{i}", n, 0, noted=before, most=before + surge) for i, n in enumerate(split)]
    if sum(1 for n in split if n) < 2:
        return
    deployment = a_deployment(replicas=after, surge=surge, unavailable=1)
    sizes = rollout_sizes.plan_scaling(deployment, sets[0], sets[1:])
    allowed = after + rollout_sizes.max_surge(deployment)
    assert all(n >= 0 for n in sizes.values())
    if allowed >= sum(split):
        assert sum(sizes.values()) == allowed


@given(
    replicas=st.integers(0, 12),
    surge=st.one_of(st.integers(0, 12), st.sampled_from(["0%", "25%", "100%"])),
    unavailable=st.one_of(st.integers(0, 12), st.sampled_from(["0%", "25%", "100%"])),
    seed=st.integers(0, 2**32),
)
def test_every_step_keeps_the_promise_and_the_rollout_ends(
    replicas: int, surge: IntOrString, unavailable: IntOrString, seed: int
) -> None:
    chance = random.Random(seed)
    deployment = a_deployment(replicas=replicas, surge=surge, unavailable=unavailable)
    most = replicas + rollout_sizes.max_surge(deployment)
    fewest = replicas - rollout_sizes.max_unavailable(deployment)
    new, old = a_set("new", 0, 0), [a_set("old", replicas, replicas)]
    ready = {"new": 0, "old": replicas}
    for _ in range(400):
        for rs in (new, *old):
            # The set's pods follow its size at once, unready ones going first; its status follows when it likes.
            ready[rs.metadata.name] = min(ready[rs.metadata.name], rs.spec.replicas or 0)
            if chance.random() < 0.6:
                rs.status.availableReplicas = ready[rs.metadata.name]
        if ready["new"] < (new.spec.replicas or 0) and chance.random() < 0.5:
            ready["new"] += 1
        if chance.random() < 0.7:
            for name, size in rollout_sizes.plan_rolling_update(deployment, new, old).items():
                next(rs for rs in (new, *old) if rs.metadata.name == name).spec.replicas = size
        total = sum(rs.spec.replicas or 0 for rs in (new, *old))
        assert total <= max(most, replicas)
        assert sum(min(ready[rs.metadata.name], rs.spec.replicas or 0) for rs in (new, *old)) >= fewest
    assert (new.spec.replicas, old[0].spec.replicas) == (replicas, 0)
