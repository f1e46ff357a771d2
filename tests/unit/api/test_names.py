"""Names and what they may look like."""

from __future__ import annotations

import string
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from barque.api import names

Check = Callable[[str], list[str]]

LOWER = frozenset(string.ascii_lowercase + string.digits)
LETTERS = frozenset(string.ascii_letters + string.digits)
# Near misses: what names are made of, what they must not have, and what other alphabets take for a digit or a letter.
TEXTS = st.one_of(
    st.text(st.sampled_from("aZ09-._/"), max_size=8),
    st.text(st.sampled_from("a9-"), min_size=12, max_size=65),
    st.lists(st.sampled_from(["a", "b-1", "-", "x" * 63, "x" * 64, "é", "A", ""]), max_size=6).map(".".join),
    st.text(max_size=10),
    st.text(st.sampled_from("aA0 =\n\t~!٣²"), max_size=5),
)


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


def is_framed(text: str, ends: frozenset[str], between: str) -> bool:
    """Whether the text begins and ends with one of `ends`, and has only these and those of `between` in the middle."""
    return bool(text) and text[0] in ends and text[-1] in ends and all(c in ends or c in between for c in text)


def is_label(text: str) -> bool:
    return len(text) <= 63 and is_framed(text, LOWER, "-")


def is_subdomain(text: str) -> bool:
    # A dot-separated part of a name may be longer than a label: only the whole is bounded.
    return len(text) <= 253 and all(is_framed(part, LOWER, "-") for part in text.split("."))


def is_label_value(text: str) -> bool:
    return not text or (len(text) <= 63 and is_framed(text, LETTERS, "-_."))


def is_qualified(text: str) -> bool:
    *prefix, name = text.split("/")
    return bool(name) and is_label_value(name) and len(prefix) < 2 and all(map(is_subdomain, prefix))


def is_port_name(text: str) -> bool:
    framed = len(text) <= 15 and is_framed(text, LOWER, "-")
    return framed and "--" not in text and any(c in string.ascii_lowercase for c in text)


@pytest.mark.parametrize(
    ("check", "oracle"),
    [
        (names.dns1123_label, is_label),
        (names.dns1123_subdomain, is_subdomain),
        (names.dns1035_label, lambda text: is_label(text) and text[0] in string.ascii_lowercase),
        (names.label_value, is_label_value),
        (names.qualified_name, is_qualified),
        (names.port_name, is_port_name),
        (
            names.config_key,
            lambda text: (
                0 < len(text) <= 253
                and all(c in LETTERS or c in "-_." for c in text)
                and text[:2] != ".."
                and text != "."
            ),
        ),
        (names.env_var_name, lambda text: bool(text) and all(32 <= ord(c) < 127 and c != "=" for c in text)),
        (names.http_header_name, lambda text: bool(text) and all(c in LETTERS or c == "-" for c in text)),
    ],
)
def test_a_check_agrees_with_reading_letter_by_letter(check: Check, oracle: Callable[[str], bool]) -> None:
    @given(TEXTS)
    @example("a" * 253)
    @example("a/" + "b" * 63)
    @example("a." * 126 + "a")
    def agrees(text: str) -> None:
        assert (check(text) == []) == oracle(text)

    agrees()
