"""`barque up` and `barque down`: a cluster of one master and one worker on this machine, or a lab of several.

`up` is idempotent: what runs already is kept, what is missing is started, and it returns when the node is Ready. `down`
leaves no container, rule, link, mount or process behind; the cluster's state stays on disk for the next `up` unless
`--purge` removes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import click

from barque.client import kubeconfig
from barque.client import profile as profiles
from barque.client.pki import Identity, PkiError
from barque.client.profile import Profile
from barque.deploy import dockerd, membership, processes
from barque.deploy.lab.lab import Lab
from barque.deploy.lab.plan import LabError
from barque.deploy.progress import Report
from barque.worker.cleanup import cleanup as clean_worker
from barque.worker.runtime.registration import RegistrationError, register
from barque.worker.settings import Settings as WorkerSettings
from barque.worker.settings import WorkerError

log = logging.getLogger(__name__)

# What the cluster is called in the profile.
CONTEXT = "barque"
_START_TIMEOUT_S = 60.0
# One that is killed leaves what it has started.
_STOP_TIMEOUT_S = 30.0
# The nats-server of a master that was killed ends a moment after it.
_RELEASE_TIMEOUT_S = 2.0
_POLL_S = 0.05


class LocalError(Exception):
    """The cluster cannot be brought up or taken down; the message says what to do."""


class Place(NamedTuple):
    """Where a local cluster lives: state, run files, logs, ports and the profile the CLI reads."""

    data_dir: Path
    run_dir: Path
    log_dir: Path
    profile: Path
    docker_host: str
    node_name: str
    https_port: int
    grpc_port: int
    peer_port: int
    bus_port: int
    node_port: int

    @property
    def ports(self) -> dict[str, int]:
        return {
            "--https-port": self.https_port,
            "--grpc-port": self.grpc_port,
            "--peer-port": self.peer_port,
            "--bus-port": self.bus_port,
            "--node-port": self.node_port,
        }

    @property
    def worker(self) -> WorkerSettings:
        """As the worker's own command understands it."""
        return WorkerSettings(self.data_dir / "worker", docker_host=self.docker_host)

    @property
    def lab(self) -> Path:
        """A cluster of several nodes."""
        return self.data_dir / "lab"

    def pid_file(self, daemon: str) -> Path:
        return self.run_dir / f"{daemon}.pid"

    def log(self, daemon: str) -> Path:
        return self.log_dir / f"{daemon}.log"


def bring_up(place: Place, report: Report) -> None:
    """Start whatever of the cluster does not run; where that fails, stop what was started. Raises `LocalError`."""
    if os.geteuid() != 0:
        raise LocalError("a worker sets up networks and containers, which only root may: run `sudo barque up`")
    if place.lab.exists():
        raise LocalError(
            f"a cluster of several nodes is in {place.lab}: `barque up --nodes N`, or `barque down --purge`"
        )
    _check_ports(place)
    with contextlib.ExitStack() as undo:
        undo.callback(report.close)
        report.begin("Docker")
        own = _ensure_docker(place)
        if own:
            undo.callback(dockerd.stop, place.run_dir)
        _register_runtime(place)
        report.done("Docker started" if own else "Docker answers")
        report.begin("master")
        if _start_master(place):
            undo.callback(processes.stop, place.pid_file("master"))
        _await_master(place)
        report.done(f"master answers on 127.0.0.1:{place.grpc_port}")
        report.begin(f"node {place.node_name}")
        if not place.worker.data_dir.exists():
            undo.callback(_remove_new_worker, place)
        asyncio.run(_join_worker(place))
        since = datetime.datetime.now(datetime.UTC)
        started = _start_worker(place)
        if started:
            undo.callback(processes.stop, place.pid_file("worker"))
        asyncio.run(_wait_ready(place, since if started else None))
        report.done(f"node {place.node_name} is Ready")
        undo.pop_all()


def bring_up_nodes(place: Place, nodes: int, report: Report) -> None:
    """Bring up a lab of so many workers whose master answers on this machine's loopback. Raises `LocalError`."""
    if (place.data_dir / "master").exists():
        raise LocalError(f"a cluster of one node is in {place.data_dir}: remove it first with `barque down --purge`")
    made = Lab(place.lab, report)
    try:
        with contextlib.closing(report):
            made.up(1, nodes, door=place.grpc_port, https_door=place.https_port)
            admin = profiles.load(made.profile)
    except LabError as error:
        raise LocalError(str(error)) from error
    _remember(place, admin.identity)


def _remove_new_worker(place: Place) -> None:
    """Take back what a worker that never came up has made of this host; an older one's pods are none of ours."""
    try:
        asyncio.run(clean_worker(place.worker))
    except WorkerError as error:
        log.warning("not everything of the new worker is removed: %s", error)


def take_down(place: Place, report: Report, *, purge: bool) -> None:
    """Stop the cluster and remove its traces. Raises `LocalError`."""
    if os.geteuid() != 0:
        raise LocalError("only root can stop the cluster: run `sudo barque down`")
    with contextlib.closing(report):
        _take_down(place, report, purge=purge)


