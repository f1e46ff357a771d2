"""Amounts: exact, canonical, added up."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque.api import quantity

DIGITS = st.integers(min_value=0, max_value=10**9).map(str)
SUFFIXES = st.sampled_from(["", "n", "u", "m", "k", "M", "G", "Ki", "Mi", "Gi", "e3", "E-2", "e0"])
AMOUNTS = st.builds(
    lambda sign, whole, fraction, suffix: f"{sign}{whole}{fraction}{suffix}",
    st.sampled_from(["", "-", "+"]),
    DIGITS,
    st.one_of(st.just(""), st.integers(0, 999).map(lambda n: f".{n:03}")),
    SUFFIXES,
)


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("1000m", "1"),
        ("0", "0"),
        ("0m", "0"),
        (0.5, "500m"),
        (2, "2"),
        (1000, "1k"),
        ("100", "100"),
        ("1500", "1500"),
        ("1Gi", "1Gi"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("0.5Ki", "512"),
        ("0.9765625Ki", "1k"),
        ("1.5Ki", "1536"),
        ("2048Ki", "2Mi"),
        ("100000M", "100G"),
        ("1e3", "1e3"),
        ("12e6", "12e6"),
        ("0.1n", "1n"),
        ("-0.1n", "-1n"),
        ("16Ei", "9223372036854775807"),
        (1e-7, "100e-9"),
        ("+5", "5"),
        (".5", "500m"),
        ("5.", "5"),
    ],
)
def test_an_amount_has_one_canonical_form(written: str | int | float, canonical: str) -> None:
    assert quantity.canonical(written) == canonical


@pytest.mark.parametrize(
    "nonsense", ["", "abc", "1Kii", "1 Gi", "--1", "1e", "1e3Ki", "0x1", "1.2.3", "١", "1" * 200, True]
)
def test_nonsense_is_refused(nonsense: str) -> None:
    with pytest.raises(ValueError, match="quanti"):
        quantity.parse(nonsense)


@given(AMOUNTS)
def test_the_canonical_form_is_the_same_amount(written: str) -> None:
    canonical = quantity.canonical(written)
    assert quantity.parse(canonical) == quantity.parse(written)
    assert quantity.canonical(canonical) == canonical


@given(
    st.integers(-(10**15), 10**15),
    st.sampled_from([("m", Fraction(1, 1000)), ("", Fraction(1)), ("Mi", Fraction(2**20))]),
)
def test_parsing_is_exact(number: int, suffix: tuple[str, Fraction]) -> None:
    expected = max(Fraction(-(2**63) + 1), min(Fraction(2**63 - 1), number * suffix[1]))
    assert quantity.parse(f"{number}{suffix[0]}") == expected


def test_rounding_to_milli_and_whole_units_goes_up() -> None:
    assert quantity.milli("1") == 1000
    assert quantity.milli("100u") == 1
    assert quantity.whole("1.5") == 2
    assert quantity.whole("1Ki") == 1024


def test_resources_add_up_name_by_name() -> None:
    assert quantity.add({"cpu": "250m", "memory": "64Mi"}, {"cpu": 0.75, "pods": 1}) == {
        "cpu": "1",
        "memory": "64Mi",
        "pods": "1",
    }
    assert quantity.subtract({"cpu": "1", "memory": "1Gi"}, {"cpu": "250m", "memory": "512Mi"}) == {
        "cpu": "750m",
        "memory": "512Mi",
    }
    assert quantity.add({}, {"memory": "1Gi"}) == {"memory": "1Gi"}


@given(AMOUNTS, AMOUNTS)
def test_a_sum_is_exact_within_bounds(a: str, b: str) -> None:
    total = quantity.parse(a) + quantity.parse(b)
    if abs(total) < 2**63:
        assert quantity.parse(quantity.add({"x": a}, {"x": b})["x"]) == total


def test_what_does_not_fit_is_named() -> None:
    available = {"cpu": "2", "memory": "1Gi"}
    assert quantity.fits({"cpu": "2", "memory": "1024Mi"}, available) == []
    assert quantity.fits({"memory": "1025Mi", "cpu": "2001m"}, available) == ["cpu", "memory"]
    assert quantity.fits({"example.com/gpu": "0"}, available) == []
    assert quantity.fits({"example.com/gpu": "1"}, available) == ["example.com/gpu"]
