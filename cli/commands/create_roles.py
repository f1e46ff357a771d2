"""`barque create role`, `clusterrole`, `rolebinding` and `clusterrolebinding`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from barque.cli.creating import make
from barque.cli.verb import Verb, with_session
from barque.cli.writing import read_writing, writing_options

if TYPE_CHECKING:
    from barque.cli.session import Session

F = TypeVar("F", bound=Callable[..., Any])


def _rule_options(function: F) -> F:
    for option in (
        click.option("--resource-name", "names", multiple=True, metavar="NAME", help="Only this object."),
        click.option("--resource", "resources", multiple=True, metavar="TYPE", help="What it is done to."),
        click.option("--verb", "verbs", multiple=True, metavar="VERB", help="What may be done."),
    ):
        function = option(function)
    return function


def _subject_options(function: F) -> F:
    for option in (
        click.option(
            "--serviceaccount", "accounts", multiple=True, metavar="NAMESPACE:NAME", help="A service account."
        ),
        click.option("--group", "groups", multiple=True, metavar="NAME", help="A group that gets the role."),
        click.option("--user", "users", multiple=True, metavar="NAME", help="A user that gets the role."),
    ):
        function = option(function)
    return function


@click.command(
    "role",
    cls=Verb,
    examples="""
    barque create role reader --verb=get,list,watch --resource=pods
    barque create role restarter --verb=patch --resource=deployments.apps --resource-name=web
    """,
)
@click.argument("name")
@_rule_options
@writing_options("create")
@with_session
def role(
    session: Session,
    name: str,
    verbs: tuple[str, ...],
    resources: tuple[str, ...],
    names: tuple[str, ...],
    **given: Any,
) -> None:
    """Create a role with a rule: verbs on resources of one namespace."""
    from barque.cli import roles

    make(session, roles.role("Role", name, verbs, resources, names), read_writing(given))


@click.command(
    "clusterrole",
    cls=Verb,
    examples="""
    barque create clusterrole reader --verb=get,list,watch --resource=nodes
    barque create clusterrole prober --verb=get --non-resource-url=/healthz
    barque create clusterrole monitoring --aggregation-rule=example.org/monitoring=true
    """,
)
@click.argument("name")
@_rule_options
@click.option("--non-resource-url", "paths", multiple=True, metavar="PATH", help="A path that is no resource.")
@click.option("--aggregation-rule", default="", metavar="KEY=VALUE", help="Put it together of roles labelled so.")
@writing_options("create")
@with_session
def cluster_role(
    session: Session,
    name: str,
    verbs: tuple[str, ...],
    resources: tuple[str, ...],
    names: tuple[str, ...],
    paths: tuple[str, ...],
    aggregation_rule: str,
    **given: Any,
) -> None:
    """Create a cluster role with a rule: verbs on resources anywhere or on paths; or of other roles' rules."""
    from barque.cli import roles
    from barque.cli.output import CliError

    if aggregation_rule:
        if verbs or resources or names or paths:
            raise CliError("aggregation rule must be specified without nonResourceURLs, resources, names and verbs")
        made = roles.aggregated_role(name, aggregation_rule)
    elif paths:
        made = roles.path_role(name, verbs, paths)
        if resources:
            made["rules"] = [*roles.role("ClusterRole", name, verbs, resources, names)["rules"], *made["rules"]]
    else:
        made = roles.role("ClusterRole", name, verbs, resources, names)
    make(session, made, read_writing(given))


@click.command(
    "rolebinding",
    cls=Verb,
    examples="""
    barque create rolebinding jane --clusterrole=edit --user=jane -n shop
    barque create rolebinding robot --role=reader --serviceaccount=shop:robot -n shop
    """,
)
@click.argument("name")
@click.option("--role", "role_name", default="", metavar="NAME", help="The Role that is given.")
@click.option("--clusterrole", "cluster_role_name", default="", metavar="NAME", help="The ClusterRole that is given.")
@_subject_options
@writing_options("create")
@with_session
def role_binding(
    session: Session,
    name: str,
    role_name: str,
    cluster_role_name: str,
    users: tuple[str, ...],
    groups: tuple[str, ...],
    accounts: tuple[str, ...],
    **given: Any,
) -> None:
    """Give the rights of a role to somebody within the namespace."""
    from barque.cli import roles
    from barque.cli.output import CliError

    if bool(role_name) == bool(cluster_role_name):
        raise CliError("exactly one of clusterrole or role must be specified")
    of = ("Role", role_name) if role_name else ("ClusterRole", cluster_role_name)
    make(session, roles.binding("RoleBinding", name, of, users, groups, accounts), read_writing(given))


@click.command(
    "clusterrolebinding",
    cls=Verb,
    examples="barque create clusterrolebinding ops --clusterrole=cluster-admin --group=ops",
)
@click.argument("name")
@click.option(
    "--clusterrole", "cluster_role_name", required=True, metavar="NAME", help="The ClusterRole that is given."
)
@_subject_options
@writing_options("create")
@with_session
def cluster_role_binding(
    session: Session,
    name: str,
    cluster_role_name: str,
    users: tuple[str, ...],
    groups: tuple[str, ...],
    accounts: tuple[str, ...],
    **given: Any,
) -> None:
    """Give the rights of a cluster role to somebody everywhere."""
    from barque.cli import roles

    of = ("ClusterRole", cluster_role_name)
    make(session, roles.binding("ClusterRoleBinding", name, of, users, groups, accounts), read_writing(given))
