"""`Lab`: brings a lab up, hurts it, mends it, and takes it down.

In: a directory, and a `Report` for what lasts. Every method reads what is remembered there, holds the lab against other
commands while it changes it, and may be cut off at any instruction: `up` goes on from there, `down` removes the rest.
"""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from barque.client import kubeconfig
from barque.client import profile as profiles
from barque.client.joining import JoinError
from barque.client.pki import Identity, PkiError, pin_of
from barque.client.profile import Profile
from barque.deploy import dockerd, images, membership, processes
from barque.deploy.lab import host as hosts
from barque.deploy.lab import plan, state
from barque.deploy.lab.plan import LabError
from barque.deploy.lab.state import HostState, LabState
from barque.deploy.progress import Report
from barque.master import enrolment
from barque.network.namespaces import enter_namespace
from barque.worker.settings import DEFAULT_DATA_DIR

CONTEXT = "lab"
GRPC_PORT, HTTPS_PORT = 7443, 6443
IMAGE_VERSION = "1"
_ROLE_DAEMONS = {"switch": (), "master": ("master",), "worker": ("dockerd", "worker")}
_RUN = Path("/run/barque")
_START_TIMEOUT_S = 60.0
_ANSWER_TIMEOUT_S = 3.0
_POLL_S = 0.05

T = TypeVar("T")


