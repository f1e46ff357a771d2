"""docs/compatibility.md: that it is fresh, whole, and names no test or row that is not there."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.support import compatibility
from tests.support.compatibility import DIFFERS, PATHS, Row


def rows() -> dict[str, Row]:
    return {row.name: row for section in compatibility.sections().values() for row in section}


def test_the_page_is_fresh() -> None:
    assert compatibility.PAGE.read_text() == compatibility.render(), "run: make generate"


def test_every_published_kind_is_served_or_known() -> None:
    assert compatibility.unknown() == set()


def test_marks_and_differences_name_rows_that_there_are() -> None:
    assert compatibility.shown().keys() | DIFFERS.keys() <= rows().keys() | PATHS.keys()


def test_a_row_says_what_works_what_differs_and_what_is_absent() -> None:
    everything = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
    row = Row("pods", "Pod", everything, tuple(verb for verb in everything if verb != "watch"))
    how = DIFFERS["pods"][1]
    proof = "[test_kubectl.py::test_get](../tests/e2e/test_kubectl.py)"
    assert compatibility._render(row, ["e2e/test_kubectl.py::test_get"]) == (
        f"| `pods` Pod | ✓ | ✓ | ✗ | ≈ | ≈ | ≈ | ✓ | ✓ | {how} | {proof} |\n"
    )
    absent = Row("limitranges", "LimitRange", ("get", "create"), ())
    assert compatibility._render(absent, []) == "| `limitranges` LimitRange | ✗ |  |  | ✗ |  |  |  |  |  |  |\n"


def test_subresources_are_rows_of_their_own() -> None:
    found = rows()
    assert found["pods/eviction"].published == ("create",)
    assert found["deployments.apps/scale"].works
    assert found["pods/exec"].published == ("create", "get")
    assert "selfsubjectreviews.authentication.k8s.io/status" not in found
    assert found["resourceclaims.resource.k8s.io/status"].served == ()


def test_marks_are_read_of_functions_and_of_modules(tmp_path: Path) -> None:
    text = (
        "pytestmark = [pytest.mark.root, pytest.mark.shows('nodes')]\n"
        "@pytest.mark.parametrize('a', [1])\n@pytest.mark.shows('pods', 'pods/log')\nasync def test_one(): ...\n"
    )
    assert sorted(compatibility._marks(ast.parse(text))) == [("", ["nodes"]), ("test_one", ["pods", "pods/log"])]
    (tmp_path / "test_it.py").write_text(text)
    assert compatibility.shown(tmp_path) == {
        "nodes": ["test_it.py"], "pods": ["test_it.py::test_one"], "pods/log": ["test_it.py::test_one"],
    }  # fmt: skip
