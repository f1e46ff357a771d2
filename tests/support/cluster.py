"""Questions and blows to a cluster on a test's host, by the commands a user types."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.expecting import expect_soon
from tests.support.host import Host

ROOT = Path(__file__).resolve().parents[2]
WEB = (ROOT / "deploy" / "manifests" / "web.yaml").read_text()


def traces(host: Host) -> dict[str, str]:
    """Rules, links, mounts and daemons of the host, without what counts or varies by itself."""
    rules = [line for line in host.run("iptables-save").stdout.splitlines() if not line.startswith(("#", ":"))]
    # One is Docker's own: made for the first container in the host's network, kept for as long as Docker runs. Those
    # below the folder for temporary files are of other tests: a host begins with the machine's mounts, and the kernel
    # takes them away as the machine removes their folders.
    mounts = [
        target
        for target in host.run("findmnt", "-rno", "TARGET").stdout.splitlines()
        if target != "/run/docker/netns/default" and not target.startswith(f"{tempfile.gettempdir()}/")
    ]
    processes = host.run("ps", "-eo", "args").stdout
    watched = ("barque", "dockerd", "containerd", "nats-server", "httpd")
    return {
        "rules": "\n".join(rules),
        # Without the state of the carrier, which follows a moment later.
        "links": "\n".join(f"{name} {address}" for name, _, address, *_ in _rows(host, "ip", "-br", "link")),
        "routes": "\n".join(" ".join(w for w in words if w != "linkdown") for words in _rows(host, "ip", "route")),
        "mounts": "\n".join(mounts),
        "processes": "\n".join(
            line for line in processes.splitlines() if any(word in line for word in watched) and "host" not in line
        ),
        "forwarding": host.run("sysctl", "-n", "net.ipv4.ip_forward").stdout,
    }


def expect_traces(host: Host, before: dict[str, str]) -> None:
    """What was ended may take a moment to go: nothing but what was there `before` is left of the host's traces."""

    def same() -> bool:
        found = traces(host)
        other = {part: (was, found[part]) for part, was in before.items() if found[part] != was}
        assert not other, other
        return True

    expect_soon(same, 30, "the host is as it was before", pause_s=0.2)


def _rows(host: Host, *command: str) -> list[list[str]]:
    """The words of each line that a command prints in the host."""
    return [line.split() for line in host.run(*command).stdout.splitlines()]


def objects(host: Host, *arguments: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads(host.barque("get", *arguments, "-o", "json"))["items"]
    return items


def one(host: Host, kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(host.barque("get", kind, name, "-o", "json"))
    return found


def condition(obj: dict[str, Any], kind: str) -> str:
    return next((c["status"] for c in obj["status"].get("conditions", ()) if c["type"] == kind), "")


def ready(host: Host, pod: str) -> bool:
    return condition(one(host, "pod", pod), "Ready") == "True"


def restarts(host: Host, pod: str) -> int:
    return sum(status["restartCount"] for status in one(host, "pod", pod)["status"]["containerStatuses"])


def pod_names(host: Host) -> list[str]:
    return sorted(pod["metadata"]["name"] for pod in objects(host, "pods", "-l", "app=web"))


def cluster_ip(host: Host) -> str:
    address: str = one(host, "service", "web")["spec"]["clusterIP"]
    return address


def fetch(host: Host, url: str, times: int = 1) -> list[str]:
    """Pages fetched by the host itself, one connection each; a failed one fails the call."""
    once = f"print(urllib.request.urlopen('{url}', timeout=10).read().decode().strip())"
    program = f"import urllib.request\nfor _ in range({times}): {once}"
    return host.run(sys.executable, "-c", program).stdout.splitlines()


def running_container(host: Host, pod: str) -> str:
    return host.run(
        "docker",
        "ps",
        "-q",
        "--filter",
        f"label=barque.io/pod-name={pod}",
        "--filter",
        "label=barque.io/role=container",
    ).stdout.strip()


def container_ids(host: Host) -> set[str]:
    """Containers of the web pods."""
    ids: set[str] = set()
    for pod in pod_names(host):
        ids |= set(host.run("docker", "ps", "-q", "--filter", f"label=barque.io/pod-name={pod}").stdout.split())
    return ids


def pid_of(host: Host, daemon: str) -> int:
    return int(host.run("cat", f"/run/barque/{daemon}.pid").stdout.split()[0])


def kill(host: Host, daemon: str) -> None:
    pid = pid_of(host, daemon)
    host.kill(pid)
    gone: Callable[[], bool] = lambda: host.run("/bin/kill", "-0", str(pid), check=False).returncode != 0  # noqa: E731
    expect_soon(gone, 60, f"the {daemon} is dead")


def write_maps(host: Host, prefix: str, count: int) -> list[str]:
    """Create ConfigMaps in one apply; the names that were acknowledged."""
    documents = "".join(
        f"---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {prefix}-{n}}}\ndata: {{n: '{n}'}}\n"
        for n in range(count)
    )
    shown = host.barque("apply", "-f", "-", stdin=documents)
    return [line.split()[0].removeprefix("configmap/") for line in shown.splitlines() if line.endswith("created")]
