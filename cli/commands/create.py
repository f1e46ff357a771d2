"""`barque create`: new objects, of manifests or of a few options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from barque.cli.verb import Verb, VerbGroup, with_session
from barque.cli.writing import (
    Results,
    Writing,
    decoded,
    manifest_options,
    one_by_one,
    read_writing,
    where,
    writing_options,
)

if TYPE_CHECKING:
    from barque.cli.manifests import Document
    from barque.cli.session import Connection, Session

ALIASES = {"cm": "configmap", "deploy": "deployment", "ns": "namespace", "svc": "service"}


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
    _create(session, documents, writing)


def _create(session: Session, documents: Sequence[Document], writing: Writing) -> None:
    if writing.sends:
        failed = session.run(lambda connection: _send(session, connection, documents, writing))
        if failed:
            click.get_current_context().exit(1)
        return
    results = Results(session.screen, writing)
    for document in documents:
        results.tell(document.resource, _name(document), "created", _placed(document, session.namespace_given))
    results.finish()


async def _send(session: Session, connection: Connection, documents: Sequence[Document], writing: Writing) -> bool:
    """Create each; True where one was refused."""
    import msgspec

    from barque.cli.manifests import target_of

    results = Results(session.screen, writing)

    async def create(document: Document) -> None:
        target = where(target_of(session, document))
        body = msgspec.json.encode(_placed(document, target.namespace))
        made = await decoded(session, connection.verbs.create(target, body, writing.options()))
        results.tell(document.resource, made["metadata"].get("name") or _name(document), "created", made)

    failed = await one_by_one(session, documents, create, doing="creating", source=lambda document: document.source)
    results.finish()
    return failed


def _name(document: Document) -> str:
    return document.name or str(document.data["metadata"]["generateName"])


def _placed(document: Document, namespace: str) -> dict[str, Any]:
    """The document with its namespace."""
    if not document.resource.namespaced or not namespace or document.namespace:
        return document.data
    return document.data | {"metadata": {**document.data["metadata"], "namespace": namespace}}


def _make(session: Session, made: dict[str, Any], writing: Writing) -> None:
    """Create the object that a kind's command has put together."""
    from barque.api import resources
    from barque.cli.manifests import Document

    resource = resources.by_kind(made["apiVersion"], made["kind"])
    _create(session, [Document("", made, resource, [])], writing)


@command.command("namespace", cls=Verb, examples="barque create namespace shop")
@click.argument("name")
@writing_options("create")
@with_session
def namespace(session: Session, name: str, **given: Any) -> None:
    """Create a namespace: a room of its own for objects and their names."""
    from barque.cli import generators

    _make(session, generators.namespace(name), read_writing(given))


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
    _make(session, generators.config_map(name, data), read_writing(given))


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
    _make(session, generators.secret(name, data, kind), read_writing(given))


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
    _make(session, made, read_writing(given))


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
    _make(session, made, read_writing(given))


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
    _make(session, made, read_writing(given))


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

    _make(session, generators.service(name, "ClusterIP", ports, cluster_ip=clusterip), read_writing(given))


@service.command("nodeport", cls=Verb, examples="barque create service nodeport web --tcp=80:8080 --node-port=30080")
@click.argument("name")
@_PORTS
@click.option("--node-port", type=click.IntRange(0, 65535), default=0, metavar="PORT", help="A certain port of nodes.")
@writing_options("create")
@with_session
def nodeport(session: Session, name: str, ports: list[str], node_port: int, **given: Any) -> None:
    """Create a Service with a port on every node; it leads to the pods labelled app=NAME."""
    from barque.cli import generators

    _make(session, generators.service(name, "NodePort", ports, node_port=node_port), read_writing(given))
