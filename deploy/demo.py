"""The first voyage (`make demo`): a cluster comes up, a manifest goes in, containers run, heal, roll over and answer.

Every step is a command that a person could type, printed before it runs. The cluster stays up afterwards.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click
import docker

from barque.cli.output import styled
from barque.deploy import images
from barque.deploy.dockerd import DEFAULT_HOST
from barque.worker import labels

MANIFEST = Path(os.path.relpath(Path(__file__).parent / "manifests" / "web.yaml"))
_STEP_TIMEOUT_S = 60.0

T = TypeVar("T")


class DemoError(Exception):
    """A step failed; the message says which and what it printed."""


def main() -> None:
    """Run every step; exit 1 with one line at the first that fails."""
    try:
        sail()
    except (DemoError, FileNotFoundError) as error:
        click.echo(f"{styled('The demo stopped:', sys.stderr, fg='red')} {error}", err=True)
        sys.exit(1)


def sail() -> None:
    """The whole demo, in order."""
    _say("Bring a cluster up on this machine")
    _barque("up", echo=True)
    _barque("get", "nodes", echo=True)

    _say("Build two versions of a small web server from local files (no registry is asked)")
    for version in ("1", "2"):
        click.echo(f"  built {images.build_web(DEFAULT_HOST, version)}")

    _say("Apply a Deployment of three replicas and a Service, written for Kubernetes")
    _barque("apply", "-f", str(MANIFEST), echo=True)
    _barque("rollout", "status", "deployment/web", "--timeout", "60s", echo=True)
    _barque("get", "pods", "-o", "wide", echo=True)
    _barque("get", "services", echo=True)

    _say("Fetch the page through the service's address, from this host and from a pod")
    address = _barque("get", "service", "web", "-o", "yaml")
    cluster_ip = next(line.split()[1] for line in address.splitlines() if line.strip().startswith("clusterIP:"))
    _echo(f"curl http://{cluster_ip}/")
    click.echo(f"  {_eventually(lambda: _fetch(f'http://{cluster_ip}/'), 'the service answers')}")
    pod = _pods()[0]
    _barque("exec", pod, "--", "wget", "-q", "-O-", f"http://{cluster_ip}/", echo=True)

    _say(f"Kill the container of {pod} and see it healed")
    _kill_container(pod)
    _eventually(lambda: _restarts(pod) > 0, f"{pod} runs again")
    _barque("get", "pods", echo=True)

    _say("Roll to version 2")
    _echo(f"sed s/web:1/web:2/ {MANIFEST} | barque apply -f -")
    click.echo(_barque("apply", "-f", "-", stdin=MANIFEST.read_text().replace("web:1", "web:2")), nl=False)
    _barque("rollout", "status", "deployment/web", "--timeout", "60s", echo=True)
    page = _eventually(lambda: _version_two(f"http://{cluster_ip}/"), "every answer is of version 2")
    click.echo(f"  {page}")

    _say("The cluster is still running. Some commands to try")
    for command in (
        "barque get all",
        "barque describe deployment web",
        "barque logs -f deployment/web",
        f"barque exec -it {_pods()[0]} -- sh",
        "barque scale deployment web --replicas 5",
        "barque get pods -w",
        "barque down --purge",
    ):
        click.echo(f"  {Path('.venv', 'bin', command)}")


def _say(what: str) -> None:
    click.echo(f"\n{styled('⛵ ' + what, sys.stdout, bold=True)}")


def _echo(command: str) -> None:
    click.echo(styled(f"$ {command}", sys.stdout, fg="cyan"))


def _barque(*arguments: str, stdin: str | None = None, echo: bool = False) -> str:
    """Run the command; its output, shown as it comes when `echo`. Raises `DemoError` where it fails."""
    if echo:
        _echo(" ".join(("barque", *arguments)))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "barque.cli", *arguments],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        stdout=None if echo else subprocess.PIPE,
        text=True,
        timeout=180,
        check=False,
    )
    if done.returncode != 0:
        raise DemoError(f"`barque {' '.join(arguments)}` ended with {done.returncode}")
    return done.stdout or ""


def _pods() -> list[str]:
    return [line.removeprefix("pod/") for line in _barque("get", "pods", "-l", "app=web", "-o", "name").split()]


def _fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=2) as answer:
        text: str = answer.read().decode().strip()
    return text


def _version_two(url: str) -> str:
    """One answer, where ten in a row are of version 2."""
    answers = [_fetch(url) for _ in range(10)]
    return answers[0] if all("version 2" in answer for answer in answers) else ""


def _kill_container(pod: str) -> None:
    client = docker.APIClient(base_url=DEFAULT_HOST, timeout=20)
    try:
        found = client.containers(filters={"label": [f"{labels.POD_NAME}={pod}", f"{labels.CONTAINER_NAME}=web"]})
        if not found:
            raise DemoError(f"no running container of {pod}")
        _echo(f"docker kill {found[0]['Id'][:12]}")
        client.kill(found[0]["Id"])
    finally:
        client.close()


def _restarts(pod: str) -> int:
    row = _barque("get", "pod", pod, "--no-headers").split()
    return int(row[3]) if row[1] == "1/1" else 0


def _eventually(probe: Callable[[], T], what: str) -> T:
    deadline = time.monotonic() + _STEP_TIMEOUT_S
    last = ""
    while time.monotonic() < deadline:
        try:
            if found := probe():
                return found
        except (urllib.error.URLError, OSError, IndexError, ValueError) as error:
            last = f": {error}"
        time.sleep(0.2)
    raise DemoError(f"{what} did not come true within {_STEP_TIMEOUT_S:.0f} s{last}")


if __name__ == "__main__":
    main()
