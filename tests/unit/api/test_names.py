"""Names and what they may look like."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from barque.api import names

Check = Callable[[str], list[str]]


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (
            names.dns1123_label,
            ["a", "web-1", "1a", "a" * 63],
            ["", "-a", "a-", "A", "a.b", "a_b", "a" * 64, "a\n", "é"],
        ),
        (names.dns1123_subdomain, ["a.b", "web", "1.2.3"], ["", ".a", "a..b", "a.", "A.b", "a" * 254]),
        (names.dns1035_label, ["a", "web-1"], ["1a", "-a", "a-", "a.b", ""]),
        (
            names.qualified_name,
            ["app", "example.com/app", "A_b.c"],
            ["", "/a", "a/", "a/b/c", "Ex.com/a", "-a", "a" * 64],
        ),
        (names.label_value, ["", "A", "a.b_c-d"], ["-", "a b", "a" * 64]),
        (names.config_key, ["key.name", "KEY_1", ".hidden"], ["", "a/b", ".", "..", "..a", "a b"]),
        (names.env_var_name, ["PATH", "a.b-c", "1A", "with space"], ["", "A=B", "é", "a\tb"]),
        (names.port_name, ["http", "p-1", "8080-x"], ["", "80", "a--b", "-a", "a-", "HTTP", "a" * 16]),
        (names.http_header_name, ["X-A", "Host"], ["", "a b", "a:"]),
    ],
)
def test_a_name_check_knows_good_from_bad(check: Check, good: list[str], bad: list[str]) -> None:
    assert [name for name in good if check(name)] == []
    assert [name for name in bad if not check(name)] == []


def test_ports_are_1_to_65535() -> None:
    assert [port for port in (-1, 0, 1, 65535, 65536) if not names.port_number(port)] == [1, 65535]


def test_faults_are_worded_as_kubernetes_words_them() -> None:
    assert names.dns1123_label("Web") == [
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
        "with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
        "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
    ]
    assert names.label_value("a" * 64) == ["must be no more than 63 characters"]
    assert names.qualified_name("/a") == ["prefix part must be non-empty"]
