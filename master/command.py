"""`barque master init` and `barque master run`: a cluster founded, and the master daemon in the foreground."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

DATA_DIR = Path("/var/lib/barque/master")


@click.group(short_help="Found a cluster and run a master.")
def master() -> None:
    """Found a cluster and run a master: the cluster's API, store, controllers and scheduler."""


def _site_options(function: F) -> F:
    """What `init` and `run` must agree on."""
    options = [
        click.option("--data-dir", default=DATA_DIR, type=click.Path(path_type=Path), show_default=True),
        click.option("--name", default=lambda: socket.gethostname().lower(), help="This master's name [hostname]."),
        click.option(
            "--address", default="", help="The address others reach this master at [the one with the default route]."
        ),
        click.option("--grpc-port", default=7443, show_default=True, help="Clients and workers."),
        click.option(
            "--profile",
            type=click.Path(path_type=Path),
            help="Where the administrator's profile is written [~/.barque/config].",
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@master.command(short_help="Found a cluster: its CA, certificates and profile.")
@_site_options
@click.option("--cluster", default="barque", show_default=True, help="The cluster's name, and its context's.")
def init(data_dir: Path, name: str, address: str, grpc_port: int, profile: Path | None, cluster: str) -> None:
    """Found a cluster: make its CA, the certificates of its master and its administrator, the store's directory, and
    the profile that the other commands read. What is there already is kept, so it can be run again.

    \b
    Examples:
      barque master init
      barque master init --cluster lab --address 192.168.56.10
    """
    from barque.client.clock import SystemClock
    from barque.client.pki import PkiError
    from barque.client.profile import ProfileError, default_path
    from barque.master import foundation

    path = profile or default_path()
    try:
        address = address or _own_address()
        founded = foundation.is_laid(data_dir)
        site = foundation.Site(data_dir, name, [address], cluster)
        foundation.check_profile(path, site, [f"{address}:{grpc_port}"])
        pki = foundation.lay(site, SystemClock().wall())
        foundation.write_profile(path, site, pki, [f"{address}:{grpc_port}"])
    except (ValueError, OSError, PkiError, ProfileError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"Cluster {cluster} {'was founded before' if founded else 'is founded'}.")
    click.echo(f"  CA            {data_dir / 'pki' / 'ca.pem'} ({pki.pin})")
    click.echo(f"  certificates  {data_dir / 'pki'}: the master's until {pki.master.expires:%Y-%m-%d}")
    click.echo(f"  profile       {path}, context {cluster}")
    click.echo("Next:")
    click.echo(f"  {_run_command(data_dir, name, address, grpc_port)}")
    click.echo("  barque token create      once it runs: prints the command that joins a worker")


def _run_command(data_dir: Path, name: str, address: str, grpc_port: int) -> str:
    """The `run` that goes on from this `init`; whatever it would find out by itself is left out."""
    words = ["barque master run"]
    words += [f"--data-dir {data_dir}"] * (data_dir != DATA_DIR)
    words += [f"--name {name}"] * (name != socket.gethostname().lower())
    words += [f"--address {address}"] * (address != _own_address())
    words += [f"--grpc-port {grpc_port}"] * (grpc_port != 7443)
    return " ".join(words)


@master.command(short_help="Run the master in the foreground.")
@_site_options
@click.option("--listen", default="0.0.0.0", show_default=True, help="The address to listen on.")
@click.option("--https-port", default=6443, show_default=True, help="Health, the CA's certificate, joining.")
@click.option("--bus-port", default=4222, show_default=True, help="NATS.")
@click.option("--cluster-cidr", default="10.244.0.0/16", show_default=True, help="Addresses of pods.")
@click.option("--node-cidr-prefix", default=24, show_default=True, help="How much of it each node gets.")
@click.option("--service-cidr", default="10.96.0.0/12", show_default=True, help="Addresses of services.")
@click.option(
    "--not-ready-toleration", default=5, show_default=True, help="Seconds that pods stay on a node that is not ready."
)
@click.option(
    "--unreachable-toleration", default=5, show_default=True, help="Seconds that pods stay on a node found silent."
)
@click.option("--log-level", default="INFO", type=click.Choice(["DEBUG", "INFO", "WARNING"]), show_default=True)
def run(
    log_level: str,
    cluster_cidr: str,
    node_cidr_prefix: int,
    service_cidr: str,
    not_ready_toleration: int,
    unreachable_toleration: int,
    profile: Path | None,
    data_dir: Path,
    name: str,
    address: str,
    grpc_port: int,
    **options: object,
) -> None:
    """Run the master in the foreground until SIGTERM.

    The first start founds the cluster as `barque master init` does. It writes the profile where --profile says, and by
    itself only for the default DATA-DIR.

    \b
    Examples:
      barque master run
      barque master run --address 192.168.56.10 --data-dir /srv/barque
    """
    # gRPC's fork handlers are of no use here: the one child, nats-server, is started by exec at once.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    # Imported here, so that help and other commands do not pay for the daemon.
    from barque.client.pki import PkiError
    from barque.client.supervise import UnexpectedEndError
    from barque.master.apiserver.settings import ApiSettings
    from barque.master.daemon import Master, MasterSettings, run_until_stopped
    from barque.master.raft.errors import StoreStartError

    logging.basicConfig(level=log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        address = address or _own_address()
        api = ApiSettings(
            cluster_cidr=cluster_cidr,
            node_cidr_prefix=node_cidr_prefix,
            service_cidr=service_cidr,
            not_ready_toleration_s=not_ready_toleration,
            unreachable_toleration_s=unreachable_toleration,
        )
        settings = MasterSettings(data_dir, name, address, grpc_port=grpc_port, api=api, **options)  # type: ignore[arg-type]  # names as in MasterSettings
        _found(data_dir, name, address, grpc_port, profile)
        run_until_stopped(Master(settings))
    except (ValueError, OSError, PkiError, StoreStartError, UnexpectedEndError) as error:
        raise click.ClickException(f"the master stops: {error}") from error


def _found(data_dir: Path, name: str, address: str, grpc_port: int, profile: Path | None) -> None:
    """On the first start, do what `init` does; a profile that cannot be written does not keep the master down."""
    from barque.client.clock import SystemClock
    from barque.client.profile import ProfileError, default_path
    from barque.master import foundation

    if foundation.is_laid(data_dir):
        return
    site = foundation.Site(data_dir, name, [address])
    pki = foundation.lay(site, SystemClock().wall())
    path = profile or (default_path() if data_dir == DATA_DIR else None)
    if path is None:
        return
    try:
        foundation.write_profile(path, site, pki, [f"{address}:{grpc_port}"])
    except (ProfileError, OSError) as error:
        logging.getLogger(__name__).warning("no profile is written: %s", error)


def _own_address() -> str:
    import asyncio

    from barque.client.address import own_address

    return asyncio.run(own_address())
