"""Which pod and which container a person means by `web-1`, `deployment/web` or `-l app=web`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from barque.cli.output import CliError

if TYPE_CHECKING:
    from barque.api.resources import Resource
    from barque.cli.session import Connection, Session

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


async def pick_pod(session: Session, connection: Connection, resource: Resource, name: str) -> Any:
    """The pod of that name, or one behind the workload or service of that name: a ready one, the newest first."""
    pods = await pods_of(session, connection, resource, name)
    if len(pods) > 1:
        session.screen.note(f"Found {len(pods)} pods, using pod/{pods[0].metadata.name}")
    return pods[0]


async def pods_of(session: Session, connection: Connection, resource: Resource, name: str) -> list[Any]:
    """The pods behind a workload or service, or the pod itself; those most worth looking into first."""
    from barque.api.types.core_v1 import Pod

    if resource.plural == "pods":
        return [await session.call(connection.client.get(Pod, name, session.namespace))]
    labels = await _selector(session, connection, resource, name)
    pods = await pods_with(session, connection, labels)
    if not pods:
        raise CliError(
            f"no pod belongs to {resource.singular}/{name} yet; `barque describe {resource.singular} {name}` tells why"
        )
    return pods


async def pods_with(session: Session, connection: Connection, labels: str) -> list[Any]:
    """The pods with these labels, those most worth looking into first."""
    from barque.api.types.core_v1 import Pod

    listed = await session.call(connection.client.list(Pod, session.namespace, labels=labels))
    newest = sorted(listed.items, key=lambda p: p.metadata.creationTimestamp, reverse=True)
    return sorted(newest, key=_unfit)


def _unfit(pod: Any) -> tuple[bool, bool, bool]:
    """Sorts the pods that can answer to the front."""
    ready = any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions)
    return bool(pod.metadata.deletionTimestamp), pod.status.phase != "Running", not ready


async def _selector(session: Session, connection: Connection, resource: Resource, name: str) -> str:
    from barque.api import selectors

    if resource.plural not in ("deployments", "replicasets", "services"):
        raise CliError(f"a {resource.singular} has no pods; give a pod, a deployment, a replica set or a service")
    obj: Any = await session.call(connection.client.get(resource.type, name, session.namespace))
    if resource.plural == "services":
        if not obj.spec.selector:
            raise CliError(f"service/{name} has no selector, so no pods belong to it")
        return ",".join(f"{key}={value}" for key, value in sorted(obj.spec.selector.items()))
    return str(selectors.from_label_selector(obj.spec.selector))


def check_running(pod: Any, doing: str) -> None:
    """Raises `CliError` for a pod that has ended: there is no container to `doing`."""
    if pod.status.phase in ("Succeeded", "Failed"):
        raise CliError(f"cannot {doing} a container in a completed pod; current phase is {pod.status.phase}")


def container_named(pod: Any, name: str) -> Any:
    """The container of this name, of whichever sort; None where there is none."""
    listed = (*pod.spec.containers, *pod.spec.initContainers, *pod.spec.ephemeralContainers)
    return next((container for container in listed if container.name == name), None)


def pick_container(session: Session, pod: Any, asked: str) -> str:
    """The container asked for, else the pod's default one, else its first."""
    spec = pod.spec
    names = [c.name for c in (*spec.containers, *spec.initContainers, *spec.ephemeralContainers)]
    if asked:
        if asked not in names:
            raise CliError(f"container {asked} is not valid for pod {pod.metadata.name}; it has {', '.join(names)}")
        return asked
    default = pod.metadata.annotations.get(DEFAULT_CONTAINER, "")
    if default in names:
        return str(default)
    if len(names) > 1:
        shown = [c.name for c in spec.containers]
        shown += [f"{c.name} (init)" for c in spec.initContainers]
        shown += [f"{c.name} (ephem)" for c in spec.ephemeralContainers]
        session.screen.note(f'Defaulted container "{names[0]}" out of: {", ".join(shown)}')
    return str(names[0])
