"""How a container is created: from its definition to the runtime's spec, and its hash. Pure."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import msgspec

from barque.api.types import core_v1
from barque.network.pods.host_ports import PortMapping
from barque.worker import labels
from barque.worker.pods import names, resources
from barque.worker.pods.env import ConfigError, Sources, environment, expand
from barque.worker.pods.members import members
from barque.worker.runtime.port import ContainerSpec, ImageRecord, Limits, Mount, Security

# Changes when `config_hash` takes in something else; containers with another version are adopted as they are.
HASH_VERSION = "2"
# The fields that take effect at creation; probes, ports and resources may change on a running container.
_HASHED = (
    "image", "command", "args", "env", "envFrom", "securityContext", "volumeMounts", "workingDir",
    "tty", "stdin", "stdinOnce", "terminationMessagePath",
)  # fmt: skip


class NodeFacts(NamedTuple):
    """What every pod of this node is told about it."""

    cluster: str
    name: str
    uid: str
    memory_bytes: int = 0
    # The most processes that a container may have; 0 for as many as the node has room for.
    pids: int = 0
    # Where the seccomp profiles of type Localhost stand.
    seccomp_root: Path = Path()


def config_hash(container: core_v1.Container) -> str:
    """Twelve hexadecimal digits; the same for the same definition under this `HASH_VERSION`."""
    held = {name: getattr(container, name) for name in _HASHED}
    return hashlib.sha256(msgspec.json.encode(held, order="deterministic")).hexdigest()[:12]


def needs_address(container: core_v1.Container) -> bool:
    """Whether the environment names the pod's address, so that the container cannot be created before it has one."""
    fields = [v.valueFrom.fieldRef for v in container.env if v.valueFrom and v.valueFrom.fieldRef]
    return any(field.fieldPath.startswith("status.podIP") for field in fields)


def container_name(pod: core_v1.Pod, name: str, attempt: int) -> str:
    """The name in the engine, unique on it; a second creation of the same attempt is refused by the engine."""
    meta = pod.metadata
    return f"barque_{name}_{meta.name}_{meta.namespace}_{meta.uid}_{attempt}"


def sandbox_spec(pod: core_v1.Pod, node: NodeFacts, image: str, attempt: int) -> ContainerSpec:
    """The sandbox: the first process of the pod's namespaces."""
    context = pod.spec.securityContext
    return ContainerSpec(
        name=container_name(pod, "POD", attempt),
        image=image,
        labels=_labels(pod, node, labels.SANDBOX_ROLE, attempt),
        hostname=names.hostname(pod),
        host_network=bool(pod.spec.hostNetwork),
        host_pid=bool(pod.spec.hostPID),
        host_ipc=bool(pod.spec.hostIPC),
        share_processes=bool(pod.spec.shareProcessNamespace),
        limits=Limits(oom_score_adj=resources.SANDBOX_SCORE),
        sysctls=tuple((s.name.replace("/", "."), s.value) for s in context.sysctls) if context else (),
    )


class Creation(NamedTuple):
    """One attempt of a container to be created in `sandbox`."""

    attempt: int
    streak: int
    sandbox: str
    mounts: tuple[Mount, ...]
    # The container whose processes it sees, for an ephemeral one.
    target: str = ""
    # As `seccomp_profile` found it.
    seccomp: str = ""


def container_spec(
    pod: core_v1.Pod,
    container: core_v1.Container,
    node: NodeFacts,
    image: ImageRecord,
    sources: Sources,
    creation: Creation,
) -> ContainerSpec:
    """The whole creation. Raises `ConfigError` where something it refers to is missing."""
    variables = environment(pod, container, sources)
    return ContainerSpec(
        name=container_name(pod, container.name, creation.attempt),
        image=container.image,
        labels={
            **_labels(pod, node, labels.CONTAINER_ROLE, creation.attempt),
            labels.CONTAINER_NAME: container.name,
            labels.STREAK: str(creation.streak),
            labels.SANDBOX: creation.sandbox,
            labels.CONFIG_HASH: config_hash(container),
            labels.CONFIG_HASH_VERSION: HASH_VERSION,
        },
        command=tuple(expand(word, variables) for word in container.command),
        args=tuple(expand(word, variables) for word in container.args),
        env=tuple(f"{name}={value}" for name, value in variables.items()),
        mounts=creation.mounts,
        sandbox=creation.sandbox,
        share_processes=bool(pod.spec.shareProcessNamespace),
        processes_of=creation.target,
        host_network=bool(pod.spec.hostNetwork),
        host_pid=bool(pod.spec.hostPID),
        host_ipc=bool(pod.spec.hostIPC),
        working_dir=container.workingDir,
        tty=bool(container.tty),
        stdin=bool(container.stdin),
        stdin_once=bool(container.stdinOnce),
        limits=resources.limits_of(pod, container, node.memory_bytes)._replace(pids=node.pids),
        security=security_of(pod, container, image)._replace(seccomp=creation.seccomp),
    )


