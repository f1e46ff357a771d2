"""JSON patch: the RFC's own examples, the wording of refusals, and that nothing happens by halves."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque.api.errors import ApiError
from barque.api.patch import json_patch

Document = dict[str, Any]

# RFC 6902, appendix A, those that apply: name, document, operations, result.
APPENDIX_A: list[tuple[str, Document, list[Document], Document]] = [
    ("A.1", {"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"baz": "qux", "foo": "bar"}),
    (
        "A.2",
        {"foo": ["bar", "baz"]},
        [{"op": "add", "path": "/foo/1", "value": "qux"}],
        {"foo": ["bar", "qux", "baz"]},
    ),
    ("A.3", {"baz": "qux", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}),
    ("A.4", {"foo": ["bar", "qux", "baz"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["bar", "baz"]}),
    (
        "A.5",
        {"baz": "qux", "foo": "bar"},
        [{"op": "replace", "path": "/baz", "value": "boo"}],
        {"baz": "boo", "foo": "bar"},
    ),
    (
        "A.6",
        {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
        [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
        {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
    ),
    (
        "A.7",
        {"foo": ["all", "grass", "cows", "eat"]},
        [{"op": "move", "from": "/foo/1", "path": "/foo/3"}],
        {"foo": ["all", "cows", "eat", "grass"]},
    ),
    (
        "A.8",
        {"baz": "qux", "foo": ["a", 2, "c"]},
        [{"op": "test", "path": "/baz", "value": "qux"}, {"op": "test", "path": "/foo/1", "value": 2}],
        {"baz": "qux", "foo": ["a", 2, "c"]},
    ),
    (
        "A.10",
        {"foo": "bar"},
        [{"op": "add", "path": "/child", "value": {"grandchild": {}}}],
        {"foo": "bar", "child": {"grandchild": {}}},
    ),
    (
        "A.11",
        {"foo": "bar"},
        [{"op": "add", "path": "/baz", "value": "qux", "xyz": 123}],
        {"foo": "bar", "baz": "qux"},
    ),
    ("A.14", {"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], {"/": 9, "~1": 10}),
    (
        "A.16",
        {"foo": ["bar"]},
        [{"op": "add", "path": "/foo/-", "value": ["abc", "def"]}],
        {"foo": ["bar", ["abc", "def"]]},
    ),
]


@pytest.mark.parametrize(
    ("document", "operations", "result"), [row[1:] for row in APPENDIX_A], ids=[row[0] for row in APPENDIX_A]
)
def test_the_examples_of_the_rfc(document: Document, operations: list[Document], result: Document) -> None:
    before = copy.deepcopy((document, operations))
    assert json_patch(document, operations) == result
    assert (document, operations) == before


POD: Document = {"metadata": {"labels": {"a/b": "1"}}, "spec": {"containers": [{"name": "a"}, {"name": "b"}]}}


@pytest.mark.parametrize(
    ("operation", "why"),
    [
        ({"op": "frob", "path": "/a"}, "Unexpected kind: frob"),
        ({"path": "/a"}, "Unexpected kind: unknown"),
        (
            {"op": "add", "path": "/x/y", "value": 1},  # A.12
            'add operation does not apply: doc is missing path: "/x/y": missing value',
        ),
        ({"op": "add", "path": "/x"}, "add operation, missing value field: missing value"),
        (
            {"op": "add", "value": 1},
            "add operation failed to decode path: operation missing path field: missing value",
        ),
        ({"op": "add", "path": "x", "value": 1}, "add operation failed to decode path: not a JSON pointer: x"),
        ({"op": "add", "path": "/~2", "value": 1}, "add operation failed to decode path: not a JSON pointer: /~2"),
        (
            {"op": "add", "path": "/spec/containers/3", "value": {}},
            "error in add for path: '/spec/containers/3': Unable to access invalid index: 3: invalid index referenced",
        ),
        (
            {"op": "add", "path": "/spec/containers/01", "value": {}},
            "error in add for path: '/spec/containers/01': value was not a proper array index: '01'",
        ),
        (
            {"op": "remove", "path": "/spec/nodeName"},
            "error in remove for path: '/spec/nodeName': Unable to remove nonexistent key: nodeName: missing value",
        ),
        (
            {"op": "remove", "path": "/spec/containers/2"},
            "error in remove for path: '/spec/containers/2': Unable to access invalid index: 2: "
            "invalid index referenced",
        ),
        (
            {"op": "remove", "path": "/spec/containers/-1"},
            "error in remove for path: '/spec/containers/-1': value was not a proper array index: '-1'",
        ),
        (
            {"op": "remove", "path": "/a/b"},
            'remove operation does not apply: doc is missing path: "/a/b": missing value',
        ),
        (
            {"op": "replace", "path": "/spec/nodeName", "value": "n"},
            "replace operation does not apply: doc is missing key: /spec/nodeName: missing value",
        ),
        (
            {"op": "replace", "path": "/spec/containers/-", "value": "n"},
            "replace operation does not apply: doc is missing key: /spec/containers/-: missing value",
        ),
        (
            {"op": "replace", "path": "/a/b", "value": "n"},
            "replace operation does not apply: doc is missing path: /a/b: missing value",
        ),
        (
            {"op": "move", "from": "/a/b", "path": "/c"},
            "move operation does not apply: doc is missing from path: /a/b: missing value",
        ),
        (
            {"op": "move", "from": "/a", "path": "/c"},
            "error in move for path: 'a': Unable to remove nonexistent key: a: missing value",
        ),
        (
            {"op": "move", "from": "/metadata", "path": "/c/d"},
            "move operation does not apply: doc is missing destination path: /c/d: missing value",
        ),
        (
            {"op": "move", "from": "/spec", "path": "/spec/containers/-"},
            "move operation does not apply: /spec cannot be moved into itself: /spec/containers/-",
        ),
        (
            {"op": "copy", "from": "/a", "path": "/c"},
            "copy operation does not apply: doc is missing from path: /a: missing value",
        ),
        (
            {"op": "copy", "from": "/spec", "path": "/c/d"},
            "copy operation does not apply: doc is missing destination path: /c/d: missing value",
        ),
        (
            {"op": "test", "path": "/a/b", "value": None},
            "test operation does not apply: is missing path: /a/b: missing value",
        ),
        (
            {"op": "test", "path": "/spec/containers/0/name", "value": "b"},  # A.9
            "testing value /spec/containers/0/name failed: test failed",
        ),
        ({"op": "remove", "path": ""}, "the patched document is not a JSON object"),
        ({"op": "replace", "path": "", "value": []}, "the patched document is not a JSON object"),
    ],
)
def test_an_operation_that_does_not_apply_is_named_and_undoes_the_others(operation: Document, why: str) -> None:
    document = copy.deepcopy(POD)
    with pytest.raises(ApiError) as refusal:
        json_patch(document, [{"op": "remove", "path": "/metadata/labels"}, operation])
    assert (refusal.value.code, refusal.value.reason) == (422, "Invalid")
    assert refusal.value.message == f"the server rejected our request due to an error in our request: {why}"
    assert document == POD


def test_escapes_and_the_whole_document() -> None:
    assert json_patch(POD, [{"op": "test", "path": "/metadata/labels/a~1b", "value": "1"}]) == POD
    assert json_patch(POD, [{"op": "replace", "path": "", "value": {"a": 1}}]) == {"a": 1}
    assert json_patch({"": 1}, [{"op": "remove", "path": "/"}]) == {}


@pytest.mark.parametrize(
    ("found", "wanted", "same"),
    [(1, True, False), (0, False, False), (1, 1.0, True), ("10", 10, False), (None, None, True), ([1], [True], False)],
)
def test_values_are_compared_as_json(found: Any, wanted: Any, same: bool) -> None:
    operations = [{"op": "test", "path": "/a", "value": wanted}]
    if same:
        assert json_patch({"a": found}, operations) == {"a": found}
    else:
        with pytest.raises(ApiError):
            json_patch({"a": found}, operations)


def test_what_is_copied_or_added_twice_is_not_shared() -> None:
    value = {"x": [1]}
    operations = [
        {"op": "add", "path": "/a", "value": value},
        {"op": "copy", "from": "/a", "path": "/b"},
        {"op": "add", "path": "/b/x/-", "value": 2},
        {"op": "add", "path": "/a/x/-", "value": 3},
    ]
    assert json_patch({}, operations) == {"a": {"x": [1, 3]}, "b": {"x": [1, 2]}}
    assert value == {"x": [1]}


@pytest.mark.parametrize("operations", [{}, None, ["x"], "remove"])
def test_what_is_no_patch_is_a_bad_request(operations: Any) -> None:
    with pytest.raises(ApiError) as refusal:
        json_patch({}, operations)
    assert refusal.value.code == 400


def test_a_patch_has_at_most_ten_thousand_operations() -> None:
    operation = {"op": "test", "path": "/a", "value": 1}
    assert json_patch({"a": 1}, [operation] * 10_000) == {"a": 1}
    with pytest.raises(ApiError) as refusal:
        json_patch({"a": 1}, [operation] * 10_001)
    assert (refusal.value.code, refusal.value.reason) == (413, "RequestEntityTooLarge")
    why = "The allowed maximum operations in a JSON patch is 10000, got 10001"
    assert refusal.value.message == f"Request entity too large: {why}"


def test_copies_cannot_grow_a_document_without_bound() -> None:
    doubling = [{"op": "copy", "from": "/a", "path": "/a/-"}] * 40
    with pytest.raises(ApiError, match="Unable to complete the copy, the accumulated size increase of copy is"):
        json_patch({"a": ["x" * 100]}, doubling)


def test_the_bound_of_copies_is_that_of_a_body() -> None:
    copying = {"op": "copy", "from": "/a", "path": "/b"}
    document = {"a": "x" * (1024 * 1024 - 2)}
    assert json_patch(document, [copying] * 3) == {**document, "b": document["a"]}
    with pytest.raises(ApiError) as refusal:
        json_patch(document, [copying] * 4)
    assert (refusal.value.code, refusal.value.reason) == (422, "Invalid")
    assert refusal.value.message.endswith(
        ": Unable to complete the copy, the accumulated size increase of copy is 4194304, exceeding the limit 3145728"
    )


def test_moves_cannot_nest_a_document_without_bound() -> None:
    nesting = [
        {"op": "add", "path": "/b", "value": {}},
        {"op": "move", "from": "/a", "path": "/b/a"},
        {"op": "move", "from": "/b", "path": "/a"},
    ]
    with pytest.raises(ApiError) as refusal:
        json_patch({"a": {}}, nesting * 3_000)
    assert (refusal.value.code, refusal.value.message) == (400, "the patch is nested too deeply")


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.integers(0, 3), st.booleans(), st.none(), st.sampled_from("xy")),
    lambda below: st.one_of(st.lists(below, max_size=3), st.dictionaries(st.sampled_from(["a", "b", "~/"]), below)),
    max_leaves=6,
)
DOCUMENTS = st.dictionaries(st.sampled_from(["a", "b", "~/"]), VALUES, max_size=3)
POINTERS = st.lists(st.sampled_from(["a", "b", "~0~1", "0", "1", "-"]), max_size=3).map(
    lambda tokens: "".join(f"/{token}" for token in tokens)
)
OPERATIONS = st.lists(
    st.fixed_dictionaries(
        {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]), "path": POINTERS},
        optional={"from": POINTERS, "value": VALUES},
    ),
    max_size=4,
)


@given(DOCUMENTS, OPERATIONS)
def test_random_patches_apply_whole_or_are_refused_and_change_no_argument(
    document: Document, operations: list[Document]
) -> None:
    before = copy.deepcopy((document, operations))
    try:
        patched = json_patch(document, operations)
    except ApiError as refusal:
        assert refusal.code == 422  # noqa: PT017 - both outcomes are right, each with its own property
    else:
        assert json_patch(patched, []) == patched
        assert all(json_patch(patched, [expecting(patched, name)]) == patched for name in patched)
    assert (document, operations) == before


def expecting(document: Document, name: str) -> Document:
    return {"op": "test", "path": "/" + name.replace("~", "~0").replace("/", "~1"), "value": document[name]}


@given(DOCUMENTS, DOCUMENTS)
def test_a_patch_that_adds_each_member_makes_any_document_of_any_other(old: Document, new: Document) -> None:
    removals = [{"op": "remove", "path": expecting(old, name)["path"]} for name in old]
    additions = [{**expecting(new, name), "op": "add"} for name in new]
    assert json_patch(old, [*removals, *additions]) == new
