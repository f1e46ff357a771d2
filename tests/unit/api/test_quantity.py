"""Amounts: exact, canonical, against arithmetic on fractions."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque.api import quantity

NANO = Fraction(1, 10**9)
MAX = 2**63 - 1
FACTORS = {
    **{
        suffix: Fraction(10) ** (3 * step)
        for step, suffix in enumerate(["n", "u", "m", "", "k", "M", "G", "T", "P", "E"], -3)
    },
    **{suffix: Fraction(1024) ** step for step, suffix in enumerate(["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"], 1)},
    **{f"{sign}{exponent}": Fraction(10) ** exponent for sign in "eE" for exponent in (-9, -2, 0, 3, 21)},
}
NUMBERS = st.builds(
    lambda sign, whole, fraction: (f"{sign}{whole}{fraction}", Fraction(f"{sign}{whole}{fraction}")),
    st.sampled_from(["", "-", "+"]),
    st.integers(0, 10**12),
    st.one_of(st.just(""), st.integers(0, 10**11 - 1).map(lambda n: f".{n:011}")),
)
AMOUNTS = st.tuples(NUMBERS, st.sampled_from(sorted(FACTORS)))


def meant(amount: tuple[tuple[str, Fraction], str]) -> Fraction:
    """What the text means: rounded away from zero to a nano, held where its suffix is binary."""
    (_, number), suffix = amount
    exact = number * FACTORS[suffix]
    nanos = -(-abs(exact) // NANO)
    rounded = nanos * NANO * (1 if exact >= 0 else -1)
    return max(Fraction(-MAX), min(Fraction(MAX), rounded)) if suffix.endswith("i") else rounded


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("1000m", "1"),
        ("0", "0"),
        ("0m", "0"),
        ("-0", "0"),
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
        ("0.1Ki", "102400m"),
        ("1.00048828125Ki", "1024500m"),
        ("2048Ki", "2Mi"),
        ("-2048Ki", "-2Mi"),
        ("100000M", "100G"),
        ("1e3", "1e3"),
        ("1E3", "1e3"),
        ("1000e0", "1e3"),
        ("12e6", "12e6"),
        ("1E", "1E"),
        ("0.1n", "1n"),
        ("-0.1n", "-1n"),
        ("16Ei", "9223372036854775807"),
        ("-16Ei", "-9223372036854775807"),
        ("10E", "10E"),
        ("1000E", "1e21"),
        ("18446744073709551616", "18446744073709551616"),
        (1e-7, "100n"),
        ("+5", "5"),
        (".5", "500m"),
        ("5.", "5"),
        ("5.G", "5G"),
    ],
)
def test_an_amount_has_one_canonical_form(written: str | int | float, canonical: str) -> None:
    assert quantity.canonical(written) == canonical


FORM = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
NUMERIC = "unable to parse numeric part of quantity"
SUFFIX = "unable to parse quantity's suffix"


@pytest.mark.parametrize(
    ("nonsense", "complaint"),
    [
        ("", FORM),
        ("abc", FORM),
        ("1 Gi", FORM),
        ("--1", FORM),
        ("0x1", FORM),
        ("١", FORM),
        ("1" * 200, FORM),
        ("1.2.3", NUMERIC),
        (".", NUMERIC),
        ("1Kii", SUFFIX),
        ("1KI", FORM),
        ("1e", SUFFIX),
        ("1e3Ki", FORM),
        ("1e1234", SUFFIX),
        (True, "a truth value is not a quantity"),
        (float("inf"), FORM),
    ],
)
def test_nonsense_is_refused_in_known_words(nonsense: str, complaint: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(complaint)):
        quantity.parse(nonsense)


@given(AMOUNTS)
def test_an_amount_is_what_fractions_say(amount: tuple[tuple[str, Fraction], str]) -> None:
    assert quantity.parse(f"{amount[0][0]}{amount[1]}") == meant(amount)


@given(AMOUNTS)
def test_the_canonical_form_is_the_same_amount(amount: tuple[tuple[str, Fraction], str]) -> None:
    canonical = quantity.canonical(f"{amount[0][0]}{amount[1]}")
    assert quantity.parse(canonical) == meant(amount)
    assert quantity.canonical(canonical) == canonical


def test_rounding_to_milli_and_whole_units_goes_up() -> None:
    assert quantity.milli("1") == 1000
    assert quantity.milli("100u") == 1
    assert quantity.whole("1.5") == 2
    assert quantity.whole("1Ki") == 1024
    assert quantity.whole("-1.5") == -1


def test_a_sum_is_printed_like_its_first_amount() -> None:
    assert quantity.total(["1Gi", 1024]) == "1048577Ki"
    assert quantity.total([0, "1Gi", 1]) == "1073741825"
    assert quantity.total(["1500m", "1Gi"]) == "1073741825500m"
    assert quantity.total([]) == "0"
    assert quantity.negative("1Gi") == "-1Gi"


@given(st.lists(AMOUNTS, max_size=5))
def test_a_sum_is_exact(amounts: list[tuple[tuple[str, Fraction], str]]) -> None:
    total = quantity.total([f"{amount[0][0]}{amount[1]}" for amount in amounts])
    expected = sum(map(meant, amounts), Fraction(0))
    if abs(expected) <= MAX:
        assert quantity.parse(total) == expected
