"""Waiting in tests: what fails is looked at again, and when time is up the last failure is told."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from typing import NoReturn

import pytest

from tests.support.expecting import expect_soon, expect_soon_async

FAILURES = [
    AssertionError("not yet"),
    FileNotFoundError("renamed"),
    KeyError("status"),
    ValueError("half a document"),
    TypeError("None has no parts"),
    subprocess.CalledProcessError(1, "docker"),
]


def answering(*answers: object) -> Callable[[], object]:
    """A look that fails, or answers, in this order."""
    coming: Iterator[object] = iter(answers)

    def look() -> object:
        answer = next(coming)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return look


async def test_a_look_that_fails_is_repeated() -> None:
    assert expect_soon(answering(*FAILURES, "", "there"), 60, "it is there", pause_s=0) == "there"
    assert await expect_soon_async(answering(*FAILURES, "", "there"), 60, "it is there", pause_s=0) == "there"

    async def look() -> str:
        return "there"

    assert await expect_soon_async(look, 60, "it is there") == "there"


@pytest.mark.parametrize("last", FAILURES, ids=lambda failure: type(failure).__name__)
async def test_the_last_failure_is_told_when_time_is_up(last: Exception) -> None:
    with pytest.raises(AssertionError, match="not within 0 s: it is there") as told:
        expect_soon(answering(last), 0, "it is there")
    assert told.value.__cause__ is last
    assert str(last) in str(told.value)
    with pytest.raises(AssertionError, match="not within 0 s: it is there") as told:
        await expect_soon_async(answering(last), 0, "it is there")
    assert told.value.__cause__ is last


def test_the_last_answer_is_told_when_time_is_up() -> None:
    with pytest.raises(AssertionError, match=r"it is there\nthe last answer was \[\]"):
        expect_soon(answering([]), 0, "it is there")


def test_a_test_that_gives_up_is_not_held() -> None:
    def look() -> NoReturn:
        pytest.skip("no dockerd here")

    with pytest.raises(pytest.skip.Exception):
        expect_soon(look, 60, "it is there")
