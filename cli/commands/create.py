"""`barque create`: new objects, of manifests or of a few options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from barque.cli.commands.create_roles import cluster_role, cluster_role_binding, role, role_binding
from barque.cli.creating import create_documents, make
from barque.cli.verb import Verb, VerbGroup, with_session
from barque.cli.writing import manifest_options, read_writing, writing_options

if TYPE_CHECKING:
    from barque.cli.session import Session

ALIASES = {"cm": "configmap", "deploy": "deployment", "ns": "namespace", "sa": "serviceaccount", "svc": "service"}


class Kinds(Verb, VerbGroup):
    """A verb with a command for each kind below it, each also by its short name."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, ALIASES.get(cmd_name, cmd_name))


@click.group(
    "create",
    cls=Kinds,
    invoke_without_command=True,
    examples="""
    barque create -f web.yaml                                 the objects of a manifest
    barque create namespace shop
    barque create deployment web --image=web:1 --replicas=3 --port=8080
    barque create configmap web --from-file=web.conf --dry-run=client -o yaml > web.yaml
    """,
)
@manifest_options
@writing_options("create", validate=True)
@with_session
def command(session: Session, **given: Any) -> None:
    """Create the objects of manifests, or one object of the options of its kind. What exists already is an error;
    `barque apply` changes it instead.
    """
    from barque.cli.manifests import check_namespace, read_documents
    from barque.cli.output import CliError

    writing, files = read_writing(given), given["files"]
    if click.get_current_context().invoked_subcommand is not None:
        if files:
            raise CliError("give either -f FILE or a kind and its name, not both")
        return
    if not files:
        raise CliError("say what: -f FILE, or a kind as in `barque create namespace shop`")
    documents = read_documents(files, recursive=given["recursive"], validation=writing.validation)
    for document in documents:
        check_namespace(session, document)
    create_documents(session, documents, writing)


@command.command("namespace", cls=Verb, examples="barque create namespace shop")
@click.argument("name")
@writing_options("create")
@with_session
def namespace(session: Session, name: str, **given: Any) -> None:
    """Create a namespace: a room of its own for objects and their names."""
    from barque.cli import generators

    make(session, generators.namespace(name), read_writing(given))


@command.command("serviceaccount", cls=Verb, examples="barque create serviceaccount robot")
@click.argument("name")
@writing_options("create")
@with_session
def serviceaccount(session: Session, name: str, **given: Any) -> None:
    """Create a service account: somebody for pods to be towards the cluster."""
    from barque.cli import generators

    make(session, generators.service_account(name), read_writing(given))


@command.command(
    "token",
    cls=Verb,
    examples="""
    barque create token default                                  of the namespace's default account
    barque create token robot --duration 10m --audience vault
    barque create token robot --bound-object-kind Pod --bound-object-name web-1      ends with that pod
    """,
)
@click.argument("name")
@click.option("--audience", "audiences", multiple=True, metavar="NAME", help="Whom it is for [the API].")
@click.option("--duration", default="", metavar="TIME", help="How long it is good, 10m at least [1h].")
@click.option("--bound-object-kind", type=click.Choice(["Pod", "Secret", "Node"]), help="What kind it ends with.")
@click.option("--bound-object-name", metavar="NAME", default="", help="The name of what it ends with.")
@click.option("--bound-object-uid", metavar="UID", default="", help="Its uid [that of the object there is].")
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), help="Print the whole answer.")
@with_session
def token(
    session: Session,
    name: str,
    audiences: tuple[str, ...],
    duration: str,
    bound_object_kind: str | None,
    bound_object_name: str,
    bound_object_uid: str,
    output: str | None,
) -> None:
    """Ask for a token of a service account and print it: with it one is that account towards the cluster."""
    from barque.cli.accounts import request_token, token_request
    from barque.cli.output import to_json, to_yaml

    bound = (bound_object_kind or "", bound_object_name, bound_object_uid)
    request = token_request(audiences, duration, bound)
    answer = session.run(lambda connection: request_token(session, connection, name, request))
    match output:
        case "yaml":
            session.screen.write(to_yaml(answer))
        case "json":
            session.screen.write(to_json(answer))
        case _:
            session.screen.line(answer["status"]["token"])


def _entry_options(function: Any) -> Any:
    """Where the entries of a ConfigMap or a Secret come from."""
    for option in (
        click.option("--from-env-file", "env_files", multiple=True, metavar="FILE", help="Lines of NAME=value."),
        click.option(
            "--from-file", "from_files", multiple=True, metavar="[KEY=]PATH", help="A file, or all of a folder."
        ),
        click.option("--from-literal", "literals", multiple=True, metavar="KEY=VALUE", help="One entry."),
    ):
        function = option(function)
    return function


@command.command(
    "configmap",
    cls=Verb,
    examples="""
    barque create configmap web --from-literal=colour=red --from-literal=size=big
    barque create configmap web --from-file=web.conf               under its own name
    barque create configmap web --from-file=main=web.conf          under another
    barque create configmap web --from-env-file=web.env            each NAME=value of it
    """,
)
@click.argument("name")
@_entry_options
@writing_options("create")
@with_session
def configmap(
    session: Session, name: str, literals: list[str], from_files: list[str], env_files: list[str], **given: Any
) -> None:
    """Create a ConfigMap of literals, files, folders or files of variables."""
    from barque.cli import generators

    data = generators.gather(literals, from_files, env_files)
    make(session, generators.config_map(name, data), read_writing(given))


for kind in (role, cluster_role, role_binding, cluster_role_binding):
    command.add_command(kind)


@command.group("secret", cls=VerbGroup)
def secret() -> None:
    """Create a Secret: generic, tls or docker-registry."""


