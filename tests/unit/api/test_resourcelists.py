"""Arithmetic on resource lists, against fractions."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from barque.api import quantity, resourcelists

NAMES = st.sampled_from(["cpu", "memory", "pods", "example.com/gpu"])
AMOUNTS = st.builds(
    lambda number, suffix: f"{number}{suffix}",
    st.integers(-(10**6), 10**6),
    st.sampled_from(["", "m", "k", "Mi", "e3"]),
)
LISTS = st.dictionaries(NAMES, AMOUNTS)


def exact(amounts: dict[str, str]) -> dict[str, Fraction]:
    return {name: quantity.parse(amount) for name, amount in amounts.items()}


def test_lists_add_up_name_by_name() -> None:
    assert resourcelists.add({"cpu": "250m", "memory": "64Mi"}, {"cpu": 0.75, "pods": 1}) == {
        "cpu": "1",
        "memory": "64Mi",
        "pods": "1",
    }
    assert resourcelists.subtract({"cpu": "1", "memory": "1Gi"}, {"cpu": "250m", "memory": "512Mi", "pods": 1}) == {
        "cpu": "750m",
        "memory": "512Mi",
        "pods": "-1",
    }
    assert resourcelists.add({}, {"memory": "1Gi"}) == {"memory": "1Gi"}
    assert resourcelists.add() == {}


def test_the_largest_of_each_name() -> None:
    assert resourcelists.largest({"cpu": "1500m"}, {"cpu": 1, "memory": "-1Gi"}) == {"cpu": "1500m", "memory": "-1Gi"}


def test_a_node_has_only_what_it_names() -> None:
    available = {"cpu": "2", "memory": "1Gi"}
    assert resourcelists.lacking({"cpu": "2", "memory": "1024Mi"}, available) == []
    assert resourcelists.lacking({"memory": "1025Mi", "cpu": "2001m"}, available) == ["cpu", "memory"]
    assert resourcelists.lacking({"example.com/gpu": "0"}, available) == []
    assert resourcelists.lacking({"example.com/gpu": "1"}, available) == ["example.com/gpu"]


def test_a_quota_limits_only_what_it_names() -> None:
    quota = {"pods": "10", "cpu": "4"}
    assert resourcelists.exceeding({"pods": 10, "cpu": "4001m", "memory": "1Ti"}, quota) == ["cpu"]
    assert resourcelists.restrict({"pods": 10, "memory": "1Ti"}, quota) == {"pods": 10}


@given(LISTS, LISTS)
def test_sums_and_differences_are_exact(a: dict[str, str], b: dict[str, str]) -> None:
    names = a.keys() | b.keys()
    left, right = exact(a), exact(b)
    assert exact(resourcelists.add(a, b)) == {name: left.get(name, 0) + right.get(name, 0) for name in names}
    assert exact(resourcelists.subtract(a, b)) == {name: left.get(name, 0) - right.get(name, 0) for name in names}


@given(LISTS, LISTS)
def test_what_is_taken_away_again_leaves_what_was(a: dict[str, str], b: dict[str, str]) -> None:
    again = exact(resourcelists.subtract(resourcelists.add(a, b), b))
    assert {name: value for name, value in again.items() if value} == {n: v for n, v in exact(a).items() if v}


@given(LISTS, LISTS)
def test_the_largest_covers_both_and_is_one_of_them(a: dict[str, str], b: dict[str, str]) -> None:
    for name, value in exact(resourcelists.largest(a, b)).items():
        have = [each[name] for each in (exact(a), exact(b)) if name in each]
        assert value == max(have)


@given(LISTS, LISTS)
def test_fitting_is_comparing_every_name(request: dict[str, str], available: dict[str, str]) -> None:
    have = exact(available)
    expected = sorted(n for n, need in exact(request).items() if need > 0 and need > have.get(n, 0))
    assert resourcelists.lacking(request, available) == expected
    over = sorted(n for n, want in exact(request).items() if n in have and want > have[n])
    assert resourcelists.exceeding(request, available) == over
