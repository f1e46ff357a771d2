"""`barque debug`: a container to look into a pod or a node with."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import msgspec

from barque.cli.verb import CommandVerb, command_words, with_session

if TYPE_CHECKING:
    from barque.api.resources import Resource
    from barque.cli.debugging import Debugger
    from barque.cli.session import Connection, Session

# As Kubernetes makes up names: no vowels, so that no words come out.
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_STUCK = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError", "CreateContainerError")


class Request(NamedTuple):
    """What is debugged, and how; `target` is the container whose processes are looked at."""

    what: tuple[str, ...]
    debugger: Debugger
    target: str
    copy_to: str
    replace: bool
    same_node: bool
    share_processes: bool
    images: tuple[tuple[str, str], ...]
    attaches: bool
    quiet: bool


@click.command(
    "debug",
    cls=CommandVerb,
    examples="""
    barque debug -it web-5d9c7-x2x4k --image=busybox              a shell beside the pod's containers
    barque debug -it web-5d9c7-x2x4k --image=busybox --target=app    that sees the processes of one of them
    barque debug web-5d9c7-x2x4k -it --copy-to=web-debug --image=busybox    in a copy of the pod
    barque debug web-5d9c7-x2x4k --copy-to=web-debug --set-image='*=busybox'
    barque debug web-5d9c7-x2x4k -it --copy-to=web-debug -c app -- sh    with another command in its place
    barque debug node/n1 -it --image=busybox                      on a node, its files at /host
    """,
)
@click.argument("what", nargs=-1, metavar="POD | TYPE/NAME [-- COMMAND [ARG]...]")
@click.option("--image", default="", metavar="IMAGE", help="The debugger's image.")
@click.option("-i", "--stdin", is_flag=True, help="Pass on standard input; attaches.")
@click.option("-t", "--tty", is_flag=True, help="Give the debugger a terminal.")
@click.option("-c", "--container", default="", metavar="NAME", help="The debugger's name; in a copy, one to change.")
@click.option("--target", default="", metavar="NAME", help="The container whose processes the debugger sees.")
@click.option("--copy-to", default="", metavar="NAME", help="Debug a copy of the pod, of this name.")
@click.option("--replace", is_flag=True, help="With --copy-to: delete the pod itself.")
@click.option("--same-node", is_flag=True, help="With --copy-to: on the pod's node.")
@click.option("--share-processes/--no-share-processes", default=True, help="With --copy-to: one process list for all.")
@click.option("--set-image", multiple=True, metavar="NAME=IMAGE", help="With --copy-to: other images; * for all.")
@click.option("--env", multiple=True, metavar="NAME=VALUE", help="Variables of the debugger.")
@click.option("--arguments-only", is_flag=True, help="What stands behind -- is arguments for the image's own command.")
@click.option("--attach/--no-attach", default=None, help="Attach once the debugger runs [with -i].")
@click.option("--image-pull-policy", default="", metavar="POLICY", help="Always, IfNotPresent or Never.")
@click.option("--profile", type=click.Choice(("general", "baseline", "restricted", "netadmin", "sysadmin")),
              default="general", help="What the debugger may do [general].")  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Print only what the debugger writes.")
@with_session
def command(session: Session, what: tuple[str, ...], **given: Any) -> None:
    """Look into a running pod with a container of your own image beside its containers, into a copy of it, or into a
    node. A container added to a pod stays until the pod goes; it is never started again.
    """
    request = _read(session, what, given)
    session.run(lambda connection: _debug(session, connection, request))


def _read(session: Session, what: tuple[str, ...], given: dict[str, Any]) -> Request:
    """What was asked for. Raises `CliError` in kubectl's words where it contradicts itself."""
    from barque.cli.conversing import wants_tty
    from barque.cli.debugging import Debugger, parse_pairs

    words = command_words()
    _check(what, given, words)
    debugger = Debugger(
        name=given["container"],
        image=given["image"],
        words=tuple(words),
        arguments_only=given["arguments_only"],
        stdin=given["stdin"],
        tty=wants_tty(session, stdin=given["stdin"], tty=given["tty"]),
        env=parse_pairs(given["env"], "--env"),
        pull_policy=given["image_pull_policy"],
        profile=given["profile"],
    )
    return Request(
        what,
        debugger,
        given["target"],
        given["copy_to"],
        given["replace"],
        given["same_node"],
        given["share_processes"],
        parse_pairs(given["set_image"], "--set-image"),
        given["stdin"] if given["attach"] is None else given["attach"],
        given["quiet"],
    )


