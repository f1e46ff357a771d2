"""Hosts as namespaces: made, entered, halted and ended. What is decided is decided elsewhere.

A host is the first process of fresh network, mount, pid, UTS and IPC namespaces. When it ends, however it ends, the
kernel ends every process in it, and with them go its mounts, links and rules. Its disk is a folder of the machine,
`/run/host` inside: `/var/lib/docker`, `/var/lib/barque`, `/var/log/barque` and `$HOME` lie on it, `/run` is its own,
and what it writes to the rest of `/etc` and `/var` goes there too (overlayfs), so the machine is left as it was.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from barque.deploy import processes
from barque.deploy.lab.plan import LabError
from barque.deploy.processes import Daemon

HOME = "/run/host/home"
_CGROUPS = Path("/sys/fs/cgroup")
_BOOT_TIMEOUT_S = 60.0
_COMMAND_TIMEOUT_S = 60.0
_END_TIMEOUT_S = 30.0
_POLL_S = 0.02
# Made beforehand: overlayfs wants its folders to be there.
_FOLDERS = ("etc", "var", "overlay/etc", "overlay/var", "docker", "barque", "log", "home")
# The machine's ways to other networks are none of the host's.
_MACHINE_ONLY = ("BARQUE_CONFIG", "BARQUE_LAB", "DOCKER_HOST", "KUBECONFIG", "http_proxy", "https_proxy", "no_proxy")

# The host's first process.
_BOOT = Path(__file__).with_name("boot.sh")


def missing() -> str:
    """What keeps this machine from having hosts; "" where nothing does."""
    if os.geteuid() != 0:
        return "hosts are network namespaces, which only root may make: run it with sudo"
    packages = {"unshare": "util-linux", "ip": "iproute2", "ebtables-nft-restore": "iptables", "dockerd": "docker.io"}
    absent = [package for tool, package in packages.items() if shutil.which(tool, path=_path()) is None]
    return f"this machine lacks programs: apt-get install {' '.join(absent)}" if absent else ""


def lay_disk(folder: Path, name: str, hosts_file: str) -> None:
    """Make a host's disk, or what is missing of it, and what is new at every boot."""
    for part in _FOLDERS:
        (folder / part).mkdir(mode=0o755, parents=True, exist_ok=True)
    (folder / "hostname").write_text(f"{name}\n")
    (folder / "hosts").write_text(hosts_file)
    (folder / "resolv.conf").write_text("# The lab asks no name servers outside.\n")
    (folder / "boot-id").write_text(f"{uuid.uuid4()}\n")
    if not (folder / "machine-id").exists():
        (folder / "machine-id").write_text(f"{uuid.uuid4().hex}\n")


