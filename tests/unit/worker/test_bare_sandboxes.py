"""Sandboxes without containers: who may have one, how containers ask for it, and what the OCI runtime makes of that."""

import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from barque.worker.runtime.docker_records import create_body
from barque.worker.runtime.docker_sandboxes import entering, is_bare, suits
from barque.worker.runtime.port import ContainerSpec, Mount, RuntimeFault
from barque.worker.runtime.sandboxes import Sandboxes, sysctl_path

CONTAINER = "4f" * 32
# What Docker 20.10 asks for in host network mode; the strings are a user's and look like what is to be replaced.
NAMESPACES = [
    {"type": "mount"},
    {"type": "network", "path": "/var/run/docker/netns/default"},
    {"type": "uts"},
    {"type": "pid"},
    {"type": "ipc"},
]
TRICKS = ['X={"type":"network"}', '{"type":"uts"},{"type":"ipc"}']


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sandboxes with their script, beside a runc that writes down how it was called."""
    runc = tmp_path / "bin" / "runc"
    runc.parent.mkdir()
    runc.write_text(f'#!/bin/sh\nfor word; do echo "$word"; done > {shlex.quote(str(tmp_path))}/called\n')
    runc.chmod(0o755)
    assert Sandboxes(tmp_path / "sandboxes", lambda: 0.0).install()
    return tmp_path / "sandboxes"


def call(folder: Path, *arguments: str) -> int:
    env = {**os.environ, "PATH": f"{folder.parent}/bin:{os.environ['PATH']}"}
    return subprocess.run([folder / "oci-runtime", *arguments], env=env, check=False, timeout=60).returncode


def create(folder: Path, config: dict[str, Any]) -> int:
    bundle = folder.parent / "bundle"
    bundle.mkdir()
    (bundle / "config.json").write_text(json.dumps(config, separators=(",", ":")))
    log = str(folder.parent / "log.json")
    return call(folder, "--root", "/r", "--log", log, "create", "--bundle", str(bundle), "--pid-file", "p", CONTAINER)


def config_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder.parent / "bundle" / "config.json").read_text())
    return found


def a_sandbox(folder: Path) -> str:
    made = Sandboxes(folder, lambda: 0.0)
    sandbox = made.create(ContainerSpec("POD", "", {}))
    made.join(sandbox, CONTAINER)
    return sandbox


@pytest.mark.parametrize("with_paths", [True, False])
def test_a_noted_container_enters_and_nothing_else_is_changed(folder: Path, with_paths: bool) -> None:
    a_sandbox(folder)
    sandbox = a_sandbox_of_another_pod(folder)
    given = [n if with_paths else {"type": n["type"]} for n in NAMESPACES]
    config = {"process": {"env": TRICKS, "args": TRICKS}, "linux": {"namespaces": given}, "hostname": TRICKS[1]}
    assert create(folder, config) == 0
    home = next(folder.glob(f"ns-*/joined/{CONTAINER}")).parent.parent
    assert home.name != sandbox
    wanted = {"network": "net", "ipc": "ipc", "uts": "uts"}
    entered = [{"type": k, "path": f"{home}/{wanted[k]}"} if (k := n["type"]) in wanted else n for n in NAMESPACES]
    assert config_of(folder) == {**config, "linux": {"namespaces": entered}}
    assert (folder.parent / "called").read_text().split()[-1] == CONTAINER


def a_sandbox_of_another_pod(folder: Path) -> str:
    return Sandboxes(folder, lambda: 0.0).create(ContainerSpec("another", "", {}))


def test_a_container_that_is_not_noted_never_reaches_runc(folder: Path) -> None:
    a_sandbox_of_another_pod(folder)
    config = {"linux": {"namespaces": NAMESPACES}}
    assert create(folder, config) == 1
    assert not (folder.parent / "called").exists()
    assert json.loads((folder.parent / "log.json").read_text())["msg"] == "the container has no sandbox to enter"


@pytest.mark.parametrize("missing", ["network", "ipc", "uts"])
def test_a_configuration_that_is_not_understood_never_reaches_runc(folder: Path, missing: str) -> None:
    a_sandbox(folder)
    assert create(folder, {"linux": {"namespaces": [n for n in NAMESPACES if n["type"] != missing]}}) == 1
    assert not (folder.parent / "called").exists()


def test_all_else_is_runcs(folder: Path) -> None:
    assert call(folder, "--root", "/a b", "kill", "--all", CONTAINER, "9") == 0
    assert (folder.parent / "called").read_text().splitlines() == ["--root", "/a b", "kill", "--all", CONTAINER, "9"]


def test_a_path_that_a_shell_would_trip_over_is_not_used(tmp_path: Path) -> None:
    assert not Sandboxes(tmp_path / "a & b", lambda: 0.0).install()


def test_a_pod_of_its_own_namespaces_needs_no_container() -> None:
    spec = ContainerSpec("POD", "pause", {})
    assert suits(spec)
    for field in ("share_processes", "host_network", "host_pid", "host_ipc"):
        assert not suits(spec._replace(**{field: True}))
    assert not suits(spec._replace(sandbox="ns-1"))
    assert is_bare("ns-1")
    assert not is_bare(CONTAINER)


def test_a_container_leaves_network_and_memory_to_the_runtime() -> None:
    body = create_body(ContainerSpec("app", "web:1", {}, sandbox="ns-1", mounts=(Mount("/a", "/b"),)))
    made = entering(body, "the-pod", "/s/shm")
    host = made["HostConfig"]
    assert (host["NetworkMode"], host["IpcMode"], host["Runtime"]) == ("host", "none", "barque")
    assert (made["Hostname"], made["Image"]) == ("the-pod", "web:1")
    assert [(m["Source"], m["Target"]) for m in host["Mounts"]] == [("/a", "/b"), ("/s/shm", "/dev/shm")]
    assert body["HostConfig"]["NetworkMode"] == "container:ns-1"


def test_a_pods_own_shared_memory_comes_before_the_sandboxs() -> None:
    body = create_body(ContainerSpec("app", "web:1", {}, sandbox="ns-1", mounts=(Mount("/a", "/dev/shm"),)))
    assert [m["Source"] for m in entering(body, "p", "/s/shm")["HostConfig"]["Mounts"]] == ["/a"]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("net.ipv4.tcp_syncookies", "net/ipv4/tcp_syncookies"),
        ("net/ipv4/conf/eth0.1/arp_filter", "net/ipv4/conf/eth0.1/arp_filter"),
        ("kernel.shm_rmid_forced", "kernel/shm_rmid_forced"),
        ("fs.mqueue.msg_max", "fs/mqueue/msg_max"),
    ],
)
def test_a_pods_own_settings_have_paths(name: str, path: str) -> None:
    assert sysctl_path(name) == path


@pytest.mark.parametrize("name", ["kernel.panic", "vm.swappiness", "fs.file-max", "net/../kernel/panic", "net..x", ""])
def test_settings_of_the_host_have_none(name: str) -> None:
    with pytest.raises(RuntimeFault, match="is not in a separate kernel namespace"):
        sysctl_path(name)
