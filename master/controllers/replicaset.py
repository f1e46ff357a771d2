"""The ReplicaSet controller: keeps as many pods as each set wishes.

In: informers of ReplicaSets and Pods. Out: pods created (in batches that double, so that one refusal tells before many
are tried in vain) and deleted (all of one step in one batch), adopted and released; status; events. Guarantee: whatever
the cache has missed, it never creates or deletes a pod twice for one wish. Where the outcome of a write is unknown, the
same write is sent again under the same name or uid before anything is counted.
"""

from __future__ import annotations

import logging
import random as _random
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from barque.api import codec, podstatus, selectors
from barque.api.errors import ApiError
from barque.api.types.apps_v1 import ReplicaSet, ReplicaSetCondition
from barque.api.types.core_v1 import Pod
from barque.api.views import PodView
from barque.client.client import Client, target_of, target_of_object
from barque.client.clock import Clock
from barque.client.informers import Informers
from barque.client.queue import WorkQueue
from barque.client.recorder import EventRecorder
from barque.client.verbs import Create, Delete
from barque.master.controllers import replicas
from barque.master.controllers.expectations import Expectations
from barque.master.controllers.owners import claim, controller_of, controller_uid, key_of, split_key
from barque.master.controllers.shared import BY_CONTROLLER, BY_NAMESPACE, BY_ORPHANAGE

log = logging.getLogger(__name__)


class PodWrite(msgspec.Struct, frozen=True):
    """A pod to be created or deleted, as it is written and as it is expected."""

    write: Create | Delete
    expected: str
    name: str


