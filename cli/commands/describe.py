"""`barque describe`: objects in full, with what belongs to them and their events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from barque.cli.verb import Verb, with_session

if TYPE_CHECKING:
    from barque.api.resources import Resource
    from barque.cli.arguments import Wanted
    from barque.cli.session import Connection, Session

# Nothing ever happens to these by itself.
WITHOUT_EVENTS = ("namespaces", "secrets")
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
@click.argument("what", nargs=-1, metavar="TYPE [NAME]... | TYPE/NAME...")
@click.option("-l", "--selector", metavar="LABELS", default="", help="Only objects with these labels.")
@click.option("-A", "--all-namespaces", is_flag=True, help="Objects of every namespace.")
@click.option("--show-events/--no-events", default=True, help="Events of the object [shown].")
@with_session
def command(session: Session, what: tuple[str, ...], selector: str, all_namespaces: bool, show_events: bool) -> None:
    """Show objects in full: what was asked for, how it stands, and the events that tell why. A name may be given by its
    beginning.
    """
    from barque.cli.arguments import parse_wanted
    from barque.cli.output import CliError

    wanted = parse_wanted(what, verb="describe")
    if selector and any(w.names for w in wanted):
        raise CliError("a selector cannot be combined with names")
    session.run(lambda connection: _describe(session, connection, wanted, selector, all_namespaces, show_events))


async def _describe(
    session: Session, connection: Connection, wanted: Sequence[Wanted], selector: str, everywhere: bool, events: bool
) -> None:
    pages: list[str] = []
    for resource, names in wanted:
        for obj in await _objects(session, connection, resource, names, selector, everywhere):
            page = await _page(session, connection, resource, obj, events)
            pages.append(page)
    if pages:
        session.screen.write("\n\n".join(pages))
        return
    namespaced = wanted[0].resource.namespaced and not everywhere
    session.screen.note(f"No resources found in {session.namespace} namespace." if namespaced else "No resources found")


async def _objects(
    session: Session, connection: Connection, resource: Resource, names: Sequence[str], selector: str, everywhere: bool
) -> list[Any]:
    from barque.api.errors import ApiError

    namespace = session.namespace if resource.namespaced and not everywhere else ""
    client = connection.client
    if not names:
        return list((await session.call(client.list(resource.type, namespace, labels=selector))).items)
    found: list[Any] = []
    for name in names:
        try:
            found.append(await session.call(client.get(resource.type, name, namespace)))
        except ApiError as error:
            if error.code != 404:
                raise
            listed: list[Any] = (await session.call(client.list(resource.type, namespace))).items
            near = [obj for obj in listed if obj.metadata.name.startswith(name)]
            if not near:
                raise
            found += near
    return found


async def _page(session: Session, connection: Connection, resource: Resource, obj: Any, with_events: bool) -> str:
    from barque.cli.description import Page, event_table

    describe = _describers(session).get(resource.plural)
    page = Page()
    if describe is None:
        import msgspec

        from barque.api import codec
        from barque.cli.output import to_yaml

        return to_yaml(msgspec.json.decode(codec.encode(obj)))
    describe(page, obj, await _related(session, connection, resource, obj))
    if with_events and resource.plural not in WITHOUT_EVENTS:
        event_table(page, await _events(session, connection, resource, obj), session.clock.wall())
    return page.render()


def _describers(session: Session) -> dict[str, Callable[..., None]]:
    from barque.cli import describe_cluster, describe_pods, describe_workloads

    return {
        "pods": describe_pods.describe_pod,
        "deployments": describe_workloads.describe_deployment,
        "replicasets": describe_workloads.describe_replica_set,
        "services": describe_workloads.describe_service,
        "endpointslices": describe_workloads.describe_endpoint_slice,
        "nodes": partial(describe_cluster.describe_node, now=session.clock.wall()),
        "namespaces": describe_cluster.describe_namespace,
        "configmaps": describe_cluster.describe_config_map,
        "secrets": describe_cluster.describe_secret,
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
    """The object's events, oldest first; a sentence where they cannot be had, which must not spoil the page."""
    from barque.api.errors import ApiError
    from barque.api.types.core_v1 import Event

    meta = obj.metadata
    fields = f"involvedObject.kind={resource.kind},involvedObject.name={meta.name}"
    if meta.namespace:
        fields += f",involvedObject.namespace={meta.namespace}"
    # A node's events are filed under its name by those who cannot know its uid.
    if meta.uid and resource.kind != "Node":
        fields += f",involvedObject.uid={meta.uid}"
    try:
        listed = await session.call(connection.client.list(Event, meta.namespace, fields=fields))
    except ApiError as error:
        return error.message
    return sorted(listed.items, key=lambda e: e.lastTimestamp or e.eventTime or e.metadata.creationTimestamp)
