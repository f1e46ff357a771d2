"""Answers of the bus, and where a delivered message stands."""

from __future__ import annotations

import asyncio

import pytest
from nats.aio.msg import Msg

from barque.master.bus.link import BusAwayError, read_place
from barque.master.bus.replies import Refusal, Replies, Reply, read_reply


def a_message(subject: str = "", data: bytes = b"", headers: dict[str, str] | None = None) -> Msg:
    return Msg(_client=None, subject=subject, data=data, headers=headers)  # type: ignore[arg-type]


def test_what_a_publish_is_answered() -> None:
    taken = a_message(data=b'{"stream":"S","seq":17,"duplicate":false}')
    refused = a_message(data=b'{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 5"},"seq":0}')
    unheard = a_message(headers={"Status": "503"})
    assert read_reply(taken) == Reply(17)
    assert read_reply(refused).error == Refusal(400, 10071, "wrong last sequence: 5")
    assert read_reply(unheard).error == Refusal(503, 0, "no server leads the stream")
    assert read_reply(a_message(data=b"\xff")) == Reply(0)


async def test_each_answer_finds_its_request_and_none_is_left() -> None:
    replies = Replies("_INBOX.a")
    first, second, third = replies.expect(), replies.expect(), replies.expect()
    assert replies.subject == "_INBOX.a.*"
    await replies.hear(a_message(second[0], b"2"))
    await replies.hear(a_message("_INBOX.a.99", b"whose?"))
    assert ((await second[1]).data, first[1].done()) == (b"2", False)
    first[1].cancel()
    replies.end(BusAwayError("gone"))
    with pytest.raises(BusAwayError, match="gone"):
        await third[1]
    await asyncio.sleep(0)
    assert len(replies) == 0


def test_a_place_is_read_with_and_without_a_domain() -> None:
    assert read_place("$JS.ACK.S.c.1.70.7.1500000000.0") == (70, 7, 1.5)
    assert read_place("$JS.ACK._.acc.S.c.1.70.7.1500000000.0") == (70, 7, 1.5)
    assert read_place("$JS.ACK._.acc.S.c.1.70.7.1500000000.0.token") == (70, 7, 1.5)
    for wrong in ("", "_INBOX.x", "$JS.ACK.S.c.1.x.7.1.0"):
        with pytest.raises(BusAwayError):
            read_place(wrong)
