"""`barque get`: objects as tables, YAML, JSON, names or by a template, once or followed."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from barque.cli.verb import Verb, complete_objects, with_session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from barque.cli.fetching import Answer, Asked
    from barque.cli.printing import Printer
    from barque.cli.session import Connection, Session
    from barque.cli.tables import ServerTable
    from barque.client.verbs import IncludeObject

SUBRESOURCES = ("status", "scale")


class View(NamedTuple):
    """How objects are shown; `printer` is None where rows are."""

    output: str = ""
    printer: Printer | None = None
    all_namespaces: bool = False
    show_labels: bool = False
    label_columns: tuple[str, ...] = ()
    headers: bool = True
    sort_by: str = ""
    events: bool = False
    # Where several types are shown together, each name says its type.
    typed_names: bool = False

    @property
    def include(self) -> IncludeObject:
        """What of each object must come with its row."""
        return "Object" if self.sort_by else "Metadata"


@click.command(
    "get",
    cls=Verb,
    examples="""
    barque get pods                          every pod of the namespace
    barque get pods -A -o wide               of all namespaces, with addresses and nodes
    barque get pods -l app=web -w            follow the pods of one application
    barque get deployment/web service/web    two objects
    barque get pods,svc                      several types
    barque get all                           what people make and what is made for them
    barque get deploy web -o yaml            one object in full
    barque get pods --sort-by=.status.startTime
    barque get pods -o jsonpath='{range .items[*]}{.metadata.name}{"\\n"}{end}'
    barque get pods -o custom-columns=NAME:.metadata.name,NODE:.spec.nodeName
    """,
)
@click.argument("what", nargs=-1, metavar="TYPE [NAME]... | TYPE/NAME...", shell_complete=complete_objects)
@click.option("-f", "--filename", "files", multiple=True, metavar="FILE", help="The objects of a file, folder or -.")
@click.option("-R", "--recursive", is_flag=True, help="Go into folders below.")
@click.option(
    "-o", "--output", metavar="FORMAT", default="",
    help="wide, yaml, json, name, jsonpath=TEMPLATE, jsonpath-file=FILE, jsonpath-as-json=TEMPLATE, "
    "custom-columns=NAME:PATH,... or custom-columns-file=FILE.",
)  # fmt: skip
@click.option("-w", "--watch", is_flag=True, help="Go on printing objects as they change.")
@click.option("--watch-only", is_flag=True, help="Print changes alone, not what there is now.")
@click.option("--output-watch-events", is_flag=True, help="With -w: say of each change what it is.")
@click.option("-l", "--selector", metavar="LABELS", default="", help="Only these, as in app=web,tier!=db.")
@click.option("--field-selector", metavar="FIELDS", default="", help="Only these, as in status.phase=Running.")
@click.option("-A", "--all-namespaces", is_flag=True, help="Objects of every namespace.")
@click.option("--sort-by", metavar="PATH", default="", help="In the order of this field, as in .status.startTime.")
@click.option("--show-labels", is_flag=True, help="A last column with all labels.")
@click.option("-L", "--label-columns", metavar="KEYS", multiple=True, help="A column for each of these labels.")
@click.option("--show-kind", is_flag=True, help="Each name with its type, as in pod/web.")
@click.option("--show-managed-fields", is_flag=True, help="In YAML and JSON: who owns which field.")
@click.option("--no-headers", is_flag=True, help="Rows alone.")
@click.option("--subresource", metavar="NAME", default="", help="The object's status or scale instead.")
@click.option("--chunk-size", type=click.IntRange(min=0), default=500, metavar="N", help="Objects an answer [500].")
@click.option("--ignore-not-found", is_flag=True, help="A missing object is no error.")
@click.option("--stale", is_flag=True, help="What one master knows, perhaps of before; works without a quorum too.")
@with_session
def command(session: Session, what: tuple[str, ...], **given: Any) -> None:
    """Show objects as a table, or in full as YAML or JSON. With -w the objects that change are printed as they do, also
    across a restart of the master.
    """
    from barque.cli.fetching import asked_for

    watch = given["watch"] or given["watch_only"]
    asked = asked_for(session, what, given, verb="get")
    view = _view(given, typed_names=len(asked) > 1 or what == ("all",))
    _check(asked, view, given["subresource"], watch=watch)
    failed = session.run(
        lambda connection: (
            _watch(session, connection, asked[0], view, present=not given["watch_only"])
            if watch
            else _get(session, connection, asked, view)
        )
    )
    if failed:
        click.get_current_context().exit(1)


def _view(given: dict[str, Any], *, typed_names: bool) -> View:
    from barque.cli.printing import printer_for

    headers = not given["no_headers"]
    return View(
        given["output"],
        printer_for(given["output"], managed_fields=given["show_managed_fields"], headers=headers),
        given["all_namespaces"],
        given["show_labels"],
        tuple(key for keys in given["label_columns"] for key in keys.split(",")),
        headers,
        given["sort_by"],
        given["output_watch_events"],
        typed_names or given["show_kind"],
    )


def _check(asked: Sequence[Asked], view: View, subresource: str, *, watch: bool) -> None:
    from barque.cli.output import CliError

    if watch and (len(asked) > 1 or len(asked[0].names) > 1):
        raise CliError(
            "watch is only supported on individual resources and resource collections - more than 1 resource was found"
        )
    if view.events and not watch:
        raise CliError("--output-watch-events option can only be used with --watch or --watch-only")
    if not subresource:
        return
    if subresource not in SUBRESOURCES:
        raise CliError(f'invalid subresource value: "{subresource}". Must be one of [{" ".join(SUBRESOURCES)}]')
    for each in asked:
        if subresource not in each.resource.subresources:
            raise CliError(f"{each.resource.plural} have no subresource {subresource}")
        if not each.names or watch:
            raise CliError("--subresource shows one object at a time: give its name")


async def _get(session: Session, connection: Connection, asked: Sequence[Asked], view: View) -> bool:
    """Print all that is wanted; True where something asked for by name is missing."""
    from barque.cli import fetching
    from barque.cli.session import explain

    as_rows = view.printer is None
    answers, missing = await fetching.fetch(session, connection, asked, view.include if as_rows else None)
    named = any(each.names for each in asked)
    single = named and sum(len(each.names) for each in asked) == 1
    if view.sort_by:
        answers = [fetching.in_order(answer, view.sort_by) for answer in answers]
    if view.printer is not None:
        items = [item for answer in answers for item in answer.items]
        if items or not named:
            session.screen.write(view.printer.all(items, single=single))
    else:
        _print_rows(session, answers, view)
        if not named and not any(answer.items for answer in answers) and not asked[0].ignore_not_found:
            session.screen.note(fetching.nothing_found(asked, session.namespace, view.all_namespaces))
    for error in missing:
        session.screen.error(explain(error))
    return bool(missing)


def _print_rows(session: Session, answers: Sequence[Answer], view: View) -> None:
    from barque.cli.naming import slashed

    blocks = []
    for answer in answers:
        if view.output == "name":
            names = (item["object"]["metadata"]["name"] for item in answer.items)
            blocks.append("".join(slashed(answer.resource, name) + "\n" for name in names))
        elif answer.items:
            blocks.append(_table(answer, view).render(answer.items))
    session.screen.write(("" if view.output == "name" else "\n").join(blocks))


def _table(answer: Answer, view: View) -> ServerTable:
    from barque.cli.naming import singular
    from barque.cli.tables import Layout, ServerTable

    layout = Layout(
        view.output == "wide",
        answer.resource.namespaced and view.all_namespaces,
        view.show_labels,
        view.label_columns,
        view.headers,
        view.events,
        f"{singular(answer.resource)}/" if view.typed_names else "",
    )
    return ServerTable(answer.columns, layout)


async def _watch(session: Session, connection: Connection, asked: Asked, view: View, *, present: bool) -> bool:
    """Print the present objects, then each change, until interrupted."""
    import msgspec

    from barque.cli import fetching
    from barque.cli.following import Following, follow
    from barque.cli.naming import slashed

    include = view.include if view.printer is None else None
    answer = await fetching.listed(session, connection, asked, include, wanted=present)
    if view.sort_by and present:
        answer = fetching.in_order(answer, view.sort_by)
    table = _table(answer, view) if view.printer is None and view.output != "name" else None

    def show(item: dict[str, Any], change: str) -> None:
        event = change if view.events else ""
        if view.printer is not None:
            session.screen.write(view.printer.one(item, event))
        elif table is not None:
            session.screen.write(table.render([item], event))
        else:
            session.screen.line(slashed(asked.resource, item["object"]["metadata"]["name"]))

    if table is not None and answer.items and not view.events:
        session.screen.write(table.render(answer.items))
    else:
        for item in answer.items:
            show(item, "ADDED")
    following = Following(asked.target, asked.watched, answer.revision, rows=include)
    async with aclosing(follow(connection.verbs, following, clock=session.clock, screen=session.screen)) as events:
        async for event in events:
            if event.type != "BOOKMARK":
                show(msgspec.json.decode(event.json), event.type)
    return False
