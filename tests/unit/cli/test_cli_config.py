"""`barque config`: several clusters in one profile, their keys hidden."""

from __future__ import annotations

import datetime
import json
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from barque.cli.main import cli
from barque.cli.session import Session
from barque.client import pki, profile
from barque.client.profile import Contexts, Profile

NOW = datetime.datetime.now(datetime.UTC)
HOME = Profile.of(["10.0.0.1"], pki.create_authority(NOW).identity(pki.ADMIN, NOW), cluster="home")
LAB = Profile.of(["10.1.0.1"], pki.create_authority(NOW).identity(pki.ADMIN, NOW), cluster="lab", namespace="shop")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "config"
    Contexts({"home": HOME, "lab": LAB}, "home").save(path)
    return path


def config(path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["config", *arguments, "--config", str(path)], obj=Session(), prog_name="barque")


def said(path: Path, *arguments: str) -> str:
    result = config(path, *arguments)
    assert (result.stderr, result.exit_code) == ("", 0)
    return result.stdout


def refused(path: Path, *arguments: str) -> str:
    before = path.read_bytes() if path.exists() else b""
    result = config(path, *arguments)
    assert (result.stdout, result.exit_code) == ("", 1)
    assert (path.read_bytes() if path.exists() else b"") == before
    return result.stderr


def test_the_clusters_are_listed_and_one_is_chosen(path: Path) -> None:
    assert said(path, "get-contexts") == (
        "CURRENT   NAME   CLUSTER   AUTHINFO       NAMESPACE   MASTERS\n"
        "*         home   home      barque-admin   default     10.0.0.1:7443\n"
        "          lab    lab       barque-admin   shop        10.1.0.1:7443\n"
    )
    assert said(path, "current-context") == "home\n"
    assert said(path, "use-context", "lab") == 'Switched to context "lab".\n'
    assert said(path, "current-context") == "lab\n"
    assert said(path, "get-contexts", "-o", "name") == "home\nlab\n"
    assert profile.load(path) == LAB
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_keys_and_certificates_are_not_shown_unless_asked_for(path: Path) -> None:
    shown = said(path, "view")
    assert "PRIVATE KEY" not in shown
    assert "CERTIFICATE" not in shown
    assert shown.startswith("current-context: home\ncontexts:\n  home:\n    masters:\n    - 10.0.0.1:7443\n")
    assert shown.count("key: REDACTED") == 2
    assert json.loads(said(path, "view", "-o", "json"))["contexts"]["lab"]["ca"] == "DATA+OMITTED"
    assert path.read_text().count("BEGIN PRIVATE KEY") == 2


def test_one_context_is_taken_to_another_machine(path: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text(said(path, "view", "--minify", "--raw", "--context", "lab"))
    there = tmp_path / "there" / "config"
    assert said(there, "import", str(taken)) == 'Context "lab" imported.\n'
    assert profile.load(there) == LAB
    assert said(there, "import", str(path), "--use") == 'Context "home" imported.\nContext "lab" imported.\n'
    assert said(there, "current-context") == "home\n"
    assert said(there, "import", str(taken), "--as", "test") == 'Context "test" imported.\n'
    assert said(there, "current-context") == "home\n"


def test_an_import_never_takes_another_clusters_place(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    Contexts({"home": LAB}, "home").save(other)
    assert refused(path, "import", str(other)).startswith(
        'error: context "home" is another cluster\'s (10.0.0.1:7443): rename it'
    )
    spoilt = tmp_path / "spoilt"
    spoilt.write_text(other.read_text().replace("BEGIN PRIVATE KEY", "BEGIN A KEY"))
    assert "not a usable certificate and key" in refused(path, "import", str(spoilt))
    assert "no profile at" in refused(path, "import", str(tmp_path / "none"))
    assert "--as names one context" in refused(path, "import", str(path), "--as", "x")


def test_a_context_is_changed(path: Path) -> None:
    assert said(path, "set-context", "--current", "--namespace=web") == 'Context "home" modified.\n'
    assert said(path, "set-context", "lab", "--master", "10.1.0.2,[::1]:7000") == 'Context "lab" modified.\n'
    assert profile.load(path).namespace == "web"
    assert profile.load(path, "lab").masters == ["10.1.0.2:7443", "[::1]:7000"]


def test_a_context_is_renamed_and_deleted(path: Path) -> None:
    assert said(path, "rename-context", "home", "house") == 'Context "home" renamed to "house".\n'
    assert said(path, "current-context") == "house\n"
    deleted = config(path, "delete-context", "house")
    assert deleted.stdout == f"deleted context house from {path}\n"
    assert deleted.stderr.startswith("warning: this removed your active context")
    assert refused(path, "current-context") == "error: current-context is not set\n"
    assert said(path, "get-contexts", "--no-headers").split()[0] == "lab"


def test_what_makes_no_sense_is_refused_and_changes_nothing(path: Path) -> None:
    gone = 'error: no context exists with the name: "gone"; there are: home, lab\n'
    assert refused(path, "use-context", "gone") == gone
    assert refused(path, "rename-context", "gone", "x") == gone
    assert "already exists" in refused(path, "rename-context", "home", "lab")
    assert refused(path, "delete-context", "gone") == f"error: cannot delete context gone, not in {path}\n"
    assert refused(path, "set-context", "--current") == "error: nothing to change; give --namespace or --master\n"
    assert refused(path, "set-context") == "error: give the name of a context or --current\n"
    assert "is not host:port" in refused(path, "set-context", "lab", "--master", "a b")
    path.unlink()
    assert refused(path, "get-contexts").startswith(f"error: no profile at {path}: `barque up` makes a cluster ")