class Lab:
    """The lab in `directory`."""

    def __init__(self, directory: Path, report: Report) -> None:
        self.directory = directory.absolute()
        self._report = report
        # Hosts start side by side and note themselves in one state.
        self._writing = threading.Lock()

    @property
    def profile(self) -> Path:
        """The administrator's profile, for whoever reaches the hosts' network; every host has a copy."""
        return self.directory / "config"

    def disk(self, host: str) -> Path:
        return self.directory / "hosts" / host

    def up(
        self, masters: int, workers: int, subnet: str = plan.DEFAULT_SUBNET, door: int = 0, https_door: int = 0
    ) -> None:
        """Bring up a lab of this shape, or whatever of it does not run. With `door` and `https_door`, its master
        answers at those ports of the machine's loopback, too. Raises `LabError`.
        """
        wanted = state.of_plan(plan.plan_hosts(masters, workers, subnet))
        self._check_machine()
        with state.held(self.directory):
            lab = state.load(self.directory) or wanted
            if [host.plan for host in lab.hosts] != [host.plan for host in wanted.hosts]:
                raise LabError(
                    f"another lab is in {self.directory}, of {_shape(lab)}: `barque lab down` first, "
                    "or choose another directory with --dir"
                )
            lab.door, lab.https_door = door or lab.door, https_door or lab.https_door
            self._save(lab)
            self._start(lab, lab.hosts)

    def start(self, names: Sequence[str]) -> None:
        """Bring hosts that are off back, and daemons of theirs that ended. Raises `LabError`."""
        self._check_machine()
        with self._changing() as lab:
            wanted = [lab.host(name) for name in names]
            self._start(lab, [lab.switch, *wanted])

    def down(self, *, keep: bool) -> bool:
        """End every host and remove the lab, or with `keep` leave its disks for the next `up`; False where there is
        none. Raises `LabError`.
        """
        if not self.directory.exists():
            return False
        self._check_machine()
        with state.held(self.directory):
            lab = state.load(self.directory)
            if lab is None and any(path.name not in state.UNREMEMBERED for path in self.directory.iterdir()):
                raise LabError(f"{self.directory} is no lab's directory: it is left as it is")
            if lab is not None:
                self._end(lab, lab.hosts)
                hosts.remove_cgroups(cgroup_parent(self.directory))
            if not keep or lab is None:
                shutil.rmtree(self.directory)
        return lab is not None

    def kill(self, names: Sequence[str]) -> None:
        """Cut hosts' power: all their processes end at once, their links go down. Raises `LabError`."""
        with self._changing() as lab:
            ended = [lab.host(name) for name in names]
            self._end(lab, ended)
            for host in ended:
                hosts.remove_cgroups(f"{cgroup_parent(self.directory)}/{host.name}")

    def pause(self, names: Sequence[str]) -> None:
        """Halt every process of the hosts; their links stay up, and nobody answers. Raises `LabError`."""
        with self._changing() as lab:
            for host in [lab.running(name) for name in names]:
                hosts.pause(host.pid)
                host.paused = True

    def resume(self, names: Sequence[str]) -> None:
        """Let paused hosts go on. Raises `LabError`."""
        with self._changing() as lab:
            for host in [lab.running(name) for name in names]:
                hosts.resume(host.pid)
                host.paused = False

    def cut(self, first: str, second: str = "") -> None:
        """Let nothing pass between two hosts, or between one and all others. Raises `LabError`."""
        with self._changing() as lab:
            _check_pair(lab, first, second)
            made = plan.normal_cut(first, second)
            if made not in lab.cuts:
                lab.cuts.append(made)
            self._lay_links(lab)

    def heal(self, first: str = "", second: str = "") -> None:
        """Mend the cut between two hosts, all cuts of one, or all. Raises `LabError`."""
        with self._changing() as lab:
            _check_pair(lab, first, second)
            lab.cuts = plan.heal(lab.cuts, first, second)
            self._lay_links(lab)

    def status(self) -> str:
        """A table of the hosts. Raises `LabError`."""
        lab = state.read(self.directory)
        self._check_machine()
        said = self._words(lab)
        rows = [["HOST", "ROLE", "ADDRESS", "STATE", "LINK", "DAEMONS", "CLUSTER"]]
        for host in lab.hosts[1:]:
            running = hosts.daemons(self.disk(host.name), host.pid, _ROLE_DAEMONS[host.role]) if host.alive else {}
            words = [name if runs else f"{name} ended" for name, runs in running.items()]
            link = plan.link_words(host.name, lab.cuts) if host.alive else "down"
            rows.append(
                [host.name, host.role, host.address, _state(host), link, ", ".join(words) or "-",
                 said.get(host.name, "-")]
            )  # fmt: skip
        return plan.render_table(rows)

    def _check_machine(self) -> None:
        if why := hosts.missing():
            raise LabError(why)

    @contextmanager
    def _changing(self) -> Iterator[LabState]:
        self._check_machine()
        state.read(self.directory)
        with state.held(self.directory):
            lab = state.read(self.directory)
            try:
                yield lab
            finally:
                self._save(lab)

    def _save(self, lab: LabState) -> None:
        with self._writing:
            state.save(self.directory, lab)

    # -- up ---------------------------------------------------------------------------------------------------------

    def _start(self, lab: LabState, wanted: Sequence[HostState]) -> None:
        report, workers = self._report, [host for host in wanted if host.role == "worker"]
        report.begin("hosts")
        off = [host for host in wanted if not host.alive]
        with ThreadPoolExecutor(max(len(off), 1)) as pool:
            # Each is in the state before it begins, so a later `down` finds it, whatever happens here.
            _all(pool, lambda host: self._boot(lab, host), off)
            self._cable(lab)
            report.done(f"{len(wanted) - 1} hosts on one bridge" if lab.switch in off else "hosts")
            docker = [pool.submit(self._start_docker, host) for host in workers]
            admin = self._bring_masters(lab, [host for host in wanted if host.role == "master"])
            report.begin("Docker on every worker")
            for each in docker:
                each.result()
            if docker:
                report.done("Docker answers")
            self._bring_workers(lab, workers, admin, pool)

    def _bring_masters(self, lab: LabState, wanted: Sequence[HostState]) -> Profile | None:
        """Start masters, and have those join that have not yet; the administrator's profile once the masters serve.
        None where they cannot, as too few of them run and see each other, or nothing reaches them.
        """
        masters = lab.of_role("master")
        members = [host for host in wanted if host is masters[0] or _has_joined(self._master_data(host))]
        for host in members:
            self._launch(host)
        reached = [host for host in masters if _in_sight(lab, host)]
        if not reached:
            return None
        self._report.begin("masters" if len(masters) > 1 else "master")
        for host in [host for host in reached if host in members] or reached[:1]:
            self._await_master(host)
        admin = self._write_profile(lab)
        joined = [host for host in masters if host is masters[0] or _has_joined(self._master_data(host))]
        if not self._serve(lab, joined):
            self._report.done(f"running without a majority: {', '.join(host.name for host in reached)}")
            return None
        leader = self._await_votes(lab, admin, [host for host in members if host in reached])
        self._open_door(lab, "door", lab.door, f"{reached[0].address}:{GRPC_PORT}")
        self._open_door(lab, "https-door", lab.https_door, f"{reached[0].address}:{HTTPS_PORT}")
        for host in wanted:
            if host not in members:
                self._report.begin(f"{host.name} joins")
                self._join(lab, host, admin)
                leader = self._await_votes(lab, admin, [host])
        if len(masters) == 1:
            self._report.done(f"master answers on {admin.masters[0]}")
        else:
            self._report.done(f"masters serve: {', '.join(host.name for host in reached)}; {leader} leads")
        return admin

    def _serve(self, lab: LabState, joined: Sequence[HostState]) -> bool:
        """Whether enough of these masters run and see each other."""
        running = [host.name for host in joined if host.alive and not host.paused]
        return plan.majority(lab.cuts, [host.name for host in joined], running)

    def _join(self, lab: LabState, host: HostState, admin: Profile) -> None:
        """Make a host's master a member of the group, and start it."""
        through = next(other for other in lab.of_role("master") if other is not host and _in_sight(lab, other))
        with _in_network_of(lab.switch):
            token = self._members(membership.token_for_master(admin))
        pin = pin_of(admin.identity.ca_pem)
        hosts.run(host.pid, ["barque", "master", "join", through.address, "--token", token, "--ca-pin", pin])
        self._hand_profile(host)
        self._launch(host)
        self._await_master(host)

    def _await_votes(self, lab: LabState, admin: Profile, voting: Sequence[HostState]) -> str:
        """Wait until a master leads and all of these vote; the leader's name."""
        faults = [self._fault(host, "master") for host in voting]
        names = [host.name for host in voting]
        with _in_network_of(lab.switch):
            return self._members(
                membership.wait_masters(
                    admin, names, _START_TIMEOUT_S, lambda: next((said for fault in faults if (said := fault())), "")
                )
            )

    def _master_data(self, host: HostState) -> Path:
        return self.disk(host.name) / "barque" / "master"

    def _bring_workers(
        self, lab: LabState, workers: Sequence[HostState], admin: Profile | None, pool: ThreadPoolExecutor
    ) -> None:
        """Start the workers, and wait for those that a master can see."""
        if not workers:
            return
        masters = [host for host in lab.of_role("master") if _in_sight(lab, host)]
        if admin is not None:
            self._report.begin("workers join")
            paths = {w.name: self.disk(w.name) / "barque" / "worker" / "profile.yaml" for w in workers}
            with _in_network_of(lab.switch):
                self._members(membership.enrol(admin, f"{masters[0].address}:{HTTPS_PORT}", paths))
        # Of one that runs already the masters have the newest word.
        launched = {worker.name: datetime.datetime.now(datetime.UTC) for worker in workers if self._launch(worker)}
        loading = [pool.submit(self._load_image, worker) for worker in workers]
        seen = [w for w in workers if any(plan.connected(lab.cuts, m.name, w.name) for m in masters)] if admin else []
        for worker in seen:
            assert admin is not None
            self._report.begin(f"node {worker.name}")
            with _in_network_of(lab.switch):
                fault, since = self._fault(worker), launched.get(worker.name)
                self._members(membership.wait_ready(admin, worker.name, _START_TIMEOUT_S, fault, since))
        for each in loading:
            each.result()
        unseen = [worker.name for worker in workers if worker not in seen]
        if seen:
            self._report.done(f"Ready: {', '.join(worker.name for worker in seen)}")
        if unseen:
            self._report.done(f"started, out of the masters' sight: {', '.join(unseen)}")

    def _members(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return asyncio.run(work)
        except membership.MembershipError as error:
            raise LabError(f"{error}; logs are under {self.directory / 'hosts'}/*/log") from error

    def _boot(self, lab: LabState, host: HostState) -> None:
        disk = self.disk(host.name)
        hosts.lay_disk(disk, host.name, plan.render_hosts_file(each.plan for each in lab.hosts))
        if host.role != "switch" and self.profile.exists():
            self._hand_profile(host)

        def remember(process: processes.Daemon) -> None:
            host.pid, host.started_ticks, host.paused = process.pid, process.started_ticks, False
            self._save(lab)

        hosts.boot(disk, remember)
        if host.role == "switch":
            hosts.run_ip(host.pid, plan.render_switch(host.plan))

    def _cable(self, lab: LabState) -> None:
        """Plug in every running host that has no cable yet."""
        plugged = hosts.ports(lab.switch.pid)
        loose = [host for host in lab.hosts[1:] if host.alive and host.name not in plugged]
        hosts.run_ip(lab.switch.pid, "".join(plan.render_port(host.plan, host.pid) for host in loose))
        for host in loose:
            hosts.run_ip(host.pid, plan.render_uplink(host.plan, lab.switch.plan))
        self._lay_links(lab)

    def _lay_links(self, lab: LabState) -> None:
        if lab.switch.alive:
            present = sorted(hosts.ports(lab.switch.pid))
            hosts.run_ip(lab.switch.pid, plan.render_ports(lab.cuts, present))
            hosts.run_filter(lab.switch.pid, plan.render_filter(lab.cuts))

    def _launch(self, host: HostState) -> bool:
        """Start the master or worker of a host, unless it runs; whether it was started."""
        daemon = host.role
        if hosts.daemons(self.disk(host.name), host.pid, [daemon])[daemon]:
            return False
        hosts.launch(host.pid, daemon, ["barque", daemon, "run"])
        return True

    def _start_docker(self, host: HostState) -> None:
        """Start the host's Docker, unless it runs, and wait until it answers."""
        at = hosts.docker_host(host.pid)
        if not hosts.daemons(self.disk(host.name), host.pid, ["dockerd"])["dockerd"]:
            argv = dockerd.command(dockerd.DEFAULT_HOST, _RUN, Path("/var/lib/docker"))
            argv += dockerd.for_worker(DEFAULT_DATA_DIR / "sandboxes")
            argv.append(f"--cgroup-parent={cgroup_parent(self.directory)}/{host.name}")
            hosts.launch(host.pid, "dockerd", argv)
        self._await(host, "dockerd", lambda: dockerd.answers(at))

    def _load_image(self, host: HostState) -> None:
        """Give the host the demo's image, so that pods can run without a registry."""
        at = hosts.docker_host(host.pid)
        if not images.has(at, images.web_tag(IMAGE_VERSION)):
            images.build_web(at, IMAGE_VERSION)

    def _await_master(self, master: HostState) -> None:
        """Wait until this master answers, with a quorum or without."""
        admin = self._master_data(master) / "pki" / "admin.pem"

        def answers() -> bool:
            with _in_network_of(master):
                return processes.listens("127.0.0.1", GRPC_PORT) and admin.exists()

        self._await(master, "master", answers)

    def _write_profile(self, lab: LabState) -> Profile:
        """The administrator's profile, which every host then has: it names every master there is to be."""
        masters = lab.of_role("master")
        try:
            identity = Identity.load(self._master_data(masters[0]) / "pki", "admin")
        except PkiError as error:
            raise LabError(str(error)) from error
        admin = Profile.of([f"{master.address}:{GRPC_PORT}" for master in masters], identity)
        profiles.remember(self.profile, CONTEXT, admin)
        try:
            kubeconfig.remember_beside(self.profile, CONTEXT, admin, HTTPS_PORT)
        except kubeconfig.KubeconfigError as error:
            raise LabError(str(error)) from error
        for host in lab.hosts[1:]:
            self._hand_profile(host)
        return admin

    def _open_door(self, lab: LabState, name: str, port: int, master: str) -> None:
        """Have the master's `host:port` answer at this port of the machine's loopback; 0 is none."""
        switch = lab.switch
        if not port or hosts.daemons(self.disk(switch.name), switch.pid, [name])[name]:
            return
        try:
            # It is bound in the machine's network, and stays of it wherever it is served.
            listener = socket.create_server(("127.0.0.1", port))
        except OSError as error:
            raise LabError(f"port {port} is taken ({error.strerror}): free it or choose another") from error
        with listener:
            module = [sys.executable, "-P", "-m", "barque.deploy.lab.door"]
            argv = [*module, str(listener.fileno()), *master.rsplit(":", 1)]
            hosts.launch(switch.pid, name, argv, [listener.fileno()])

    def _hand_profile(self, host: HostState) -> None:
        """A lab's host is nobody's home: kubectl finds the cluster there by itself, too."""
        home = self.disk(host.name) / "home"
        for source, target in (
            (self.profile, home / ".barque" / "config"),
            (kubeconfig.path_beside(self.profile), home / ".kube" / "config"),
        ):
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if source.exists():
                shutil.copy(source, target)

    def _await(self, host: HostState, daemon: str, answers: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not answers():
            if said := self._fault(host, daemon)():
                raise LabError(said)
            if time.monotonic() > deadline:
                log = self.disk(host.name) / "log" / f"{daemon}.log"
                raise LabError(f"the {daemon} of {host.name} does not answer after {_START_TIMEOUT_S:.0f} s; see {log}")
            time.sleep(_POLL_S)

    def _fault(self, host: HostState, daemon: str = "worker") -> Callable[[], str]:
        def fault() -> str:
            if host.alive and hosts.daemons(self.disk(host.name), host.pid, [daemon])[daemon]:
                return ""
            log = self.disk(host.name) / "log" / f"{daemon}.log"
            return f"the {daemon} of {host.name} ended ({log}):\n{processes.last_lines(log)}"

        return fault

    # -- down and status --------------------------------------------------------------------------------------------

    def _end(self, lab: LabState, ended: Sequence[HostState]) -> None:
        """The power goes first from the links, as nobody says farewell."""
        if lab.switch.alive and lab.switch not in ended:
            plugged = hosts.ports(lab.switch.pid)
            gone = [host.name for host in ended if host.name in plugged]
            hosts.run_ip(lab.switch.pid, "".join(f"link del {name}\n" for name in gone))
        running = [host for host in ended if host.alive]
        with ThreadPoolExecutor(max(len(running), 1)) as pool:
            _all(pool, lambda host: hosts.cut_power(host.process), running)
        for host in ended:
            host.pid, host.started_ticks, host.paused = 0, 0, False
        self._save(lab)

    def _words(self, lab: LabState) -> dict[str, str]:
        """What a master says of each master and node; nothing where none says it at once."""
        if not lab.switch.alive or not self.profile.exists():
            return {}
        try:
            with _in_network_of(lab.switch):
                return asyncio.run(membership.words(profiles.load(self.profile), _ANSWER_TIMEOUT_S))
        except profiles.ProfileError as error:
            raise LabError(str(error)) from error


def cgroup_parent(directory: Path) -> str:
    """Where the containers of all hosts of this lab are counted, and of no other lab."""
    return f"/barque-lab-{hashlib.sha256(str(directory).encode()).hexdigest()[:8]}"


def _has_joined(data_dir: Path) -> bool:
    """Whether this master is a member that has joined to the end."""
    try:
        return enrolment.membership(data_dir) is not None
    except JoinError:
        return False


def _in_sight(lab: LabState, host: HostState) -> bool:
    """Whether the host runs and answers whoever is at the switch."""
    return host.alive and not host.paused and plan.connected(lab.cuts, host.name, "")


def _state(host: HostState) -> str:
    return ("paused" if host.paused else "up") if host.alive else "off"


def _shape(lab: LabState) -> str:
    masters, workers = len(lab.of_role("master")), len(lab.of_role("worker"))
    return f"{masters} master{'s' * (masters != 1)} and {workers} worker{'s' * (workers != 1)}"


def _check_pair(lab: LabState, first: str, second: str) -> None:
    for name in filter(None, (first, second)):
        if lab.host(name).role == "switch":
            raise LabError("the switch is no host: name one of m1, w1, ...")
    if first and first == second:
        raise LabError(f"{first} and {second} are one host")


def _all(pool: ThreadPoolExecutor, work: Callable[[HostState], None], each: Sequence[HostState]) -> None:
    """Do it for all side by side; the first failure is raised once all have ended."""
    list(pool.map(work, each))


@contextmanager
def _in_network_of(host: HostState) -> Iterator[None]:
    """Have the calling thread, and whatever it starts meanwhile, in the network of a host."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    other = os.open(f"/proc/{host.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter_namespace(other)
        yield
    finally:
        enter_namespace(own)
        os.close(own)
        os.close(other)
