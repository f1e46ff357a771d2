"""What the log keeps of the remarks at the end of connections."""

from __future__ import annotations

import logging
from typing import Any

import pytest

import barque.master.bus.link  # noqa: F401

CLOSED = RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")
OTHER = RuntimeError("unable to perform operation")


@pytest.mark.parametrize(
    ("said", "fault", "kept"),
    [
        ("returning true from eof_received() has no effect when using ssl", None, False),
        ("Fatal error on SSL protocol\nprotocol: ...", CLOSED, False),
        ("Fatal error on SSL protocol\nprotocol: ...", OTHER, True),
        ("Task exception was never retrieved", CLOSED, True),
        ("socket.send() raised exception", None, True),
    ],
)
def test_only_what_nothing_can_be_done_about_is_dropped(said: str, fault: Exception | None, kept: bool) -> None:
    raised: Any = (type(fault), fault, None) if fault is not None else None
    record = logging.LogRecord("asyncio", logging.ERROR, "", 0, said, None, raised)
    assert bool(logging.getLogger("asyncio").filter(record)) is kept