def _check(what: tuple[str, ...], given: dict[str, Any], words: list[str]) -> None:
    from barque.cli.output import CliError

    why = ""
    if not what:
        why = "NAME or TYPE/NAME is required for debug"
    elif given["copy_to"]:
        if not given["image"] and not given["set_image"] and not words:
            why = "you must specify --image, --set-image or command arguments."
        elif words and not given["container"] and not given["image"]:
            why = "you must specify an existing container or a new image when specifying args."
        elif given["target"]:
            why = "--target is incompatible with --copy-to. Use --share-processes instead."
    elif given["replace"]:
        why = "--replace may only be used with --copy-to."
    elif given["same_node"]:
        why = "--same-node may only be used with --copy-to."
    elif given["set_image"]:
        why = "--set-image may only be used with --copy-to."
    elif not given["image"]:
        why = "you must specify --image when not using --copy-to."
    if not why and given["tty"] and not given["stdin"]:
        why = "-i/--stdin is required for containers with -t/--tty=true"
    if why:
        raise CliError(why)


async def _debug(session: Session, connection: Connection, request: Request) -> None:
    from barque.cli.arguments import parse_one
    from barque.cli.picking import pick_pod

    resource, name = parse_one(request.what, verb="debug", default="pod")
    if resource.plural == "nodes":
        pod, container = await _visit_node(session, connection, request, resource, name)
    else:
        found = await pick_pod(session, connection, resource, name)
        debug = _copy if request.copy_to else _add
        pod, container = await debug(session, connection, request, found)
    if request.attaches:
        await _attach(session, connection, request, pod.metadata.name, container)


async def _add(session: Session, connection: Connection, request: Request, pod: Any) -> tuple[Any, str]:
    """Add an ephemeral container to the pod; the pod, and the container's name."""
    from barque.api import codec
    from barque.cli.debugging import ephemeral_container
    from barque.cli.output import CliError
    from barque.cli.picking import container_named
    from barque.client.verbs import STRATEGIC_MERGE_PATCH

    debugger = _named(session, request)
    if container_named(pod, debugger.name) is not None:
        raise CliError(
            f'a container named "{debugger.name}" is in pod "{pod.metadata.name}" already; give the debugger another '
            "name with -c"
        )
    if request.target and not request.quiet:
        session.screen.note(
            f'Targeting container "{request.target}". If you don\'t see processes from this container it may be '
            "because the container runtime doesn't support this feature."
        )
    added = codec.to_builtins(ephemeral_container(debugger, request.target))
    order = [{"name": each.name} for each in pod.spec.ephemeralContainers] + [{"name": debugger.name}]
    spec = {"ephemeralContainers": [added], "$setElementOrder/ephemeralContainers": order}
    target = _target(session, pod.metadata.name)._replace(subresource="ephemeralcontainers")
    await session.call(connection.verbs.patch(target, STRATEGIC_MERGE_PATCH, msgspec.json.encode({"spec": spec})))
    return pod, debugger.name


async def _copy(session: Session, connection: Connection, request: Request, pod: Any) -> tuple[Any, str]:
    """Create the copy; it, and the container to attach to."""
    from barque.cli.debugging import Copying, pod_copy
    from barque.cli.output import CliError

    existing = [container.name for container in pod.spec.containers]
    if request.debugger.name and request.debugger.name not in existing and not request.debugger.image:
        raise CliError(
            f'Unable to find container named "{request.debugger.name}" in pod "{pod.metadata.name}": to add one, give '
            "its --image"
        )
    debugger = _named(session, request) if request.debugger.image else request.debugger
    copying = Copying(request.copy_to, request.same_node, request.share_processes, dict(request.images))
    if request.replace:
        await session.call(connection.client.delete(type(pod), pod.metadata.name, session.namespace))
    made = await session.call(connection.client.create(pod_copy(pod, debugger, copying)))
    return made, debugger.name or existing[0]


