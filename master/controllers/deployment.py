"""The Deployment controller: carries out, step by step, what `rollout.plan_rollout` decides.

In: informers of Deployments, ReplicaSets and Pods. Out: ReplicaSets, the Deployment's revision and status, events.
Guarantee against a cache behind its own writes: sets are created under a name that follows from the template, and
updated at the revision that was read, so a step planned on old facts is refused and planned again.
"""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from barque.api import codec, selectors
from barque.api.errors import ApiError
from barque.api.types.apps_v1 import Deployment, ReplicaSet
from barque.api.views import PodView
from barque.client.client import Client, target_of, target_of_object
from barque.client.clock import Clock
from barque.client.informers import Informers
from barque.client.queue import WorkQueue
from barque.client.recorder import EventRecorder
from barque.client.verbs import MERGE_PATCH, Delete, Update, Write
from barque.master.controllers import revisions, rollout, rollout_status
from barque.master.controllers.owners import claim, controller_of, controller_uid, key_of, split_key
from barque.master.controllers.shared import BY_CONTROLLER, BY_NAMESPACE, BY_ORPHANAGE

log = logging.getLogger(__name__)


class DeploymentController:
    """Reconciles Deployments by their key."""

    name = "deployment"

    def __init__(self, client: Client, informers: Informers, recorder: EventRecorder, clock: Clock) -> None:
        self.queue = WorkQueue(clock)
        self._client = client
        self._recorder = recorder
        self._clock = clock
        self._deployments = informers.of(Deployment)
        self._sets = informers.of(ReplicaSet)
        self._pods = informers.of(PodView)
        self._deployments.add_handler(self._handle_deployment)
        self._sets.add_handler(self._handle_set)
        self._pods.add_handler(self._handle_pod)

    def _handle_deployment(self, old: Deployment | None, new: Deployment | None) -> None:
        self.queue.add(key_of(new or old))

    def _handle_set(self, old: ReplicaSet | None, new: ReplicaSet | None) -> None:
        for rs in (old, new):
            if rs is not None:
                self._wake_owner(rs)
        if new is not None and controller_of(new) is None:
            for deployment in self._deployments.by_index(BY_NAMESPACE, new.metadata.namespace):
                selector = selectors.from_label_selector(deployment.spec.selector)
                if not selector.empty and selector.matches(new.metadata.labels):
                    self.queue.add(key_of(deployment))

    def _handle_pod(self, old: PodView | None, new: PodView | None) -> None:
        """A pod gone, or ended, may be the last that a Recreate waits for."""
        if old is None or (new is not None and new.status.phase == old.status.phase):
            return
        reference = controller_of(old)
        if reference is not None and reference.kind == "ReplicaSet":
            rs = self._sets.get(reference.name, old.metadata.namespace)
            if rs is not None:
                self._wake_owner(rs)

    def _wake_owner(self, rs: ReplicaSet) -> None:
        reference = controller_of(rs)
        if reference is not None and reference.kind == "Deployment":
            self.queue.add(f"{rs.metadata.namespace}/{reference.name}")

    async def reconcile(self, key: str) -> float | None:
        namespace, name = split_key(key)
        deployment = self._deployments.get(name, namespace)
        if deployment is None:
            return None
        uid = deployment.metadata.uid
        selector = selectors.from_label_selector(deployment.spec.selector)
        orphans = self._sets.by_index(BY_ORPHANAGE, namespace)
        sets = await claim(self._client, deployment, selector, [*self._sets.by_index(BY_CONTROLLER, uid), *orphans])
        pods = [p for rs in sets for p in self._pods.by_index(BY_CONTROLLER, rs.metadata.uid)]
        plan = rollout.plan_rollout(deployment, sets, pods, self._clock.wall())
        if plan.create is not None and not await self._create(deployment, plan.create, plan):
            return None
        await self._write_sets(plan)
        for said in plan.events:
            self._recorder.event(deployment, *said)
        await self._write_deployment(deployment, plan)
        return plan.again_s

    async def _create(self, deployment: Deployment, rs: ReplicaSet, plan: rollout.Plan) -> bool:
        """Create the new set; False where the step must be planned anew because its name is taken."""
        try:
            await self._client.create(rs)
        except ApiError as error:
            if error.reason == "AlreadyExists":
                await self._resolve_collision(deployment, rs, plan)
                return False
            if error.code < 500:
                said = f'Failed to create new replica set "{rs.metadata.name}": {error.message}'
                self._recorder.event(deployment, "Warning", "ReplicaSetCreateError", said)
            if rollout_status.has_deadline(deployment) and error.code < 500:
                rollout_status.note_create_failure(plan.status, error.message, self._clock.wall())
                await self._write_deployment(deployment, plan._replace(annotations={}))
            raise
        return True

    async def _resolve_collision(self, deployment: Deployment, rs: ReplicaSet, plan: rollout.Plan) -> None:
        live = await self._client.get(ReplicaSet, rs.metadata.name, rs.metadata.namespace)
        is_ours = controller_uid(live) == deployment.metadata.uid
        if is_ours and revisions.without_hash(live.spec.template) == revisions.without_hash(rs.spec.template):
            # Created by an earlier step that the cache has not seen yet: the watch brings it, and the next step.
            return
        plan.status.collisionCount = (deployment.status.collisionCount or 0) + 1
        log.info("deployment %s: the name %s is taken, hashing again", key_of(deployment), rs.metadata.name)
        await self._write_deployment(deployment, plan._replace(annotations={}))

    async def _write_sets(self, plan: rollout.Plan) -> None:
        writes: list[Write] = [Update(target_of_object(rs), codec.encode(rs)) for rs in plan.updates]
        for rs in plan.deletes:
            options = msgspec.json.encode({"preconditions": {"uid": rs.metadata.uid}})
            writes.append(Delete(target_of(ReplicaSet, rs.metadata.name, rs.metadata.namespace), options))
        if not writes:
            return
        for answer in await self._client.batch(writes):
            if isinstance(answer, ApiError) and answer.reason != "NotFound":
                raise answer

    async def _write_deployment(self, deployment: Deployment, plan: rollout.Plan) -> None:
        meta = deployment.metadata
        if plan.annotations:
            patch: dict[str, Any] = {"metadata": {"annotations": dict(plan.annotations)}}
            deployment = await self._client.patch(
                Deployment, meta.name, meta.namespace, patch, content_type=MERGE_PATCH
            )
        if plan.status != deployment.status:
            await self._client.update_status(msgspec.structs.replace(deployment, status=plan.status))
