"""Which requests are answered in another master's stead, and when."""

from __future__ import annotations

from typing import Any, cast

from nats.aio.msg import Msg

from barque.master.bus.serving import MOST_UNANSWERED, SECOND_AFTER_S, SPREAD_S, Unanswered


def a_request(reply: str) -> Msg:
    return Msg(cast(Any, None), subject="s", reply=reply, data=b"")


def replies(requests: list[Msg]) -> list[str]:
    return [request.reply for request in requests]


def test_what_is_answered_in_time_is_nobody_elses() -> None:
    unanswered = Unanswered(lambda: 0.0)
    unanswered.add(a_request("a"), 10.0)
    unanswered.add(a_request("b"), 10.0)
    unanswered.answered("a")
    unanswered.answered("never heard of")
    assert unanswered.next_at() == 10.0 + SECOND_AFTER_S
    assert replies(unanswered.overdue(10.0 + SECOND_AFTER_S)) == ["b"]
    assert (unanswered.overdue(1e9), unanswered.next_at()) == ([], None)


def test_the_masters_do_not_all_stand_in_at_once() -> None:
    chances = iter((0.75, 0.25))
    unanswered = Unanswered(lambda: next(chances))
    unanswered.add(a_request("late"), 0.0)
    unanswered.add(a_request("soon"), 0.0)
    assert replies(unanswered.overdue(SECOND_AFTER_S + 0.5 * SPREAD_S)) == ["soon"]
    assert replies(unanswered.overdue(SECOND_AFTER_S + SPREAD_S)) == ["late"]


def test_a_flood_of_requests_is_not_kept() -> None:
    unanswered = Unanswered(lambda: 0.0)
    for number in range(MOST_UNANSWERED + 10):
        unanswered.add(a_request(str(number)), 0.0)
    assert len(unanswered) == MOST_UNANSWERED
    assert replies(unanswered.overdue(SECOND_AFTER_S))[0] == "10"
