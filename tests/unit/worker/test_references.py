"""What the pods' ConfigMaps and Secrets are when the masters are away, and that nothing is kept longer than needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from barque.api import codec
from barque.api.errors import ApiError
from barque.api.types import core_v1
from barque.api.types.meta_v1 import ObjectMeta
from barque.client.pki import Subject, create_request
from barque.worker.reference_files import ReferenceFiles
from barque.worker.references import References, referenced
from tests.support.builders import a_pod
from tests.support.clock import FakeClock
from tests.support.fake_verbs import FakeVerbs

PRIVATE_KEY, OTHER_KEY = (create_request(Subject("n1")).key_pem for _ in range(2))


def a_config_map(name: str, **data: str) -> core_v1.ConfigMap:
    return core_v1.ConfigMap(metadata=ObjectMeta(name=name, namespace="default"), data=data)


def a_worker(masters: FakeVerbs, folder: Path, clock: FakeClock) -> References:
    references = References(masters.client, clock, ReferenceFiles(folder, PRIVATE_KEY))
    references.load()
    return references


async def test_a_restarted_worker_knows_the_values_while_no_master_answers(tmp_path: Path) -> None:
    masters = FakeVerbs(clock := FakeClock())
    masters.put(a_config_map("page", greeting="ahoy"))
    await a_worker(masters, tmp_path, clock).config_maps("default", ["page"])
    masters.down = True
    found = await a_worker(masters, tmp_path, clock).config_maps("default", ["page"])
    page = found["page"]
    assert page is not None
    assert page.data == {"greeting": "ahoy"}


async def test_a_master_that_answers_is_believed_over_the_copy(tmp_path: Path) -> None:
    masters = FakeVerbs(clock := FakeClock())
    masters.put(a_config_map("page", greeting="ahoy"))
    await a_worker(masters, tmp_path, clock).config_maps("default", ["page"])
    masters.put(a_config_map("page", greeting="farewell"))
    page = (await a_worker(masters, tmp_path, clock).config_maps("default", ["page"]))["page"]
    assert page is not None
    assert page.data == {"greeting": "farewell"}
    masters.objects.clear()
    assert await a_worker(masters, tmp_path, clock).config_maps("default", ["page"]) == {"page": None}
    assert list(tmp_path.iterdir()) == []


async def test_a_value_that_the_disk_does_not_take_is_given_all_the_same(tmp_path: Path) -> None:
    masters = FakeVerbs(clock := FakeClock())
    masters.put(a_config_map("page", greeting="ahoy"))
    references = a_worker(masters, tmp_path / "copies", clock)
    (tmp_path / "copies").rmdir()
    page = (await references.config_maps("default", ["page"]))["page"]
    assert page is not None
    assert page.data == {"greeting": "ahoy"}


async def test_what_no_pod_names_any_more_is_forgotten(tmp_path: Path) -> None:
    masters = FakeVerbs(clock := FakeClock())
    masters.put(a_config_map("kept"))
    masters.put(a_config_map("dropped"))
    references = a_worker(masters, tmp_path, clock)
    await references.config_maps("default", ["kept", "dropped"])
    pod = a_pod("web").build()
    pod.spec.containers[0].envFrom = [core_v1.EnvFromSource(configMapRef=core_v1.ConfigMapEnvSource(name="kept"))]
    references.retain([pod])
    assert [path.name for path in tmp_path.iterdir()] == ["ConfigMap_default_kept.json"]


def test_containers_of_every_sort_keep_what_they_name() -> None:
    def naming(name: str) -> list[core_v1.EnvFromSource]:
        return [core_v1.EnvFromSource(configMapRef=core_v1.ConfigMapEnvSource(name=name))]

    pod = core_v1.Pod(
        metadata=ObjectMeta(name="p", namespace="default"),
        spec=core_v1.PodSpec(
            initContainers=[core_v1.Container(name="i", envFrom=naming("of-init"))],
            containers=[core_v1.Container(name="a", envFrom=naming("of-app"))],
            ephemeralContainers=[core_v1.EphemeralContainer(name="e", envFrom=naming("of-ephemeral"))],
            imagePullSecrets=[core_v1.LocalObjectReference(name="pulls")],
        ),
    )
    wanted = {(core_v1.ConfigMap, "default", f"of-{sort}") for sort in ("init", "app", "ephemeral")}
    assert referenced(pod) == wanted | {(core_v1.Secret, "default", "pulls")}


async def test_files_are_for_their_owner_alone_and_damaged_ones_are_dropped(tmp_path: Path) -> None:
    masters = FakeVerbs(clock := FakeClock())
    masters.put(a_config_map("page"))
    await a_worker(masters, tmp_path, clock).config_maps("default", ["page"])
    file = tmp_path / "ConfigMap_default_page.json"
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_bytes(file.read_bytes()[:20])
    masters.down = True
    with pytest.raises(ApiError, match="no master is reachable"):
        await a_worker(masters, tmp_path, clock).config_maps("default", ["page"])
    assert not file.exists()


def a_secret(name: str, word: str) -> core_v1.Secret:
    return core_v1.Secret(metadata=ObjectMeta(name=name, namespace="default"), data={"word": word})


def sealed(folder: Path, *names: str) -> ReferenceFiles:
    files = ReferenceFiles(folder, PRIVATE_KEY)
    files.load()
    for name in names:
        files.write((core_v1.Secret, "default", name), a_secret(name, "swordfish"))
    return files


def words(folder: Path, private_key: bytes) -> dict[str, str]:
    found = ReferenceFiles(folder, private_key).load()
    return {name: obj.data["word"] for (_, _, name), obj in found.items()}  # type: ignore[attr-defined]


def test_a_secret_is_on_disk_for_this_worker_alone(tmp_path: Path) -> None:
    sealed(tmp_path, "keys")
    (path,) = tmp_path.iterdir()
    assert b"swordfish" not in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    assert words(tmp_path, PRIVATE_KEY) == {"keys": "swordfish"}
    assert words(tmp_path, OTHER_KEY) == {}
    assert list(tmp_path.iterdir()) == []


def test_a_renewed_key_takes_the_secrets_along(tmp_path: Path) -> None:
    files = sealed(tmp_path, "keys", "words")
    (tmp_path / "Secret_default_damaged.sealed").write_bytes(b"nonsense")
    files.rekey(OTHER_KEY)
    files.write((core_v1.Secret, "default", "later"), a_secret("later", "marlin"))
    assert words(tmp_path, OTHER_KEY) == {"keys": "swordfish", "words": "swordfish", "later": "marlin"}


def test_a_file_that_was_cut_moved_or_left_in_plain_text_is_dropped(tmp_path: Path) -> None:
    sealed(tmp_path, "cut", "moved", "kept")
    cut, moved = tmp_path / "Secret_default_cut.sealed", tmp_path / "Secret_default_moved.sealed"
    cut.write_bytes(cut.read_bytes()[:5])
    moved.rename(tmp_path / "Secret_default_other.sealed")
    (tmp_path / "Secret_default_plain.json").write_bytes(codec.encode(a_secret("plain", "swordfish")))
    assert words(tmp_path, PRIVATE_KEY) == {"kept": "swordfish"}
    assert [path.name for path in tmp_path.iterdir()] == ["Secret_default_kept.sealed"]
