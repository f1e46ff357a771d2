"""`barque get`: objects as tables, YAML, JSON or names, once or followed."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from barque.cli.verb import Verb, with_session

if TYPE_CHECKING:
    from barque.api.resources import Resource
    from barque.cli.arguments import Wanted
    from barque.cli.session import Connection, Session

FORMATS = ("wide", "yaml", "json", "name")


class View(NamedTuple):
    """How and which objects are shown."""

    output: str = ""
    labels: str = ""
    fields: str = ""
    all_namespaces: bool = False
    show_labels: bool = False
    label_columns: tuple[str, ...] = ()
    headers: bool = True
    ignore_not_found: bool = False
    # Where several types are shown together, each name says its type.
    typed_names: bool = False


class Found(NamedTuple):
    """The objects of one type; `revision` is what a watch goes on from."""

    resource: Resource
    items: list[bytes]
    revision: str
    name: str = ""


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
    """,
)
@click.argument("what", nargs=-1, metavar="TYPE [NAME]... | TYPE/NAME...")
@click.option("-o", "--output", metavar="FORMAT", default="", help="wide, yaml, json or name.")
@click.option("-w", "--watch", is_flag=True, help="Go on printing objects as they change.")
@click.option("-l", "--selector", metavar="LABELS", default="", help="Only these, as in app=web,tier!=db.")
@click.option("--field-selector", metavar="FIELDS", default="", help="Only these, as in status.phase=Running.")
@click.option("-A", "--all-namespaces", is_flag=True, help="Objects of every namespace.")
@click.option("--show-labels", is_flag=True, help="A last column with all labels.")
@click.option("-L", "--label-columns", metavar="KEYS", multiple=True, help="A column for each of these labels.")
@click.option("--no-headers", is_flag=True, help="Rows alone.")
@click.option("--ignore-not-found", is_flag=True, help="A missing object is no error.")
@with_session
def command(
    session: Session,
    what: tuple[str, ...],
    output: str,
    watch: bool,
    selector: str,
    field_selector: str,
    all_namespaces: bool,
    show_labels: bool,
    label_columns: tuple[str, ...],
    no_headers: bool,
    ignore_not_found: bool,
) -> None:
    """Show objects as a table, or in full as YAML or JSON. With -w the objects that change are printed as they do, also
    across a restart of the master.
    """
    from barque.cli.arguments import parse_wanted
    from barque.cli.output import CliError

    if output not in ("", *FORMATS):
        raise CliError(f'unable to match a printer suitable for the output format "{output}"; use {", ".join(FORMATS)}')
    wanted = parse_wanted(what, verb="get")
    named = any(w.names for w in wanted)
    if named and (selector or field_selector):
        raise CliError("a selector cannot be combined with names")
    if named and all_namespaces:
        raise CliError("a resource cannot be retrieved by name across all namespaces")
    if watch and (len(wanted) > 1 or len(wanted[0].names) > 1):
        raise CliError("-w follows one resource type or one object at a time")
    columns = tuple(key for keys in label_columns for key in keys.split(","))
    view = View(
        output,
        selector,
        field_selector,
        all_namespaces,
        show_labels,
        columns,
        not no_headers,
        ignore_not_found,
        typed_names=len(wanted) > 1 or what[0] == "all",
    )
    failed = session.run(lambda connection: _get(session, connection, wanted, view, watch))
    if failed:
        click.get_current_context().exit(1)


async def _get(session: Session, connection: Connection, wanted: Sequence[Wanted], view: View, watch: bool) -> bool:
    """Print all that is wanted; True where something asked for by name is missing."""
    from barque.api.errors import ApiError
    from barque.cli.session import explain

    found: list[Found] = []
    errors: list[str] = []
    for each in wanted:
        if watch or not each.names:
            found.append(await _list(session, connection, each.resource, view, *each.names))
            continue
        for name in each.names:
            try:
                found.append(await _one(session, connection, each.resource, name))
            except ApiError as error:
                if error.code != 404:
                    raise
                if not view.ignore_not_found:
                    errors.append(explain(error))
    named = any(each.names for each in wanted)
    _print(session, found, view, single=named and len(found) == 1 and not watch, watching=watch, named=named)
    for text in errors:
        session.screen.error(text)
    if watch:
        await _watch(session, connection, found[0], view)
    return bool(errors)


async def _one(session: Session, connection: Connection, resource: Resource, name: str) -> Found:
    from barque.client.verbs import Target

    namespace = session.namespace if resource.namespaced else ""
    return Found(resource, [await session.call(connection.verbs.get(Target(resource, namespace, name)))], "")


async def _list(session: Session, connection: Connection, resource: Resource, view: View, name: str = "") -> Found:
    from barque.client.verbs import Selection, Target

    namespace = session.namespace if resource.namespaced and not view.all_namespaces else ""
    selection = Selection(view.labels, f"metadata.name={name}" if name else view.fields)
    listed = await session.call(connection.verbs.list(Target(resource, namespace), selection))
    if name and not listed.items and not view.ignore_not_found:
        from barque.api.errors import not_found

        raise not_found(resource.plural, resource.group, name)
    return Found(resource, listed.items, listed.resource_version, name)


