"""`barque wait`: until objects have a condition, a value, or are gone."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
import msgspec

from barque.cli.verb import Verb, with_session

if TYPE_CHECKING:
    from barque.cli.arguments import Wanted
    from barque.cli.session import Connection, Session
    from barque.client.verbs import Target

Done = Callable[[dict[str, Any] | None], bool]


@click.command(
    "wait",
    cls=Verb,
    examples="""
    barque wait --for=condition=Ready pod/web-5d9c7-x2x4k
    barque wait --for=condition=Available deployment/web --timeout=60s
    barque wait --for=delete pod -l app=web
    barque wait --for=jsonpath='{.status.phase}'=Running pod/web-5d9c7-x2x4k
    """,
)
@click.argument("what", nargs=-1, metavar="TYPE NAME... | TYPE/NAME...")
@click.option(
    "--for", "goal", required=True, metavar="WHAT", help="condition=NAME[=VALUE], delete or jsonpath=PATH=VALUE."
)
@click.option("-l", "--selector", metavar="LABELS", default="", help="The objects with these labels.")
@click.option("--all", "every", is_flag=True, help="All objects of the type in the namespace.")
@click.option(
    "--timeout", default="30s", metavar="TIME", help="Wait at most so long for all of them; 0 is for ever [30s]."
)
@with_session
def command(session: Session, what: tuple[str, ...], goal: str, selector: str, every: bool, timeout: str) -> None:
    """Wait until objects have a condition or a value, or are gone. Exits with 1 when the time is up."""
    from barque.cli.arguments import parse_duration, parse_wanted
    from barque.cli.output import CliError

    wanted = parse_wanted(what, verb="wait")
    if any(w.names for w in wanted) == bool(selector or every):
        raise CliError("which of them? Give names, -l LABELS or --all")
    done = parse_goal(goal)
    timeout_s = parse_duration(timeout)
    session.run(lambda connection: _wait(session, connection, wanted, selector, done, goal, timeout_s))


def parse_goal(goal: str) -> Done | None:
    """The test for `--for`; None for `delete`, whose test needs the object's uid. Raises `CliError`."""
    from barque.cli.output import CliError

    kind, _, rest = goal.partition("=")
    if goal == "delete":
        return None
    if kind == "condition" and rest:
        name, _, value = rest.partition("=")
        return lambda present: _condition(present, name) == (value or "True").lower()
    if kind == "jsonpath":
        path, _, value = rest.partition("=")
        steps = _steps(path)
        return lambda present: _at(present, steps) is not None and (not value or _text(_at(present, steps)) == value)
    raise CliError(f"{goal!r} cannot be waited for; use condition=NAME[=VALUE], delete or jsonpath=PATH=VALUE")


def _condition(present: dict[str, Any] | None, name: str) -> str:
    """The condition's status in small letters; "" where it is missing or older than the newest spec."""
    if present is None:
        return ""
    status = present.get("status", {})
    if status.get("observedGeneration", 0) and status["observedGeneration"] < present["metadata"].get("generation", 0):
        return ""
    found = [c for c in status.get("conditions", []) if str(c.get("type", "")).lower() == name.lower()]
    return str(found[0].get("status", "")).lower() if found else ""


def _steps(path: str) -> list[str | int]:
    """`{.status.podIPs[0].ip}` as its steps."""
    from barque.cli.output import CliError

    inner = path.strip("{}")
    steps = re.findall(r"\.([A-Za-z0-9_-]+)|\[(\d+)\]", inner)
    if not steps or "".join(f".{name}" if name else f"[{index}]" for name, index in steps) != inner:
        raise CliError(f"{path!r} is not a path such as {{.status.phase}} or {{.status.podIPs[0].ip}}")
    return [name or int(index) for name, index in steps]


def _at(value: Any, steps: list[str | int]) -> Any:
    for step in steps:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


async def _wait(
    session: Session,
    connection: Connection,
    wanted: list[Wanted],
    selector: str,
    done: Done | None,
    goal: str,
    timeout_s: float,
) -> None:
    from barque.cli.following import Following, gone, until
    from barque.cli.naming import slashed
    from barque.cli.output import CliError

    subject = ""
    try:
        async with asyncio.timeout(timeout_s or None):
            for target, uid in await _targets(session, connection, wanted, selector, missing_is_done=done is None):
                subject = slashed(target.resource, target.name)
                following = Following(target, waiting=f"waiting for {goal} of {subject}")
                await until(connection.verbs, following, done or gone(uid), clock=session.clock, screen=session.screen)
                session.screen.line(f"{subject} condition met")
    except TimeoutError:
        raise CliError(f"timed out waiting for the condition on {subject}") from None


async def _targets(
    session: Session, connection: Connection, wanted: list[Wanted], selector: str, *, missing_is_done: bool
) -> list[tuple[Target, str]]:
    """The objects to wait for, with their uids."""
    from barque.api.errors import ApiError
    from barque.client.verbs import Selection, Target

    found: list[tuple[Target, str]] = []
    for resource, names in wanted:
        namespace = session.namespace if resource.namespaced else ""
        if not names:
            listed = await session.call(connection.verbs.list(Target(resource, namespace), Selection(selector)))
            metas = [msgspec.json.decode(item)["metadata"] for item in listed.items]
            found += [(Target(resource, namespace, meta["name"]), meta.get("uid", "")) for meta in metas]
        for name in names:
            target = Target(resource, namespace, name)
            try:
                meta = msgspec.json.decode(await session.call(connection.verbs.get(target)))["metadata"]
            except ApiError as error:
                if error.code != 404 or not missing_is_done:
                    raise
                continue
            found.append((target, meta.get("uid", "")))
    return found
