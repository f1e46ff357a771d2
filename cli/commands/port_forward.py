"""`barque port-forward`: local ports that lead into a pod."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from barque.cli.verb import Verb, with_session

if TYPE_CHECKING:
    from barque.cli.session import Connection, Session

_LOCALHOST = ("127.0.0.1", "::1")


class Pair(NamedTuple):
    """A local port, 0 for any free one, and the pod's."""

    local: int
    remote: int


@click.command(
    "port-forward",
    cls=Verb,
    examples="""
    barque port-forward web-5d9c7-x2x4k 8080:80     localhost:8080 leads to the pod's port 80
    barque port-forward deployment/web 5000 6000    the same ports here and there
    barque port-forward service/web 8443:https      to a pod behind the service, by the port's name
    barque port-forward pod/web :80                 any free port here
    barque port-forward --address 0.0.0.0 pod/web 8080:80    for other machines, too
    """,
)
@click.argument("what", nargs=-1, metavar="POD | TYPE/NAME [LOCAL:]REMOTE...")
@click.option("--address", "addresses", multiple=True, default=("localhost",), metavar="ADDRESS",
              help="Where to listen; several with commas [localhost].")  # fmt: skip
@click.option("--pod-running-timeout", default="1m", metavar="TIME", help="Wait so long for a running pod [1m].")
@with_session
def command(session: Session, what: tuple[str, ...], addresses: tuple[str, ...], pod_running_timeout: str) -> None:
    """Listen on local ports and join each connection with one to a port of a pod, until Ctrl-C. The connection comes
    from within the pod: a server that listens on its localhost only is reached, too.
    """
    from barque.cli.arguments import parse_duration
    from barque.cli.output import CliError

    if len(what) < 2:
        raise CliError("TYPE/NAME and list of ports are required for port-forward")
    wait_s = parse_duration(pod_running_timeout)
    asked = [one for given in addresses for one in given.split(",")]
    listen = [a for one in asked for a in (_LOCALHOST if one == "localhost" else (one,))]
    session.run(lambda connection: _forward(session, connection, what[0], what[1:], listen, wait_s))


async def _forward(
    session: Session, connection: Connection, name: str, ports: tuple[str, ...], listen: list[str], wait_s: float
) -> None:
    from barque.cli.arguments import parse_one
    from barque.cli.picking import pick_pod

    resource, bare = parse_one((name,), verb="port-forward", default="pod")
    service = None
    if resource.plural == "services":
        service = await session.call(connection.client.get(resource.type, bare, session.namespace))
    pod: Any = await pick_pod(session, connection, resource, bare)
    pairs = [_pair(text, pod, service) for text in ports]
    pod = await _running(session, connection, pod, wait_s)
    session.screen.quiet()
    forwarder = Forwarder(session, connection, pod.metadata.name)
    async with AsyncExitStack() as stack:
        await forwarder.listen(stack, pairs, listen)
        await _ended(session, connection, pod)


async def _running(session: Session, connection: Connection, pod: Any, wait_s: float) -> Any:
    """The pod once it runs. Raises `CliError` where it does not in time, or never will."""
    from barque.api import resources
    from barque.cli.following import Following, until
    from barque.cli.output import CliError
    from barque.client.verbs import Target

    def settled(live: dict[str, Any] | None) -> bool:
        return live is None or (live.get("status") or {}).get("phase", "Pending") != "Pending"

    if pod.status.phase == "Pending":
        target = Target(resources.by_plural("", "pods"), session.namespace, pod.metadata.name)
        following = Following(target, waiting=f"waiting until pod/{pod.metadata.name} runs")
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s or None):
                await until(connection.verbs, following, settled, clock=session.clock, screen=session.screen)
        pod = await session.call(connection.client.get(type(pod), pod.metadata.name, session.namespace))
    if pod.status.phase != "Running":
        raise CliError(f"unable to forward port because pod is not running. Current status={pod.status.phase}")
    return pod


async def _ended(session: Session, connection: Connection, pod: Any) -> None:
    """Waits until the pod is no more. Raises `CliError` then."""
    from barque.api import resources
    from barque.cli.following import Following, until
    from barque.cli.output import CliError
    from barque.client.verbs import Target

    def over(live: dict[str, Any] | None) -> bool:
        return live is None or live["metadata"]["uid"] != pod.metadata.uid or live["status"]["phase"] != "Running"

    target = Target(resources.by_plural("", "pods"), session.namespace, pod.metadata.name)
    await until(connection.verbs, Following(target), over, clock=session.clock, screen=session.screen)
    raise CliError("lost connection to pod")


