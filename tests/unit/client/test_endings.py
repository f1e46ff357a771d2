"""The status that a peer sent, where grpc.aio has put one of its own in its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import pytest

from barque.client import endings
from barque.client.endings import Ending

TRAILING = grpc.aio.Metadata(("barque-status-bin", b"{}"))
Status = tuple[grpc.StatusCode, str, grpc.aio.Metadata]
REFUSED: Status = (grpc.StatusCode.INVALID_ARGUMENT, "too large", TRAILING)
SUBSTITUTE: Status = (grpc.StatusCode.INTERNAL, "Internal error from Core", grpc.aio.Metadata())


class ACall:
    """As a call of grpc.aio sets its status: anew each time, telling whoever listens."""

    def __init__(self) -> None:
        self._status: Status
        self._callbacks: list[Callable[[Any], None]] = []

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._callbacks.append(callback)

    def set(self, status: Status) -> grpc.aio.AioRpcError:
        """The error that the call would raise now."""
        self._status = status
        for callback in self._callbacks:
            callback(self)
        code, details, trailing = status
        return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details)

    async def code(self) -> grpc.StatusCode:
        return self._status[0]

    async def details(self) -> str:
        return self._status[1]

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        return self._status[2]


def said(error: grpc.aio.AioRpcError) -> Status:
    return error.code(), error.details() or "", error.trailing_metadata()


@pytest.mark.parametrize("order", [(REFUSED, SUBSTITUTE), (SUBSTITUTE, REFUSED)])
async def test_a_refusal_is_kept_whichever_comes_first(order: tuple[Status, Status]) -> None:
    call = ACall()
    ending = Ending(call)
    errors = {status[1]: call.set(status) for status in order}
    assert said(await ending.of(errors["Internal error from Core"])) == REFUSED


async def test_an_error_of_the_peers_own_stays_what_it_is() -> None:
    call = ACall()
    ending = Ending(call)
    error = call.set(REFUSED)
    assert await ending.of(error) is error


async def test_without_another_status_the_substitute_is_all_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endings, "_PATIENCE_S", 0.0)
    call = ACall()
    ending = Ending(call)
    error = call.set(SUBSTITUTE)
    assert await ending.of(error) is error
