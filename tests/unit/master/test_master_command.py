"""`barque master run` on a directory that joined: it is the member that it joined as, in the ranges of that cluster."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from barque.master import daemon, enrolment
from barque.master.apiserver.settings import ApiSettings
from barque.master.audit.audit import AuditSettings
from barque.master.audit.log_file import Rotation
from barque.master.auth.ca import MasterPki
from barque.master.bus.access import UserNats
from barque.master.command import master
from barque.master.daemon import MasterSettings
from barque.master.enrolment import FILE, Membership, missing_files, shared_settings
from barque.master.raft.messages import MemberInfo
from tests.support.clock import FakeClock

INFO = MemberInfo(os.urandom(8).hex(), "m2", "10.0.0.2", 17444, 17443, 16443)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[MasterSettings]:
    """The settings of every master that would have been run."""
    settings: list[MasterSettings] = []
    monkeypatch.setattr(daemon, "run_until_stopped", lambda master: settings.append(master.settings))
    return settings


@pytest.fixture
def joined(tmp_path: Path) -> Path:
    MasterPki.open(tmp_path / "pki", "m2", ["10.0.0.2"], FakeClock().wall())
    settings = shared_settings(ApiSettings(service_cidr="10.97.0.0/16", node_cidr_prefix=25, not_ready_toleration_s=30))
    assert settings == {"service_cidr": "10.97.0.0/16", "node_cidr_prefix": "25", "not_ready_toleration": "30"}
    (tmp_path / FILE).write_bytes(msgspec.json.encode(Membership("sha256:0", INFO, "lab", "c-1", settings)))
    return tmp_path


def run(data: Path, *arguments: str) -> Result:
    return CliRunner().invoke(master, ["run", "--data-dir", str(data), *arguments])


def ports(settings: MasterSettings) -> tuple[Any, ...]:
    return settings.name, settings.address, settings.peer_port, settings.grpc_port, settings.https_port


def test_it_is_who_it_joined_as(joined: Path, started: list[MasterSettings]) -> None:
    done = run(joined)
    assert done.exit_code == 0, done.output
    (settings,) = started
    assert ports(settings) == ("m2", "10.0.0.2", 17444, 17443, 16443)
    api = settings.api
    assert (api.service_cidr, api.node_cidr_prefix, api.not_ready_toleration_s) == ("10.97.0.0/16", 25, 30)
    assert (api.cluster_cidr, settings.bus_port) == ("10.244.0.0/16", 4222)


def test_what_the_user_says_counts_more(joined: Path, started: list[MasterSettings]) -> None:
    assert run(joined, "--address", "10.0.0.7", "--grpc-port", "7443", "--service-cidr", "10.98.0.0/16").exit_code == 0
    (settings,) = started
    assert ports(settings) == ("m2", "10.0.0.7", 17444, 7443, 16443)
    assert settings.api.service_cidr == "10.98.0.0/16"


def test_its_certificate_names_what_it_joined_with_unless_it_is_said_anew(
    joined: Path, started: list[MasterSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "quay-7")
    assert run(joined).exit_code == 0
    kept = enrolment.membership(joined)
    assert kept is not None
    (joined / FILE).write_bytes(msgspec.json.encode(msgspec.structs.replace(kept, tls_san=["a.lab", "b.lab"])))
    assert run(joined).exit_code == 0
    assert run(joined, "--tls-san=c.lab").exit_code == 0
    monkeypatch.setattr(socket, "gethostname", lambda: "no_name")
    assert run(joined).exit_code == 0
    names = [settings.tls_san for settings in started]
    assert names == [("quay-7",), ("quay-7", "a.lab", "b.lab"), ("quay-7", "c.lab"), ("a.lab", "b.lab")]


def test_it_cannot_become_another(joined: Path, started: list[MasterSettings]) -> None:
    refused = run(joined, "--name", "m3")
    assert (refused.exit_code, started) == (1, [])
    assert "this directory is the master m2's, which cannot become m3" in refused.output


def test_a_spoilt_file_is_named(joined: Path, started: list[MasterSettings]) -> None:
    (joined / FILE).write_bytes(b"torn")
    refused = run(joined)
    assert (refused.exit_code, started) == (1, [])
    assert f"cannot read {joined / FILE}: " in refused.output


def test_a_founder_is_what_the_options_say(tmp_path: Path, started: list[MasterSettings]) -> None:
    done = run(tmp_path, "--name", "m1", "--address", "10.0.0.1", "--peer-port", "27444")
    assert done.exit_code == 0, done.output
    assert ports(started[0]) == ("m1", "10.0.0.1", 27444, 7443, 6443)


def test_a_nats_of_the_users_is_shared_and_joined_with(tmp_path: Path, started: list[MasterSettings]) -> None:
    creds = tmp_path / "nats.creds"
    creds.touch()
    (tmp_path / "m1").mkdir()
    done = run(tmp_path / "m1", "--bus-url", "tls://a:4222,tls://b:4222", "--bus-creds", str(creds), "--bus-replicas=3")
    assert done.exit_code == 0, done.output
    nats = started[0].nats
    assert nats == UserNats(("tls://a:4222", "tls://b:4222"), creds=creds, replicas=3)

    settings = shared_settings(ApiSettings(), nats=nats)
    assert settings == {"bus_url": "tls://a:4222,tls://b:4222", "bus_replicas": "3", "bus_creds": str(creds)}
    MasterPki.open(tmp_path / "m2" / "pki", "m2", ["10.0.0.2"], FakeClock().wall())
    kept = Membership("sha256:0", INFO, "lab", "c-1", settings)
    (tmp_path / "m2" / FILE).write_bytes(msgspec.json.encode(kept))
    assert run(tmp_path / "m2").exit_code == 0
    assert started[1].nats == nats
    creds.unlink()
    assert missing_files(settings) == {"bus_creds": str(creds)}


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--bus-creds", __file__], "go with --bus-url"),
        (["--bus-url", "tls://a", "--bus-cert", __file__], "--bus-cert and --bus-key go together"),
        (["--bus-url", "tls://a", "--bus-ca", "/nowhere"], "--bus-ca: there is no file /nowhere"),
        (["--bus-url", "a:4222"], "is not like tls://host:4222"),
    ],
)
def test_options_of_the_bus_that_do_not_go_together(
    tmp_path: Path, started: list[MasterSettings], options: list[str], fault: str
) -> None:
    done = run(tmp_path, *options)
    assert (done.exit_code, started) == (1, [])
    assert fault in done.output


def test_the_audit_log_is_as_the_options_say(joined: Path, started: list[MasterSettings]) -> None:
    assert run(joined, "--address=10.0.0.2").exit_code == 0
    assert started.pop().audit == AuditSettings()
    given = ("--audit-log-path=/a.log", "--audit-policy-file=/p", "--audit-log-maxsize=5", "--audit-log-maxage=0")
    assert run(joined, *given).exit_code == 0
    assert started.pop().audit == AuditSettings("/a.log", Path("/p"), Rotation(5, 10, 0))
    refused = run(joined, "--audit-policy-file=/p")
    assert "--audit-log-path where to: give both" in refused.output
    assert "--audit-log-maxage -1 can't be a negative number" in run(joined, "--audit-log-maxage=-1").output
    assert started == []
