"""The status that a peer sent, where grpc.aio has put one of its own in its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import pytest

from barque.api.errors import internal
from barque.client import endings, wire
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


async def test_a_call_that_the_peer_has_ended_well_has_no_error() -> None:
    call = ACall()
    ending = Ending(call)
    assert ending.refusal is None
    call.set((grpc.StatusCode.OK, "", grpc.aio.Metadata()))
    assert await ending.of(call.set(SUBSTITUTE)) is None
    assert ending.refusal is None


@pytest.mark.parametrize(
    ("code", "details", "why"),
    [
        (grpc.StatusCode.INTERNAL, "Internal error from Core", "the stream was ended before all had been sent"),
        (grpc.StatusCode.INTERNAL, "Received RST_STREAM with error code 2", "the stream was cut off"),
        (grpc.StatusCode.UNKNOWN, "Stream removed", "the stream was cut off"),
        (grpc.StatusCode.UNAVAILABLE, "RST_STREAM after a ping timeout", "it stopped answering"),
    ],
)
def test_what_no_peer_has_said_is_a_break_in_words_of_ours(code: grpc.StatusCode, details: str, why: str) -> None:
    broke = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)
    read, written = wire.api_error(broke), wire.api_error(broke, unsent=False)
    assert (read.code, read.message) == (503, f"the connection to the master broke: {why}")
    assert (written.code, written.message) == (504, f"outcome unknown: {why}")
    assert wire.is_broken(broke)


def test_what_a_peer_has_refused_is_no_break() -> None:
    trailing = grpc.aio.Metadata(*wire.status_metadata(internal("Stream removed")))
    refused = grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), trailing, "Stream removed")
    assert (wire.api_error(refused).code, wire.is_broken(refused)) == (500, False)
