"""`barque top`: what nodes and pods use of CPU and memory, once or followed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from barque.cli.verb import Verb, VerbGroup, session_of, with_session

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from click.shell_completion import CompletionItem

    from barque.cli.session import Connection, Session
    from barque.cli.usage import Order

F = TypeVar("F", bound="Callable[..., Any]")

# How often `-w` looks again: workers measure every ten seconds, each at a moment of its own.
LIVE_S = 5.0
# A pod without a sample for longer than this after its creation will not get one soon (kubectl's own measure).
METRICS_DELAY_S = 120.0
_GROUP = "metrics.k8s.io"
_WORDS = {"node": "nodes", "no": "nodes", "pod": "pods", "po": "pods"}
# To the top left of the screen, and everything below it away.
_REDRAW = "\x1b[H\x1b[J"


class _Asked(NamedTuple):
    """What one of the two verbs was given."""

    name: str
    selector: str
    field_selector: str
    order: Order
    headers: bool
    # Of pods.
    everywhere: bool = False
    containers: bool = False
    total: bool = False
    # Of nodes: the whole machine, not only what pods may have of it.
    capacity: bool = False


def _complete(plural: str) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    def complete(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from barque.cli.completing import complete_names

        return complete_names(session_of(ctx), plural, incomplete)

    return complete


def _shared_options(command: F) -> F:
    """What both verbs understand."""
    for option in (
        click.option("-w", "--watch", is_flag=True, help="Show it anew every few seconds."),
        click.option("--no-headers", is_flag=True, help="Rows alone."),
        click.option("--sort-by", metavar="RESOURCE", default="", help="Whoever uses most first, of cpu or memory."),
        click.option("--field-selector", metavar="FIELDS", default="", help="Only these, as in metadata.name!=web."),
        click.option("-l", "--selector", metavar="LABELS", default="", help="Only these, as in app=web,tier!=db."),
    ):
        command = option(command)
    return command


class _Top(VerbGroup):
    """Its verbs by every word for what they show."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, _WORDS.get(cmd_name, cmd_name))


@click.group("top", cls=_Top)
def command() -> None:
    """Show what nodes and pods use of CPU and memory, as the workers measured it within the last seconds."""


@command.command(
    "nodes",
    cls=Verb,
    examples="""
    barque top nodes
    barque top nodes --sort-by=memory -w     the fullest first, followed
    barque top nodes n1 --show-capacity      in percent of the whole machine
    """,
)
@click.argument("name", required=False, default="", shell_complete=_complete("nodes"))
@_shared_options
@click.option("--show-capacity", is_flag=True, help="Percent of the whole machine, not of what pods may have of it.")
@with_session
def nodes(session: Session, name: str, watch: bool, show_capacity: bool, **given: Any) -> None:
    """Show what nodes use. A node that nobody has measured lately is shown as unknown."""
    asked = _asked(name, given)._replace(capacity=show_capacity)
    session.run(lambda connection: _show(session, connection, asked, _nodes, watch))


@command.command(
    "pods",
    cls=Verb,
    examples="""
    barque top pods                          of the namespace
    barque top pods -A --sort-by=cpu -w      of the whole cluster, the busiest first, followed
    barque top pods web-5d9c7-x2x4k --containers
    barque top pods -l app=web --sum         one application, and all of it together
    """,
)
@click.argument("name", required=False, default="", shell_complete=_complete("pods"))
@_shared_options
@click.option("-A", "--all-namespaces", is_flag=True, help="Pods of every namespace.")
@click.option("--containers", is_flag=True, help="A row for each container.")
@click.option("--sum", "total", is_flag=True, help="A last row with all of them together.")
@with_session
def pods(
    session: Session, name: str, watch: bool, all_namespaces: bool, containers: bool, total: bool, **given: Any
) -> None:
    """Show what pods use: CPU in thousandths of a core, memory as what cannot be taken from them (the working set)."""
    asked = _asked(name, given)._replace(everywhere=all_namespaces, containers=containers, total=total)
    session.run(lambda connection: _show(session, connection, asked, _pods, watch))


def _asked(name: str, given: dict[str, Any]) -> _Asked:
    from barque.cli.output import CliError

    if given["sort_by"] not in ("", "cpu", "memory"):
        raise CliError("--sort-by accepts only cpu or memory")
    if name and (given["selector"] or given["field_selector"]):
        raise CliError("only one of NAME or selector can be provided")
    return _Asked(name, given["selector"], given["field_selector"], given["sort_by"], not given["no_headers"])


