"""Goodbyes to a bus that does not answer them: bounded, and nothing of them is left when they are over."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from barque.master.bus import link
from barque.master.bus.link import close_connection


class AClient:
    """As the NATS client closes: without bound, and the first cancellations may be swallowed."""

    def __init__(self, swallows: int) -> None:
        self._swallows = swallows
        self.begun = asyncio.Event()
        self.ended = False

    async def close(self) -> None:
        self.begun.set()
        try:
            while True:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    self._swallows -= 1
                    if self._swallows < 0:
                        raise
        finally:
            self.ended = True


@pytest.mark.parametrize("swallows", [0, 1])
@pytest.mark.parametrize("stopped", [False, True], ids=["in its own time", "cancelled meanwhile"])
async def test_nothing_goes_on_after_a_goodbye(monkeypatch: pytest.MonkeyPatch, swallows: int, stopped: bool) -> None:
    monkeypatch.setattr(link, "CLOSE_TIMEOUT_S", 0.0 if not stopped else 0.01)
    client: Any = AClient(swallows)
    closing = asyncio.create_task(close_connection(client))
    if stopped:
        await client.begun.wait()
        closing.cancel()
    await asyncio.wait([closing])
    assert closing.cancelled() is stopped
    assert client.ended
    assert asyncio.all_tasks() == {asyncio.current_task()}
