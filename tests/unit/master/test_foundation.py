"""`barque master init`: a cluster is founded once, and a profile of another cluster is left alone."""

from __future__ import annotations

import base64
import errno
import os
import shutil
import socket
import ssl
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from barque.client import profile
from barque.client.pki import ADMIN, Identity, hosts_of, pin_of, trust
from barque.master import foundation
from barque.master.command import master


def init(root: Path, *arguments: str, data: str = "data") -> Result:
    given = ["init", "--data-dir", str(root / data), "--profile", str(root / "config"), "--name", "m1"]
    return CliRunner().invoke(master, [*given, "--address", "10.0.0.5", *arguments])


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_it_makes_ca_certificates_store_and_profile_and_says_what_comes_next(tmp_path: Path) -> None:
    done = init(tmp_path)
    assert done.exit_code == 0
    pki = tmp_path / "data" / "pki"
    assert {path.name for path in pki.iterdir()} == {
        "authority.pem",
        "ca.pem",
        "master.pem",
        "admin.pem",
        "service-account.pem",
    }
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in pki.iterdir())
    assert (tmp_path / "data" / "store").is_dir()
    written = profile.load(tmp_path / "config")
    assert (written.masters, written.cluster, written.identity.subject) == (["10.0.0.5:7443"], "barque", ADMIN)
    assert pin_of((pki / "ca.pem").read_bytes()) in done.output
    assert f"barque master run --data-dir {tmp_path / 'data'} --name m1 --address 10.0.0.5\n" in done.output
    assert "barque token create" in done.output


def test_it_can_be_run_again_and_changes_nothing(tmp_path: Path) -> None:
    init(tmp_path)
    before = files(tmp_path)
    again = init(tmp_path)
    assert again.output.startswith("Cluster barque was founded before.\n")
    assert files(tmp_path) == before


def test_a_new_address_gets_into_certificate_and_profile_and_the_ca_stays(tmp_path: Path) -> None:
    init(tmp_path)
    ca = profile.load(tmp_path / "config").ca
    moved = init(tmp_path, "--address", "10.0.0.6")
    assert moved.exit_code == 0
    written = profile.load(tmp_path / "config")
    assert (written.masters, written.ca) == (["10.0.0.6:7443"], ca)
    assert "10.0.0.6" in hosts_of(Identity.load(tmp_path / "data" / "pki", "master").certificate)


def trusted(identity: Identity, name: str) -> bool:
    """Whether a client that looks for `name` believes the master, by a real handshake."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = identity.server_context().wrap_bio(to_server, to_client, server_side=True)
    client = trust(identity.ca_pem).wrap_bio(to_client, to_server, server_hostname=name)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError:
                return False
    return client.cipher() is not None


def test_the_certificate_is_good_for_the_machines_name_and_what_else_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "Quay-7")
    done = init(tmp_path, "--tls-san", "API.example.org", "--tls-san", "*.lab.example", "--tls-san", "FD00:0::7")
    assert done.exit_code == 0, done.output
    assert "--address 10.0.0.5 --tls-san api.example.org --tls-san '*.lab.example' --tls-san fd00::7\n" in done.output
    pki = tmp_path / "data" / "pki"
    first = Identity.load(pki, "master")
    for name in ("quay-7", "m1", "10.0.0.5", "localhost", "api.example.org", "x.lab.example", "fd00::7"):
        assert trusted(first, name), name
    for name in ("quay-8", "example.org", "10.0.0.6"):
        assert not trusted(first, name), name
    assert (
        init(tmp_path, "--tls-san", "api.example.org", "--tls-san", "*.lab.example", "--tls-san", "fd00::7").exit_code
        == 0
    )
    assert Identity.load(pki, "master") == first
    assert init(tmp_path, "--tls-san", "gate.example.org").exit_code == 0
    second = Identity.load(pki, "master")
    assert (trusted(second, "gate.example.org"), trusted(second, "api.example.org")) == (True, False)
    assert second.ca_pem == first.ca_pem


@pytest.mark.parametrize("host", ["https://a", "a:6443", "a_b", "a..b", "*", "*.*.a", "a.*", "", "10.0.0.0/8", "ü"])
def test_a_name_that_no_certificate_can_bear_is_refused(tmp_path: Path, host: str) -> None:
    refused = init(tmp_path, "--tls-san", host)
    assert (refused.exit_code, files(tmp_path)) == (2, {})
    assert f"'--tls-san': {host!r} is neither a DNS name nor an IP address" in refused.output


def test_another_clusters_context_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    init(tmp_path)
    before = files(tmp_path)
    refused = init(tmp_path, "--address", "10.9.9.9", data="other")
    assert refused.exit_code == 1
    assert "is another cluster's (10.0.0.5:7443)" in refused.output
    assert files(tmp_path) == before
    assert not (tmp_path / "other").exists()


def test_another_clusters_name_in_the_kubeconfig_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    init(tmp_path)
    (tmp_path / "config").unlink()
    before = files(tmp_path)
    refused = init(tmp_path, "--address", "10.9.9.9", data="other")
    assert refused.exit_code == 1
    assert 'the cluster "barque" in ' in refused.output
    assert "is another one (https://10.0.0.5:6443)" in refused.output
    assert files(tmp_path) == before


def test_a_cluster_founded_anew_at_the_same_address_has_profile_and_kubeconfig_follow(tmp_path: Path) -> None:
    init(tmp_path)
    shutil.rmtree(tmp_path / "data")
    anew = init(tmp_path)
    assert anew.exit_code == 0, anew.output
    ca = (tmp_path / "data" / "pki" / "ca.pem").read_bytes()
    assert profile.load(tmp_path / "config").ca.encode() == ca
    assert base64.b64encode(ca).decode() in (tmp_path / "kubeconfig").read_text()


def test_a_place_that_cannot_be_written_is_named_with_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/srv/barque")

    monkeypatch.setattr(foundation, "lay", full)
    refused = init(tmp_path)
    assert refused.exit_code == 1
    assert refused.output == "Error: /srv/barque: no space left on device; free some space there and run it again\n"


def test_another_cluster_under_another_name_stands_beside_it(tmp_path: Path) -> None:
    init(tmp_path)
    assert init(tmp_path, "--cluster", "lab", "--address", "10.9.9.9", data="other").exit_code == 0
    assert sorted(profile.load_contexts(tmp_path / "config").contexts) == ["barque", "lab"]
    assert profile.load(tmp_path / "config").cluster == "lab"
