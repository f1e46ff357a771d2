"""`barque run`: one pod of one image."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import msgspec

from barque.cli.output import CliError
from barque.cli.verb import Verb, with_session
from barque.cli.writing import Writing, read_writing, writing_options

if TYPE_CHECKING:
    from barque.cli.session import Connection, Session
    from barque.client.verbs import Target


class _Wish(NamedTuple):
    """What happens once the pod is made."""

    attach: bool
    stdin: bool
    tty: bool
    remove: bool
    quiet: bool
    timeout_s: float


@click.command(
    "run",
    cls=Verb,
    examples="""
    barque run web --image=web:1
    barque run web --image=web:1 --port=8080 --expose
    barque run web --image=web:1 --env=LEVEL=debug --labels=app=web,tier=front
    barque run -it --rm shell --image=busybox --restart=Never -- sh
    barque run tick --image=busybox --restart=Never --command -- sh -c 'date; sleep 1'
    """,
)
@click.argument("name")
@click.argument("words", nargs=-1, metavar="[-- ARG...]")
@click.option("--image", required=True, metavar="IMAGE", help="What runs.")
@click.option("--command", "as_command", is_flag=True, help="What stands behind -- is the command, not its arguments.")
@click.option("--env", "variables", multiple=True, metavar="NAME=VALUE", help="A variable; several times for more.")
@click.option("-l", "--labels", default="", metavar="LABELS", help="The pod's labels [run=NAME].")
@click.option("--annotations", "notes", multiple=True, metavar="KEY=VALUE", help="An annotation of the pod.")
@click.option("--port", type=click.IntRange(1, 65535), metavar="PORT", help="The port it listens on.")
@click.option("--expose", is_flag=True, help="Make a service of the same name and port too.")
@click.option(
    "--restart", type=click.Choice(["Always", "OnFailure", "Never"]), default="Always", help="When it ends [Always]."
)
@click.option(
    "--image-pull-policy", "pull", type=click.Choice(["Always", "IfNotPresent", "Never"]), help="When to pull."
)
@click.option("--privileged", is_flag=True, help="With every right on its node.")
@click.option("-i", "--stdin", is_flag=True, help="Pass on standard input.")
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal.")
@click.option("--attach/--no-attach", default=None, help="Show what it writes; -i does so too.")
@click.option("--rm", "remove", is_flag=True, help="Delete the pod once it has ended.")
@click.option("-q", "--quiet", is_flag=True, help="Print only what the container writes.")
@click.option(
    "--pod-running-timeout", "patience", default="1m", metavar="TIME", help="Wait so long until it runs [1m]."
)
@writing_options("run")
@with_session
def command(session: Session, name: str, words: tuple[str, ...], **given: Any) -> None:
    """Run one pod of an image. Nothing makes it anew when its node is lost; `barque create deployment` does that."""
    from barque.cli.arguments import parse_duration
    from barque.cli.conversing import wants_tty

    writing = read_writing(given)
    attach = given["stdin"] if given["attach"] is None else given["attach"]
    if given["remove"] and not attach:
        raise CliError("--rm should only be used for attached containers")
    if given["expose"] and given["port"] is None:
        raise CliError("--port must be set when exposing a service")
    if attach and writing.dry_run != "none":
        raise CliError(f"--dry-run={writing.dry_run} makes no pod to attach to; take -i or --attach away")
    tty = wants_tty(session, stdin=given["stdin"], tty=given["tty"]) if attach else given["tty"]
    wish = _Wish(attach, given["stdin"], tty, given["remove"], given["quiet"], parse_duration(given["patience"]))
    made = [_pod(name, words, given)]
    if given["expose"]:
        made.append(_service(made[0], given["port"]))
    if not attach:
        from barque.cli.creating import create_documents, document_of

        create_documents(session, [document_of(each) for each in made], writing)
        return
    code = session.run(lambda connection: _run(session, connection, made, writing, wish))
    if code:
        click.get_current_context().exit(code)


def _pod(name: str, words: tuple[str, ...], given: dict[str, Any]) -> dict[str, Any]:
    from barque.cli.exposing import parse_pairs
    from barque.cli.templates import parse_variables

    container: dict[str, Any] = {"name": name, "image": given["image"]}
    if words:
        container["command" if given["as_command"] else "args"] = list(words)
    variables = parse_variables(given["variables"]).wanted
    if variables:
        container["env"] = [{"name": key, "value": value} for key, value in variables.items()]
    if given["port"] is not None:
        container["ports"] = [{"containerPort": given["port"]}]
    if given["pull"]:
        container["imagePullPolicy"] = given["pull"]
    if given["privileged"]:
        container["securityContext"] = {"privileged": True}
    if given["stdin"]:
        container |= {"stdin": True, "stdinOnce": True}
    if given["tty"]:
        container["tty"] = True
    labels = parse_pairs(given["labels"], "--labels") if given["labels"] else {"run": name}
    metadata: dict[str, Any] = {"name": name, "labels": labels}
    notes = parse_pairs(",".join(given["notes"]), "--annotations")
    if notes:
        metadata["annotations"] = notes
    spec = {"containers": [container], "restartPolicy": given["restart"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _service(pod: dict[str, Any], port: int) -> dict[str, Any]:
    from barque.cli.exposing import Wish, service_for

    return service_for(pod, "pods", Wish(port=str(port)))


async def _run(
    session: Session, connection: Connection, made: list[dict[str, Any]], writing: Writing, wish: _Wish
) -> int:
    """Make the pod, attach to it, and tidy up; the exit code of its container where it is not to run again."""
    from barque.api import resources
    from barque.cli.deleting import delete_options
    from barque.cli.naming import quoted
    from barque.client.verbs import Target

    targets: list[Target] = []
    for each in made:
        where = Target(resources.by_kind(each["apiVersion"], each["kind"]), session.namespace)
        await session.call(connection.verbs.create(where, msgspec.json.encode(each), writing.options()))
        targets.append(where._replace(name=each["metadata"]["name"]))
    try:
        return await _attached(session, connection, targets[0], wish)
    finally:
        for target in targets if wish.remove else ():
            await session.call(connection.verbs.delete(target, delete_options()))
            if not wish.quiet:
                session.screen.note(f"{quoted(target.resource, target.name)} deleted from {target.namespace} namespace")


async def _attached(session: Session, connection: Connection, target: Target, wish: _Wish) -> int:
    from barque.cli.attaching import attach

    pod = await _until(session, connection, target, _has_begun, wish.timeout_s)
    container = pod.spec.containers[0].name
    if _has_ended(pod):
        await _print_logs(session, connection, target, container)
    else:
        await attach(session, connection, pod, container, stdin=wish.stdin, tty=wish.tty, quiet=wish.quiet)
    if pod.spec.restartPolicy == "Always":
        return 0
    ended = await _until(session, connection, target, _has_ended, 0)
    states = [status.state for status in ended.status.containerStatuses if status.name == container]
    terminated = next((state.terminated for state in states if state is not None and state.terminated), None)
    return int(terminated.exitCode) if terminated is not None else int(ended.status.phase == "Failed")


def _has_begun(pod: Any) -> bool:
    return _has_ended(pod) or any(s.state is not None and s.state.running for s in pod.status.containerStatuses)


def _has_ended(pod: Any) -> bool:
    return pod.status.phase in ("Succeeded", "Failed")


async def _until(
    session: Session, connection: Connection, target: Target, done: Callable[[Any], bool], timeout_s: float
) -> Any:
    """The pod once it is so; 0 waits for ever. Raises `CliError` where it goes away, or time is up."""
    from barque.api import codec
    from barque.api.types.core_v1 import Pod
    from barque.cli.following import Following, until

    def met(present: dict[str, Any] | None) -> bool:
        if present is None:
            raise CliError(f'pod "{target.name}" was deleted meanwhile')
        return bool(done(codec.from_document(Pod, present)))

    following = Following(target, waiting=f"waiting for pod {target.namespace}/{target.name} to be running")
    try:
        async with asyncio.timeout(timeout_s or None):
            found = await until(connection.verbs, following, met, clock=session.clock, screen=session.screen)
    except TimeoutError:
        raise CliError(
            f"timed out waiting for the condition; `barque why {target.name}` tells why it does not run"
        ) from None
    return codec.from_document(Pod, found or {})


async def _print_logs(session: Session, connection: Connection, target: Target, container: str) -> None:
    """What a container wrote that was faster than we."""
    from barque.client.podstreams import read_log
    from barque.proto import pods_pb2

    request = pods_pb2.LogsRequest(namespace=target.namespace, pod=target.name, container=container, tail_lines=-1)
    session.screen.quiet()
    async with aclosing(read_log(connection, request)) as chunks:
        async for chunk in chunks:
            click.echo(chunk.data, nl=False)
