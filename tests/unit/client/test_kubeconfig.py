"""Kubeconfigs: what is written, and what of the user's own stays as it was."""

from __future__ import annotations

import base64
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from barque.client import kubeconfig
from barque.client.kubeconfig import Access, KubeconfigError

ADMIN = Access("lab", "https://10.0.0.1:6443", "CA", "barque-admin", "CERT", "KEY", namespace="shop")
FOREIGN = """\
apiVersion: v1
kind: Config
preferences: {colors: true}
clusters:
- {name: work, cluster: {server: "https://work:6443", certificate-authority: /ca.crt}}
contexts:
- {name: work, context: {cluster: work, user: me}}
users:
- {name: me, user: {exec: {command: login}}}
current-context: work
"""


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def read(text: str) -> Any:
    return yaml.safe_load(text)


def test_the_whole_file() -> None:
    assert read(kubeconfig.render(ADMIN)) == {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "lab",
                "cluster": {"certificate-authority-data": encoded("CA"), "server": "https://10.0.0.1:6443"},
            }
        ],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "barque-admin@lab", "namespace": "shop"}}],
        "users": [
            {
                "name": "barque-admin@lab",
                "user": {"client-certificate-data": encoded("CERT"), "client-key-data": encoded("KEY")},
            }
        ],
        "current-context": "lab",
    }


def test_a_token_and_a_host_that_the_certificate_does_not_name() -> None:
    server, name = kubeconfig.server_of("m1.example", 6443, {"10.0.0.1"})
    robot = Access("lab", server, "CA", "shop/robot", token="to.k.en", tls_server_name=name, context="robot")
    config = read(kubeconfig.render(robot))
    assert config["users"] == [{"name": "shop/robot@lab", "user": {"token": "to.k.en"}}]
    assert config["clusters"][0]["cluster"]["tls-server-name"] == "barque-master"
    assert config["current-context"] == "robot"
    for host in ("10.0.0.1", "127.0.0.1", "localhost"):
        assert kubeconfig.server_of(host, 6443, {"10.0.0.1"}) == (f"https://{host}:6443", "")


def test_what_else_is_in_the_file_stays() -> None:
    config = read(kubeconfig.merged(FOREIGN, ADMIN, "file"))
    before = read(FOREIGN)
    assert config["preferences"] == {"colors": True}
    for part in ("clusters", "contexts", "users"):
        assert config[part][0] == before[part][0]
        assert len(config[part]) == 2
    assert config["current-context"] == "work"
    assert read(kubeconfig.merged(FOREIGN, ADMIN, "file", use=True))["current-context"] == "lab"


def test_a_renewed_certificate_takes_the_old_ones_place() -> None:
    moved = ADMIN._replace(server="https://10.0.0.2:6443", cert="NEW", namespace="")
    config = read(kubeconfig.merged(kubeconfig.render(ADMIN), moved, "file"))
    assert [len(config[part]) for part in ("clusters", "contexts", "users")] == [1, 1, 1]
    assert config["clusters"][0]["cluster"]["server"] == "https://10.0.0.2:6443"
    assert config["users"][0]["user"]["client-certificate-data"] == encoded("NEW")
    assert config["contexts"][0]["context"]["namespace"] == "shop"


def test_another_cluster_of_the_same_name_is_not_overwritten() -> None:
    with pytest.raises(KubeconfigError, match=r'the cluster "lab" in file is another one \(https://10.0.0.1:6443\)'):
        kubeconfig.merged(kubeconfig.render(ADMIN), ADMIN._replace(ca="OTHER", server="https://10.9.9.9:6443"), "file")
    with pytest.raises(KubeconfigError, match='the context "work" in file leads to another cluster'):
        kubeconfig.merged(FOREIGN, ADMIN._replace(context="work"), "file")


def test_a_cluster_founded_anew_at_the_same_address_takes_the_former_ones_place() -> None:
    config = read(kubeconfig.merged(kubeconfig.render(ADMIN), ADMIN._replace(ca="NEW", cert="CERT 2"), "file"))
    assert [len(config[part]) for part in ("clusters", "contexts", "users")] == [1, 1, 1]
    assert config["clusters"][0]["cluster"]["certificate-authority-data"] == encoded("NEW")
    assert config["users"][0]["user"]["client-certificate-data"] == encoded("CERT 2")


@pytest.mark.parametrize("wrong", ["a: [", "[]", "kind: Pod", "clusters: {}", "users: [1]", "contexts: [{}]"])
def test_what_is_no_kubeconfig_is_left_alone(tmp_path: Path, wrong: str) -> None:
    path = tmp_path / "config"
    path.write_text(wrong)
    with pytest.raises(KubeconfigError, match=str(path)):
        kubeconfig.remember(path, ADMIN)
    assert path.read_text() == wrong


def test_the_file_is_its_owners_and_goes_with_the_last_cluster(tmp_path: Path) -> None:
    path = tmp_path / "home" / "kubeconfig"
    kubeconfig.remember(path, ADMIN)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    kubeconfig.remember(path, Access("home", "https://10.1.0.1:6443", "OTHER", "barque-admin", "C", "K"), use=True)
    kubeconfig.forget(path, "OTHER")
    assert read(path.read_text()) == read(kubeconfig.render(ADMIN)) | {"current-context": ""}
    kubeconfig.forget(path, "CA")
    assert not path.exists()
    kubeconfig.forget(path, "CA")


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_text(FOREIGN)
    (tmp_path / "config").symlink_to(tmp_path / "real")
    kubeconfig.remember(tmp_path / "config", ADMIN)
    assert (tmp_path / "config").is_symlink()
    assert "work" in (tmp_path / "real").read_text()
