"""Counts that may be percentages, against fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque.api import intorstring


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.booleans())
def test_a_percentage_is_that_share_of_the_whole(percents: int, total: int, round_up: bool) -> None:
    share = Fraction(percents, 100) * total
    expected = math.ceil(share) if round_up else math.floor(share)
    assert intorstring.scaled(f"{percents}%", total, round_up=round_up) == expected


@given(st.integers(), st.integers(), st.booleans())
def test_a_number_stands_for_itself(number: int, total: int, round_up: bool) -> None:
    assert intorstring.scaled(number, total, round_up=round_up) == number


@pytest.mark.parametrize("text", ["", "%", "25", "-5%", "1.5%", "25 %", "٣%", "http", "1" * 5000 + "%"])
def test_what_is_no_percentage_is_refused(text: str) -> None:
    assert not intorstring.is_percentage(text)
    assert not intorstring.is_zero(text)
    with pytest.raises(ValueError, match="is not a percentage"):
        intorstring.scaled(text, 10, round_up=True)


def test_nothing_is_nothing_whatever_the_whole() -> None:
    assert intorstring.is_zero(0)
    assert intorstring.is_zero("0%")
    assert intorstring.is_zero("00%")
    assert not intorstring.is_zero("1%")
