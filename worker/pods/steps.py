"""`Steps`: carries out one pod's instructions. Decides nothing; what it learns it writes into `Observed`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

from barque.api.errors import ApiError
from barque.api.types import core_v1
from barque.worker import labels
from barque.worker.pods import config, env, plan
from barque.worker.pods.env import ConfigError, Sources
from barque.worker.pods.observed import Instance, Observed
from barque.worker.pods.parts import Parts
from barque.worker.runtime.port import (
    ContainerNotFoundError,
    ContainerRecord,
    ContainerSpec,
    ImageMissingError,
    ImageRecord,
    NameTakenError,
    RuntimeFault,
    RuntimeUnavailableError,
)
from barque.worker.volumes import volumes

# ConfigMap and Secret volumes follow their objects within about this time, as in Kubernetes.
REFRESH_S = 60.0
# How long a SIGKILL may take to show before it is sent again.
KILL_SHOWS_S = 2.0


class Steps:
    """The hands of one pod. `pod` is None for a pod that the cluster does not know."""

    def __init__(self, uid: str, observed: Observed, parts: Parts, take: Callable[[ContainerRecord], None]) -> None:
        self.uid = uid
        self._take = take
        self.pod: core_v1.Pod | None = None
        self._observed = observed
        self._parts = parts
        self._ip = ""
        self._images: dict[str, ImageRecord] = {}
        self._holds_slot = False

    async def carry_out(self, step: plan.Instruction) -> None:
        """Do it. Raises what the parts raise: `ConfigError`, `ImageFault`, `RuntimeFault`, `ApiError`, `OSError`."""
        match step:
            case plan.PrepareVolumes():
                await self._prepare_volumes()
            case plan.EnsureImage():
                await self._ensure_image(step.container)
            case plan.CreateSandbox():
                await self._create_sandbox(step.attempt)
            case plan.StartSandbox():
                await self._parts.runtime.start(step.id)
                await self._look(step.id)
            case plan.AttachNetwork():
                await self._attach(step.pid)
            case plan.CreateContainer():
                await self._create_container(step)
            case plan.StartContainer():
                await self._start_container(step)
            case plan.StopContainer():
                await self._stop_container(step)
            case plan.KillContainer():
                await self._parts.runtime.signal(step.id, "SIGKILL")
                self._observed.killed_until[step.id] = self._parts.clock.monotonic() + KILL_SHOWS_S
            case plan.RemoveContainer():
                await self._parts.runtime.remove(step.id)
                self._observed.vanish(step.id, self._parts.clock)
            case plan.DetachNetwork():
                await self._parts.network.detach(self.uid)
                self._ip = self._observed.address = ""
                self._observed.network_detached = True
            case plan.RemoveVolumes():
                await self._parts.blocking(self._parts.volumes.remove, self.uid)
                self._observed.volumes = "removed"
            case plan.ConfirmDeletion():
                await self._confirm_deletion()
            case plan.Wake():
                raise ValueError("a Wake is the runner's own affair")

    def say(self, type: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        """An event about this pod."""
        if self.pod is not None:
            self._parts.recorder.event(self.pod, type, reason, message)

    def let_others_start(self) -> None:
        """Give up this pod's turn among those starting, if it has it."""
        if self._holds_slot:
            self._holds_slot = False
            self._parts.starting.release()

    def _there(self) -> core_v1.Pod:
        if self.pod is None:
            raise ConfigError("the pod is not known to the cluster")
        return self.pod

    def _container(self, name: str) -> core_v1.Container:
        return next(c for c in self._there().spec.containers if c.name == name)

    async def _prepare_volumes(self) -> None:
        pod, parts = self._there(), self._parts
        wanted = volumes.references(pod)
        config_maps, secrets = await asyncio.gather(
            parts.references.config_maps(pod.metadata.namespace, wanted.config_maps),
            parts.references.secrets(pod.metadata.namespace, wanted.secrets),
        )
        ip = self._ip
        await parts.blocking(parts.volumes.prepare, pod, ip, config_maps, secrets)
        while self._ip != ip:
            ip = self._ip
            await parts.blocking(parts.volumes.write_hosts, pod, ip)
        follows = bool(wanted.config_maps or wanted.secrets)
        self._observed.volumes_due_s = parts.clock.monotonic() + REFRESH_S if follows else float("inf")
        self._observed.volumes = "ready"

    async def _ensure_image(self, name: str) -> None:
        container = self._container(name)
        policy = container.imagePullPolicy or "IfNotPresent"

        def say(kind: str, reason: str, message: str) -> None:
            self.say("Warning" if kind == "Warning" else "Normal", reason, message)

        image = await self._parts.images.ensure(container.image, policy, say)
        self._images[name] = image
        self._observed.images[name] = image.id

    async def _create_sandbox(self, attempt: int) -> None:
        if not self._holds_slot:
            await self._parts.starting.acquire()
            self._holds_slot = True
        self._observed.address = ""
        if any(instance.state == "exited" for instance in self._observed.instances()):
            self.say("Normal", "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
        spec = config.sandbox_spec(self._there(), self._parts.node, self._parts.runtime.sandbox_image, attempt)
        try:
            await self._create(spec, labels.SANDBOX_ROLE)
        except ImageMissingError:
            # Somebody pruned images: `prepare` loads it again.
            await self._parts.runtime.prepare()
            await self._create(spec, labels.SANDBOX_ROLE)

    async def _create(self, spec: ContainerSpec, role: str) -> None:
        try:
            container_id = await self._parts.runtime.create(spec)
        except NameTakenError:
            self._parts.resync()
            raise
        found = spec.labels
        self._observed.put(
            Instance(
                id=container_id,
                name=found.get(labels.CONTAINER_NAME, ""),
                attempt=int(found[labels.ATTEMPT]),
                state="created",
                streak=int(found.get(labels.STREAK, "0")),
                sandbox=spec.sandbox,
                config_hash=found.get(labels.CONFIG_HASH, ""),
                hash_version=found.get(labels.CONFIG_HASH_VERSION, ""),
                image=spec.image,
            ),
            role,
        )

    async def _attach(self, pid: int) -> None:
        parts = self._parts
        self._ip = ip = await parts.network.attach(self.uid, f"/proc/{pid}/ns/net")
        if self._observed.volumes == "ready":
            await parts.blocking(parts.volumes.write_hosts, self._there(), ip)
        self._observed.address = ip

    async def _create_container(self, step: plan.CreateContainer) -> None:
        pod, container, parts = self._there(), self._container(step.container), self._parts
        wanted = env.references(container)
        config_maps, secrets = await asyncio.gather(
            parts.references.config_maps(pod.metadata.namespace, wanted.config_maps),
            parts.references.secrets(pod.metadata.namespace, wanted.secrets),
        )
        sources = Sources(
            config_maps, secrets, parts.services(), self._ip, parts.host_ip, parts.allocatable
        )  # fmt: skip
        mounts = await parts.blocking(parts.volumes.mounts, pod, container, step.attempt)
        creation = config.Creation(step.attempt, step.streak, step.sandbox, mounts)
        spec = config.container_spec(pod, container, parts.node, self._images[container.name], sources, creation)
        try:
            await self._create(spec, labels.CONTAINER_ROLE)
        except ImageMissingError:
            # It was removed since it was looked at.
            self._observed.images.pop(container.name, None)
            raise
        # The next attempt looks at its image anew.
        self._observed.images.pop(container.name, None)
        self.say("Normal", "Created", f"Created container {container.name}")

    async def _start_container(self, step: plan.StartContainer) -> None:
        try:
            await self._parts.runtime.start(step.id)
        except RuntimeUnavailableError:
            raise
        except RuntimeFault as error:
            await self._look(step.id)
            self.say("Warning", "Failed", f"Error: {error}")
            newest = self._observed.newest(step.container)
            if newest is not None and newest.id == step.id and newest.state == "created":
                raise
            return
        await self._look(step.id)
        self.say("Normal", "Started", f"Started container {step.container}")

    async def _stop_container(self, step: plan.StopContainer) -> None:
        if step.id in self._observed.unhealthy:
            self.say("Normal", "Killing", f"Container {step.container} {step.why}, will be restarted")
        else:
            self.say("Normal", "Killing", f"Stopping container {step.container}")
        await self._parts.runtime.signal(step.id, step.signal)
        self._observed.killing[step.id] = step.kill_at_s

    async def _look(self, container_id: str) -> None:
        """Read a container anew."""
        try:
            record = await self._parts.runtime.inspect(container_id)
        except ContainerNotFoundError:
            self._observed.vanish(container_id, self._parts.clock)
            return
        self._take(record)

    async def _confirm_deletion(self) -> None:
        pod = self._there()
        try:
            await self._parts.client.delete(
                core_v1.Pod, pod.metadata.name, pod.metadata.namespace, grace_s=0, uid=pod.metadata.uid
            )
        except ApiError as error:
            # Gone already, or replaced by another of its name.
            if error.code not in (404, 409):
                raise
        self._observed.confirmed = True