def _take_down(place: Place, report: Report, *, purge: bool) -> None:
    if place.lab.exists():
        _take_lab_down(place, report, purge=purge)
        return
    if processes.stop(place.pid_file("worker"), _STOP_TIMEOUT_S):
        report.done("worker stopped")
    if place.worker.data_dir.exists():
        report.begin("containers, pod network and service rules")
        # Docker may have ended before us; what it still keeps of the pods goes too.
        _ensure_docker(place)
        try:
            asyncio.run(clean_worker(place.worker, keep_data=not purge))
        except WorkerError as error:
            raise LocalError(str(error)) from error
        report.done("containers, pod network and service rules removed")
    if processes.stop(place.pid_file("master"), _STOP_TIMEOUT_S):
        report.done("master stopped")
    if dockerd.stop(place.run_dir):
        report.done("Docker stopped")
    if purge:
        _forget_cluster(place)
        for part in ("master", "worker"):
            shutil.rmtree(place.data_dir / part, ignore_errors=True)
        report.done(f"state under {place.data_dir} removed")


def _take_lab_down(place: Place, report: Report, *, purge: bool) -> None:
    made = Lab(place.lab, report)
    try:
        if purge:
            with contextlib.suppress(profiles.ProfileError):
                _forget(place, profiles.load(made.profile).ca)
        made.down(keep=not purge)
    except LabError as error:
        raise LocalError(str(error)) from error
    report.done("every node stopped")


def _forget_cluster(place: Place) -> None:
    """Take the cluster out of the profile; others that are in it stay."""
    with contextlib.suppress(PkiError, profiles.ProfileError):
        _forget(place, Identity.load(place.data_dir / "master" / "pki", "admin").ca_pem.decode())


def _remember(place: Place, identity: Identity) -> None:
    """Write the profile and the kubeconfig with which to speak to the master."""
    admin = Profile.of([f"127.0.0.1:{place.grpc_port}"], identity)
    profiles.remember(place.profile, CONTEXT, admin)
    try:
        kubeconfig.remember_beside(place.profile, CONTEXT, admin, place.https_port)
    except kubeconfig.KubeconfigError as error:
        log.warning("no kubeconfig is written: %s", error)


def _forget(place: Place, ca: str) -> None:
    with contextlib.suppress(kubeconfig.KubeconfigError):
        kubeconfig.forget(kubeconfig.path_beside(place.profile), ca)
    profiles.forget(place.profile, ca)


def _check_ports(place: Place) -> None:
    """Refuse taken ports before anything is started; a running daemon of ours holds its own."""
    running = {
        "--https-port": "master",
        "--grpc-port": "master",
        "--peer-port": "master",
        "--bus-port": "master",
        "--node-port": "worker",
    }
    deadline = time.monotonic() + _RELEASE_TIMEOUT_S
    for option, port in place.ports.items():
        if processes.read_pid_file(place.pid_file(running[option])) is not None:
            continue
        while fault := _port_fault(port):
            if time.monotonic() > deadline:
                raise LocalError(
                    f"port {port} is taken ({fault}): `ss -ltnp 'sport = :{port}'` shows by whom; "
                    f"free it or choose another with {option}"
                )
            time.sleep(_POLL_S)


def _port_fault(port: int) -> str:
    """Why nobody can listen on this port; "" where one can."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError as error:
            return error.strerror or str(error)
    return ""


def _ensure_docker(place: Place) -> bool:
    """True where this call started a dockerd of the cluster's own."""
    try:
        log_file, sandboxes = place.log("dockerd"), place.worker.sandboxes
        return dockerd.ensure(place.docker_host, place.run_dir, Path("/var/lib/docker"), log_file, sandboxes)
    except dockerd.DockerError as error:
        raise LocalError(str(error)) from error


def _register_runtime(place: Place) -> None:
    """Have Docker know the worker's OCI runtime; without it pods start more slowly, but they do."""
    try:
        register(place.docker_host, place.worker.sandboxes)
    except RegistrationError as error:
        log.warning("each pod will have a pause container: %s", error)


def _start_master(place: Place) -> bool:
    argv = [
        *_barque(),
        "master",
        "run",
        f"--data-dir={place.data_dir / 'master'}",
        f"--https-port={place.https_port}",
        f"--grpc-port={place.grpc_port}",
        f"--peer-port={place.peer_port}",
        f"--bus-port={place.bus_port}",
    ]
    return _start("master", argv, place)


def _await_master(place: Place) -> None:
    """Wait until the master answers, and write the profile with which to speak to it."""

    def answers() -> bool:
        try:
            identity = Identity.load(place.data_dir / "master" / "pki", "admin")
        except PkiError:
            return False  # The first start makes it.
        if not processes.listens("127.0.0.1", place.grpc_port):
            return False
        _remember(place, identity)
        return True

    _await_daemon("master", answers, place)