def _print(session: Session, found: list[Found], view: View, *, single: bool, watching: bool, named: bool) -> None:
    if not found:
        return
    if view.output in ("yaml", "json"):
        session.screen.write(_documents(found, view.output, single=single, watching=watching))
        return
    if not watching and not named and not any(f.items for f in found):
        namespaced = found[0].resource.namespaced and not view.all_namespaces
        session.screen.note(
            f"No resources found in {session.namespace} namespace." if namespaced else "No resources found"
        )
        return
    blocks = []
    for resource in dict.fromkeys(f.resource for f in found):
        items = [item for f in found if f.resource is resource for item in f.items]
        printer = Printer(resource, view, session.clock.wall)
        if not watching and items:
            blocks.append(printer.render(items))
    if blocks:
        session.screen.write(("" if view.output == "name" else "\n").join(blocks))


def _documents(found: list[Found], output: str, *, single: bool, watching: bool) -> str:
    import msgspec

    from barque.cli.output import to_json, to_yaml

    items = [_shown(msgspec.json.decode(item)) for f in found for item in f.items]
    if watching:
        return "".join(_document(item, output) for item in items)
    data = (
        items[0]
        if single
        else {"apiVersion": "v1", "items": items, "kind": "List", "metadata": {"resourceVersion": ""}}
    )
    return to_yaml(data) if output == "yaml" else to_json(data)


def _document(item: dict[str, Any], output: str) -> str:
    from barque.cli.output import to_json, to_yaml

    return "---\n" + to_yaml(item) if output == "yaml" else to_json(item)


def _shown(item: dict[str, Any]) -> dict[str, Any]:
    """Without what only server-side apply needs to know, as kubectl hides it."""
    item.get("metadata", {}).pop("managedFields", None)
    return item


class Printer:
    """Rows of one type of object, under headers once."""

    def __init__(self, resource: Resource, view: View, now: Callable[[], datetime.datetime]) -> None:
        from barque.api.columns import columns
        from barque.cli.tables import Table

        self._resource = resource
        self._view = view
        self._now = now
        every = columns(resource)
        self._kept = [i for i, column in enumerate(every) if view.output == "wide" or not column.wide]
        headers = [every[i].name for i in self._kept]
        self._namespaced = resource.namespaced and view.all_namespaces
        if self._namespaced:
            headers.insert(0, "Namespace")
        headers += [key.rpartition("/")[2] for key in view.label_columns]
        if view.show_labels:
            headers.append("Labels")
        self._name = next((at for at, i in enumerate(self._kept) if every[i].name == "NAME"), None)
        self._table = Table(headers, show_headers=view.headers)

    def render(self, items: Sequence[bytes]) -> str:
        """The objects' lines."""
        import msgspec

        from barque.api import codec
        from barque.cli.naming import slashed

        if self._view.output == "name":
            names = (msgspec.json.decode(item)["metadata"]["name"] for item in items)
            return "".join(slashed(self._resource, name) + "\n" for name in names)
        kind = self._resource.type
        return self._table.render([self._row(codec.decode(kind, item)) for item in items])

    def _row(self, obj: Any) -> list[str]:
        from barque.api.columns import cells
        from barque.cli.naming import slashed

        every = cells(obj, self._now())
        row = [every[i] for i in self._kept]
        if self._view.typed_names and self._name is not None:
            row[self._name] = slashed(self._resource, row[self._name])
        if self._namespaced:
            row.insert(0, obj.metadata.namespace)
        labels = obj.metadata.labels
        row += [labels.get(key, "") for key in self._view.label_columns]
        if self._view.show_labels:
            row.append(",".join(f"{k}={v}" for k, v in sorted(labels.items())) or "<none>")
        return row


async def _watch(session: Session, connection: Connection, found: Found, view: View) -> None:
    """Print the present objects, then each change, until interrupted."""
    import msgspec

    from barque.cli.following import Following, follow
    from barque.client.verbs import Selection, Target

    resource = found.resource
    printer = Printer(resource, view, session.clock.wall)

    def show(items: Sequence[bytes]) -> None:
        if view.output in ("yaml", "json"):
            session.screen.write("".join(_document(_shown(msgspec.json.decode(i)), view.output) for i in items))
        else:
            session.screen.write(printer.render(items))

    if found.items and view.output not in ("yaml", "json"):
        show(found.items)
    namespace = session.namespace if resource.namespaced and not view.all_namespaces else ""
    selection = Selection(view.labels, f"metadata.name={found.name}" if found.name else view.fields)
    following = Following(Target(resource, namespace), selection, found.revision)
    async with aclosing(follow(connection.verbs, following, clock=session.clock, screen=session.screen)) as events:
        async for event in events:
            if event.type != "BOOKMARK":
                show([event.json])