@secret.command(
    "generic",
    cls=Verb,
    examples="""
    barque create secret generic db --from-literal=password=swordfish
    barque create secret generic db --from-file=./password --type=example.org/login
    """,
)
@click.argument("name")
@_entry_options
@click.option("--type", "kind", metavar="TYPE", default="", help="What it is for [Opaque].")
@writing_options("create")
@with_session
def generic(
    session: Session,
    name: str,
    literals: list[str],
    from_files: list[str],
    env_files: list[str],
    kind: str,
    **given: Any,
) -> None:
    """Create a Secret of literals, files, folders or files of variables."""
    from barque.cli import generators

    data = generators.gather(literals, from_files, env_files)
    make(session, generators.secret(name, data, kind), read_writing(given))


@secret.command("tls", cls=Verb, examples="barque create secret tls web --cert=web.crt --key=web.key")
@click.argument("name")
@click.option("--cert", required=True, metavar="FILE", help="The certificate, as PEM, its chain behind it.")
@click.option("--key", required=True, metavar="FILE", help="Its private key, as PEM.")
@writing_options("create")
@with_session
def tls(session: Session, name: str, cert: str, key: str, **given: Any) -> None:
    """Create a Secret of a certificate and its private key."""
    from barque.cli import generators

    made = generators.tls_secret(name, generators.read_file(cert), generators.read_file(key))
    make(session, made, read_writing(given))


@secret.command(
    "docker-registry",
    cls=Verb,
    examples="""
    barque create secret docker-registry hub --docker-server=registry.example.org \\
        --docker-username=me --docker-password=swordfish
    barque create secret docker-registry hub --from-file=~/.docker/config.json
    """,
)
@click.argument("name")
@click.option("--docker-server", metavar="URL", default="", help="The registry [Docker Hub].")
@click.option("--docker-username", metavar="NAME", default="", help="Who one is there.")
@click.option("--docker-password", metavar="WORD", default="", help="The password or token.")
@click.option("--docker-email", metavar="ADDRESS", default="", help="An address; few registries ask for one.")
@click.option("--from-file", "config", metavar="FILE", default="", help="Docker's own config.json instead.")
@writing_options("create")
@with_session
def docker_registry(
    session: Session,
    name: str,
    docker_server: str,
    docker_username: str,
    docker_password: str,
    docker_email: str,
    config: str,
    **given: Any,
) -> None:
    """Create a Secret with which nodes pull images of a private registry."""
    from barque.cli import generators
    from barque.cli.output import CliError

    if config:
        made = generators.secret(name, {".dockerconfigjson": generators.read_file(config)}, generators.REGISTRY_TYPE)
    elif docker_username and docker_password:
        server = docker_server or generators.DOCKER_REGISTRY
        made = generators.registry_secret(name, server, docker_username, docker_password, docker_email)
    else:
        raise CliError("either --from-file or --docker-username and --docker-password must be given")
    make(session, made, read_writing(given))


@command.command(
    "deployment",
    cls=Verb,
    examples="""
    barque create deployment web --image=web:1
    barque create deployment web --image=web:1 --replicas=3 --port=8080
    barque create deployment tick --image=busybox -- sh -c 'while true; do date; sleep 1; done'
    """,
)
@click.argument("name")
@click.argument("words", nargs=-1, metavar="[-- COMMAND...]")
@click.option(
    "--image", "images", multiple=True, required=True, metavar="IMAGE", help="What runs; several times for more."
)
@click.option("-r", "--replicas", type=click.IntRange(min=0), default=1, metavar="N", help="How many pods [1].")
@click.option("--port", type=click.IntRange(1, 65535), metavar="PORT", help="The port it listens on.")
@writing_options("create")
@with_session
def deployment(
    session: Session, name: str, words: list[str], images: list[str], replicas: int, port: int | None, **given: Any
) -> None:
    """Create a Deployment; its pods are labelled app=NAME."""
    from barque.cli import generators

    made = generators.deployment(name, images, replicas=replicas, port=port, command=words)
    make(session, made, read_writing(given))


@command.group("service", cls=VerbGroup)
def service() -> None:
    """Create a Service: clusterip or nodeport."""


_PORTS = click.option("--tcp", "ports", multiple=True, metavar="PORT[:TARGET]", help="A port, and the pods' own.")


@service.command(
    "clusterip",
    cls=Verb,
    examples="""
    barque create service clusterip web --tcp=80:8080
    barque create service clusterip web --clusterip=None      headless: the pods' own addresses
    """,
)
@click.argument("name")
@_PORTS
@click.option("--clusterip", metavar="IP", default="", help="A certain address, or None for a headless service.")
@writing_options("create")
@with_session
def clusterip(session: Session, name: str, ports: list[str], clusterip: str, **given: Any) -> None:
    """Create a Service with an address inside the cluster; it leads to the pods labelled app=NAME."""
    from barque.cli import generators

    make(session, generators.service(name, "ClusterIP", ports, cluster_ip=clusterip), read_writing(given))


@service.command("nodeport", cls=Verb, examples="barque create service nodeport web --tcp=80:8080 --node-port=30080")
@click.argument("name")
@_PORTS
@click.option("--node-port", type=click.IntRange(0, 65535), default=0, metavar="PORT", help="A certain port of nodes.")
@writing_options("create")
@with_session
def nodeport(session: Session, name: str, ports: list[str], node_port: int, **given: Any) -> None:
    """Create a Service with a port on every node; it leads to the pods labelled app=NAME."""
    from barque.cli import generators

    make(session, generators.service(name, "NodePort", ports, node_port=node_port), read_writing(given))
