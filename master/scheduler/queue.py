"""`SchedulingQueue`: pods that wait for a node, in Kubernetes' three places.

Active pods are tried at once, by priority, then by arrival. A refused pod is unschedulable until something changes that
may help it; where it has been refused only just now, it first sits out a back-off. Pure: the time is an argument, in
seconds.
"""

from __future__ import annotations

import heapq
import itertools

import msgspec

from barque.api.views import PodView

# Kubernetes starts at 1 s. A try costs microseconds here, so a pod refused because its node is just joining waits less.
FIRST_BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 10.0
# A refused pod is tried again after this even if no event seemed to help it.
UNSCHEDULABLE_S = 300.0


class _Waiting(msgspec.Struct):
    pod: PodView
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
        self._arrivals = itertools.count()

    def __len__(self) -> int:
        return len(self._pods)

    @property
    def has_active(self) -> bool:
        return bool(self._active)

    def add(self, pod: PodView) -> None:
        """A pod that needs a node; where it is known already, its newer state."""
        uid = pod.metadata.uid
        known = self._pods.get(uid)
        if known is not None:
            known.pod = pod
            return
        self._activate(_Waiting(pod, "active", self._attempts.get(uid, 0)))

    def forget(self, uid: str) -> None:
        """The pod needs no node any more."""
        self._attempts.pop(uid, None)
        if self._pods.pop(uid, None) is not None:
            self._unschedulable.pop(uid, None)

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
        waiting = self._returned(pod, "unschedulable", now)
        self._unschedulable[pod.metadata.uid] = now + UNSCHEDULABLE_S
        self._pods[pod.metadata.uid] = waiting

    def retry(self, pod: PodView, now: float) -> None:
        """It could not be bound: try again after a back-off."""
        waiting = self._returned(pod, "backoff", now)
        self._pods[pod.metadata.uid] = waiting
        self._rest(waiting)

    def wake(self, now: float) -> None:
        """Something has changed that may help: try the refused again, those refused just now after their back-off."""
        for uid in self._unschedulable:
            waiting = self._pods[uid]
            if waiting.until <= now:
                self._activate(waiting)
            else:
                waiting.place = "backoff"
                self._rest(waiting)
        self._unschedulable.clear()

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
            del self._unschedulable[uid]
            self._activate(self._pods[uid])

    def next_due(self) -> float | None:
        """When `flush` next has something to do."""
        due = [next(iter(self._unschedulable.values()))] if self._unschedulable else []
        return min([*due, self._resting[0][0]] if self._resting else due, default=None)

    def _rest(self, waiting: _Waiting) -> None:
        heapq.heappush(self._resting, (waiting.until, waiting.pod.metadata.uid))

    def _returned(self, pod: PodView, place: str, now: float) -> _Waiting:
        attempts = self._attempts.pop(pod.metadata.uid, 1)
        backoff_s = min(FIRST_BACKOFF_S * 2 ** min(attempts - 1, 32), LONGEST_BACKOFF_S)
        return _Waiting(pod, place, attempts, now + backoff_s)

    def _activate(self, waiting: _Waiting) -> None:
        waiting.place = "active"
        uid = waiting.pod.metadata.uid
        self._pods[uid] = waiting
        heapq.heappush(self._active, (-(waiting.pod.spec.priority or 0), next(self._arrivals), uid))
