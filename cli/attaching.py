"""Attaching to a container's own process, for `attach` and `debug`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from barque.api.errors import ApiError
from barque.cli.conversing import converse, unable
from barque.cli.output import CliError
from barque.cli.picking import container_named

if TYPE_CHECKING:
    from barque.cli.session import Connection, Session

_PROMPT = "If you don't see a command prompt, try pressing enter."


async def attach(
    session: Session, connection: Connection, pod: Any, container: str, *, stdin: bool, tty: bool, quiet: bool
) -> None:
    """Until the process ends, or closes its output. Raises `ApiError`, `CliError`."""
    from barque.proto import pods_pb2

    meant = container_named(pod, container)
    if stdin and not meant.stdin:
        raise CliError(f"container {container} has no standard input: its `stdin` is not true")
    if tty and not meant.tty and not quiet:
        session.screen.note(f"error: Unable to use a TTY - container {container} did not allocate one")
    tty = tty and bool(meant.tty)
    name = pod.metadata.name
    start = pods_pb2.ExecInput.Start(namespace=session.namespace, pod=name, container=container, stdin=stdin, tty=tty)
    if not quiet and stdin and tty:
        session.screen.note(_PROMPT)
    try:
        await converse(session, connection, "Attach", start)
    except ApiError as error:
        raise unable(error) from None
    if not quiet and stdin and tty and pod.spec.restartPolicy == "Always":
        session.screen.note(_ended(pod, container))


def _ended(pod: Any, container: str) -> str:
    again = f"'barque attach {pod.metadata.name} -c {container} -i -t'"
    if any(debugger.name == container for debugger in pod.spec.ephemeralContainers):
        return (
            "Session ended, the ephemeral container will not be restarted but may be reattached using "
            f"{again} if it is still running"
        )
    return f"Session ended, resume using {again} command when the pod is running"
