"""`barque kubeconfig`: the file by which kubectl, Helm and every other Kubernetes client finds the cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from barque.cli.verb import Verb, with_session

if TYPE_CHECKING:
    from barque.cli.session import Connection, Session
    from barque.client.kubeconfig import Access


class Wanted(NamedTuple):
    """For whom: a user with groups, or a service account as namespace and name, or whoever calls; for how long."""

    user: str
    groups: tuple[str, ...]
    account: tuple[str, str] | None
    life_s: int
    cluster: str
    server: str


@click.command(
    "kubeconfig",
    cls=Verb,
    examples="""
    barque kubeconfig > lab.kubeconfig                          one's own way in
    barque kubeconfig --output ~/.kube/config                   put beside the clusters that kubectl knows already
    barque kubeconfig --user jane --group developers > jane.kubeconfig
    barque kubeconfig --service-account ci/robot --duration 8h > robot.kubeconfig
    """,
)
@click.option(
    "--output", type=click.Path(path_type=Path), help="Put it into this file, beside what is there [print it]."
)
@click.option("--user", metavar="NAME", default="", help="Another user, who gets a certificate [whoever calls].")
@click.option("--group", "groups", multiple=True, metavar="NAME", help="A group of that user; may be repeated.")
@click.option("--service-account", "account", metavar="NAMESPACE/NAME", default="", help="A service account's token.")
@click.option("--duration", default="", metavar="TIME", help="How long it is good: certificate [1y] or token [1h].")
@click.option("--name", default="", help="What the context is called [the cluster's name, for others USER@CLUSTER].")
@click.option("--server", default="", metavar="URL", help="Where the REST door is [that of the master in use].")
@click.option("--use", is_flag=True, help="Make it the file's current context.")
@with_session
def command(
    session: Session,
    output: Path | None,
    user: str,
    groups: tuple[str, ...],
    account: str,
    duration: str,
    name: str,
    server: str,
    use: bool,
) -> None:
    """Make a kubeconfig and print it, or put it into a file, whose other contexts stay as they are. Without options it
    is the caller's own certificate. For another user a CertificateSigningRequest is made and approved; what that user
    may do, role bindings say.
    """
    from barque.cli.output import CliError
    from barque.client import kubeconfig

    wanted = _wanted(session, user, groups, account, duration, server)
    access = session.run(lambda connection: _access(session, connection, wanted))
    access = access._replace(context=name or (f"{access.user}@{access.cluster}" if user or account else ""))
    if output is None:
        session.screen.write(kubeconfig.render(access))
        return
    try:
        kubeconfig.remember(output, access, use=use)
    except kubeconfig.KubeconfigError as error:
        raise CliError(str(error)) from None
    session.screen.note(f'Context "{access.context_name}" written to {output}.')


def _wanted(session: Session, user: str, groups: tuple[str, ...], account: str, duration: str, server: str) -> Wanted:
    """Raises `UsageFault` for options that contradict each other."""
    from barque.cli.arguments import parse_duration
    from barque.cli.output import UsageFault

    if user and account:
        raise UsageFault("--user and --service-account exclude each other")
    if groups and not user:
        raise UsageFault("--group goes with --user")
    if duration and not (user or account):
        raise UsageFault("--duration goes with --user or --service-account: one's own certificate is as it is")
    namespace, _, name = account.partition("/") if "/" in account else (session.namespace, "", account)
    if account and not (namespace and name):
        raise UsageFault(f"--service-account is NAMESPACE/NAME, not {account!r}")
    life_s = int(parse_duration(duration)) if duration else 0
    named = session.context or _current(session)
    return Wanted(user, groups, (namespace, name) if account else None, life_s, named, server)


def _current(session: Session) -> str:
    """What the cluster is called in the profile; its own name where that is not at hand."""
    from barque.client import profile

    path = Path(session.config).expanduser() if session.config else profile.default_path()
    try:
        return profile.load_contexts(path).current or session.profile.cluster
    except profile.ProfileError:
        return session.profile.cluster


async def _access(session: Session, connection: Connection, wanted: Wanted) -> Access:
    """The way in, with whatever must be asked for first. Raises `ApiError`, `CliError`."""
    from barque.cli.accounts import request_token, token_request
    from barque.cli.certifying import certify
    from barque.client.kubeconfig import Access

    server, name = (wanted.server, "") if wanted.server else await _door(session, connection)
    own = session.profile
    access = Access(wanted.cluster, server, own.ca, "", namespace=own.namespace, tls_server_name=name)
    if wanted.user:
        cert, key = await certify(session, connection, wanted.user, wanted.groups, wanted.life_s)
        return access._replace(user=wanted.user, cert=cert, key=key)
    if wanted.account is None:
        return access._replace(user=own.identity.name, cert=own.cert, key=own.key)
    namespace, account = wanted.account
    session.namespace_given = namespace
    request = token_request((), f"{wanted.life_s}s" if wanted.life_s else "", ("", "", ""))
    answer: dict[str, Any] = await request_token(session, connection, account, request)
    return access._replace(user=f"{namespace}/{account}", token=answer["status"]["token"], namespace=namespace)


async def _door(session: Session, connection: Connection) -> tuple[str, str]:
    """The URL of the REST door at the master in use, and the TLS server name it needs."""
    from barque.client.kubeconfig import server_of
    from barque.proto import cluster_pb2

    await connection.ready()
    status = await session.call(connection.cluster.Status(cluster_pb2.StatusRequest()))
    members = {member.address.rpartition(":")[0] for member in status.members}
    return server_of(connection.master.rpartition(":")[0], status.https_port, members)
