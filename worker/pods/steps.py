"""`Steps`: carries out one pod's instructions. Decides nothing; what it learns it writes into `Observed`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from contextlib import aclosing
from typing import Any, Literal

from barque.api.errors import ApiError
from barque.api.types import core_v1
from barque.network.pods.host_ports import PortTakenError
from barque.worker import labels
from barque.worker.pods import config, env, members, plan, resizing, resources
from barque.worker.pods.env import ConfigError, Sources
from barque.worker.pods.members import Member
from barque.worker.pods.observed import Instance, Observed
from barque.worker.pods.parts import Parts
from barque.worker.probes import Outcome, Target
from barque.worker.runtime.port import (
    ContainerNotFoundError,
    ContainerRecord,
    ContainerSpec,
    ImageMissingError,
    ImageRecord,
    Login,
    LogOptions,
    NameTakenError,
    RuntimeFault,
    RuntimeUnavailableError,
)

log = logging.getLogger(__name__)

# As much of a log as Kubernetes takes for a termination message.
LAST_WORDS_BYTES, LAST_WORDS_LINES = 2048, 80
LAST_WORDS_S = 5.0
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
                await self._attach(step.netns)
            case plan.CreateContainer():
                await self._create_container(step)
            case plan.StartContainer():
                await self._start_container(step)
            case plan.StopContainer():
                await self._stop_container(step)
            case plan.ResizeContainer():
                await self._resize_container(step)
            case plan.RunPostStart():
                await self._run_post_start(step)
            case plan.RunPreStop():
                await self._run_pre_stop(step)
            case plan.ReadLastWords():
                await self._read_last_words(step.id)
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
                self._parts.volume_contents.forget(self.uid)
                self._observed.volumes = "removed"
            case plan.ConfirmDeletion():
                await self._confirm_deletion()
            case plan.Wake():
                raise ValueError("a Wake is the runner's own affair")

    def say(self, type: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        """An event about this pod."""
        if self.pod is not None:
            self._parts.recorder.event(self.pod, type, reason, message)

    def say_of(self, container: str, type: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        """An event about one of its containers."""
        if self.pod is None:
            return
        lists = {"init": "initContainers", "sidecar": "initContainers", "ephemeral": "ephemeralContainers"}
        who = members.member(self.pod, container)
        held = lists.get(who.role, "containers") if who else "containers"
        self._parts.recorder.event(self.pod, type, reason, message, f"spec.{held}{{{container}}}")

    def let_others_start(self) -> None:
        """Give up this pod's turn among those starting, if it has it."""
        if self._holds_slot:
            self._holds_slot = False
            self._parts.starting.release()

    def _there(self) -> core_v1.Pod:
        if self.pod is None:
            raise ConfigError("the pod is not known to the cluster")
        return self.pod

    def _member(self, name: str) -> Member:
        found = members.member(self._there(), name)
        if found is None:
            raise ConfigError(f"container {name!r} is not in the pod any more")
        return found

    async def _prepare_volumes(self) -> None:
        pod, parts = self._there(), self._parts
        ip = self._ip
        held = await parts.volume_contents.fetch(pod, self._downward_sources())
        left_out = await parts.blocking(parts.volumes.prepare, pod, ip, held)
        if self._observed.volumes != "ready":
            for said in left_out:
                self.say("Warning", "DNSConfigForming", said)
        while self._ip != ip:
            ip = self._ip
            await parts.blocking(parts.volumes.write_hosts, pod, ip)
        self._observed.volumes_due_s = parts.volume_contents.due_s(pod)
        self._observed.volumes = "ready"

    def _downward_sources(self) -> Sources:
        """What volumes may show of the node and the pod."""
        return Sources({}, {}, (), self._ip, self._parts.host_ip, self._parts.allocatable)

    async def _ensure_image(self, name: str) -> None:
        container, pod = self._member(name).container, self._there()
        policy = container.imagePullPolicy or "IfNotPresent"

        def say(kind: str, reason: str, message: str) -> None:
            self.say_of(name, "Warning" if kind == "Warning" else "Normal", reason, message)

        async def logins() -> Sequence[Login]:
            return await self._parts.pull_secrets.logins(pod, container.image, say)

        image = await self._parts.images.ensure(container.image, policy, say, logins)
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

    async def _attach(self, netns: str) -> None:
        parts = self._parts
        if self._there().spec.hostNetwork:
            ip = parts.host_ip
        else:
            try:
                ip = await parts.network.attach(self.uid, netns, config.host_ports(self._there()))
            except PortTakenError as error:
                raise ConfigError(str(error)) from error
        self._ip = ip
        if self._observed.volumes == "ready":
            await parts.blocking(parts.volumes.write_hosts, self._there(), ip)
        self._observed.address = ip

    async def _create_container(self, step: plan.CreateContainer) -> None:
        pod, who, parts = self._there(), self._member(step.container), self._parts
        container = who.container
        wanted = env.references(container)
        config_maps, secrets = await asyncio.gather(
            parts.references.config_maps(pod.metadata.namespace, wanted.config_maps),
            parts.references.secrets(pod.metadata.namespace, wanted.secrets),
        )
        sources = Sources(
            config_maps, secrets, parts.services(), self._ip, parts.host_ip, parts.allocatable
        )  # fmt: skip
        by_variables = any(mount.subPathExpr for mount in container.volumeMounts)
        variables = env.environment(pod, container, sources) if by_variables else {}
        mounts = await parts.blocking(parts.volumes.mounts, pod, container, step.attempt, variables)
        seccomp = await parts.blocking(config.seccomp_profile, pod, container, parts.node.seccomp_root)
        creation = config.Creation(step.attempt, step.streak, step.sandbox, mounts, self._target(who), seccomp)
        spec = config.container_spec(pod, container, parts.node, self._images[container.name], sources, creation)
        try:
            await self._create(spec, labels.CONTAINER_ROLE)
        except ImageMissingError:
            # It was removed since it was looked at.
            self._observed.images.pop(container.name, None)
            raise
        # The next attempt looks at its image anew.
        self._observed.images.pop(container.name, None)
        self.say_of(container.name, "Normal", "Created", "Container created")

    def _target(self, who: Member) -> str:
        """The running container whose processes an ephemeral one sees. Raises `ConfigError` where it does not run."""
        if not who.target:
            return ""
        found = self._observed.newest(who.target)
        if found is None or not found.running:
            raise ConfigError(f'unable to find target container "{who.target}"')
        return found.id

    async def _start_container(self, step: plan.StartContainer) -> None:
        try:
            await self._parts.runtime.start(step.id)
        except RuntimeUnavailableError:
            raise
        except RuntimeFault as error:
            await self._look(step.id)
            self.say_of(step.container, "Warning", "Failed", f"Error: {error}")
            newest = self._observed.newest(step.container)
            if newest is not None and newest.id == step.id and newest.state == "created":
                raise
            return
        await self._look(step.id)
        self.say_of(step.container, "Normal", "Started", "Container started")

    async def _resize_container(self, step: plan.ResizeContainer) -> None:
        pod, container = self._there(), self._member(step.container).container
        await self._parts.runtime.update(step.id, resources.limits_of(pod, container, self._parts.node.memory_bytes))
        await self._look(step.id)
        newest = self._observed.newest(step.container)
        if newest is not None and newest.running and resizing.changes(pod, container, newest.limits):
            raise RuntimeFault("the container runtime did not take over the new limits")

    async def _run_post_start(self, step: plan.RunPostStart) -> None:
        container = self._member(step.container).container
        handler = container.lifecycle.postStart if container.lifecycle else None
        found = await self._hook(step.id, container, handler)
        if found.ok:
            self._observed.poststarted.add(step.id)
            return
        newest = self._observed.newest(step.container)
        if newest is None or newest.id != step.id or not newest.running or step.id in self._observed.stopping:
            # It ended, or was told to, meanwhile: that tells enough.
            return
        # What the hook said may be secret, and events are read by many.
        self.say_of(step.container, "Warning", "FailedPostStartHook", "PostStartHook failed")
        log.info("postStart hook of container %s of pod %s failed: %s", step.container, self.uid, found.message)
        self._observed.unhealthy[step.id] = plan.FAILED_POST_START

    async def _run_pre_stop(self, step: plan.RunPreStop) -> None:
        self._say_killing(step.container, step.id, step.why)
        who = members.member(self.pod, step.container) if self.pod else None
        lifecycle = who.container.lifecycle if who else None
        try:
            if who is not None and lifecycle is not None:
                hook = self._hook(step.id, who.container, lifecycle.preStop)
                found = await self._in_time(hook, step.kill_at_s - self._parts.clock.monotonic())
                if not found.ok:
                    self.say_of(step.container, "Warning", "FailedPreStopHook", "PreStopHook failed")
                    message = found.message or "it did not end within the grace period"
                    log.info("preStop hook of container %s of pod %s failed: %s", step.container, self.uid, message)
        finally:
            self._observed.prestopped.add(step.id)

    async def _hook(
        self, container_id: str, container: core_v1.Container, handler: core_v1.LifecycleHandler | None
    ) -> Outcome:
        if handler is None:
            return Outcome(True)
        if handler.sleep is not None:
            await self._parts.clock.sleep(handler.sleep.seconds)
            return Outcome(True)
        return await self._parts.prober.run_hook(Target(container_id, container, self._ip), handler)

    async def _in_time(self, work: Coroutine[Any, Any, Outcome], limit_s: float) -> Outcome:
        """The outcome, or a failure once the time is up."""
        doing = asyncio.ensure_future(work)
        alarm = asyncio.ensure_future(self._parts.clock.sleep(max(0.0, limit_s)))
        try:
            await asyncio.wait({doing, alarm}, return_when=asyncio.FIRST_COMPLETED)
            return doing.result() if doing.done() else Outcome(False)
        finally:
            doing.cancel()
            alarm.cancel()
            await asyncio.gather(doing, alarm, return_exceptions=True)

    async def _read_last_words(self, container_id: str) -> None:
        """Never raises for a log that cannot be read: an end without words is an end, too."""
        said = b""
        try:
            async with asyncio.timeout(LAST_WORDS_S):
                async with aclosing(
                    self._parts.runtime.logs(container_id, LogOptions(tail_lines=LAST_WORDS_LINES))
                ) as records:
                    async for record in records:
                        said = (said + record.data)[-LAST_WORDS_BYTES:]
        except (RuntimeFault, OSError, TimeoutError) as error:
            log.warning("the log of container %s of pod %s cannot be read: %s", container_id[:12], self.uid, error)
        self._observed.tell_words(container_id, said.decode(errors="replace"))

    async def _stop_container(self, step: plan.StopContainer) -> None:
        if step.id not in self._observed.stopping:
            self._say_killing(step.container, step.id, step.why)
        await self._parts.runtime.signal(step.id, step.signal)
        self._observed.killing[step.id] = step.kill_at_s
        if step.late:
            self._observed.late.add(step.id)

    def _say_killing(self, container: str, container_id: str, why: str) -> None:
        self._observed.stopping.add(container_id)
        if why == plan.FAILED_POST_START:
            message = why
        elif why == plan.CHANGED or container_id in self._observed.unhealthy:
            message = f"Container {container} {why}, will be restarted"
        elif why == plan.RESIZED:
            message = f"Container {container} {why}"
        else:
            message = f"Stopping container {container}"
        self.say_of(container, "Normal", "Killing", message)

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