async def _show(
    session: Session,
    connection: Connection,
    asked: _Asked,
    page: Callable[[Session, Connection, _Asked], Awaitable[str]],
    watch: bool,
) -> None:
    """Print the page; with `watch` again and again, in the place of the one before where the output is a terminal."""
    if not watch:
        session.screen.write(await page(session, connection, asked))
        return
    terminal, gap = sys.stdout.isatty(), ""
    while True:
        text = await _held(page(session, connection, asked))
        session.screen.write(_REDRAW + _fitted(text) if terminal else gap + text)
        gap = "\n"
        await session.clock.sleep(LIVE_S)


async def _held(page: Awaitable[str]) -> str:
    """The page, or what is in its way now and may be gone the next time."""
    from barque.api.errors import ApiError
    from barque.cli.output import CliError
    from barque.cli.session import explain

    try:
        return await page
    except CliError as fault:
        return f"error: {fault.message}\n"
    except ApiError as error:
        if error.code not in (503, 504):
            raise
        return f"{explain(error)}\n"


def _fitted(text: str) -> str:
    """As much of it as the terminal has lines, the cursor's own left free."""
    import shutil

    lines = text.splitlines(keepends=True)
    return "".join(lines[: max(shutil.get_terminal_size().lines - 1, 1)])


async def _nodes(session: Session, connection: Connection, asked: _Asked) -> str:
    from barque.api.types.core_v1 import Node
    from barque.cli import usage
    from barque.cli.output import CliError

    found = usage.in_order(usage.read_nodes(await _metrics(session, connection, asked, "nodes", "")), asked.order)
    if not found.names:
        raise CliError("metrics not available yet")
    if asked.name:
        nodes = [await session.call(connection.client.get(Node, asked.name))]
    else:
        listed = connection.client.list(Node, labels=asked.selector, fields=asked.field_selector)
        nodes = (await session.call(listed)).items
    available = {n.metadata.name: n.status.capacity if asked.capacity else n.status.allocatable for n in nodes}
    return usage.node_table(found, available, headers=asked.headers)


async def _pods(session: Session, connection: Connection, asked: _Asked) -> str:
    from barque.cli import usage

    namespace = "" if asked.everywhere and not asked.name else session.namespace
    items = await _metrics(session, connection, asked, "pods", namespace)
    if not items:
        await _check_there_are_none(session, connection, asked, namespace)
        session.screen.note(f"No resources found in {namespace} namespace." if namespace else "No resources found")
        return ""
    found = usage.read_containers(items) if asked.containers else usage.read_pods(items)
    return usage.pod_table(
        usage.in_order(found, asked.order),
        namespaces=not namespace,
        containers=asked.containers,
        headers=asked.headers,
        total=asked.total,
    )


async def _metrics(
    session: Session, connection: Connection, asked: _Asked, plural: str, namespace: str
) -> Sequence[bytes]:
    """The metrics of what is asked for. Raises 404 where those of a name are missing."""
    from barque.api import resources
    from barque.api.errors import ApiError
    from barque.cli.output import CliError
    from barque.client.verbs import Selection, Target

    target = Target(resources.by_plural(_GROUP, plural), namespace, asked.name)
    if asked.name:
        return [await session.call(connection.verbs.get(target))]
    try:
        listed = await session.call(connection.verbs.list(target, Selection(asked.selector, asked.field_selector)))
    except ApiError as refused:
        # A list is never missing but where the master is of a release that has none.
        if refused.code == 404:
            raise CliError("Metrics API not available") from None
        raise
    return listed.items


async def _check_there_are_none(session: Session, connection: Connection, asked: _Asked, namespace: str) -> None:
    """Raises `CliError` where there are pods, and only their metrics are missing."""
    from barque.api import timestamps
    from barque.api.columns.age import human_duration
    from barque.api.types.core_v1 import Pod
    from barque.cli.output import CliError

    listed = connection.client.list(Pod, namespace, labels=asked.selector, fields=asked.field_selector)
    pods = (await session.call(listed)).items
    for pod in pods:
        created = timestamps.parse(pod.metadata.creationTimestamp)
        age_s = (session.clock.wall() - created).total_seconds() if created is not None else 0.0
        if age_s > METRICS_DELAY_S:
            where = f"{pod.metadata.namespace}/{pod.metadata.name}"
            raise CliError(f"Metrics not available for pod {where}, age: {human_duration(age_s)}")
    if pods:
        raise CliError("metrics not available yet")