async def _visit_node(
    session: Session, connection: Connection, request: Request, resource: Resource, name: str
) -> tuple[Any, str]:
    """Create a pod on the node; it, and its container."""
    from barque.cli.debugging import node_pod

    await session.call(connection.client.get(resource.type, name))
    debugger = request.debugger._replace(name=request.debugger.name or "debugger")
    pod = node_pod(debugger, name, session.namespace, _suffix())
    if not request.quiet:
        session.screen.note(
            f"Creating debugging pod {pod.metadata.name} with container {debugger.name} on node {name}."
        )
    return await session.call(connection.client.create(pod)), debugger.name


async def _attach(session: Session, connection: Connection, request: Request, name: str, container: str) -> None:
    """Attach once the container runs; of one that has ended already the log is printed."""
    from barque.api.errors import ApiError
    from barque.api.types.core_v1 import Pod
    from barque.cli.attaching import attach
    from barque.cli.output import CliError

    state = await _begun(session, connection, name, container)
    debugger = request.debugger
    if "running" in state:
        pod = await session.call(connection.client.get(Pod, name, session.namespace))
        try:
            await attach(
                session, connection, pod, container, stdin=debugger.stdin, tty=debugger.tty, quiet=request.quiet
            )
        except (ApiError, CliError) as error:
            # It may have ended between the look and the attaching.
            if "container not found" not in str(error):
                raise
        else:
            return
    session.screen.note(f"warning: couldn't attach to pod/{name}, falling back to streaming logs: ")
    await _print_log(session, connection, name, container)


async def _begun(session: Session, connection: Connection, name: str, container: str) -> dict[str, Any]:
    """The container's state once it runs or has ended; says what holds it up meanwhile."""
    from barque.cli.following import Following, until
    from barque.cli.output import CliError

    told: set[str] = set()
    found: dict[str, Any] = {}

    def begun(live: dict[str, Any] | None) -> bool:
        if live is None:
            raise CliError(f"pod/{name} was deleted meanwhile")
        status = live.get("status") or {}
        listed = [*status.get("ephemeralContainerStatuses", ()), *status.get("containerStatuses", ())]
        state = next((each.get("state") or {} for each in listed if each["name"] == container), {})
        waiting = state.get("waiting") or {}
        if waiting.get("reason") in _STUCK and waiting["reason"] not in told:
            told.add(waiting["reason"])
            session.screen.note(f"container {container} waits: {waiting['reason']}: {waiting.get('message', '')}")
        found.clear()
        found.update(state)
        return "running" in state or "terminated" in state

    following = Following(_target(session, name), waiting=f"waiting until container {container} runs")
    await until(connection.verbs, following, begun, clock=session.clock, screen=session.screen)
    return found


async def _print_log(session: Session, connection: Connection, name: str, container: str) -> None:
    from barque.client.podstreams import read_log
    from barque.proto import pods_pb2

    asked = pods_pb2.LogsRequest(namespace=session.namespace, pod=name, container=container, tail_lines=-1)
    async for chunk in read_log(connection, asked):
        click.echo(chunk.data, nl=False)


def _named(session: Session, request: Request) -> Debugger:
    """The debugger with a name."""
    if request.debugger.name:
        return request.debugger
    name = f"debugger-{_suffix()}"
    if not request.quiet:
        session.screen.note(f"Defaulting debug container name to {name}.")
    return request.debugger._replace(name=name)


def _suffix() -> str:
    return "".join(random.SystemRandom().choices(_LETTERS, k=5))


def _target(session: Session, name: str) -> Any:
    from barque.api import resources
    from barque.client.verbs import Target

    return Target(resources.by_plural("", "pods"), session.namespace, name)
