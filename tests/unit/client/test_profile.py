"""The profile is read, written and refused in words that say what to do."""

import datetime
import stat
from pathlib import Path

import pytest

from barque.client import pki, profile
from barque.client.profile import Profile, ProfileError

IDENTITY = pki.create_authority(datetime.datetime.now(datetime.UTC)).identity(
    pki.ADMIN, datetime.datetime.now(datetime.UTC)
)


def test_a_profile_survives_its_file_which_only_the_owner_reads(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "config"
    written = Profile.of(["10.0.0.1:7443", "[::1]:7000", "m2"], IDENTITY, namespace="web", cluster="lab")
    written.save(path)
    assert profile.load(path) == written
    assert written.masters == ["10.0.0.1:7443", "[::1]:7000", "m2:7443"]
    assert profile.load(path).identity == IDENTITY
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_pem_stands_as_a_block_a_person_can_read() -> None:
    assert "ca: |\n  -----BEGIN CERTIFICATE-----\n" in profile.render(Profile.of(["m:1"], IDENTITY))


def test_the_environment_names_another_file() -> None:
    assert profile.default_path({"BARQUE_CONFIG": "/x/y"}) == Path("/x/y")
    assert profile.default_path({}) == Path.home() / ".barque" / "config"


def test_no_profile_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ProfileError) as failed:
        profile.load(tmp_path / "config")
    assert str(failed.value) == f"no profile at {tmp_path}/config: run `barque up` or set BARQUE_CONFIG"


GOOD = profile.render(Profile.of(["m:7443"], IDENTITY))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("masters: [", "is not YAML: line 1: "),
        ("", "is not usable: Expected `object`, got `null`"),
        ("masters: [m:1]\n", "missing required field `ca`"),
        (GOOD.replace("masters", "master"), "unknown field `master`|missing required field `masters`"),
        (GOOD.replace("- m:7443", "- m:port"), "'m:port' is not host:port"),
        (GOOD.replace("- m:7443", "- m:99999"), "'m:99999' is not host:port"),
        (GOOD.replace("\n- m:7443", " []"), "masters is empty"),
        (GOOD.replace("BEGIN PRIVATE KEY", "BEGIN A KEY"), "here: not a usable certificate and key"),
    ],
)
def test_a_spoilt_profile_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ProfileError, match=message) as failed:
        profile.parse(text, "here")
    assert "\n" not in str(failed.value)
