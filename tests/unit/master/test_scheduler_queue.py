"""Active, back-off, unschedulable: where waiting pods are, and what moves them."""

from __future__ import annotations

import copy

from barque.api.types.core_v1 import Pod
from barque.master.scheduler.demand import Demand
from barque.master.scheduler.queue import SchedulingQueue
from tests.support.workloads import a_pod


def names(pods: list[Pod]) -> list[str]:
    return [p.metadata.name for p in pods]


def anything(_: Demand) -> bool:
    return True


def test_takes_by_priority_then_arrival() -> None:
    queue = SchedulingQueue()
    urgent = a_pod("urgent")
    urgent.spec.priority = 10
    for pod in (a_pod("a"), a_pod("b"), urgent):
        queue.add(pod, 0.0)
    assert names(queue.take(2)) == ["urgent", "a"]
    assert names(queue.take(2)) == ["b"]


def test_a_newer_state_of_a_waiting_pod_replaces_it() -> None:
    queue = SchedulingQueue()
    queue.add(a_pod("a"), 0.0)
    newer = a_pod("a", cpu="2")
    queue.add(newer, 0.0)
    assert queue.take(5) == [newer]


def test_a_refused_pod_waits_for_a_change_and_its_back_off() -> None:
    queue = SchedulingQueue()
    queue.add(a_pod("a"), 0.0)
    (pod,) = queue.take(1)
    queue.refuse(pod, now=0.0)
    queue.flush(50.0)
    assert not queue.has_active
    queue.wake(50.0, anything)
    (pod,) = queue.take(1)
    queue.refuse(pod, now=50.0)
    queue.wake(50.1, anything)
    assert not queue.has_active
    assert queue.next_due() == 50.2
    queue.flush(50.2)
    assert names(queue.take(1)) == ["a"]


def test_the_back_off_doubles_to_its_limit() -> None:
    queue = SchedulingQueue()
    now, waits = 0.0, []
    queue.add(a_pod("a"), 0.0)
    for _ in range(10):
        (pod,) = queue.take(1)
        queue.retry(pod, now)
        due = queue.next_due()
        assert due is not None
        waits.append(round(due - now, 3))
        now = due
        queue.flush(now)
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10, 10]


def test_a_refused_pod_is_tried_again_after_five_minutes_unasked() -> None:
    queue = SchedulingQueue()
    queue.add(a_pod("a"), 0.0)
    queue.refuse(queue.take(1)[0], 0.0)
    queue.flush(299.0)
    assert not queue.has_active
    queue.flush(300.0)
    assert names(queue.take(1)) == ["a"]


def test_a_forgotten_pod_never_comes_back() -> None:
    queue = SchedulingQueue()
    for name in "abc":
        queue.add(a_pod(name), 0.0)
    queue.forget("uid-a")
    b, c = queue.take(5)
    queue.refuse(b, 0.0)
    queue.retry(c, 0.0)
    queue.forget("uid-b")
    queue.forget("uid-c")
    queue.wake(1000.0, anything)
    queue.flush(1000.0)
    assert queue.take(5) == []
    assert len(queue) == 0


def test_what_is_refused_and_goes_leaves_nothing_behind() -> None:
    queue = SchedulingQueue()
    for number in range(100):
        queue.add(a_pod(f"p{number}"), 0.0)
        queue.refuse(queue.take(1)[0], float(number))
        queue.forget(f"uid-p{number}")
    assert queue.next_due() is None
    assert len(queue) == 0


def test_each_refused_pod_has_five_minutes_of_its_own() -> None:
    queue = SchedulingQueue()
    for name, moment in (("a", 0.0), ("b", 100.0)):
        queue.add(a_pod(name), 0.0)
        queue.refuse(queue.take(1)[0], moment)
    assert queue.next_due() == 300.0
    queue.flush(300.0)
    assert names(queue.take(5)) == ["a"]
    assert queue.next_due() == 400.0


def test_a_change_wakes_only_those_it_helps() -> None:
    queue = SchedulingQueue()
    for number in range(3):
        queue.add(a_pod(f"small-{number}", cpu="1"), 0.0)
    queue.add(a_pod("large", cpu="8"), 0.0)
    for pod in queue.take(10):
        queue.refuse(pod, 0.0)
    judged: list[Demand] = []

    def helps(demand: Demand) -> bool:
        judged.append(demand)
        return demand.cpu_milli <= 4000

    queue.wake(10.0, helps)
    assert names(queue.take(10)) == ["small-0", "small-1", "small-2"]
    assert len(judged) == 2


def test_a_refused_pod_that_asks_for_less_is_tried_again() -> None:
    queue = SchedulingQueue()
    pod = a_pod("a")
    pod.spec.nodeSelector = {"disk": "ssd"}
    queue.add(pod, 0.0)
    queue.refuse(queue.take(1)[0], 0.0)
    noted = copy.deepcopy(pod)
    noted.metadata.annotations = {"note": "x"}
    queue.add(noted, 5.0)
    assert not queue.has_active
    modest = copy.deepcopy(pod)
    modest.spec.nodeSelector = {}
    queue.add(modest, 5.0)
    assert queue.take(5) == [modest]
    queue.wake(10.0, anything)
    assert not queue.has_active