class Forwarder:
    """Listens, and joins each connection with one to the pod; what befalls one connection does not touch the others."""

    def __init__(self, session: Session, connection: Connection, pod: str) -> None:
        self._session = session
        self._connection = connection
        self._pod = pod

    async def listen(self, stack: AsyncExitStack, pairs: list[Pair], addresses: list[str]) -> None:
        """Open the ports for as long as the stack. Raises `CliError` where none of them can be had."""
        from barque.cli.output import CliError

        opened = False
        for pair in pairs:
            reasons = []
            for address in addresses:
                try:
                    # Both addresses of localhost get the same port.
                    pair = pair._replace(local=await self._open(stack, pair, address))
                except OSError as error:
                    reasons.append(f"{_shown(address, pair.local)}: {(error.strerror or str(error)).lower()}")
            opened = opened or len(reasons) < len(addresses)
            if len(reasons) == len(addresses):
                self._session.screen.error(
                    f"Unable to listen on port {pair.local}: Listeners failed to create with the following errors: "
                    f"[{'; '.join(reasons)}]"
                )
        if not opened:
            asked = ", ".join(f"{{{pair.local} {pair.remote}}}" for pair in pairs)
            raise CliError(f"unable to listen on any of the requested ports: [{asked}]")

    async def _open(self, stack: AsyncExitStack, pair: Pair, address: str) -> int:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._session.screen.line(f"Handling connection for {local}")
            await self._join(Pair(local, pair.remote), reader, writer)

        server = await stack.enter_async_context(await asyncio.start_server(handle, address, pair.local))
        local: int = server.sockets[0].getsockname()[1]
        self._session.screen.line(f"Forwarding from {_shown(address, local)} -> {pair.remote}")
        return local

    async def _join(self, pair: Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from barque.api.errors import ApiError
        from barque.client.podstreams import forward
        from barque.proto import pods_pb2

        start = pods_pb2.PortForwardInput.Start(namespace=self._session.namespace, pod=self._pod, port=pair.remote)
        try:
            await forward(self._connection, start, reader, writer)
        except ApiError as error:
            said = f"an error occurred forwarding {pair.local} -> {pair.remote}: {error.message}"
            self._session.screen.error(f"error: {said}")
        except OSError:
            # The local side went away, as it may.
            return
        finally:
            writer.close()


def _shown(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _pair(text: str, pod: Any, service: Any) -> Pair:
    """`8080:80`, `:80`, `80`, `8080:http`, `http` as numbers. Raises `CliError`."""
    from barque.cli.output import CliError

    local, colon, asked = text.partition(":")
    remote = asked if colon else local
    if not remote:
        raise CliError(f"Invalid port format '{text}'")
    shown = number = _pod_port(remote, pod) if service is None else 0
    if service is not None:
        shown, number = _service_port(remote, pod, service)
    if not colon:
        return Pair(shown, number)
    if local and not (local.isdecimal() and int(local) < 65536):
        raise CliError(f"Error parsing local port '{local}': it is not a port")
    return Pair(int(local or 0), number)


def _service_port(text: str, pod: Any, service: Any) -> tuple[int, int]:
    """A service's port, by number or name, and the pod's port behind it."""
    from barque.cli.output import CliError

    for port in service.spec.ports:
        if text not in (str(port.port), port.name):
            continue
        if port.protocol == "UDP":
            raise CliError(f"UDP protocol is not supported for {port.port}")
        return int(port.port), _pod_port(str(port.targetPort or port.port), pod)
    raise CliError(f"Service {service.metadata.name} does not have a service port {text}")


def _pod_port(text: str, pod: Any) -> int:
    """A port of the pod, by number or name."""
    from barque.cli.output import CliError

    declared = [port for container in pod.spec.containers for port in container.ports]
    if text.isdecimal():
        if not 0 < int(text) < 65536:
            raise CliError(f"Error parsing remote port '{text}': it is not a port")
        if {port.protocol for port in declared if port.containerPort == int(text)} == {"UDP"}:
            raise CliError(f"UDP protocol is not supported for {text}")
        return int(text)
    for port in declared:
        if port.name == text:
            return int(port.containerPort)
    raise CliError(f"Pod '{pod.metadata.name}' does not have a named port '{text}'")
