"""`barque worker`: join a cluster, run the worker, clean the host up."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import platform
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click

from barque.api import quantity
from barque.client import system_errors
from barque.client.joining import JoinError, join
from barque.client.pki import PkiError
from barque.client.profile import Profile
from barque.client.supervise import UnexpectedEndError
from barque.network.dns.settings import TTL_S
from barque.network.dns.upstreams import StubDomain, parse_stub_domain
from barque.network.overlay.settings import DEFAULT_PORT as DEFAULT_VXLAN_PORT
from barque.network.overlay.settings import DEFAULT_VNI, Backend, Offload, OverlaySettings
from barque.worker.images.images import MAX_PULLS
from barque.worker.runtime.port import LogRotation
from barque.worker.settings import (
    CLUSTER_CIDR,
    DEFAULT_DATA_DIR,
    DEFAULT_MANIFESTS,
    DEFAULT_PORT,
    SERVICE_CIDR,
    Settings,
    WorkerError,
)

log = logging.getLogger(__name__)

_data_dir = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_DATA_DIR,
    show_default=True,
    help="Where the worker keeps its state: certificate, pods' volumes, sandboxes, seccomp profiles (in seccomp/).",
)
_docker_host = click.option(
    "--docker-host",
    envvar="DOCKER_HOST",
    default="",
    metavar="URL",
    help="Docker's socket, $DOCKER_HOST too. [default: unix:///var/run/docker.sock]",
)


def _parse_bytes(ctx: click.Context, option: click.Parameter, text: str) -> int:
    """An amount as manifests write it, "10Mi"."""
    try:
        amount = quantity.whole(text)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, option) from error
    if amount < 1:
        raise click.BadParameter("must be more than nothing", ctx, option)
    return amount


def _parse_address(ctx: click.Context, option: click.Parameter, text: str) -> str:
    """An IPv4 address, or nothing."""
    try:
        return str(ipaddress.IPv4Address(text)) if text else ""
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, option) from error


def _parse_range(ctx: click.Context, option: click.Parameter, text: str) -> str:
    """A range of IPv4 addresses, "10.244.0.0/16"."""
    try:
        return str(ipaddress.IPv4Network(text))
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, option) from error


def _parse_stub_domains(ctx: click.Context, option: click.Parameter, texts: tuple[str, ...]) -> tuple[StubDomain, ...]:
    try:
        return tuple(parse_stub_domain(text) for text in texts)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, option) from error


@click.group()
def worker() -> None:
    """Run pods on this host."""


@worker.command("join")
@click.option("--master", required=True, metavar="HOST[:6443]", help="Any master's HTTPS address.")
@click.option("--token", required=True, envvar="BARQUE_TOKEN", help="From `barque token create` on a master.")
@click.option("--ca-pin", required=True, metavar="sha256:…", help="The cluster's CA, as printed with the token.")
@click.option("--node-name", default="", help="The node's name. [default: this host's name]")
@_data_dir
@_docker_host
def join_command(master: str, token: str, ca_pin: str, node_name: str, data_dir: Path, docker_host: str) -> None:
    """Make this host a node of a cluster.

    It fetches a certificate and saves it, and makes the worker's OCI runtime known to Docker, so that pods start
    without a pause container.

    \b
    Examples:
      barque worker join --master 10.0.0.1 --token abcdef.0123456789abcdef --ca-pin sha256:…
      barque worker run
    """
    name = node_name or default_node_name()
    settings = Settings(data_dir)

    async def work() -> None:
        joined = await join(master, token, ca_pin, name)
        await asyncio.to_thread(data_dir.mkdir, 0o700, parents=True, exist_ok=True)
        Profile.of(joined.masters, joined.identity, cluster=joined.cluster).save(settings.profile)

    _run(work())
    from barque.worker.runtime.docker_runtime import DEFAULT_HOST
    from barque.worker.runtime.registration import RegistrationError, register

    try:
        if register(docker_host or DEFAULT_HOST, settings.sandboxes):
            click.echo("added Barque's runtime to Docker's configuration")
    except RegistrationError as error:
        click.echo(f"pods will start more slowly, each with a pause container: {error}", err=True)
    click.echo(f"joined as node {name}; start it with: barque worker run --data-dir {data_dir}")


@worker.command("run")
@_data_dir
@click.option(
    "--masters", multiple=True, metavar="HOST[:7443]", help="Masters' gRPC addresses. [default: from the join]"
)
@click.option("--node-name", default="", help="Refuse to run as any other node. [default: from the join]")
@click.option(
    "--node-ip",
    default="",
    callback=_parse_address,
    help="This host's address for others. [default: the one with the route to masters]",
)
@click.option(
    "--listen",
    default=f"0.0.0.0:{DEFAULT_PORT}",
    show_default=True,
    metavar="HOST:PORT",
    help="The node API's address.",
)
@_docker_host
@click.option(
    "--cluster-cidr",
    default=CLUSTER_CIDR,
    callback=_parse_range,
    show_default=True,
    metavar="CIDR",
    help="The range of all pods, as the masters have it.",
)
@click.option(
    "--service-cidr",
    default=SERVICE_CIDR,
    callback=_parse_range,
    show_default=True,
    metavar="CIDR",
    help="The range of service addresses, as the masters have it.",
)
@click.option(
    "--cluster-dns",
    default="",
    callback=_parse_address,
    metavar="ADDRESS",
    help="Where this node resolves names for its pods. [default: the tenth address of the service range]",
)
@click.option(
    "--dns-ttl",
    "dns_ttl_s",
    type=click.IntRange(0, 3600),
    default=TTL_S,
    show_default=True,
    metavar="SECONDS",
    help="For how long clients may remember a name of the cluster.",
)
@click.option(
    "--stub-domain",
    "stub_domains",
    multiple=True,
    callback=_parse_stub_domains,
    metavar="DOMAIN=SERVER[,SERVER]",
    help="Ask these servers about a domain, and not those of /etc/resolv.conf; may be given several times.",
)
@click.option(
    "--overlay",
    "backend",
    type=click.Choice(["vxlan", "host-gw"]),
    default="vxlan",
    show_default=True,
    help="How pods of other hosts are reached: in UDP packets, or by plain routes where all hosts are on one network.",
)
@click.option(
    "--interface",
    default="",
    metavar="NAME",
    help="The interface to other hosts, and its address this host's. [default: the one with the route to masters]",
)
@click.option(
    "--vxlan-vni",
    type=click.IntRange(1, 16777215),
    default=DEFAULT_VNI,
    show_default=True,
    metavar="N",
    help="The VXLAN network, the same on all nodes; the device is barque.N.",
)
@click.option(
    "--vxlan-port",
    type=click.IntRange(1, 65535),
    default=DEFAULT_VXLAN_PORT,
    show_default=True,
    metavar="PORT",
    help="The UDP port of VXLAN, the same on all nodes.",
)
@click.option(
    "--checksum-offload",
    type=click.Choice(["auto", "on", "off"]),
    default="auto",
    show_default=True,
    help="Whether the network card computes checksums in VXLAN packets; auto: unless it is known to get them wrong.",
)
@click.option(
    "--mtu",
    type=click.IntRange(576, 65535),
    default=None,
    callback=lambda ctx, option, value: value or 0,
    metavar="BYTES",
    help="MTU of the pods' links. [default: the interface's, less 50 for VXLAN]",
)
@click.option(
    "--max-parallel-image-pulls",
    type=click.IntRange(1),
    default=MAX_PULLS,
    show_default=True,
    metavar="N",
    help="How many images are pulled at the same time; 1 for one after another.",
)
@click.option(
    "--container-log-max-size",
    "container_log_max_bytes",
    default="10Mi",
    show_default=True,
    callback=_parse_bytes,
    metavar="AMOUNT",
    help="The size at which a container's log is rotated, in bytes or as in 500Ki, 10Mi. New containers heed it.",
)
@click.option(
    "--container-log-max-files",
    type=click.IntRange(1),
    default=LogRotation().files,
    show_default=True,
    metavar="N",
    help="How many files are kept of a container's log, the one being written included.",
)
@click.option(
    "--pod-max-pids",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="N",
    help="How many processes and threads each container may have; 0 for no limit.",
)
@click.option(
    "--manifests",
    type=click.Path(path_type=Path),
    default=DEFAULT_MANIFESTS,
    show_default=True,
    metavar="FOLDER",
    help="Pods that this node runs by itself (static pods), one per YAML or JSON file; looked at every 2 s.",
)
@click.option(
    "--log-level", default="info", type=click.Choice(["debug", "info", "warning", "error"]), show_default=True
)
def run_command(
    masters: tuple[str, ...],
    log_level: str,
    backend: Backend,
    interface: str,
    vxlan_vni: int,
    vxlan_port: int,
    checksum_offload: Offload,
    **options: Any,
) -> None:
    """Run the worker of this host, until stopped. Its pods outlive it and are taken over by the next run.

    \b
    Examples:
      barque worker run
      barque worker run --interface eth1
      barque worker run --node-ip 10.0.0.7 --listen 10.0.0.7:7450 --overlay host-gw
      barque worker run --container-log-max-size 50Mi --container-log-max-files 3 --pod-max-pids 4096
    """
    logging.basicConfig(
        level=log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname).1s %(name)s: %(message)s"
    )
    # Elections do not wait for this process, but its heartbeats must not wait for a long computation either.
    sys.setswitchinterval(0.0005)
    overlay = OverlaySettings(backend, interface, vni=vxlan_vni, port=vxlan_port, checksum_offload=checksum_offload)
    settings = Settings(masters=masters, overlay=overlay, **options)
    from barque.worker import daemon

    _run(daemon.run(settings))


@worker.command("cleanup")
@_data_dir
@_docker_host
@click.option("--keep-data", is_flag=True, help="Keep the data directory, with the certificate.")
def cleanup_command(data_dir: Path, docker_host: str, keep_data: bool) -> None:
    """Remove everything of a stopped worker from this host.

    Pods, networking and data, and the runtime in Docker's configuration: what it finds by label, prefix and data
    directory. Images stay, but for the sandbox's.

    \b
    Examples:
      barque worker cleanup
      barque worker cleanup --keep-data        # pods and networking only: the host stays a member
    """
    from barque.worker.cleanup import cleanup

    async def work() -> None:
        for line in await cleanup(Settings(data_dir, docker_host=docker_host), keep_data=keep_data):
            click.echo(line)

    _run(work())


def default_node_name() -> str:
    """The host's name as a node's."""
    return platform.node().partition(".")[0].lower() or "node"


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run to the end; SIGTERM and SIGINT end it well; what a user can do something about is one line."""

    async def until_signal() -> None:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            log.info("stopped; the pods of this host go on")

    try:
        import uvloop

        uvloop.run(until_signal())
    except (WorkerError, JoinError, PkiError, UnexpectedEndError) as error:
        cause = error.__cause__ if isinstance(error, UnexpectedEndError) else None
        if cause is not None and not isinstance(cause, WorkerError):
            log.error("%s", error, exc_info=cause)
        raise click.ClickException(str(cause) if isinstance(cause, WorkerError) else str(error)) from error
    except OSError as error:
        raise click.ClickException(system_errors.told(error)) from error