class ReplicaSetController:
    """Reconciles ReplicaSets by their key."""

    name = "replicaset"

    def __init__(
        self,
        client: Client,
        informers: Informers,
        recorder: EventRecorder,
        clock: Clock,
        random: Callable[[], float] = _random.random,
    ) -> None:
        self.queue = WorkQueue(clock)
        self.expectations = Expectations(clock)
        self._client = client
        self._recorder = recorder
        self._clock = clock
        self._random = random
        self._sets = informers.of(ReplicaSet)
        self._pods = informers.of(PodView)
        # Writes of which nobody knows whether they took effect.
        self._unsettled: dict[str, list[PodWrite]] = {}
        self._sets.add_handler(self._handle_set)
        self._pods.add_handler(self._handle_pod)

    def _handle_set(self, old: ReplicaSet | None, new: ReplicaSet | None) -> None:
        known = new or old
        assert known is not None
        if new is None:
            self.expectations.forget(key_of(known))
            self._unsettled.pop(key_of(known), None)
        self.queue.add(key_of(known))

    def _handle_pod(self, old: PodView | None, new: PodView | None) -> None:
        if new is not None and old is None:
            self.expectations.observe(_creation(new.metadata.namespace, new.metadata.name))
        if old is not None and (new is None or new.metadata.deletionTimestamp):
            self.expectations.observe(_deletion(old.metadata.uid))
        for pod in (old, new):
            if pod is not None:
                self._wake_owner(pod)
        if new is not None and controller_of(new) is None and not new.metadata.deletionTimestamp:
            self._wake_adopters(old, new)

    def _wake_owner(self, pod: PodView) -> None:
        reference = controller_of(pod)
        if reference is not None and reference.kind == "ReplicaSet":
            self.queue.add(f"{pod.metadata.namespace}/{reference.name}")

    def _wake_adopters(self, old: PodView | None, new: PodView) -> None:
        if old is not None and old.metadata.labels == new.metadata.labels and controller_of(old) is None:
            return
        for rs in self._sets.by_index(BY_NAMESPACE, new.metadata.namespace):
            selector = selectors.from_label_selector(rs.spec.selector)
            if not selector.empty and selector.matches(new.metadata.labels):
                self.queue.add(key_of(rs))

    async def reconcile(self, key: str) -> float | None:
        namespace, name = split_key(key)
        rs = self._sets.get(name, namespace)
        if rs is None:
            return None
        if key in self._unsettled:
            await self._write(rs, self._unsettled.pop(key))
        counts = self.expectations.satisfied(key)
        selector = selectors.from_label_selector(rs.spec.selector)
        own = await claim(self._client, rs, selector, self._candidates(rs))
        pods = [p for p in own if podstatus.is_active(p)]
        failure: ApiError | None = None
        if counts and not rs.metadata.deletionTimestamp:
            failure = await self._manage(rs, pods)
        await self._write_status(rs, own, failure)
        if failure is not None:
            raise failure
        return replicas.next_availability_s(rs, pods, self._clock.wall())

    def _candidates(self, rs: ReplicaSet) -> list[PodView]:
        own = self._pods.by_index(BY_CONTROLLER, rs.metadata.uid)
        orphans = self._pods.by_index(BY_ORPHANAGE, rs.metadata.namespace)
        return [*own, *(p for p in orphans if podstatus.is_active(p))]

    async def _manage(self, rs: ReplicaSet, pods: Sequence[PodView]) -> ApiError | None:
        """Create or delete pods; returns the first refusal."""
        related = self._related_on_node(rs) if len(pods) > replicas.wanted(rs) else {}
        plan = replicas.plan_replicas(rs, pods, related, self._clock.wall())
        try:
            for size in replicas.slow_start(plan.create):
                await self._write(rs, [_create(replicas.new_pod(rs, self._random)) for _ in range(size)])
            if plan.delete:
                await self._write(rs, [_delete(pod) for pod in plan.delete])
        except ApiError as error:
            return error
        return None

    def _related_on_node(self, rs: ReplicaSet) -> Counter[str]:
        owner = controller_uid(rs)
        siblings = self._sets.by_index(BY_CONTROLLER, owner) if owner else [rs]
        pods = (p for s in siblings for p in self._pods.by_index(BY_CONTROLLER, s.metadata.uid))
        return Counter(p.spec.nodeName for p in pods if podstatus.is_active(p) and p.spec.nodeName)

    async def _write(self, rs: ReplicaSet, writes: list[PodWrite]) -> None:
        """Send the writes in one batch; raises the first refusal after all answers are noted."""
        key = key_of(rs)
        self.expectations.expect(key, [w.expected for w in writes])
        try:
            answers = await self._client.batch([w.write for w in writes])
        except ApiError as error:
            answers = [error] * len(writes)
        refused: ApiError | None = None
        unknown: list[PodWrite] = []
        for write, answer in zip(writes, answers, strict=True):
            if isinstance(answer, ApiError):
                if answer.code >= 500:
                    unknown.append(write)
                if self._note_refusal(rs, write, answer):
                    refused = refused or answer
            else:
                self._say_done(rs, write)
        self._settle_seen(rs, writes)
        if unknown:
            self._unsettled[key] = unknown
        if refused is not None:
            raise refused

    def _note_refusal(self, rs: ReplicaSet, write: PodWrite, answer: ApiError) -> bool:
        """Whether the refusal matters; one that means "already so" does not."""
        creating = isinstance(write.write, Create)
        if answer.code >= 500:
            return True
        if creating and answer.reason == "AlreadyExists":
            # Ours, from a write whose answer was lost: the watch brings it.
            return False
        self.expectations.observe(write.expected)
        if not creating and answer.reason in ("NotFound", "Conflict"):
            return False
        if creating:
            self._recorder.event(rs, "Warning", "FailedCreate", f"Error creating: {answer.message}")
        else:
            self._recorder.event(rs, "Warning", "FailedDelete", f"Error deleting: {answer.message}")
        return True

    def _say_done(self, rs: ReplicaSet, write: PodWrite) -> None:
        if isinstance(write.write, Create):
            self._recorder.event(rs, "Normal", "SuccessfulCreate", f"Created pod: {write.name}")
        else:
            self._recorder.event(rs, "Normal", "SuccessfulDelete", f"Deleted pod: {write.name}")

    def _settle_seen(self, rs: ReplicaSet, writes: Sequence[PodWrite]) -> None:
        """A write sent twice may have been seen before it was expected: the cache shows that too."""
        for write in writes:
            held = self._pods.get(write.name, rs.metadata.namespace)
            if isinstance(write.write, Create):
                if held is not None:
                    self.expectations.observe(write.expected)
            elif held is None or held.metadata.deletionTimestamp or _deletion(held.metadata.uid) != write.expected:
                self.expectations.observe(write.expected)

    async def _write_status(self, rs: ReplicaSet, own: Sequence[PodView], failure: ApiError | None) -> None:
        condition = None
        if failure is not None:
            active = sum(1 for pod in own if podstatus.is_active(pod))
            reason = "FailedCreate" if active < replicas.wanted(rs) else "FailedDelete"
            condition = ReplicaSetCondition(
                type="ReplicaFailure", status="True", reason=reason, message=failure.message
            )
        status = replicas.plan_status(rs, own, condition, self._clock.wall())
        if status != rs.status:
            await self._client.update_status(msgspec.structs.replace(rs, status=status))


def _creation(namespace: str, name: str) -> str:
    return f"+{namespace}/{name}"


def _deletion(uid: str) -> str:
    return f"-{uid}"


def _create(pod: Pod) -> PodWrite:
    meta = pod.metadata
    write = Create(target_of_object(pod, named=False), codec.encode(pod))
    return PodWrite(write, _creation(meta.namespace, meta.name), meta.name)


def _delete(pod: PodView) -> PodWrite:
    meta = pod.metadata
    options = msgspec.json.encode({"preconditions": {"uid": meta.uid}, "propagationPolicy": "Background"})
    return PodWrite(Delete(target_of(Pod, meta.name, meta.namespace), options), _deletion(meta.uid), meta.name)
