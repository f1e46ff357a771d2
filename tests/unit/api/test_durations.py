"""Durations in Go's notation, against a sum of fractions."""

from __future__ import annotations

import contextlib
import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque.api import durations

UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("0", "0s"),
        ("1h30m", "1h30m0s"),
        ("90m", "1h30m0s"),
        ("-1.5s", "-1.5s"),
        (".5s", "500ms"),
        ("1.s", "1s"),
        ("100us", "100µs"),
        ("1µs1ns", "1.001µs"),
        ("+2m", "2m0s"),
        ("0.1ns", "0s"),
    ],
)
def test_a_duration_has_one_text(text: str, shown: str) -> None:
    assert durations.show(durations.parse(text)) == shown


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", 'time: invalid duration ""'),
        ("h", 'time: invalid duration "h"'),
        (".s", 'time: invalid duration ".s"'),
        ("3", 'time: missing unit in duration "3"'),
        ("3d", 'time: unknown unit "d" in duration "3d"'),
        ("9999999h", 'time: invalid duration "9999999h"'),
    ],
)
def test_what_is_no_duration_is_refused_in_known_words(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(complaint)):
        durations.parse(text)


@given(st.integers(-(2**63), 2**63 - 1))
def test_what_is_shown_is_read_back(nanoseconds: int) -> None:
    assert durations.parse(durations.show(nanoseconds)) == nanoseconds


# Four of the longest are still within the 292 years that 64 bits of nanoseconds hold.
part = st.tuples(st.integers(0, 600_000), st.integers(0, 999), st.sampled_from(sorted(UNITS)))


@given(st.lists(part, min_size=1, max_size=4), st.booleans())
def test_a_duration_is_the_sum_of_its_parts(parts: list[tuple[int, int, str]], negative: bool) -> None:
    text = "".join(f"{whole}.{thousandths:03}{unit}" for whole, thousandths, unit in parts)
    each = [(whole + Fraction(thousandths, 1000)) * UNITS[unit] for whole, thousandths, unit in parts]
    total = sum(value.numerator // value.denominator for value in each)
    assert durations.parse(f"-{text}" if negative else text) == (-total if negative else total)


@given(st.text(max_size=30) | st.text("0123456789.+-nuµmsh", max_size=30))
def test_no_text_breaks_the_parser(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert abs(durations.parse(text)) <= 2**63
