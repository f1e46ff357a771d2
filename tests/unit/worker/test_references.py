"""What the pods' ConfigMaps and Secrets are when the masters are away, and that nothing is kept longer than needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from barque.api import codec
from barque.api.errors import ApiError, not_found, unavailable
from barque.api.types import core_v1
from barque.api.types.meta_v1 import ObjectMeta
from barque.client.client import Client
from barque.client.verbs import Target
from barque.worker.reference_files import ReferenceFiles
from barque.worker.references import References
from tests.support.builders import a_pod
from tests.support.clock import FakeClock


class Masters:
    """Answers `get` from `objects`, or raises `fault`."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Any] = {}
        self.fault: ApiError | None = None

    def put(self, obj: Any) -> None:
        self.objects[type(obj).__name__, obj.metadata.name] = obj

    async def get(self, target: Target) -> bytes:
        if self.fault is not None:
            raise self.fault
        found = self.objects.get((target.resource.kind, target.name))
        if found is None:
            raise not_found(target.resource.plural, "", target.name)
        return codec.encode(found)


def a_config_map(name: str, **data: str) -> core_v1.ConfigMap:
    return core_v1.ConfigMap(metadata=ObjectMeta(name=name, namespace="default"), data=data)


def a_worker(masters: Masters, folder: Path, clock: FakeClock) -> References:
    references = References(Client(masters), clock, ReferenceFiles(folder))  # type: ignore[arg-type]
    references.load()
    return references


async def test_a_restarted_worker_knows_the_values_while_no_master_answers(tmp_path: Path) -> None:
    masters, clock = Masters(), FakeClock()
    masters.put(a_config_map("page", greeting="ahoy"))
    await a_worker(masters, tmp_path, clock).config_maps("default", ["page"])
    masters.fault = unavailable("no master is reachable")
    found = await a_worker(masters, tmp_path, clock).config_maps("default", ["page"])
    page = found["page"]
    assert page is not None
    assert page.data == {"greeting": "ahoy"}


async def test_a_master_that_answers_is_believed_over_the_copy(tmp_path: Path) -> None:
    masters, clock = Masters(), FakeClock()
    masters.put(a_config_map("page", greeting="ahoy"))
    await a_worker(masters, tmp_path, clock).config_maps("default", ["page"])
    masters.put(a_config_map("page", greeting="farewell"))
    page = (await a_worker(masters, tmp_path, clock).config_maps("default", ["page"]))["page"]
    assert page is not None
    assert page.data == {"greeting": "farewell"}
    masters.objects.clear()
    assert await a_worker(masters, tmp_path, clock).config_maps("default", ["page"]) == {"page": None}
    assert list(tmp_path.iterdir()) == []


async def test_what_no_pod_names_any_more_is_forgotten(tmp_path: Path) -> None:
    masters, clock = Masters(), FakeClock()
    masters.put(a_config_map("kept"))
    masters.put(a_config_map("dropped"))
    references = a_worker(masters, tmp_path, clock)
    await references.config_maps("default", ["kept", "dropped"])
    pod = a_pod("web").build()
    pod.spec.containers[0].envFrom = [core_v1.EnvFromSource(configMapRef=core_v1.ConfigMapEnvSource(name="kept"))]
    references.retain([pod])
    assert [path.name for path in tmp_path.iterdir()] == ["ConfigMap_default_kept.json"]


async def test_files_are_for_their_owner_alone_and_damaged_ones_are_dropped(tmp_path: Path) -> None:
    masters, clock = Masters(), FakeClock()
    masters.put(a_config_map("page"))
    await a_worker(masters, tmp_path, clock).config_maps("default", ["page"])
    file = tmp_path / "ConfigMap_default_page.json"
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_bytes(file.read_bytes()[:20])
    masters.fault = unavailable("no master is reachable")
    with pytest.raises(ApiError, match="no master is reachable"):
        await a_worker(masters, tmp_path, clock).config_maps("default", ["page"])
    assert not file.exists()