def security_of(pod: core_v1.Pod, container: core_v1.Container, image: ImageRecord) -> Security:
    """The container's own settings over the pod's. Raises `ConfigError` where root is ruled out but would run."""
    own = container.securityContext or core_v1.SecurityContext()
    shared = pod.spec.securityContext or core_v1.PodSecurityContext()
    user = own.runAsUser if own.runAsUser is not None else shared.runAsUser
    group = own.runAsGroup if own.runAsGroup is not None else shared.runAsGroup
    non_root = own.runAsNonRoot if own.runAsNonRoot is not None else shared.runAsNonRoot
    if non_root:
        _check_non_root(pod, container.name, user, image.user)
    who = "" if user is None else str(user)
    if group is not None:
        who = f"{who or image.user.partition(':')[0] or '0'}:{group}"
    capabilities = own.capabilities or core_v1.Capabilities()
    fs_group = fs_group_of(pod)
    groups = [*shared.supplementalGroups, *([fs_group] if fs_group is not None else [])]
    return Security(
        user=who,
        groups=tuple(map(str, groups)),
        privileged=bool(own.privileged),
        cap_add=tuple(capabilities.add),
        cap_drop=tuple(capabilities.drop),
        read_only_root=bool(own.readOnlyRootFilesystem),
        no_new_privileges=own.allowPrivilegeEscalation is False,
    )


def _check_non_root(pod: core_v1.Pod, name: str, user: int | None, image_user: str) -> None:
    where = f'(pod: "{names.shown(pod)}", container: {name})'
    if user == 0:
        raise ConfigError(f"container's runAsUser breaks non-root policy {where}")
    if user is not None:
        return
    named = image_user.partition(":")[0]
    if named in ("", "0"):
        raise ConfigError(f"container has runAsNonRoot and image will run as root {where}")
    if not named.isdecimal():
        why = f"image has non-numeric user ({named}), cannot verify user is non-root"
        raise ConfigError(f"container has runAsNonRoot and {why} {where}")


def host_ports(pod: core_v1.Pod) -> tuple[PortMapping, ...]:
    """The ports of the host that lead to the pod; a pod on the host's network needs none."""
    if pod.spec.hostNetwork:
        return ()
    return tuple(
        PortMapping(port.hostPort, port.containerPort, port.protocol or "TCP", port.hostIP)
        for one in members(pod)
        if one.role in ("app", "sidecar")
        for port in one.container.ports
        if port.hostPort
    )


def fs_group_of(pod: core_v1.Pod) -> int | None:
    """The group that owns the pod's volumes and that all of its processes are in."""
    return pod.spec.securityContext.fsGroup if pod.spec.securityContext else None


def seccomp_profile(pod: core_v1.Pod, container: core_v1.Container, root: Path) -> str:
    """The container's own filter of system calls over the pod's: "" for the engine's, "unconfined", or a profile's
    JSON from under `root`. Blocks. Raises `ConfigError` where there is no such file.
    """
    own = container.securityContext.seccompProfile if container.securityContext else None
    shared = pod.spec.securityContext.seccompProfile if pod.spec.securityContext else None
    profile = own or shared
    match profile.type if profile else "":
        case "Unconfined":
            return "unconfined"
        case "Localhost":
            assert profile is not None
            path = root / profile.localhostProfile
            try:
                return path.read_text()
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not text"
                raise ConfigError(f'cannot load seccomp profile "{path}": {reason}') from error
        case _:
            return ""


def grace_of(pod: core_v1.Pod) -> float:
    """How long the pod's containers may take to stop, in seconds."""
    grace_s = pod.spec.terminationGracePeriodSeconds
    return float(labels.DEFAULT_GRACE_S if grace_s is None else grace_s)


def _labels(pod: core_v1.Pod, node: NodeFacts, role: str, attempt: int) -> dict[str, str]:
    return {
        labels.CLUSTER: node.cluster,
        labels.NODE: node.name,
        labels.NODE_UID: node.uid,
        labels.POD_UID: pod.metadata.uid,
        labels.POD_NAME: pod.metadata.name,
        labels.POD_NAMESPACE: pod.metadata.namespace,
        labels.ROLE: role,
        labels.ATTEMPT: str(attempt),
        labels.GRACE: str(int(grace_of(pod))),
    }
