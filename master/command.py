"""`barque master run`: the master daemon in the foreground, as systemd and `barque up` start it."""

from __future__ import annotations

import logging
import os
import socket
import sys
from pathlib import Path

import click


@click.group(short_help="Run a master.")
def master() -> None:
    """Run a master: the cluster's API, store, controllers and scheduler."""


@master.command(short_help="Run the master in the foreground.")
@click.option("--data-dir", default="/var/lib/barque/master", type=click.Path(path_type=Path), show_default=True)
@click.option("--name", default=lambda: socket.gethostname().lower(), help="This master's name [hostname].")
@click.option("--address", default="", help="The address others reach this master at [the one with the default route].")
@click.option("--listen", default="0.0.0.0", show_default=True, help="The address to listen on.")
@click.option("--grpc-port", default=7443, show_default=True, help="Clients and workers.")
@click.option("--https-port", default=6443, show_default=True, help="Health, the CA's certificate, joining.")
@click.option("--bus-port", default=4222, show_default=True, help="NATS.")
@click.option("--cluster-cidr", default="10.244.0.0/16", show_default=True, help="Addresses of pods.")
@click.option("--node-cidr-prefix", default=24, show_default=True, help="How much of it each node gets.")
@click.option("--service-cidr", default="10.96.0.0/12", show_default=True, help="Addresses of services.")
@click.option("--log-level", default="INFO", type=click.Choice(["DEBUG", "INFO", "WARNING"]), show_default=True)
def run(log_level: str, cluster_cidr: str, node_cidr_prefix: int, service_cidr: str, **options: object) -> None:
    """Run the master in the foreground until SIGTERM.

    The first start makes the cluster: its CA, its store, and the administrator's certificate under DATA-DIR/pki.

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
    from barque.master.store.errors import StoreStartError

    logging.basicConfig(level=log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        api = ApiSettings(cluster_cidr=cluster_cidr, node_cidr_prefix=node_cidr_prefix, service_cidr=service_cidr)
        run_until_stopped(Master(MasterSettings(api=api, **options)))  # type: ignore[arg-type]  # names as in MasterSettings
    except (ValueError, OSError, PkiError, StoreStartError, UnexpectedEndError) as error:
        raise click.ClickException(f"the master stops: {error}") from error
