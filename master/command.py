"""`barque master init`, `join` and `run`: a cluster founded, one more master for it, the daemon in the foreground."""

from __future__ import annotations

import logging
import os
import shlex
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from barque.client import system_errors

if TYPE_CHECKING:
    from barque.master.audit.audit import AuditSettings
    from barque.master.bus.access import UserNats
    from barque.master.daemon import MasterSettings
    from barque.master.enrolment import Enrolled, Membership
    from barque.master.store.engine_etcd import EtcdSettings

F = TypeVar("F", bound=Callable[..., Any])

DATA_DIR = Path("/var/lib/barque/master")


@click.group(short_help="Found a cluster, or join one, and run a master.")
def master() -> None:
    """Found a cluster, or join one, and run a master: the cluster's API, store, controllers and scheduler."""


def _alternative_names(_context: click.Context, _option: click.Parameter, hosts: tuple[str, ...]) -> tuple[str, ...]:
    from barque.client.pki import PkiError, alternative_name

    try:
        return tuple(map(alternative_name, hosts))
    except PkiError as error:
        raise click.BadParameter(str(error)) from error


def _site_options(function: F) -> F:
    """What `init`, `join` and `run` must agree on."""
    options = [
        click.option("--data-dir", default=DATA_DIR, type=click.Path(path_type=Path), show_default=True),
        click.option("--name", default=lambda: socket.gethostname().lower(), help="This master's name [hostname]."),
        click.option(
            "--address", default="", help="The address others reach this master at [the one with the default route]."
        ),
        click.option(
            "--tls-san",
            multiple=True,
            callback=_alternative_names,
            metavar="HOST",
            help="One more DNS name or IP address that the certificate is good for; may be repeated.",
        ),
        click.option("--grpc-port", default=7443, show_default=True, help="Clients and workers."),
        click.option("--peer-port", default=7444, show_default=True, help="The other masters."),
        click.option("--https-port", default=6443, show_default=True, help="Kubernetes' REST API, health, joining."),
        click.option("--bus-port", default=4222, show_default=True, help="NATS: its clients."),
        click.option("--route-port", default=6222, show_default=True, help="NATS: the other masters' servers."),
        click.option(
            "--profile",
            type=click.Path(path_type=Path),
            help="Where the administrator's profile is written, and a kubeconfig beside it [~/.barque/config].",
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@master.command(short_help="Found a cluster: its CA, certificates and profile.")
@_site_options
@click.option("--cluster", default="barque", show_default=True, help="The cluster's name, and its context's.")
def init(
    data_dir: Path,
    name: str,
    address: str,
    tls_san: tuple[str, ...],
    grpc_port: int,
    peer_port: int,
    https_port: int,
    bus_port: int,
    route_port: int,
    profile: Path | None,
    cluster: str,
) -> None:
    """Found a cluster: make its CA, the certificates of its master and its administrator, the store's directory, and
    the profile that the other commands read. What is there already is kept, so it can be run again.

    \b
    Examples:
      barque master init
      barque master init --cluster lab --address 192.168.56.10
    """
    from barque.client.clock import SystemClock
    from barque.client.joining import JoinError
    from barque.client.kubeconfig import KubeconfigError
    from barque.client.pki import PkiError
    from barque.client.profile import ProfileError, default_path
    from barque.master import enrolment, foundation

    path = profile or default_path()
    try:
        enrolment.membership(data_dir)
        address = address or _own_address()
        founded = foundation.is_laid(data_dir)
        site = foundation.Site(data_dir, name, [address, *_with_hostname(tls_san)], cluster)
        foundation.check_profile(path, site, [f"{address}:{grpc_port}"], https_port)
        pki = foundation.lay(site, SystemClock().wall())
        kubeconfig = foundation.write_profile(path, site, pki, [f"{address}:{grpc_port}"], https_port)
    except (ValueError, OSError, JoinError, PkiError, ProfileError, KubeconfigError) as error:
        raise click.ClickException(system_errors.told(error)) from error
    click.echo(f"Cluster {cluster} {'was founded before' if founded else 'is founded'}.")
    click.echo(f"  CA            {data_dir / 'pki' / 'ca.pem'} ({pki.pin})")
    click.echo(f"  certificates  {data_dir / 'pki'}: the master's until {pki.master.expires:%Y-%m-%d}")
    click.echo(f"  profile       {path}, context {cluster}")
    click.echo(f"  kubeconfig    {kubeconfig}")
    click.echo("Next:")
    ports = [grpc_port, peer_port, https_port, bus_port, route_port]
    click.echo(f"  {_run_command(data_dir, name, address, tls_san, ports)}")
    click.echo("  barque token create         once it runs: prints the command that joins a worker")
    click.echo("  barque cluster add-member   prints the command that joins another master; three bear the loss of one")


def _with_hostname(tls_san: Sequence[str]) -> tuple[str, ...]:
    """What the certificate is good for beside name and address: the machine's own name, where DNS may know it."""
    from barque.client.pki import is_dns_name

    hostname = socket.gethostname().lower()
    return (hostname, *tls_san) if is_dns_name(hostname) else tuple(tls_san)


def _run_command(data_dir: Path, name: str, address: str, tls_san: Sequence[str], ports: list[int]) -> str:
    """The `run` that goes on from this `init`; whatever it would find out by itself is left out."""
    words = ["barque master run"]
    words += [f"--data-dir {data_dir}"] * (data_dir != DATA_DIR)
    words += [f"--name {name}"] * (name != socket.gethostname().lower())
    words += [f"--address {address}"] * (address != _own_address())
    words += [f"--tls-san {shlex.quote(host)}" for host in tls_san]
    defaults = {
        "--grpc-port": 7443, "--peer-port": 7444, "--https-port": 6443, "--bus-port": 4222, "--route-port": 6222,
    }  # fmt: skip
    words += [f"{o} {port}" for (o, default), port in zip(defaults.items(), ports, strict=True) if port != default]
    return " ".join(words)


@master.command(short_help="Make this machine another master of a cluster.")
@click.argument("master_address", metavar="ADDRESS")
@click.option("--token", required=True, envvar="BARQUE_TOKEN", help="From `barque cluster add-member`, for one use.")
@click.option("--ca-pin", required=True, metavar="sha256:…", help="The cluster's CA, as printed with the token.")
@_site_options
def join(
    master_address: str,
    token: str,
    ca_pin: str,
    data_dir: Path,
    name: str,
    address: str,
    tls_san: tuple[str, ...],
    grpc_port: int,
    peer_port: int,
    https_port: int,
    bus_port: int,
    route_port: int,
    profile: Path | None,
) -> None:
    """Make this machine another master of the cluster whose master answers at ADDRESS (host or host:6443).

    It gets a certificate and the cluster's keys, and a place among the members: as a learner first, which votes by
    itself once it has caught up. `barque master run` then starts it, with the same name, address and ports. Where the
    joining was cut off, the same command goes on. It needs a majority of the masters; where that is gone, see `barque
    cluster recover-quorum`.

    Where the masters' state is in an etcd, it is told which one, so that `barque master run` knows it too; files for
    TLS with etcd are for you to bring.

    \b
    Examples:
      barque master join 10.0.0.1 --token abcdef.0123456789abcdef --ca-pin sha256:…
      barque master join 10.0.0.1:6443 --token … --ca-pin sha256:… --name m2 --address 10.0.0.2
    """
    import asyncio

    from barque.client.clock import SystemClock
    from barque.client.joining import JoinError
    from barque.master.enrolment import enrol
    from barque.master.raft.messages import MemberInfo

    try:
        host = address or asyncio.run(_address_towards(master_address))
        info = MemberInfo("", name, host, peer_port, grpc_port, https_port, bus_port, route_port)
        click.echo(f"joining as {name} ({host}) through the master at {master_address}", err=True)
        now = SystemClock().wall()
        enrolled = asyncio.run(enrol(data_dir, info, master_address, token, ca_pin.strip(), now, os.urandom, tls_san))
    except (ValueError, OSError, JoinError) as error:
        raise click.ClickException(system_errors.told(error)) from error
    _tell(data_dir, enrolled, _write_profile(data_dir, profile, enrolled))


def _tell(data_dir: Path, enrolled: Enrolled, profile: Path | None) -> None:
    from barque.master.enrolment import missing_files, on_etcd

    joined = enrolled.membership
    click.echo(f"Joined cluster {joined.cluster} as master {joined.info.name} (member {joined.info.id}).")
    click.echo(f"  certificates  {data_dir / 'pki'}")
    click.echo(f"  masters       {', '.join(enrolled.profile.masters)}")
    if profile is not None:
        click.echo(f"  profile       {profile}, context {joined.cluster}")
    settings = joined.settings
    if on_etcd(settings):
        click.echo(f"  etcd          {settings['etcd_endpoints']}, keys under {settings['etcd_prefix']}")
    if enrolled.clock:
        click.echo(f"Warning: {enrolled.clock}", err=True)
    if "bus_url" in settings:
        click.echo(f"  bus           {settings['bus_url']}")
    missing = missing_files(settings)
    if missing:
        options = ", ".join(f"--{option.replace('_', '-')}" for option in missing)
        click.echo(
            f"Warning: the other masters use {', '.join(missing.values())}: put the same there, or give `barque "
            f"master run` files of this machine's own ({options})",
            err=True,
        )
    click.echo("Next:")
    click.echo(f"  barque master run{f' --data-dir {data_dir}' if data_dir != DATA_DIR else ''}")
    votes = "once it runs" if on_etcd(settings) else "a learner until it has caught up, then a voter"
    click.echo(f"  barque cluster members   shows it: {votes}")


def _write_profile(data_dir: Path, profile: Path | None, enrolled: Enrolled) -> Path | None:
    """Where the administrator's way in was written, None where nowhere; that it cannot be is only a warning."""
    import msgspec

    from barque.client import kubeconfig
    from barque.client import profile as profiles

    path = profile or (profiles.default_path() if data_dir == DATA_DIR else None)
    if path is None:
        return None
    cluster, own = enrolled.membership.cluster, enrolled.membership.info
    try:
        profiles.remember(path, cluster, enrolled.profile)
        # kubectl knows one address alone: the master that is here, also while the others are away.
        here = msgspec.structs.replace(enrolled.profile, masters=[own.grpc_address])
        kubeconfig.remember_beside(path, cluster, here, own.https_port)
    except (profiles.ProfileError, kubeconfig.KubeconfigError, OSError) as error:
        click.echo(f"Warning: no profile is written: {error}", err=True)
        return None
    return path


async def _address_towards(master_address: str) -> str:
    from barque.client.address import NoAddressError, default_address

    try:
        return await default_address([master_address])
    except NoAddressError:
        return "127.0.0.1"


@master.command(short_help="Run the master in the foreground.")
@_site_options
@click.option("--listen", default="0.0.0.0", show_default=True, help="The address to listen on.")
@click.option("--cluster-cidr", default="10.244.0.0/16", show_default=True, help="Addresses of pods.")
@click.option("--node-cidr-prefix", default=24, show_default=True, help="How much of it each node gets.")
@click.option("--service-cidr", default="10.96.0.0/12", show_default=True, help="Addresses of services.")
@click.option(
    "--not-ready-toleration", default=5, show_default=True, help="Seconds that pods stay on a node that is not ready."
)
@click.option(
    "--unreachable-toleration", default=5, show_default=True, help="Seconds that pods stay on a node found silent."
)
@click.option(
    "--store",
    "kept_in",
    type=click.Choice(["raft", "etcd"]),
    default="raft",
    show_default=True,
    help="Where the state is: with the masters themselves, or in an etcd that you run.",
)
@click.option("--etcd-endpoints", default="", metavar="URL,…", help="etcd: https://host:2379 of each of its members.")
@click.option("--etcd-ca", type=click.Path(path_type=Path), help="etcd: whom its certificates are issued by (PEM).")
@click.option("--etcd-cert", type=click.Path(path_type=Path), help="etcd: this master's certificate for it (PEM).")
@click.option("--etcd-key", type=click.Path(path_type=Path), help="etcd: that certificate's key (PEM).")
@click.option("--etcd-prefix", default="/barque", show_default=True, help="etcd: what the cluster's keys begin with.")
@click.option(
    "--bus-url", default="", metavar="URL,…", help="A NATS that you run, instead of the masters' own: tls://host:4222."
)
@click.option("--bus-ca", type=click.Path(path_type=Path), help="That NATS: whom it is certified by [the machine's].")
@click.option("--bus-cert", type=click.Path(path_type=Path), help="That NATS: this master's certificate for it (PEM).")
@click.option("--bus-key", type=click.Path(path_type=Path), help="That NATS: that certificate's key (PEM).")
@click.option("--change-feed/--no-change-feed", default=True, help="Tell every change on the bus.", show_default=True)
@click.option("--bus-creds", type=click.Path(path_type=Path), help="That NATS: this master's file of credentials.")
@click.option("--bus-replicas", default=1, show_default=True, help="That NATS: how many servers keep each stream.")
@click.option("--audit-log-path", default="", metavar="FILE|-", help="Audit: the log's file, - for standard output.")
@click.option("--audit-policy-file", type=click.Path(path_type=Path), help="Audit: what is logged [metadata of all].")
@click.option("--audit-log-maxsize", default=100, show_default=True, help="Audit: MiB of a file until it is rotated.")
@click.option("--audit-log-maxbackup", default=10, show_default=True, help="Audit: how many full files are kept.")
@click.option("--audit-log-maxage", default=30, show_default=True, help="Audit: days that full files are kept.")
@click.option("--log-level", default="INFO", type=click.Choice(["DEBUG", "INFO", "WARNING"]), show_default=True)
def run(log_level: str, profile: Path | None, data_dir: Path, **options: Any) -> None:
    """Run the master in the foreground until SIGTERM.

    The first start founds the cluster as `barque master init` does, unless `barque master join` has made this machine a
    member of another: then its name, address and ports, the ranges of addresses, and the etcd where there is one, are
    by default those it joined with. It writes the profile where --profile says, and by itself only for the default
    DATA-DIR. A master that was started with --store etcd refuses to start without it, and the other way round.

    Its certificate is good for its name, the machine's, its address, the names that pods know the masters by, and each
    --tls-san; where these have changed since the last start, it is made anew.

    \b
    Examples:
      barque master run
      barque master run --address 192.168.56.10 --data-dir /srv/barque
      barque master run --tls-san api.example.org --tls-san 203.0.113.7
      barque master run --store etcd --etcd-endpoints https://10.0.0.5:2379,https://10.0.0.6:2379
      barque master run --bus-url tls://10.0.0.7:4222 --bus-creds /etc/barque/nats.creds
    """
    # Imported here, so that help and other commands do not pay for the daemon.
    from barque.client.joining import JoinError
    from barque.client.pki import PkiError
    from barque.client.supervise import StopError, UnexpectedEndError
    from barque.master import enrolment
    from barque.master.apiserver.settings import ApiSettings
    from barque.master.daemon import Master, MasterSettings, run_until_stopped

    logging.basicConfig(level=log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        joined = enrolment.membership(data_dir)
        if joined is not None:
            options = _as_joined(joined, options)
        options["address"] = options["address"] or _own_address()
        options["tls_san"] = _with_hostname(options["tls_san"])
        options["etcd"] = _etcd_settings(options)
        options["nats"] = _user_nats(options)
        options["audit"] = _audit_settings(options)
        api = ApiSettings(**{field: options.pop(option) for option, field in enrolment.SHARED_OPTIONS.items()})
        settings = MasterSettings(data_dir, api=api, **options)
        _found(settings, profile)
        run_until_stopped(Master(settings))
    except (ValueError, OSError, JoinError, PkiError, StopError, UnexpectedEndError) as error:
        raise click.ClickException(f"the master stops: {system_errors.told(error)}") from error


def _etcd_settings(options: dict[str, Any]) -> EtcdSettings | None:
    """Take the options of etcd out of `options`; None where the state is not there. Raises ValueError."""
    from barque.master.store.engine_etcd import EtcdSettings
    from barque.master.store.etcd.client import Endpoints

    endpoints = tuple(filter(None, options.pop("etcd_endpoints").split(",")))
    ca, cert, key = _files(options, "etcd", ("ca", "cert", "key"))
    prefix, wanted = options.pop("etcd_prefix"), options.pop("kept_in") == "etcd"
    if wanted != bool(endpoints):
        raise ValueError("--store etcd and --etcd-endpoints go together: say where etcd is, or leave both out")
    return EtcdSettings(Endpoints(endpoints, ca, cert, key), prefix) if wanted else None


def _user_nats(options: dict[str, Any]) -> UserNats | None:
    """Take the options of a NATS of the user's out of `options`; None where there is none. Raises ValueError."""
    from barque.master.bus.access import UserNats

    urls = tuple(filter(None, options.pop("bus_url").split(",")))
    ca, cert, key, creds = files = _files(options, "bus", ("ca", "cert", "key", "creds"))
    replicas = options.pop("bus_replicas")
    if not urls:
        if any(files):
            raise ValueError("--bus-ca, --bus-cert, --bus-key and --bus-creds go with --bus-url")
        return None
    nats = UserNats(urls, ca, cert, key, creds, replicas)
    nats.check()
    if nats.in_the_clear:
        logging.getLogger(__name__).warning("the bus at %s is not encrypted: tls:// would be", nats.hosts)
    return nats


def _audit_settings(options: dict[str, Any]) -> AuditSettings:
    """Take the options of the audit log out of `options`. Raises ValueError."""
    from barque.master.audit.audit import AuditSettings
    from barque.master.audit.log_file import Rotation

    path, policy = options.pop("audit_log_path"), options.pop("audit_policy_file")
    bounds = {name: options.pop(f"audit_log_{name}") for name in ("maxsize", "maxbackup", "maxage")}
    for name, value in bounds.items():
        if value < 0:
            raise ValueError(f"--audit-log-{name} {value} can't be a negative number")
    if policy is not None and not path:
        raise ValueError("--audit-policy-file says what is logged, --audit-log-path where to: give both")
    return AuditSettings(path, policy, Rotation(bounds["maxsize"], bounds["maxbackup"], bounds["maxage"]))


def _files(options: dict[str, Any], part: str, names: Sequence[str]) -> list[Path | None]:
    """Take `--<part>-<name>` out of `options`, where masters that join may be told of them: they start elsewhere.
    Raises ValueError where there is no such file.
    """
    given = {f"--{part}-{name}": options.pop(f"{part}_{name}") for name in names}
    for option, file in given.items():
        if file is not None and not file.is_file():
            raise ValueError(f"{option}: there is no file {file} on this machine")
    return [file and file.absolute() for file in given.values()]


def _as_joined(joined: Membership, options: dict[str, Any]) -> dict[str, Any]:
    """The options of `run`, where the user gave none, as they were when this master joined. Raises ValueError."""
    import msgspec

    context = click.get_current_context()
    kept: dict[str, Any] = {
        **joined.settings,
        **msgspec.structs.asdict(joined.info),
        "address": joined.info.host,
        "tls_san": joined.tls_san,
    }
    given = {name for name in options if context.get_parameter_source(name) is not ParameterSource.DEFAULT}
    if "kept_in" in given and options["kept_in"] != kept.get("kept_in"):
        kept = {name: value for name, value in kept.items() if not name.startswith("etcd_")}
    if "name" in given and options["name"] != joined.info.name:
        raise ValueError(f"this directory is the master {joined.info.name}'s, which cannot become {options['name']}")
    typed = {parameter.name: parameter for parameter in context.command.params}
    return {
        name: value if name in given or name not in kept else typed[name].type_cast_value(context, kept[name])
        for name, value in options.items()
    }


def _found(settings: MasterSettings, profile: Path | None) -> None:
    """On the first start, do what `init` does; a profile that cannot be written does not keep the master down."""
    from barque.client.clock import SystemClock
    from barque.client.kubeconfig import KubeconfigError
    from barque.client.profile import ProfileError, default_path
    from barque.master import foundation

    data_dir, address = settings.data_dir, settings.address
    if foundation.is_laid(data_dir):
        return
    site = foundation.Site(data_dir, settings.name, [address, *settings.tls_san])
    pki = foundation.lay(site, SystemClock().wall())
    path = profile or (default_path() if data_dir == DATA_DIR else None)
    if path is None:
        return
    try:
        foundation.write_profile(path, site, pki, [f"{address}:{settings.grpc_port}"], settings.https_port)
    except (ProfileError, KubeconfigError, OSError) as error:
        logging.getLogger(__name__).warning("no profile is written: %s", error)


def _own_address() -> str:
    import asyncio

    from barque.client.address import own_address

    return asyncio.run(own_address())
