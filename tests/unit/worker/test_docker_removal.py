"""A container whose removal somebody else has begun already: Docker answers 409, and it may be there for a while."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import docker.errors
import pytest
import requests

from barque.worker.runtime import docker_runtime
from barque.worker.runtime.docker_runtime import REMOVAL_PAUSES_S, DockerRuntime
from barque.worker.runtime.port import RuntimeFault

UNDER_WAY = "removal of container c1 is already in progress"


class AnEngine:
    """Answers removals with these statuses in turn, as Docker's SDK tells them; the last one stays."""

    def __init__(self, *statuses: int) -> None:
        self._statuses = list(statuses)
        self.asked = 0

    def remove_container(self, container_id: str, **_: Any) -> None:
        self.asked += 1
        status = self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]
        if status >= 400:
            answer = requests.Response()
            answer.status_code = status
            kind = docker.errors.NotFound if status == 404 else docker.errors.APIError
            raise kind(str(status), answer, UNDER_WAY)

    def close(self) -> None:
        pass


@pytest.fixture
async def runtime(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[DockerRuntime]:
    monkeypatch.setattr(docker_runtime, "REMOVAL_PAUSES_S", [0.0] * len(REMOVAL_PAUSES_S))
    made = DockerRuntime("unix:///nowhere", "c", "n1")
    yield made
    await made.close()


@pytest.mark.parametrize("statuses", [(204,), (404,), (409, 404), (409, 409, 204)])
async def test_it_is_gone_once_the_removal_returns(runtime: DockerRuntime, statuses: tuple[int, ...]) -> None:
    engine: Any = AnEngine(*statuses)
    runtime._api = engine
    await runtime.remove("c1")
    assert engine.asked == len(statuses)


async def test_one_that_does_not_go_is_told(runtime: DockerRuntime) -> None:
    engine: Any = AnEngine(409)
    runtime._api = engine
    with pytest.raises(RuntimeFault, match="the removal of container c1, begun before, does not come to its end"):
        await runtime.remove("c1")
    assert engine.asked == len(REMOVAL_PAUSES_S)


async def test_another_refusal_is_told_at_once(runtime: DockerRuntime) -> None:
    engine: Any = AnEngine(500)
    runtime._api = engine
    with pytest.raises(RuntimeFault, match=UNDER_WAY):
        await runtime.remove("c1")
    assert engine.asked == 1
