"""The profile is read, written and refused in words that say what to do."""

import datetime
import stat
from pathlib import Path

import pytest

from barque.client import pki, profile
from barque.client.profile import Contexts, Profile, ProfileError

NOW = datetime.datetime.now(datetime.UTC)
IDENTITY = pki.create_authority(NOW).identity(pki.ADMIN, NOW)
OTHER = pki.create_authority(NOW).identity(pki.ADMIN, NOW)


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
    assert str(failed.value) == (
        f"no profile at {tmp_path}/config: `barque up` makes a cluster on this machine, `barque config import FILE` "
        "takes over the way to one elsewhere, BARQUE_CONFIG names another file"
    )


GOOD = profile.render(Profile.of(["m:7443"], IDENTITY))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("masters: [", r"is not YAML: line \d: "),
        ("", "is not usable: Expected `object`, got `null`"),
        ("masters: [m:1]\n", "missing required field `ca`"),
        (GOOD.replace("masters", "master"), "unknown field `master`|missing required field `masters`"),
        (GOOD.replace("- m:7443", "- m:port"), "'m:port' is not host:port"),
        (GOOD.replace("- m:7443", "- m:99999"), "'m:99999' is not host:port"),
        (GOOD.replace("\n- m:7443", " []"), "masters is empty"),
        (GOOD.replace("BEGIN PRIVATE KEY", "BEGIN A KEY"), "config: not a usable certificate and key"),
        ("contexts: {}\ncurrent-context: x\n", 'no context exists with the name: "x"'),
        ("contexts: {a: {}}\n", r"missing required field `masters` - at `\$.contexts\[...\]`"),
        ("contexts: {}\n", "current-context is not set: .* chooses one \\(there is none\\)"),
    ],
)
def test_a_spoilt_profile_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(ProfileError, match=message) as failed:
        profile.load(path)
    assert "\n" not in str(failed.value)


# --- several clusters in one file


def test_clusters_stand_beside_each_other_and_the_newest_is_current(tmp_path: Path) -> None:
    path = tmp_path / "config"
    profile.remember(path, "lab", Profile.of(["10.0.0.1"], IDENTITY, cluster="lab"))
    profile.remember(path, "home", Profile.of(["10.1.0.1"], OTHER, cluster="home"))
    assert profile.load(path).cluster == "home"
    assert profile.load(path, "lab").cluster == "lab"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(ProfileError, match='no context exists with the name: "shop"'):
        profile.load(path, "shop")


def test_a_file_of_one_profile_is_a_context_of_its_clusters_name(tmp_path: Path) -> None:
    path = tmp_path / "config"
    Profile.of(["10.0.0.1"], IDENTITY, cluster="lab", namespace="shop").save(path)
    assert profile.load(path, "lab").namespace == "shop"
    profile.remember(path, "home", Profile.of(["10.1.0.1"], OTHER))
    assert sorted(profile.load_contexts(path).contexts) == ["home", "lab"]


def test_another_clusters_context_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "config"
    profile.remember(path, "lab", Profile.of(["10.0.0.1"], IDENTITY))
    before = path.read_text()
    with pytest.raises(ProfileError, match=r'context "lab" is another cluster\'s \(10.0.0.1:7443\): rename it'):
        profile.remember(path, "lab", Profile.of(["10.1.0.1"], OTHER))
    assert path.read_text() == before


def test_what_is_new_about_a_cluster_is_taken_over_and_its_namespace_stays(tmp_path: Path) -> None:
    path = tmp_path / "config"
    profile.remember(path, "lab", Profile.of(["10.0.0.1"], IDENTITY, namespace="shop"))
    profile.remember(path, "lab", Profile.of(["10.0.0.9"], IDENTITY))  # its master moved
    assert (profile.load(path).masters, profile.load(path).namespace) == (["10.0.0.9:7443"], "shop")
    profile.remember(path, "lab", Profile.of(["10.0.0.9"], OTHER))  # a new cluster answers at its address
    assert profile.load(path).identity == OTHER


def test_a_cluster_is_forgotten_and_the_file_goes_with_the_last(tmp_path: Path) -> None:
    path = tmp_path / "config"
    profile.remember(path, "lab", Profile.of(["10.0.0.1"], IDENTITY))
    profile.remember(path, "home", Profile.of(["10.1.0.1"], OTHER))
    profile.forget(path, OTHER.ca_pem.decode())
    assert profile.load_contexts(path) == Contexts({"lab": Profile.of(["10.0.0.1"], IDENTITY)}, "")
    profile.forget(path, IDENTITY.ca_pem.decode())
    assert not path.exists()


def test_masters_are_noted_in_every_context_of_their_cluster(tmp_path: Path) -> None:
    path = tmp_path / "config"
    ours, theirs = Profile.of(["a:1"], IDENTITY, namespace="web"), Profile.of(["a:1"], OTHER)
    Contexts({"lab": ours, "lab2": ours, "other": theirs}, "other").save(path)
    profile.note_masters(path, ours.ca, ["a:1", "b:1"])
    noted = profile.load_contexts(path)
    assert {name: each.masters for name, each in noted.contexts.items()} == {
        "lab": ["a:1", "b:1"],
        "lab2": ["a:1", "b:1"],
        "other": ["a:1"],
    }
    assert (noted.current, noted.contexts["lab"].namespace) == ("other", "web")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_single_profile_stays_one(tmp_path: Path) -> None:
    path = tmp_path / "profile.yaml"
    Profile.of(["a:1"], IDENTITY).save(path)
    profile.note_masters(path, IDENTITY.ca_pem.decode(), ["b:1"])
    assert "contexts:" not in path.read_text()
    assert profile.load(path).masters == ["b:1"]


def test_the_same_masters_write_nothing_and_a_lost_file_stays_lost(tmp_path: Path) -> None:
    path = tmp_path / "config"
    Profile.of(["a:1"], IDENTITY).save(path)
    before = path.stat().st_ino
    profile.note_masters(path, IDENTITY.ca_pem.decode(), ["a:1"])
    assert path.stat().st_ino == before
    path.unlink()
    with pytest.raises(ProfileError, match="cannot read the profile"):
        profile.note_masters(path, IDENTITY.ca_pem.decode(), ["a:1"])
    assert not path.exists()


def test_a_profile_that_cannot_be_replaced_stays_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config"
    Profile.of(["a:1"], IDENTITY).save(path)

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(profile, "write_private", full)
    with pytest.raises(ProfileError, match="No space left on device"):
        profile.note_masters(path, IDENTITY.ca_pem.decode(), ["b:1"])
    assert profile.load(path).masters == ["a:1"]
