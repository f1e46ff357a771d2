"""Label and field selectors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque.api import fields, resources, selectors
from barque.api.errors import ApiError
from barque.api.types.meta_v1 import LabelSelector, LabelSelectorRequirement
from tests.support.builders import a_config_map, a_node, a_pod, a_replica_set

PODS = resources.by_plural("", "pods")
KEYS = st.sampled_from(["app", "tier", "example.com/role"])
VALUES = st.sampled_from(["", "a", "b", "web-1", "x.y_z"])
LABELS = st.dictionaries(KEYS, VALUES)
REQUIREMENTS = st.one_of(
    st.builds(
        selectors.Requirement,
        KEYS,
        st.sampled_from(["In", "NotIn"]),
        st.lists(VALUES, min_size=1).map(lambda v: tuple(sorted(set(v)))),
    ),
    st.builds(selectors.Requirement, KEYS, st.sampled_from(["Exists", "DoesNotExist"])),
    st.builds(selectors.Requirement, KEYS, st.sampled_from(["Gt", "Lt"]), st.integers(-5, 5).map(lambda n: (str(n),))),
)


@pytest.mark.parametrize(
    ("text", "labels", "selected"),
    [
        ("", {}, True),
        ("  ", {"app": "web"}, True),
        ("app=web", {"app": "web"}, True),
        ("app==web", {"app": "db"}, False),
        ("app=web", {}, False),
        ("app!=web", {}, True),
        ("app != web", {"app": "web"}, False),
        ("app", {"app": ""}, True),
        ("!app", {"app": ""}, False),
        ("! app", {}, True),
        ("tier in (front, back)", {"tier": "back"}, True),
        ("tier in (front,back),app=web", {"tier": "back"}, False),
        ("tier notin (front)", {}, True),
        ("tier notin (front)", {"tier": "front"}, False),
        ("app=", {"app": ""}, True),
        ("app=,tier", {"app": "", "tier": "x"}, True),
        ("app in (,web)", {"app": ""}, True),
        ("rank>3", {"rank": "10"}, True),
        ("rank>3", {"rank": "3"}, False),
        ("rank<3", {"rank": "10"}, False),
        ("rank<3", {"rank": "3"}, False),
        ("rank>3", {"rank": "high"}, False),
        ("rank>3", {}, False),
        ("in in (in)", {"in": "in"}, True),
        ("example.com/app=web", {"example.com/app": "web"}, True),
    ],
)
def test_a_label_selector_selects(text: str, labels: dict[str, str], selected: bool) -> None:
    assert selectors.parse_labels(text).matches(labels) is selected


@pytest.mark.parametrize(
    "text",
    [
        "app=web,",
        ",app",
        "=web",
        "app=a=b",
        "app in",
        "app in web",
        "app in (a",
        "app in (a b)",
        "rank>x",
        "a b",
        "app=?",
        "-a",
        "a/b/c=d",
        "()",
        "!",
        "/a",
    ],
)
def test_a_malformed_selector_is_a_bad_request(text: str) -> None:
    with pytest.raises(ApiError, match="unable to parse requirement") as refusal:
        selectors.parse_labels(text)
    assert refusal.value.code == 400


@given(st.lists(REQUIREMENTS, max_size=4), LABELS)
def test_a_printed_selector_selects_the_same(requirements: list[selectors.Requirement], labels: dict[str, str]) -> None:
    selector = selectors.Labels(tuple(requirements))
    assert selectors.parse_labels(str(selector)).matches(labels) == selector.matches(labels)


@pytest.mark.parametrize("operator", ["In", "NotIn", "Exists", "DoesNotExist"])
@pytest.mark.parametrize("labels", [{}, {"app": "v3"}, {"app": "other"}])
def test_many_values_select_as_few_do(operator: str, labels: dict[str, str]) -> None:
    """Of more than some, those of In and NotIn are looked up; the others have none to look at."""
    requirement = selectors.Requirement("app", operator, tuple(f"v{n}" for n in range(20)))
    assert selectors.Labels((requirement,)).matches(labels) is requirement.matches(labels)


# A clause as somebody may write it, its key, and what it says of the label's value (None where there is none).
Clause = tuple[str, str, Callable[[str | None], bool]]
SPACES = st.sampled_from(["", " ", "  "])


def equality(key: str, sign: str, value: str, space: str) -> Clause:
    return f"{key}{space}{sign}{space}{value}", key, lambda have: (have == value) == (sign != "!=")


def membership(key: str, word: str, values: list[str], space: str) -> Clause:
    return f"{key} {word} ({f',{space}'.join(values)})", key, lambda have: (have in values) == (word == "in")


def presence(key: str, sign: str, space: str) -> Clause:
    return f"{space}{sign}{space}{key}{space}", key, lambda have: (have is None) == (sign == "!")


def comparison(key: str, sign: str, bound: int) -> Clause:
    def holds(have: str | None) -> bool:
        return have is not None and have.isdigit() and (int(have) > bound if sign == ">" else int(have) < bound)

    return f"{key}{sign}{bound}", key, holds


CLAUSES = st.one_of(
    st.builds(equality, KEYS, st.sampled_from(["=", "==", "!="]), VALUES, SPACES),
    st.builds(membership, KEYS, st.sampled_from(["in", "notin"]), st.lists(VALUES, min_size=1, max_size=3), SPACES),
    st.builds(presence, KEYS, st.sampled_from(["", "!"]), SPACES),
    st.builds(comparison, KEYS, st.sampled_from("<>"), st.integers(-1, 3)),
)


@given(st.lists(CLAUSES, max_size=4), st.dictionaries(KEYS, VALUES | st.integers(0, 3).map(str)))
def test_a_selector_means_what_its_clauses_say(clauses: list[Clause], labels: dict[str, str]) -> None:
    selector = selectors.parse_labels(",".join(text for text, _, _ in clauses))
    assert selector.matches(labels) == all(holds(labels.get(key)) for _, key, holds in clauses)


@given(st.text(max_size=20) | st.text("ab=!,() innot<>/-.", max_size=20))
def test_no_text_breaks_the_parsers(text: str) -> None:
    for parse in (selectors.parse_labels, lambda text: selectors.parse_fields(text, PODS)):
        with contextlib.suppress(ApiError):
            parsed = parse(text)
            assert parse(str(parsed)) == parsed


@given(
    st.lists(
        st.tuples(st.sampled_from(PODS.fields), st.booleans(), st.text("a,=!\\ é", max_size=6).map(str.strip)),
        max_size=3,
    )
)
def test_a_field_selector_is_read_back_whatever_its_values(clauses: list[tuple[str, bool, str]]) -> None:
    selector = selectors.Fields(tuple(selectors.FieldRequirement(*clause) for clause in clauses))
    assert selectors.parse_fields(str(selector), PODS) == selector


def test_no_selector_selects_nothing_and_an_empty_one_everything() -> None:
    nothing = selectors.from_label_selector(None)
    assert not nothing.matches({})
    assert not selectors.parse_labels(str(nothing)).matches({"app": "web"})
    assert selectors.from_label_selector(LabelSelector()).matches({"app": "web"})


def test_an_objects_selector_combines_labels_and_expressions() -> None:
    selector = selectors.from_label_selector(
        LabelSelector(
            matchLabels={"app": "web"},
            matchExpressions=[LabelSelectorRequirement(key="tier", operator="NotIn", values=["back"])],
        )
    )
    assert selector.matches({"app": "web"})
    assert not selector.matches({"app": "web", "tier": "back"})
    assert str(selector) == "app=web,tier!=back"


def test_an_unknown_operator_of_an_objects_selector_is_refused() -> None:
    selector = LabelSelector(matchExpressions=[LabelSelectorRequirement(key="tier", operator="Near")])
    with pytest.raises(ApiError, match="Near"):
        selectors.from_label_selector(selector)


def test_pods_are_selected_by_their_fields() -> None:
    pod = fields.selectable(a_pod("web").on("n1").ready().build(), PODS)
    assert selectors.parse_fields("spec.nodeName=n1,status.phase!=Failed", PODS).matches(pod)
    assert not selectors.parse_fields("metadata.name==db", PODS).matches(pod)
    assert selectors.parse_fields("metadata.namespace=default", PODS).matches(pod)
    assert selectors.parse_fields("status.podIP=", PODS).matches(pod)


def test_a_field_selector_tells_what_it_pins() -> None:
    selector = selectors.parse_fields("spec.nodeName=n1,status.phase!=Failed", PODS)
    assert selector.equal("spec.nodeName") == "n1"
    assert selector.equal("status.phase") is None
    assert str(selector) == "spec.nodeName=n1,status.phase!=Failed"
    assert selectors.parse_fields("", PODS).empty


def test_escapes_protect_commas_and_equal_signs() -> None:
    selector = selectors.parse_fields(r"metadata.name=a\,b\=c", PODS)
    assert selector.equal("metadata.name") == "a,b=c"
    assert selectors.parse_fields(str(selector), PODS) == selector


def test_a_field_nobody_indexed_is_refused() -> None:
    with pytest.raises(ApiError, match=r"field label not supported: spec\.hostname"):
        selectors.parse_fields("spec.hostname=x", PODS)
    with pytest.raises(ApiError, match="invalid selector"):
        selectors.parse_fields("spec.nodeName", PODS)


def test_selectable_fields_are_text_and_empty_when_unset() -> None:
    node = fields.selectable(a_node("n1").build(), resources.by_plural("", "nodes"))
    assert node == {"metadata.name": "n1", "metadata.namespace": "", "spec.unschedulable": "false"}
    cordoned = fields.selectable(a_node("n1").unschedulable().build(), resources.by_plural("", "nodes"))
    assert cordoned["spec.unschedulable"] == "true"
    replica_set = fields.selectable(a_replica_set().has(3).build(), resources.by_plural("apps", "replicasets"))
    assert replica_set["status.replicas"] == "3"
    assert fields.selectable(a_pod().build(), PODS)["spec.nodeName"] == ""
    config = fields.selectable(a_config_map("c").build(), resources.by_plural("", "configmaps"))
    assert config == {"metadata.name": "c", "metadata.namespace": "default"}