def boot(folder: Path, remember: Callable[[Daemon], None], prefix: Sequence[str] = ()) -> Daemon:
    """Start a host on a disk that is laid; `remember` is told its first process before that begins.

    `prefix` stands before the command that holds the namespaces. Raises `LabError`.
    """
    holder = subprocess.Popen(
        [*prefix, "unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc",
         "/bin/sh", str(_BOOT), str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, text=True,
    )  # fmt: skip
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stderr is not None
    try:
        first = _first_process(holder)
        remember(first)
        holder.stdin.write("begin\n")
        holder.stdin.flush()
        readable, _, _ = select.select([holder.stdout], [], [], _BOOT_TIMEOUT_S)
        if not readable or holder.stdout.readline() != "ready\n":
            holder.kill()
            raise LabError(f"the host {folder.name} cannot be set up: {holder.communicate(timeout=10)[1].strip()}")
    finally:
        for stream in (holder.stdin, holder.stdout, holder.stderr):
            with suppress(OSError, ValueError):
                stream.close()
    return first


def _first_process(holder: subprocess.Popen[str]) -> Daemon:
    """The host's first process: the one child of the process that holds the namespaces."""
    children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children")
    deadline = time.monotonic() + _BOOT_TIMEOUT_S
    while time.monotonic() < deadline:
        found = children.read_text().split() if holder.poll() is None else []
        if found:
            pid = int(found[0])
            return Daemon(pid, processes.start_ticks(pid) or 0)
        if holder.poll() is not None:
            raise LabError(f"this machine makes no namespaces: {holder.communicate(timeout=10)[1].strip()}")
        time.sleep(_POLL_S)
    holder.kill()
    raise LabError(f"a host did not begin within {_BOOT_TIMEOUT_S:.0f} s")


def inside(pid: int, command: Sequence[str]) -> list[str]:
    """The command, in the host of this first process."""
    return ["nsenter", "-t", str(pid), "-m", "-u", "-i", "-n", "-p", "--", *command]


def in_folder(folder: str, command: Sequence[str]) -> list[str]:
    """The command, to be run in that folder where there is one."""
    return ["/bin/sh", "-c", 'cd "$0" 2>/dev/null; exec "$@"', folder, *command]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """What commands find in a host: its own home, this installation's `barque` first in the path."""
    kept = {name: value for name, value in os.environ.items() if name not in _MACHINE_ONLY}
    kept = {name: value for name, value in kept.items() if name.lower() not in _MACHINE_ONLY}
    return {**kept, "HOME": HOME, "PATH": _path(), **(extra or {})}


def _path() -> str:
    return f"{Path(sys.executable).parent}:{os.environ.get('PATH', '/usr/bin:/bin')}:/usr/sbin:/sbin"


def launch(pid: int, daemon: str, argv: Sequence[str], descriptors: Sequence[int] = ()) -> None:
    """Start a daemon in the host, with these files open; its pid file and log are the host's own. Raises `LabError`."""
    command = processes.detached(argv, f"/run/barque/{daemon}.pid", f"/var/log/barque/{daemon}.log")
    _run(inside(pid, command), env=environment(), descriptors=descriptors)


def run(pid: int, argv: Sequence[str]) -> str:
    """Run a command in the host to its end; its standard output. Raises `LabError`."""
    return _run(inside(pid, argv), env=environment())


def run_ip(pid: int, batch: str) -> None:
    """Have `ip` carry a batch out in the network of this process; pids in it are the machine's. Raises `LabError`."""
    if batch:
        _run(["nsenter", "-t", str(pid), "-n", "--", "ip", "-batch", "-"], batch)


def run_filter(pid: int, rules: str) -> None:
    """Replace the rules between the ports of the switch. Raises `LabError`."""
    _run(["nsenter", "-t", str(pid), "-n", "--", "ebtables-nft-restore"], rules)


def ports(pid: int) -> set[str]:
    """The links that are there in the network of this process."""
    text = _run(["nsenter", "-t", str(pid), "-n", "--", "ip", "-o", "link", "show", "type", "veth"])
    return {line.split()[1].partition("@")[0].rstrip(":") for line in text.splitlines()}


def pause(pid: int) -> None:
    """Halt every process of the host but its first, containers included, at one moment. Raises `LabError`."""
    _signal_all(pid, "STOP")


def resume(pid: int) -> None:
    """Let the host go on. Raises `LabError`."""
    _open_doors(pid)
    _signal_all(pid, "CONT")


def _signal_all(pid: int, name: str) -> None:
    _run(["nsenter", "-t", str(pid), "-p", "--", "/bin/sh", "-c", f"kill -{name} -1"])


def _open_doors(pid: int) -> None:
    """Wake the `nsenter`s that led commands into the host: each halts itself when its command is halted, and would keep
    the host from ending by not noticing its command's end.
    """
    parents = {each: found for each in _pids() if (found := _parent_and_namespace(each))}
    own = parents.get(pid, (0, ""))[1]
    for each, (parent, namespace) in parents.items():
        if each != pid and namespace == own and parents.get(parent, (0, own))[1] != own:
            with suppress(ProcessLookupError):
                os.kill(parent, signal.SIGCONT)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _parent_and_namespace(pid: int) -> tuple[int, str] | None:
    """A process's parent and pid namespace; None where it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(stat[1]), os.readlink(f"/proc/{pid}/ns/pid")
    except (OSError, IndexError):
        return None


def daemons(folder: Path, pid: int, names: Iterable[str]) -> dict[str, bool]:
    """Which of its daemons run, by the pid files in the host."""
    root = Path(f"/proc/{pid}/root")
    found = {}
    for name in names:
        try:
            own, ticks = (root / f"run/barque/{name}.pid").read_text().split()
            stat = (root / f"proc/{own}/stat").read_text().rpartition(")")[2].split()
            found[name] = stat[0] not in ("Z", "X") and stat[19] == ticks
        except (OSError, ValueError, IndexError):
            found[name] = False
    return found


def docker_host(pid: int) -> str:
    """The host's Docker, as the machine reaches it."""
    return f"unix:///proc/{pid}/root/run/docker.sock"


def cut_power(process: Daemon) -> None:
    """End everything in the host at once; returns when it is gone. Raises `LabError`."""
    if process.alive():
        _open_doors(process.pid)
    processes.kill(process)
    if not processes.wait_gone(process, _END_TIMEOUT_S):
        raise LabError(f"process {process.pid} does not end within {_END_TIMEOUT_S:.0f} s")


def remove_cgroups(parent: str) -> None:
    """Remove what containers that are no more have left under the cgroup `parent`, in every hierarchy; the last
    processes leave theirs a moment after they ended. Raises `LabError`.
    """
    name = parent.strip("/")
    deadline = time.monotonic() + _END_TIMEOUT_S
    while True:
        roots = [root for root in (_CGROUPS / name, *_CGROUPS.glob(f"*/{name}")) if root.is_dir()]
        for root in roots:
            for path, _, _ in os.walk(root, topdown=False):
                with suppress(OSError):
                    os.rmdir(path)
        if not any(root.exists() for root in roots):
            break
        if time.monotonic() > deadline:
            raise LabError(f"the cgroup {roots[0]} is still in use")
        time.sleep(_POLL_S)


def _run(
    command: Sequence[str], stdin: str = "", env: Mapping[str, str] | None = None, descriptors: Sequence[int] = ()
) -> str:
    try:
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, env=env, check=False,
            pass_fds=descriptors,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise LabError(f"`{' '.join(command)}` did not end within {_COMMAND_TIMEOUT_S:.0f} s") from error
    if done.returncode != 0:
        raise LabError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
    return done.stdout
