"""`SchedulingQueue`: pods that wait for a node, in Kubernetes' three places.

Active pods are tried at once, by priority, then by arrival. A refused pod is unschedulable until something changes that
helps pods of its demand, for which the refused are kept by demand: a change is judged once for all replicas of a
template. One that has been refused only just now first sits out a back-off. Pure: the time is an argument, in seconds.
"""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from collections.abc import Callable

import msgspec

from barque.api.views import PodView
from barque.master.scheduler.demand import Demand, demand_of

# Kubernetes starts at 1 s. Here a pod is woken only by a node that has room for it and a try costs microseconds, so one
# that was refused because its node is just joining waits less.
FIRST_BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 10.0
# A refused pod is tried again after this even if no event seemed to help it.
UNSCHEDULABLE_S = 300.0


class _Waiting(msgspec.Struct):
    pod: PodView
    demand: Demand
    place: str  # "active", "backoff" or "unschedulable"
    attempts: int = 0
    until: float = 0.0


class SchedulingQueue:
    """Pods by uid, each in one place."""

    def __init__(self) -> None:
        self._pods: dict[str, _Waiting] = {}
        # Pods taken out by `take` that may come back: how often they were tried.
        self._attempts: dict[str, int] = {}
        self._active: list[tuple[int, int, str]] = []
        # Those that sit out a back-off, by its end.
        self._resting: list[tuple[float, str]] = []
        # The refused, with the moment at which they are tried again in any case: in order, as all wait equally long.
        self._unschedulable: dict[str, float] = {}
        # The same, by what they ask for, in order of their refusal.
        self._by_demand: defaultdict[Demand, dict[str, None]] = defaultdict(dict)
        self._arrivals = itertools.count()

    def __len__(self) -> int:
        return len(self._pods)

    @property
    def has_active(self) -> bool:
        return bool(self._active)

    def add(self, pod: PodView, now: float) -> None:
        """A pod that needs a node, or its newer state, which is tried again where it asks for something else."""
        uid = pod.metadata.uid
        known = self._pods.get(uid)
        if known is None:
            self._activate(_Waiting(pod, demand_of(pod), "active", self._attempts.get(uid, 0)))
            return
        known.pod, demand = pod, demand_of(pod)
        if demand != known.demand:
            was_refused = self._leave_refused(uid)
            known.demand = demand
            if was_refused:
                self._wake(known, now)

    def forget(self, uid: str) -> None:
        """The pod needs no node any more."""
        self._attempts.pop(uid, None)
        self._leave_refused(uid)
        self._pods.pop(uid, None)

    def take(self, limit: int) -> list[PodView]:
        """Up to `limit` active pods, out of the queue."""
        taken: list[PodView] = []
        while self._active and len(taken) < limit:
            _, _, uid = heapq.heappop(self._active)
            waiting = self._pods.get(uid)
            if waiting is not None and waiting.place == "active":
                del self._pods[uid]
                self._attempts[uid] = waiting.attempts + 1
                taken.append(waiting.pod)
        return taken

    def refuse(self, pod: PodView, now: float) -> None:
        """No node can take it: wait for a change."""
        uid = pod.metadata.uid
        waiting = self._pods[uid] = self._returned(pod, "unschedulable", now)
        self._unschedulable[uid] = now + UNSCHEDULABLE_S
        self._by_demand[waiting.demand][uid] = None

    def retry(self, pod: PodView, now: float) -> None:
        """It could not be bound: try again after a back-off."""
        waiting = self._returned(pod, "backoff", now)
        self._pods[pod.metadata.uid] = waiting
        self._rest(waiting)

    def wake(self, now: float, helps: Callable[[Demand], bool]) -> None:
        """Try again the refused whose demand a change `helps`, those refused just now after their back-off."""
        for demand in [demand for demand in self._by_demand if helps(demand)]:
            for uid in list(self._by_demand[demand]):
                self._leave_refused(uid)
                self._wake(self._pods[uid], now)

    def flush(self, now: float) -> None:
        """Activate what has waited long enough."""
        while self._resting and self._resting[0][0] <= now:
            _, uid = heapq.heappop(self._resting)
            waiting = self._pods.get(uid)
            if waiting is not None and waiting.place == "backoff" and waiting.until <= now:
                self._activate(waiting)
        while self._unschedulable:
            uid, due = next(iter(self._unschedulable.items()))
            if due > now:
                break
            self._leave_refused(uid)
            self._activate(self._pods[uid])

    def next_due(self) -> float | None:
        """When `flush` next has something to do."""
        due = [next(iter(self._unschedulable.values()))] if self._unschedulable else []
        return min([*due, self._resting[0][0]] if self._resting else due, default=None)

    def _leave_refused(self, uid: str) -> bool:
        """Take it from among the refused; returns whether it was there."""
        if self._unschedulable.pop(uid, None) is None:
            return False
        demand = self._pods[uid].demand
        held = self._by_demand[demand]
        del held[uid]
        if not held:
            del self._by_demand[demand]
        return True

    def _wake(self, waiting: _Waiting, now: float) -> None:
        if waiting.until <= now:
            self._activate(waiting)
        else:
            waiting.place = "backoff"
            self._rest(waiting)

    def _rest(self, waiting: _Waiting) -> None:
        heapq.heappush(self._resting, (waiting.until, waiting.pod.metadata.uid))

    def _returned(self, pod: PodView, place: str, now: float) -> _Waiting:
        attempts = self._attempts.pop(pod.metadata.uid, 1)
        backoff_s = min(FIRST_BACKOFF_S * 2 ** min(attempts - 1, 32), LONGEST_BACKOFF_S)
        return _Waiting(pod, demand_of(pod), place, attempts, now + backoff_s)

    def _activate(self, waiting: _Waiting) -> None:
        waiting.place = "active"
        uid = waiting.pod.metadata.uid
        self._pods[uid] = waiting
        heapq.heappush(self._active, (-(waiting.pod.spec.priority or 0), next(self._arrivals), uid))
