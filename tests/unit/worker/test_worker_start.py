"""A worker that cannot start says why in one line, and ends with 1."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from barque.client.clock import SystemClock
from barque.client.pki import ADMIN, Subject, create_authority, node_subject
from barque.client.profile import Profile
from barque.network.overlay.settings import OverlaySettings
from barque.worker import daemon
from barque.worker.command import worker
from barque.worker.settings import Settings


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return tmp_path / "worker"


def joined(data_dir: Path, subject: Subject) -> None:
    now = SystemClock().wall()
    data_dir.mkdir()
    Profile.of(["127.0.0.1:1"], create_authority(now).identity(subject, now)).save(Settings(data_dir).profile)


def run(data_dir: Path, *options: str) -> Result:
    return CliRunner().invoke(worker, ["run", "--data-dir", str(data_dir), *options])


def check_refusal(result: Result, words: str) -> None:
    """One line, exit code 1, no traceback."""
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    (line,) = result.output.splitlines()
    assert line.startswith("Error: ")
    assert words in line


@pytest.mark.parametrize("size", ["much", "0", "-1Mi"])
def test_a_log_size_that_is_none_is_refused(data_dir: Path, size: str) -> None:
    refused = run(data_dir, "--container-log-max-size", size)
    assert refused.exit_code == 2
    assert "Invalid value for '--container-log-max-size'" in refused.output


@pytest.mark.parametrize(
    ("option", "value", "why"),
    [
        ("--node-ip", "host.example", "Expected 4 octets in 'host.example'"),
        ("--cluster-cidr", "10.244.1.0/16", "10.244.1.0/16 has host bits set"),
        ("--service-cidr", "10.96.0.0/33", "'33' is not a valid netmask"),
        ("--vxlan-vni", "16777216", "is not in the range"),
        ("--overlay", "ipip", "is not one of 'vxlan', 'host-gw'"),
        ("--mtu", "100", "is not in the range"),
    ],
)
def test_what_the_network_cannot_be_is_refused(data_dir: Path, option: str, value: str, why: str) -> None:
    refused = run(data_dir, option, value)
    assert (refused.exit_code, f"Invalid value for '{option}'" in refused.output) == (2, True)
    assert why in refused.output


def test_what_was_said_of_the_overlay(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Settings] = []

    async def note(settings: Settings) -> None:
        heard.append(settings)

    monkeypatch.setattr(daemon, "run", note)
    assert run(data_dir).exit_code == 0
    assert run(
        data_dir, "--overlay", "host-gw", "--interface", "eth1", "--vxlan-vni", "7", "--vxlan-port", "4789",
        "--checksum-offload", "off", "--mtu", "1400",
    ).exit_code == 0  # fmt: skip
    assert [(settings.overlay, settings.mtu) for settings in heard] == [
        (OverlaySettings(), 0),
        (OverlaySettings("host-gw", "eth1", vni=7, port=4789, checksum_offload="off"), 1400),
    ]


def test_without_root(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    check_refusal(run(data_dir), "a worker needs root, for containers and networking: run it with sudo")


def test_before_it_has_joined(data_dir: Path) -> None:
    check_refusal(run(data_dir), "this host has not joined a cluster")


def test_with_a_certificate_that_is_no_workers(data_dir: Path) -> None:
    joined(data_dir, ADMIN)
    check_refusal(run(data_dir), "is no worker's (barque-admin): run `barque worker join` first")


def test_as_another_node(data_dir: Path) -> None:
    joined(data_dir, node_subject("n1"))
    check_refusal(run(data_dir, "--node-name", "n2"), "this host joined as node n1, not n2")


def test_with_a_damaged_profile(data_dir: Path) -> None:
    joined(data_dir, node_subject("n1"))
    Settings(data_dir).profile.write_text("masters: [")
    check_refusal(run(data_dir), str(Settings(data_dir).profile))


@pytest.mark.parametrize("there", [False, True], ids=["absent", "not-a-socket"])
def test_without_docker(data_dir: Path, there: bool) -> None:
    joined(data_dir, node_subject("n1"))
    socket = data_dir / "docker.sock"
    if there:
        socket.touch()
    result = run(data_dir, "--docker-host", f"unix://{socket}")
    check_refusal(result, f"no Docker at unix://{socket}: install it (docker.io) or start it (systemctl start docker)")


def test_without_iptables(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    joined(data_dir, node_subject("n1"))

    async def prepare(_: object) -> None: ...

    monkeypatch.setattr(daemon.DockerRuntime, "prepare", prepare)
    monkeypatch.setenv("PATH", "")
    check_refusal(run(data_dir), "iptables is not installed: install the package iptables")
