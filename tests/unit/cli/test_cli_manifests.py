"""Manifests: every way to write them, and every way to get them wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from barque.cli.manifests import parse, read_documents, select
from barque.cli.output import CliError, to_yaml

MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\n"


def values(text: str | bytes, source: str = "m.yaml") -> list[Any]:
    return [raw.data for raw in parse(source, text.encode() if isinstance(text, str) else text)]


def fault(text: str | bytes, source: str = "m.yaml") -> str:
    with pytest.raises(CliError) as caught:
        parse(source, text.encode() if isinstance(text, str) else text)
    return caught.value.message


def refusal(tmp_path: Path, text: str) -> str:
    file = tmp_path / "m.yaml"
    file.write_text(text)
    with pytest.raises(CliError) as caught:
        read_documents([str(file)])
    return caught.value.message.replace(f"{tmp_path}/", "")


def test_scalars_mean_what_they_mean_to_kubernetes() -> None:
    text = "[1, 0x1f, 0o17, 017, -5, 1.5, 1e3, yes, off, ~, 1:30, 2026-01-01, y, '1', 1_000, 08, .5, 1., v1, 0, =]"
    expected = [1, 31, 15, 15, -5, 1.5, 1000.0, True, False, None, "1:30", "2026-01-01", "y", "1", 1000]
    assert values(text)[0] == [*expected, 8.0, 0.5, 1.0, "v1", 0, "="]


def test_what_is_written_reads_back_the_same() -> None:
    odd = [
        "1e3",
        "yes",
        "y",
        "~",
        "",
        "0o17",
        "1:30",
        "2026-01-01T00:00:00Z",
        "- a",
        "a: b",
        "a\nb\n",
        " x",
        "<<",
        ".inf",
        "ü",
    ]
    assert values(to_yaml({"a": odd, "b": {"null": None, "1": 1.5}}))[0] == {"a": odd, "b": {"null": None, "1": 1.5}}


def test_many_documents_and_where_each_begins() -> None:
    raws = parse("m.yaml", b"---\na: 1\n---\n# nothing\n---\n\nb: 2\n...\n")
    assert [(raw.line, raw.data) for raw in raws] == [(2, {"a": 1}), (7, {"b": 2})]


def test_json_with_tabs_and_several_documents() -> None:
    assert values('{\n\t"a": 1\n}\n{"b": [true, null]}', "m.json") == [{"a": 1}, {"b": [True, None]}]
    assert values("{a: 1, b: x}") == [{"a": 1, "b": "x"}]


def test_anchors_and_merges() -> None:
    assert values("a: &x {k: 1, l: 2}\nb: {<<: *x, l: 3}\n")[0]["b"] == {"k": 1, "l": 3}


def test_keys_are_strings() -> None:
    assert values("{1: a, true: b, 1.5: c}")[0] == {"1": "a", "true": "b", "1.5": "c"}


def test_broken_yaml_is_named_with_line_and_column() -> None:
    assert fault("a: 1\nb: c: d\n") == "m.yaml:2:5: mapping values are not allowed in this context"
    assert fault("a: [1, 2\nb: 3\n") == "m.yaml:2:2: did not find expected ',' or ']'"
    assert fault("a:\n\t- 1\n") == "m.yaml:2:1: found character that cannot start any token"
    assert fault("a: *gone\n") == "m.yaml:1:4: the alias *gone stands for nothing"


def test_broken_json_is_named_with_line_and_column() -> None:
    assert fault('{"a": 1,\n "b" 2}', "m.json") == "m.json:2:6: Expecting ':' delimiter"


def test_duplicate_keys_are_refused() -> None:
    said = fault("spec:\n  a: 1\n  a: 2\n  b: 1\n  b: 2\n")
    assert said == 'm.yaml: line 3: key "a" already set in map; line 5: key "b" already set in map'
    assert fault('{"spec": {"a": 1, "a": 2}}', "m.json") == 'm.json: key "a" is given twice in one object'


def test_what_no_manifest_needs_is_refused() -> None:
    assert fault(b"a: \xff\xfe").startswith("m.yaml: not YAML: unacceptable character #x00ff")
    assert fault(b'{"a": "\xff"}', "m.json").startswith("m.json: not UTF-8 text at byte 7")
    assert fault("a: !!python/object:os.system {}").endswith("has no meaning in a manifest")
    assert fault("a: !secret x") == "m.yaml:1:4: the tag !secret has no meaning in a manifest"
    assert fault("? [1, 2]\n: x\n") == "m.yaml:1:3: a key must be a plain word"
    assert fault("a: &a [*a]\n") == "m.yaml:1:8: the alias *a stands for nothing"
    laughs = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 9))
    assert "aliases" in fault(f"l0: &l0 [x]\n{laughs}\n")


def test_deep_nesting_is_refused_without_a_crash() -> None:
    assert "nested too deeply" in fault('{"a":' * 100_000, "m.json")
    assert fault("[" * 200_000) == "m.yaml:1:202: nested too deeply"
    assert fault("- " * 100_000 + "x").endswith("nested too deeply")


def test_not_an_object(tmp_path: Path) -> None:
    begin = "an object is expected, with apiVersion, kind and metadata"
    assert refusal(tmp_path, "just text\n") == f"m.yaml:1: {begin}"
    assert refusal(tmp_path, "kind: Pod\n") == "m.yaml:1: apiVersion is missing"
    assert refusal(tmp_path, "apiVersion: v1\nkind: Pod\n") == "m.yaml:1: Pod: metadata is missing"
    assert refusal(tmp_path, "apiVersion: v1\nkind: Pod\nmetadata: {}\n") == "m.yaml:1: Pod: metadata.name is missing"


def test_unknown_kinds_come_with_a_hint(tmp_path: Path) -> None:
    said = refusal(tmp_path, "apiVersion: apps/v1\nkind: Deploymnt\nmetadata: {name: web}\n")
    assert said == (
        'm.yaml:1: Deploymnt "web": no matches for kind "Deploymnt" in version "apps/v1"; did you mean Deployment?'
    )
    old = refusal(tmp_path, "apiVersion: extensions/v1beta1\nkind: Deployment\nmetadata: {name: web}\n")
    assert (
        'no matches for kind "Deployment" in version "extensions/v1beta1"; did you mean Deployment of apps/v1?' in old
    )
    later = refusal(tmp_path, "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: x}\n")
    assert later.startswith(
        'm.yaml:1: CronJob "x": no matches for kind "CronJob" in version "batch/v1": barque does not'
    )


def test_binary_data_is_told_from_text(tmp_path: Path) -> None:
    assert fault(b"\x7fELF\x02\x01\x01\0\0") == "m.yaml: binary data, not a manifest (a null byte at 7)"
    assert values("a: ü\n".encode("utf-16")) == [{"a": "ü"}]


def test_only_the_identity_matters_to_some_verbs(tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(MAP % "a" + "dta: {}\n")
    (document,) = read_documents([str(file)], validation="")
    assert (document.name, document.namespace, document.resource.kind) == ("a", "", "ConfigMap")
    file.write_text(MAP % "a" + "dta: {}\n")
    (warned,) = read_documents([str(file)], validation="Warn")
    assert warned.warnings == ['unknown field "dta"']
    file.write_text(MAP % "[a]")
    with pytest.raises(CliError, match=r'metadata.name: expected string, got \["a"\]'):
        read_documents([str(file)])


def test_selected_by_label(tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(MAP % "a, labels: {app: web}" + "---\n" + MAP % "b")
    documents = read_documents([str(file)])
    assert [d.name for d in select(documents, "app in (web, api)")] == ["a"]
    assert select(documents, "") == documents
    with pytest.raises(CliError, match=r"^no object of the manifests has the labels app=gone$"):
        select(documents, "app=gone")
    with pytest.raises(CliError, match=r"unable to parse requirement"):
        select(documents, "a b c")


def test_wrong_types_are_named_by_path(tmp_path: Path) -> None:
    said = refusal(tmp_path, "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {replicas: many}\n")
    assert said.startswith('m.yaml:1: Deployment "web": ')
    assert "spec.replicas" in said


def test_every_faulty_document_is_named_at_once(tmp_path: Path) -> None:
    wrong = MAP % "a" + "dta: {}\n---\n" + MAP % "fine" + "---\n" + MAP % "b" + "binary: {}\n"
    lines = refusal(tmp_path, wrong).split("\n")
    assert [line.split(":")[0:2] for line in lines[:2]] == [["m.yaml", "1"], ["error", " m.yaml"]]
    assert 'unknown field "dta"' in lines[0]
    assert 'unknown field "binary"' in lines[1]
    assert lines[2] == "error: nothing was sent"


def test_lists_are_their_items(tmp_path: Path) -> None:
    file = tmp_path / "list.json"
    items = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": n}} for n in "ab"]
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    assert [d.name for d in read_documents([str(file)])] == ["a", "b"]


def test_folders(tmp_path: Path) -> None:
    below = tmp_path / "below"
    below.mkdir()
    (tmp_path / "b.yaml").write_text(MAP % "b")
    (tmp_path / "a.yml").write_text(MAP % "a")
    (tmp_path / "notes.txt").write_text("not a manifest")
    (below / "c.json").write_text(json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}))
    assert [d.name for d in read_documents([str(tmp_path)])] == ["a", "b"]
    assert [d.name for d in read_documents([str(tmp_path)], recursive=True)] == ["a", "b", "c"]


def test_paths_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(CliError, match=r'^the path "nowhere.yaml" does not exist$'):
        read_documents(["nowhere.yaml"])
    with pytest.raises(CliError, match=r"-R looks into the folders below it too$"):
        read_documents([str(tmp_path)])
    with pytest.raises(CliError, match=r"fetch it first"):
        read_documents(["https://example.org/web.yaml"])
