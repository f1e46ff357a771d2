"""The order of `--sort-by`, and custom columns."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque.cli.customcolumns import parse_columns, parse_columns_file, row
from barque.cli.output import CliError
from barque.cli.sorting import natural, sort_by


def ordered(path: str, *values: Any) -> list[Any]:
    items = [{"v": value} for value in values]
    return [item["v"] for item in sort_by(path, items, lambda item: item)]


def test_numbers_quantities_times_and_text_each_by_their_own_measure() -> None:
    assert ordered(".v", 10, 9, 2) == [2, 9, 10]
    assert ordered("{.v}", "1Gi", "900Mi", "2G", "100k") == ["100k", "900Mi", "1Gi", "2G"]
    assert ordered("v", "1500m", "1", "2") == ["1", "1500m", "2"]
    assert ordered("v", "web-10", "web-2", "db") == ["db", "web-2", "web-10"]
    assert ordered("v", "2026-01-01T00:00:10Z", "2026-01-01T00:00:09.5Z", "2026-01-01T02:00:00+02:00") == [
        "2026-01-01T02:00:00+02:00",
        "2026-01-01T00:00:09.5Z",
        "2026-01-01T00:00:10Z",
    ]
    assert ordered("v", True, False) == [False, True]


def test_what_lacks_the_value_stands_first_and_equals_stay_as_they_were() -> None:
    items = [{"n": 1, "v": "b"}, {"n": 2}, {"n": 3, "v": "a"}, {"n": 4, "v": "b"}]
    assert [item["n"] for item in sort_by(".v", items, lambda item: item)] == [2, 3, 1, 4]


def test_a_path_that_finds_nothing_anywhere_is_an_error() -> None:
    with pytest.raises(CliError) as refused:
        ordered(".spec.x", 1)
    assert refused.value.message == 'couldn\'t find any field with path "{.spec.x}" in the list of objects'
    assert ordered(".spec.x") == []
    with pytest.raises(CliError, match="invalid array index x"):
        ordered(".v[x]", 1)
    with pytest.raises(CliError, match="unsortable type: map"):
        ordered(".v", {"a": 1})


@given(
    st.lists(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text())
)
def test_any_values_can_be_put_in_order_and_none_is_lost(values: list[Any]) -> None:
    got = ordered("v", *values)
    assert sorted(map(repr, got)) == sorted(map(repr, values))
    assert list(map(repr, ordered("v", *got))) == list(map(repr, got))


@given(st.text("ab-", max_size=3), st.integers(0, 10**6), st.integers(0, 10**6))
def test_numbers_within_text_count_as_numbers(prefix: str, a: int, b: int) -> None:
    assert (natural(f"{prefix}{a}") < natural(f"{prefix}{b}")) == (a < b)


POD = {
    "metadata": {"name": "web-1", "labels": {"b": "2", "a": "1"}},
    "spec": {"containers": [{"image": "web:1"}, {"image": "envoy:2"}], "ready": True},
}


def test_custom_columns() -> None:
    columns = parse_columns(
        "NAME:.metadata.name,IMAGES:{.spec.containers[*].image},NODE:.spec.nodeName,L:metadata.labels"
    )
    assert [column.header for column in columns] == ["NAME", "IMAGES", "NODE", "L"]
    assert row(columns, POD) == ["web-1", "web:1,envoy:2", "<none>", "map[a:1 b:2]"]
    filed = parse_columns_file("NAME       READY\n.metadata.name   .spec.ready\n")
    assert row(filed, POD) == ["web-1", "true"]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("", "custom-columns format specified but no custom columns given"),
        ("NAME", "unexpected custom-columns spec: NAME, expected <header>:<json-path-expr>"),
        ("NAME:", "unexpected custom-columns spec: NAME:, expected <header>:<json-path-expr>"),
        ("A:.a,B:{.b", "{.b: unexpected path string, expected a 'name1.name2' or"),
    ],
)
def test_columns_that_cannot_be_read(spec: str, words: str) -> None:
    with pytest.raises(CliError) as refused:
        parse_columns(spec)
    assert refused.value.message.startswith(words)


def test_a_columns_file_has_as_many_paths_as_headers() -> None:
    with pytest.raises(CliError, match=r"number of headers \(2\) and field specifications \(1\) don't match"):
        parse_columns_file("A B\n.a\n")
    with pytest.raises(CliError, match="invalid template file"):
        parse_columns_file("A B\n")
