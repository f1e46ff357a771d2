"""`barque describe`: objects in full, with what belongs to them and their events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from barque.cli.verb import Verb, complete_objects, with_session

if TYPE_CHECKING:
    from barque.api.errors import ApiError
    from barque.api.resources import Resource
    from barque.cli.fetching import Asked
    from barque.cli.session import Connection, Session

# Nothing ever happens to these by itself.
WITHOUT_EVENTS = ("namespaces", "secrets", "events", "roles", "clusterroles", "rolebindings", "clusterrolebindings")
SERVICE_NAME = "kubernetes.io/service-name"


@click.command(
    "describe",
    cls=Verb,
    examples="""
    barque describe pod web-5d9c7-x2x4k      one pod with its events: why does it not run?
    barque describe pods -l app=web          all pods of an application
    barque describe deployment/web
    barque describe node n1
    """,
)
@click.argument("what", nargs=-1, metavar="TYPE [NAME]... | TYPE/NAME...", shell_complete=complete_objects)
@click.option("-f", "--filename", "files", multiple=True, metavar="FILE", help="The objects of a file, folder or -.")
@click.option("-R", "--recursive", is_flag=True, help="Go into folders below.")
@click.option("-l", "--selector", metavar="LABELS", default="", help="Only objects with these labels.")
@click.option("-A", "--all-namespaces", is_flag=True, help="Objects of every namespace.")
@click.option("--show-events/--no-events", default=True, help="Events of the object [shown].")
@with_session
def command(session: Session, what: tuple[str, ...], show_events: bool, **given: Any) -> None:
    """Show objects in full: what was asked for, how it stands, and the events that tell why. A name may be given by its
    beginning.
    """
    from barque.cli.fetching import asked_for

    asked = asked_for(session, what, given, verb="describe")
    session.run(lambda connection: _describe(session, connection, asked, given["all_namespaces"], show_events))


async def _describe(
    session: Session, connection: Connection, asked: Sequence[Asked], everywhere: bool, events: bool
) -> None:
    from barque.cli.fetching import nothing_found
    from barque.cli.session import explain

    pages: list[str] = []
    missing: list[ApiError] = []
    for each in asked:
        found, absent = await _objects(session, connection, each)
        pages += [await _page(session, connection, each.resource, obj, events) for obj in found]
        missing += absent
    if pages:
        session.screen.write("\n\n".join(pages))
    elif not missing:
        session.screen.note(nothing_found(asked, session.namespace, everywhere))
    for error in missing:
        session.screen.error(explain(error))
    if missing:
        click.get_current_context().exit(1)


async def _objects(session: Session, connection: Connection, asked: Asked) -> tuple[list[Any], list[ApiError]]:
    """The objects, and a 404 for each name that neither is one nor begins one."""
    from barque.api.errors import ApiError

    kind, client = asked.resource.type, connection.client
    if not asked.names:
        return await _listed(session, connection, asked), []
    found: list[Any] = []
    missing: list[ApiError] = []
    for name in asked.names:
        try:
            found.append(await session.call(client.get(kind, name, asked.namespace)))
        except ApiError as error:
            if error.code != 404:
                raise
            near = [o for o in await _listed(session, connection, asked) if o.metadata.name.startswith(name)]
            found += near
            missing += [] if near else [error]
    return found, missing


async def _listed(session: Session, connection: Connection, asked: Asked) -> list[Any]:
    """All objects that are selected; names play no part."""
    from barque.api import codec
    from barque.client.verbs import Page

    items: list[Any] = []
    page = Page(asked.chunk)
    while True:
        part = await session.call(connection.verbs.list(asked.target, asked.selection, page))
        items += [codec.decode(asked.resource.type, item) for item in part.items]
        if not part.continue_:
            return items
        page = page._replace(continue_=part.continue_)


async def _page(session: Session, connection: Connection, resource: Resource, obj: Any, with_events: bool) -> str:
    from barque.cli.describe_any import describe_any
    from barque.cli.description import Page, event_table

    page = Page()
    describe: Callable[..., None] = _describers(session).get(resource.plural, describe_any)
    describe(page, obj, await _related(session, connection, resource, obj))
    if with_events and resource.plural not in WITHOUT_EVENTS:
        event_table(page, await _events(session, connection, resource, obj), session.clock.wall())
    return page.render()


def _describers(session: Session) -> dict[str, Callable[..., None]]:
    from barque.cli import (
        certificates,
        describe_any,
        describe_cluster,
        describe_pods,
        describe_roles,
        describe_workloads,
    )

    return {
        "certificatesigningrequests": certificates.describe_request,
        "pods": describe_pods.describe_pod,
        "podtemplates": describe_any.describe_pod_template,
        "deployments": describe_workloads.describe_deployment,
        "replicasets": describe_workloads.describe_replica_set,
        "services": describe_workloads.describe_service,
        "endpoints": describe_workloads.describe_endpoints,
        "endpointslices": describe_workloads.describe_endpoint_slice,
        "nodes": partial(describe_cluster.describe_node, now=session.clock.wall()),
        "namespaces": describe_cluster.describe_namespace,
        "configmaps": describe_cluster.describe_config_map,
        "secrets": describe_cluster.describe_secret,
        "roles": describe_roles.describe_role,
        "clusterroles": describe_roles.describe_role,
        "rolebindings": describe_roles.describe_binding,
        "clusterrolebindings": describe_roles.describe_binding,
    }


async def _related(session: Session, connection: Connection, resource: Resource, obj: Any) -> list[Any]:
    """The objects shown on the page of another: what it owns, or what runs on it."""
    from barque.api.types import apps_v1, core_v1, discovery_v1

    client, meta = connection.client, obj.metadata
    found: list[Any] = []
    if resource.plural == "deployments":
        found = list((await session.call(client.list(apps_v1.ReplicaSet, meta.namespace))).items)
    elif resource.plural == "replicasets":
        found = list((await session.call(client.list(core_v1.Pod, meta.namespace))).items)
    elif resource.plural == "services":
        labels = f"{SERVICE_NAME}={meta.name}"
        return list((await session.call(client.list(discovery_v1.EndpointSlice, meta.namespace, labels=labels))).items)
    elif resource.plural == "nodes":
        return list((await session.call(client.list(core_v1.Pod, fields=f"spec.nodeName={meta.name}"))).items)
    return [each for each in found if any(o.controller and o.uid == meta.uid for o in each.metadata.ownerReferences)]


async def _events(session: Session, connection: Connection, resource: Resource, obj: Any) -> list[Any] | str:
    """The object's events, the newest last; a sentence where they cannot be had, which must not spoil the page."""
    from barque.api.errors import ApiError
    from barque.api.occurrences import order_of
    from barque.api.types.core_v1 import Event
    from barque.cli.draining import MIRROR
    from barque.cli.output import CliError

    meta = obj.metadata
    fields = f"involvedObject.kind={resource.kind},involvedObject.name={meta.name}"
    if meta.namespace:
        fields += f",involvedObject.namespace={meta.namespace}"
    # A node's events are filed under its name by those who cannot know its uid, a static pod's under that of its file.
    uids = {meta.uid, meta.annotations.get(MIRROR, meta.uid), *([meta.name, ""] if resource.kind == "Node" else [])}
    if len(uids) == 1:
        fields += f",involvedObject.uid={meta.uid}"
    try:
        listed = await session.call(connection.client.list(Event, meta.namespace, fields=fields))
    except ApiError as error:
        return error.message
    except CliError as error:
        return str(error)
    own = [event for event in listed.items if event.involvedObject is not None and event.involvedObject.uid in uids]
    return sorted(own, key=order_of)
