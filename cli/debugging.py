"""What `debug` makes: a container beside those of a pod, a copy of a pod, a pod that looks at a node. Pure.

The profiles are kubectl's (KEP-1441): what a debugger may do, by what is debugged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from barque.api.types import core_v1 as v1
from barque.api.types.meta_v1 import ObjectMeta
from barque.cli.output import CliError

HOST_ROOT = "host-root"
_MANAGED_BY = {"app.kubernetes.io/managed-by": "barque-debug"}


class Debugger(NamedTuple):
    """The container that is wanted; "" and () where nothing was said."""

    name: str
    image: str
    words: tuple[str, ...] = ()
    arguments_only: bool = False
    stdin: bool = False
    tty: bool = False
    env: tuple[tuple[str, str], ...] = ()
    pull_policy: str = ""
    profile: str = "general"


class Copying(NamedTuple):
    """How the copy of a pod differs from it; `images` are new ones by container, "*" for all others."""

    name: str
    same_node: bool = False
    share_processes: bool = True
    images: Mapping[str, str] = {}


def ephemeral_container(wanted: Debugger, target: str) -> v1.EphemeralContainer:
    """The container that looks into a running pod; with `target`, at that container's processes."""
    fields = msgspec.to_builtins(_container(wanted, _security(wanted.profile, tracing=True)))
    return msgspec.convert({**fields, "targetContainerName": target}, v1.EphemeralContainer)


def node_pod(wanted: Debugger, node: str, namespace: str, suffix: str) -> v1.Pod:
    """A pod on the node, with its namespaces and its root directory at /host where the profile lets it."""
    sees_host = wanted.profile in ("general", "netadmin", "sysadmin")
    container = _container(wanted, _security(wanted.profile, tracing=False))
    container.volumeMounts = [v1.VolumeMount(name=HOST_ROOT, mountPath="/host")]
    root = v1.Volume(name=HOST_ROOT, hostPath=v1.HostPathVolumeSource(path="/"))
    return v1.Pod(
        metadata=ObjectMeta(name=f"node-debugger-{node}-{suffix}", namespace=namespace, labels=dict(_MANAGED_BY)),
        spec=v1.PodSpec(
            containers=[container],
            nodeName=node,
            restartPolicy="Never",
            hostNetwork=sees_host or None,
            hostPID=sees_host or None,
            hostIPC=sees_host or None,
            tolerations=[v1.Toleration(operator="Exists")],
            volumes=[root],
        ),
    )


def pod_copy(pod: v1.Pod, wanted: Debugger, copying: Copying) -> v1.Pod:
    """The pod under another name, without its labels and probes, so that nothing counts on it; with the debugger beside
    its containers or, where that names one of them, in its place. Raises `CliError`.
    """
    spec = msgspec.structs.replace(pod.spec, ephemeralContainers=[])
    spec.containers = [_copied(container, copying) for container in spec.containers]
    spec.initContainers = [_with_image(container, copying) for container in spec.initContainers]
    unknown = set(copying.images) - {c.name for c in (*spec.containers, *spec.initContainers)} - {"*"}
    if unknown:
        raise CliError(f"unable to find container named {', '.join(sorted(unknown))} in pod {pod.metadata.name}")
    if not copying.same_node:
        spec.nodeName = ""
    if copying.share_processes:
        spec.shareProcessNamespace = True
    _put_debugger(spec, wanted)
    metadata = ObjectMeta(
        name=copying.name, namespace=pod.metadata.namespace, annotations=dict(pod.metadata.annotations)
    )
    return v1.Pod(metadata=metadata, spec=spec)


def _put_debugger(spec: v1.PodSpec, wanted: Debugger) -> None:
    for at, container in enumerate(spec.containers):
        if container.name == wanted.name:
            spec.containers[at] = _instead(container, wanted)
            return
    if wanted.image:
        spec.containers.append(_container(wanted, _security(wanted.profile, tracing=True)))


def _instead(container: v1.Container, wanted: Debugger) -> v1.Container:
    command, args = _words(wanted)
    changed = msgspec.structs.replace(container)
    if wanted.image:
        changed.image = wanted.image
    if wanted.words:
        changed.command, changed.args = (changed.command, args) if wanted.arguments_only else (command, [])
    changed.stdin = wanted.stdin or container.stdin
    changed.tty = wanted.tty or container.tty
    changed.env = [*container.env, *_env(wanted)]
    if wanted.pull_policy:
        changed.imagePullPolicy = wanted.pull_policy
    return changed


def _copied(container: v1.Container, copying: Copying) -> v1.Container:
    return msgspec.structs.replace(
        _with_image(container, copying), livenessProbe=None, readinessProbe=None, startupProbe=None
    )


def _with_image(container: v1.Container, copying: Copying) -> v1.Container:
    image = copying.images.get(container.name) or copying.images.get("*") or container.image
    return msgspec.structs.replace(container, image=image)


def _container(wanted: Debugger, security: v1.SecurityContext | None) -> v1.Container:
    command, args = _words(wanted)
    return v1.Container(
        name=wanted.name,
        image=wanted.image,
        command=command,
        args=args,
        env=_env(wanted),
        imagePullPolicy=wanted.pull_policy,
        stdin=wanted.stdin or None,
        tty=wanted.tty or None,
        securityContext=security,
    )


def _words(wanted: Debugger) -> tuple[list[str], list[str]]:
    """The command and the arguments."""
    words = list(wanted.words)
    return ([], words) if wanted.arguments_only else (words, [])


def _env(wanted: Debugger) -> list[v1.EnvVar]:
    return [v1.EnvVar(name=name, value=value) for name, value in wanted.env]


def _security(profile: str, *, tracing: bool) -> v1.SecurityContext | None:
    """What the profile gives and takes; `tracing` where other containers' processes may be looked at."""
    match profile:
        case "general" if tracing:
            return v1.SecurityContext(capabilities=v1.Capabilities(add=["SYS_PTRACE"]))
        case "netadmin":
            return v1.SecurityContext(capabilities=v1.Capabilities(add=["NET_ADMIN", "NET_RAW"]))
        case "sysadmin":
            return v1.SecurityContext(privileged=True)
        case "restricted":
            return v1.SecurityContext(
                allowPrivilegeEscalation=False,
                capabilities=v1.Capabilities(drop=["ALL"]),
                runAsNonRoot=True,
                seccompProfile=v1.SeccompProfile(type="RuntimeDefault"),
            )
    return None


def parse_pairs(given: Sequence[str], option: str) -> tuple[tuple[str, str], ...]:
    """`NAME=VALUE`s. Raises `CliError`."""
    pairs = []
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise CliError(f"invalid argument {text!r} for {option}: it must be NAME=VALUE")
        pairs.append((name, value))
    return tuple(pairs)
