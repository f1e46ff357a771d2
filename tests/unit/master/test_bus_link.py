"""What the log keeps of the remarks at the end of connections, and what is kept of messages that nobody takes."""

from __future__ import annotations

import logging
from typing import Any, cast

import pytest
from nats.aio.msg import Msg

from barque.master.bus.link import Inbox

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


def a_message(data: bytes) -> Msg:
    return Msg(cast(Any, None), subject="s", data=data)


async def test_what_nobody_takes_is_bounded_in_messages_and_bytes() -> None:
    inbox = Inbox(at_most=3, most_bytes=10)
    for kept, told in ((3, [b"a", b"b", b"c", b"d"]), (2, [b"12345", b"67890", b"x"]), (1, [b"larger alone", b"x"])):
        for data in told:
            await inbox.hear(a_message(data))
        assert [message.data for message in await inbox.take()] == told[:kept]


async def test_a_stream_that_is_followed_loses_nothing_here() -> None:
    inbox = Inbox()
    for _ in range(20_000):
        await inbox.hear(a_message(b"x" * 1024))
    assert len(await inbox.take()) == 20_000
