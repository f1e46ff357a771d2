"""Docker for a cluster on this machine: use the one that runs, else start one.

Where systemd rules, its docker.service is started and left alone afterwards. Elsewhere `up` starts a dockerd of its own
with neither bridge nor iptables rules (pods have a network of their own), so that `down` can end it without a trace,
and with live-restore, so that containers outlive it. Either way it gets to know the worker's OCI runtime.
"""

from __future__ import annotations

import http.client
import shutil
import socket
import subprocess
import time
from pathlib import Path

from barque.deploy import processes
from barque.worker.runtime import registration
from barque.worker.runtime.sandboxes import RUNTIME, script_in

DEFAULT_HOST = "unix:///var/run/docker.sock"
_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 60.0


class DockerError(Exception):
    """Docker is not to be had; the message says what to do."""


def socket_path(docker_host: str) -> Path:
    """The socket of `unix:///path`. Raises `DockerError` for any other kind of address."""
    if not docker_host.startswith("unix://"):
        raise DockerError(f"--docker-host {docker_host}: a worker needs its own machine's Docker, as unix:///path")
    return Path(docker_host.removeprefix("unix://"))


def answers(docker_host: str, timeout_s: float = 2.0) -> bool:
    """Whether a Docker daemon answers there."""
    connection = http.client.HTTPConnection("docker", timeout=timeout_s)
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.sock.settimeout(timeout_s)
    try:
        connection.sock.connect(str(socket_path(docker_host)))
        connection.request("GET", "/_ping")
        with connection.getresponse() as answer:
            answer.read()
        return answer.status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def ensure(docker_host: str, run_dir: Path, data_root: Path, log: Path, sandboxes: Path) -> bool:
    """Make sure Docker answers at `docker_host`; True where this call started a dockerd of its own, which then knows
    the OCI runtime of the worker's `sandboxes`.
    """
    # One that is there but slow to answer is not to be joined by another.
    if answers(docker_host, _START_TIMEOUT_S):
        return False
    if docker_host == DEFAULT_HOST and Path("/run/systemd/system").is_dir():
        done = subprocess.run(["systemctl", "start", "docker"], capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0:
            raise DockerError(f"Docker does not start: {done.stderr.strip()}; see `journalctl -u docker`")
        _wait(docker_host, log)
        return False
    if shutil.which("dockerd") is None:
        raise DockerError("no Docker on this machine: apt-get install docker.io, then run this again")
    # Beside runtimes of a daemon.json dockerd takes none on its command line.
    more = ["--live-restore"] if registration.names_runtimes() else for_worker(sandboxes)
    process = processes.start([*command(docker_host, run_dir, data_root), *more], run_dir / "dockerd.pid", log)
    _wait(docker_host, log, process)
    return True


def stop(run_dir: Path) -> bool:
    """End the dockerd that `ensure` started, with the mounts and sockets it leaves; False where it started none."""
    if not processes.stop(run_dir / "dockerd.pid", _STOP_TIMEOUT_S):
        return False
    exec_root = run_dir / "docker"
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        mount_point = line.split()[4]
        if mount_point.startswith(f"{exec_root}/"):
            subprocess.run(["umount", mount_point], check=False, timeout=_STOP_TIMEOUT_S)
    shutil.rmtree(exec_root, ignore_errors=True)
    return True


def command(docker_host: str, run_dir: Path, data_root: Path) -> list[str]:
    """A dockerd with neither bridge nor rules, whose sockets, mounts and pid file are under `run_dir`."""
    return [
        "dockerd",
        f"--host={docker_host}",
        f"--data-root={data_root}",
        f"--exec-root={run_dir / 'docker'}",
        f"--pidfile={run_dir / 'docker.pid'}",
        "--bridge=none",
        "--iptables=false",
        "--ip6tables=false",
        "--ip-forward=false",
        "--ip-masq=false",
        "--log-level=warn",
    ]


def for_worker(sandboxes: Path) -> list[str]:
    """More for the dockerd of a worker: containers outlive it, and it knows the OCI runtime of the sandboxes."""
    return ["--live-restore", f"--add-runtime={RUNTIME}={script_in(sandboxes)}"]


def _wait(docker_host: str, log: Path, process: subprocess.Popen[bytes] | None = None) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not answers(docker_host):
        if process is not None and process.poll() is not None:
            raise DockerError(f"dockerd ended at once ({log}):\n{processes.last_lines(log)}")
        if time.monotonic() > deadline:
            raise DockerError(f"Docker did not answer at {docker_host} within {_START_TIMEOUT_S:.0f} s; see {log}")
        time.sleep(0.05)