async def _join_worker(place: Place) -> None:
    """Give the worker its certificate, unless it has one of this very cluster."""
    try:
        await membership.enrol(
            profiles.load(place.profile),
            f"127.0.0.1:{place.https_port}",
            {place.node_name: place.worker.profile},
            masters=[f"127.0.0.1:{place.grpc_port}"],
        )
    except membership.MembershipError as error:
        raise LocalError(str(error)) from error


def _start_worker(place: Place) -> bool:
    argv = [
        *_barque(),
        "worker",
        "run",
        f"--data-dir={place.data_dir / 'worker'}",
        f"--node-name={place.node_name}",
        f"--listen=0.0.0.0:{place.node_port}",
        f"--docker-host={place.docker_host}",
    ]
    return _start("worker", argv, place)


async def _wait_ready(place: Place, since: datetime.datetime | None) -> None:
    def fault() -> str:
        if processes.read_pid_file(place.pid_file("worker")) is not None:
            return ""
        return f"the worker ended:\n{processes.last_lines(place.log('worker'))}"

    try:
        await membership.wait_ready(profiles.load(place.profile), place.node_name, _START_TIMEOUT_S, fault, since)
    except membership.MembershipError as error:
        raise LocalError(f"{error}; see {place.log('worker')}") from error


def _barque() -> list[str]:
    """This very installation's command, whatever PATH says."""
    return [sys.executable, "-P", "-m", "barque.cli"]


def _start(daemon: str, argv: list[str], place: Place) -> bool:
    """True where it did not run yet."""
    if processes.read_pid_file(place.pid_file(daemon)) is not None:
        return False
    processes.start(argv, place.pid_file(daemon), place.log(daemon))
    return True


def _await_daemon(daemon: str, answers: Callable[[], bool], place: Place) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not answers():
        if processes.read_pid_file(place.pid_file(daemon)) is None:
            raise LocalError(f"the {daemon} ended:\n{processes.last_lines(place.log(daemon))}")
        if time.monotonic() > deadline:
            raise LocalError(f"the {daemon} does not answer after {_START_TIMEOUT_S:.0f} s; see {place.log(daemon)}")
        time.sleep(_POLL_S)


def _placed(command: Callable[..., None]) -> Callable[..., None]:
    """The options `up` and `down` share."""
    options = (
        click.option("--data-dir", default="/var/lib/barque", type=click.Path(path_type=Path), show_default=True),
        click.option("--run-dir", default="/run/barque", type=click.Path(path_type=Path), show_default=True),
        click.option("--log-dir", default="/var/log/barque", type=click.Path(path_type=Path), show_default=True),
        click.option("--docker-host", default=dockerd.DEFAULT_HOST, show_default=True, help="Docker to run pods on."),
        click.option("--node-name", default=lambda: socket.gethostname().lower(), help="The worker's name [hostname]."),
        click.option("--https-port", default=6443, show_default=True, help="Master: Kubernetes' REST API, joining."),
        click.option("--grpc-port", default=7443, show_default=True, help="Master: gRPC, for barque and the workers."),
        click.option("--peer-port", default=7444, show_default=True, help="Master: other masters."),
        click.option("--bus-port", default=4222, show_default=True, help="Master: NATS, for events and usage."),
        click.option("--node-port", default=7450, show_default=True, help="Worker: logs, exec, images."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _place(options: dict[str, object]) -> Place:
    return Place(profile=profiles.default_path(), **options)  # type: ignore[arg-type]


@click.command(short_help="Bring a cluster up on this machine.")
@_placed
@click.option(
    "--nodes", default=1, type=click.IntRange(1), show_default=True, help="More than one are a lab's workers."
)
def up(nodes: int, **options: object) -> None:
    """Bring a cluster up on this machine: one master, one worker, on the Docker that runs here or one of its own.

    With --nodes it is a lab (`barque lab --help`) of so many workers, each a host of its own as to network, Docker and
    disk; `barque lab --dir /var/lib/barque/lab` hurts and mends them.

    Run it again at any time: what runs is kept, what is missing is started. It writes the profile that the other
    commands read (~/.barque/config, or where BARQUE_CONFIG says).

    \b
    Examples:
      barque up
      barque up --node-name n1 --docker-host unix:///run/docker.sock
      barque up --nodes 3
    """
    place = _place(options)
    try:
        if nodes == 1:
            bring_up(place, Report())
        else:
            bring_up_nodes(place, nodes, Report())
    except (LocalError, profiles.ProfileError) as error:
        raise click.ClickException(str(error)) from error
    click.echo("The cluster is up. Try: barque get nodes")


@click.command(short_help="Take the cluster on this machine down.")
@_placed
@click.option("--purge", is_flag=True, help="Remove the cluster's state and its profile too.")
def down(purge: bool, **options: object) -> None:
    """Take the cluster on this machine down: no container, rule, link, mount or process stays behind.

    The cluster's state stays on disk, and `barque up` brings it back as it was, unless --purge is given.

    \b
    Examples:
      barque down
      barque down --purge
    """
    try:
        take_down(_place(options), Report(), purge=purge)
    except LocalError as error:
        raise click.ClickException(str(error)) from error
    click.echo("The cluster is down." if not purge else "The cluster is gone.")
