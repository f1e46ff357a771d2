"""JSONPath as Kubernetes reads it: what is found, what is printed, and what is refused in client-go's words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque.cli.jsonpath import JsonPath, JsonPathError, relaxed

PODS: dict[str, Any] = {
    "kind": "List",
    "items": [
        {
            "metadata": {"name": "web-1", "labels": {"app": "web", "app.kubernetes.io/name": "shop"}},
            "spec": {"containers": [{"name": "main", "image": "web:1"}, {"name": "proxy", "image": "envoy:2"}]},
            "status": {"phase": "Running", "restarts": 3, "ready": True, "load": 0.5},
        },
        {
            "metadata": {"name": "db-1", "labels": {"app": "db"}},
            "spec": {"containers": [{"name": "main", "image": "db:7"}], "nodeName": "n2"},
            "status": {"phase": "Pending", "restarts": 0, "ready": False, "load": 2.0},
        },
    ],
}


@pytest.mark.parametrize(
    ("template", "printed"),
    [
        ("plain text", "plain text"),
        ("", ""),
        ("{.kind}", "List"),
        ("{$.kind}", "List"),
        ("{@.kind}", "List"),
        ("a {.kind} b", "a List b"),
        ("{.items[*].metadata.name}", "web-1 db-1"),
        ("{.items[0].metadata.name}", "web-1"),
        ("{.items[-1].metadata.name}", "db-1"),
        ("{.items[-1:].metadata.name}", "db-1"),
        ("{.items[0:1].metadata.name}", "web-1"),
        ("{.items[:].metadata.name}", "web-1 db-1"),
        ("{.items[::2].metadata.name}", "web-1"),
        ("{.items[0:0].metadata.name}", ""),
        ("{.items[0,1].metadata.name}", "web-1 db-1"),
        ("{.items[0]['metadata.name', 'status.phase']}", "web-1 Running"),
        ("{.items[0].metadata.labels['app']}", "web"),
        (r"{.items[0].metadata.labels.app\.kubernetes\.io/name}", "shop"),
        (r"{.items[0].metadata.labels['app\.kubernetes\.io/name']}", "shop"),
        ("{.items[0].metadata.labels['app.kubernetes.io/name']}", ""),
        ("{.items[1].metadata.labels.*}", "db"),
        ("{.items[0].metadata.labels}", '{"app":"web","app.kubernetes.io/name":"shop"}'),
        ("{..image}", "web:1 envoy:2 db:7"),
        ("{.items[*]..name}", "web-1 main proxy db-1 main"),
        ('{.items[?(@.metadata.name=="db-1")].status.phase}', "Pending"),
        ("{.items[?(@.metadata.name=='db-1')].status.phase}", "Pending"),
        ('{.items[?(@.metadata.name!="db-1")].status.phase}', "Running"),
        ("{.items[?(@.status.restarts>1)].metadata.name}", "web-1"),
        ("{.items[?(@.status.restarts<=0)].metadata.name}", "db-1"),
        ("{.items[?(@.status.load>=0.5)].metadata.name}", "web-1 db-1"),
        ("{.items[?(@.status.load>1)].metadata.name}", "db-1"),
        ("{.items[?(@.status.ready==true)].metadata.name}", "web-1"),
        ("{.items[?(@.spec.nodeName)].metadata.name}", "db-1"),
        ("{.items[?(@.metadata.name==\"(odd) 'name'\")].metadata.name}", ""),
        ('{range .items[*]}{.metadata.name}{"\\t"}{.status.phase}{"\\n"}{end}', "web-1\tRunning\ndb-1\tPending\n"),
        (
            '{range .items[*]}{.metadata.name}:{range .spec.containers[*]} {.name}{end}{"\\n"}{end}done',
            "web-1: main proxy\ndb-1: main\ndone",
        ),
        ("{range .nothing[*]}{.name}{end}after", "after"),
        ("{range .items[*]}{.metadata.name},", "web-1,db-1,"),
        ("{.missing.deeper}", ""),
        ("{.items[0].status.restarts} {.items[0].status.ready} {.items[0].status.load}", "3 true 0.5"),
        ('{"a\\u00e9\\x21\\""}', 'aé!"'),
        ("{'it\\'s'}", "it's"),
        ("{.kind }", "List"),
    ],
)
def test_what_a_template_prints(template: str, printed: str) -> None:
    assert JsonPath(template).render(PODS) == printed


def test_the_value_itself() -> None:
    for template in ("{.}", "{@}", "{$}"):
        assert json.loads(JsonPath(template).render(PODS)) == PODS


def test_as_json() -> None:
    assert JsonPath("{.items[*].metadata.name}").render_json(PODS) == '[\n    "web-1",\n    "db-1"\n]\n'


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{.items", "unclosed action"),
        ("{.items[0", "unterminated array"),
        ("{.items[x]}", "invalid array index x"),
        ("{.items[]}", "invalid array index "),
        ('{.items[?(@.name=="x"}', "unterminated filter"),
        ('{.items[?(@.name=="x")}', "unclosed array expect ]"),
        ('{.items[?(@.name=>"x")]}', "unrecognized filter operator =>"),
        ('{"open}', "unterminated quoted string"),
        ("{foo}", "unrecognized identifier foo"),
        ("{end}", "not in range, nothing to end"),
        ("{.....name}", "invalid multiple recursive descent"),
        ("{#}", "unrecognized character in action: U+0023 '#'"),
        ("{1.2.3}", "cannot parse number 1.2.3"),
        ('{"\\q"}', 'unquote string "\\q" error invalid syntax'),
    ],
)
def test_a_template_that_cannot_be_read(template: str, words: str) -> None:
    with pytest.raises(JsonPathError) as refused:
        JsonPath(template)
    assert str(refused.value) == words


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{.items[5]}", "array index out of bounds: index 5, length 2"),
        ("{.items[-3]}", "array index out of bounds: index -1, length 2"),
        ("{.items[0:9]}", "array index out of bounds: index 8, length 2"),
        ("{.items[1:-2]}", "starting index 1 is greater than ending index 0"),
        ("{.items[::0]}", "step must be > 0"),
        ("{.kind[0]}", "string is not array or slice"),
        ("{.items[0].metadata[0]}", "map[string]interface {} is not array or slice"),
        ("{.kind[?(@.a)]}", "List is not array or slice and cannot be filtered"),
        ('{.items[?(@.status.restarts=="3")]}', "incompatible types for comparison"),
        ("{.items[?(@.status.ready>true)]}", "invalid type for comparison"),
        ('{.items[?(@..name=="main")]}', "can only compare one element at a time"),
    ],
)
def test_data_a_template_does_not_fit(template: str, words: str) -> None:
    with pytest.raises(JsonPathError) as refused:
        JsonPath(template).render(PODS)
    assert str(refused.value) == words


def test_columns_and_sort_keys_may_leave_out_braces_and_dot() -> None:
    assert {relaxed(path) for path in ("a.b", ".a.b", "{a.b}", "{.a.b}")} == {"{.a.b}"}
    with pytest.raises(JsonPathError, match="unexpected path string"):
        relaxed("{.a}{.b}")


keys = st.text(st.characters(codec="utf-8", exclude_characters="'\n"), min_size=1, max_size=8)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=20,
)


def _escaped(key: str) -> str:
    return "".join("\\" + c if c in " \t\r\n.,[]$@{}" else c for c in key)


@given(st.dictionaries(keys.filter(lambda k: "\\" not in k and k != "*"), documents, min_size=1))
def test_every_member_can_be_named(document: dict[str, Any]) -> None:
    for key, value in document.items():
        assert JsonPath(f"{{.{_escaped(key)}}}").values(document) == [value]


@given(st.lists(documents), st.integers(-6, 6), st.integers(-6, 6), st.integers(1, 3))
def test_a_slice_is_python_s_wherever_its_bounds_are_inside(items: list[Any], start: int, stop: int, step: int) -> None:
    path = JsonPath(f"{{.a[{start}:{stop}:{step}]}}")
    try:
        assert path.values({"a": items}) == items[start:stop:step]
    except JsonPathError:
        first = start + len(items) if start < 0 else start
        last = stop + len(items) if stop < 0 else stop
        assert not 0 <= first < len(items) or not 0 <= last <= len(items) or first > last


@given(documents)
def test_descent_meets_every_member(document: Any) -> None:
    def everything(value: Any) -> list[Any]:
        below = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
        return ([value] if isinstance(value, (dict, list, str)) and value else []) + [
            found for member in below for found in everything(member)
        ]

    assert JsonPath("{..}").values(document) == everything(document)


@given(st.text(max_size=40), documents)
def test_no_template_breaks_it(template: str, document: Any) -> None:
    for text in (template, f"{{{template}}}", f"{{.a[{template}]}}"):
        try:
            JsonPath(text).render(document)
        except JsonPathError as refused:
            assert "\n" not in str(refused) or "\n" in text  # noqa: PT017
