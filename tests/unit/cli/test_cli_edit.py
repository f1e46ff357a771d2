"""`barque edit`: what is opened, what becomes of what is saved, and that no edit is ever lost or undoes another's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from barque.api.patch import merge_patch
from barque.cli.editing import changes, clash
from tests.support.builders import a_config_map, a_deployment
from tests.support.registry_cluster import RegistryCluster, run


class Editor:
    """A script that keeps what it was opened with and makes the changes of its rounds, one round each time."""

    def __init__(self, folder: Path, *rounds: str) -> None:
        self._folder = folder
        for number, script in enumerate(rounds, 1):
            (folder / f"round-{number}").write_text(script)
        self._program = folder / "editor"
        self._program.write_text(
            "#!/bin/sh\n"
            f"cd {folder}\n"
            "n=$(ls opened-* 2>/dev/null | wc -l); n=$((n + 1))\n"
            'cp "$1" opened-$n\n'
            'test -f round-$n && FILE="$1" sh round-$n\n'
            "true\n"
        )
        self._program.chmod(0o755)

    @property
    def opened(self) -> list[str]:
        return [file.read_text() for file in sorted(self._folder.glob("opened-*"))]

    def run(self, cluster: RegistryCluster, *arguments: str) -> Any:
        environment = {"BARQUE_EDITOR": str(self._program), "TMPDIR": str(self._folder)}
        return run(cluster, "edit", *arguments, env=environment)

    def left_behind(self) -> list[Path]:
        return list(self._folder.glob("barque-edit-*"))


@pytest.fixture
def cluster() -> RegistryCluster:
    return RegistryCluster(a_config_map("web", colour="red", size="big").build())


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def data(cluster: RegistryCluster) -> dict[str, str]:
    found: dict[str, str] = cluster.one("configmaps", "web")["data"]
    return found


RED_TO_BLUE = 'sed -i s/red/blue/ "$FILE"\n'


def test_what_is_saved_is_written(cluster: RegistryCluster, tmp_path: Path) -> None:
    editor = Editor(tmp_path, RED_TO_BLUE)
    result = editor.run(cluster, "cm/web")
    assert (result.stdout, result.stderr, result.exit_code) == ("configmap/web edited\n", "", 0)
    assert data(cluster) == {"colour": "blue", "size": "big"}
    assert editor.opened[0].startswith("# Change what is below")
    assert "managedFields" not in editor.opened[0]
    assert editor.left_behind() == []


def test_unchanged_or_emptied_cancels(cluster: RegistryCluster, tmp_path: Path) -> None:
    revision = cluster.revision
    same = Editor(tmp_path).run(cluster, "cm/web")
    assert (same.stderr, same.exit_code) == ("Edit cancelled, no changes made.\n", 0)
    for script in (': > "$FILE"', 'sed -i /^[^#]/d "$FILE"'):
        folder = tmp_path / str(len(script))
        folder.mkdir()
        empty = Editor(folder, script).run(cluster, "cm/web")
        assert (empty.stderr, empty.exit_code) == ("Edit cancelled, saved file was empty.\n", 0)
    assert cluster.revision == revision


def test_only_remarks_changed_is_no_change(cluster: RegistryCluster, tmp_path: Path) -> None:
    result = Editor(tmp_path, 'sed -i 1d "$FILE"').run(cluster, "cm/web")
    assert (result.stderr, result.exit_code) == ("Edit cancelled, no changes made.\n", 0)


def test_a_refused_edit_is_opened_again_with_the_reason(cluster: RegistryCluster, tmp_path: Path) -> None:
    wrong = 'sed -i "s/^data:/dta:/; s/red/blue/" "$FILE"\n'
    editor = Editor(tmp_path, wrong, 'sed -i "s/^dta:/data:/" "$FILE"')
    result = editor.run(cluster, "cm/web")
    assert result.stdout == "configmap/web edited\n"
    first, second = editor.opened
    assert 'unknown field "dta"' not in first
    assert next(line for line in second.splitlines() if 'unknown field "dta"' in line).startswith("# ")
    assert "\ndta:\n" in second
    assert data(cluster) == {"colour": "blue", "size": "big"}


def test_malformed_yaml_is_opened_again(cluster: RegistryCluster, tmp_path: Path) -> None:
    editor = Editor(tmp_path, 'echo "a: b: c" >> "$FILE"', 'sed -i "/a: b: c/d; s/red/blue/" "$FILE"')
    assert editor.run(cluster, "cm/web").exit_code == 0
    assert "# " in editor.opened[1]
    assert "mapping values are not allowed in this context" in editor.opened[1]
    assert data(cluster)["colour"] == "blue"


def test_giving_up_after_a_refusal_keeps_a_copy(cluster: RegistryCluster, tmp_path: Path) -> None:
    editor = Editor(tmp_path, 'sed -i "s/^data:/dta:/" "$FILE"')
    result = editor.run(cluster, "cm/web")
    assert result.exit_code == 1
    assert "error: Edit cancelled, no valid changes were saved.\n" in result.stderr
    (copy,) = editor.left_behind()
    assert f'A copy of your changes has been stored to "{copy}"' in result.stderr
    assert "\ndta:\n" in copy.read_text()


def test_the_same_again_after_a_refusal_is_giving_up(cluster: RegistryCluster, tmp_path: Path) -> None:
    script = 'sed -i "s/data:.*/dta:/; s/dta/dta/g" "$FILE"'  # it meets the remark at the head, too
    editor = Editor(tmp_path, script, script + '; echo "# seen" | cat - "$FILE" > more; cat more > "$FILE"')
    result = editor.run(cluster, "cm/web")
    assert len(editor.opened) == 2
    assert result.stderr.count("error: Edit cancelled, no valid changes were saved.\n") == 1
    assert result.exit_code == 1


def test_another_name_is_refused(cluster: RegistryCluster, tmp_path: Path) -> None:
    editor = Editor(tmp_path, 'sed -i "s/  name: web/  name: other/" "$FILE"')
    editor.run(cluster, "cm/web")
    assert "apiVersion, kind, name and namespace must stay as they were" in editor.opened[1]
    assert not cluster.exists("configmaps", "other")


def test_a_change_elsewhere_meanwhile_is_kept(cluster: RegistryCluster, tmp_path: Path) -> None:
    editor = Editor(tmp_path, RED_TO_BLUE)
    once = iter([{"colour": "red", "size": "small"}])

    def on_call(verb: str, _: object) -> None:
        for values in once if verb == "patch" else ():
            cluster.put(a_config_map("web", **values).build())

    cluster.on_call = on_call
    assert editor.run(cluster, "cm/web").stdout == "configmap/web edited\n"
    assert data(cluster) == {"colour": "blue", "size": "small"}


def test_the_same_field_changed_meanwhile_is_told_and_overwritten_only_then(
    cluster: RegistryCluster, tmp_path: Path
) -> None:
    editor = Editor(tmp_path, RED_TO_BLUE, 'sed -i /meanwhile/d "$FILE"')
    once = iter([{"colour": "green", "size": "small"}])

    def on_call(verb: str, _: object) -> None:
        for values in once if verb == "patch" else ():
            cluster.put(a_config_map("web", **values).build())

    cluster.on_call = on_call
    result = editor.run(cluster, "cm/web")
    assert "someone else has changed data.colour meanwhile" in editor.opened[1]
    assert result.stdout == "configmap/web edited\n"
    assert data(cluster) == {"colour": "blue", "size": "small"}


def test_several_objects_and_the_refused_one_comes_back(cluster: RegistryCluster, tmp_path: Path) -> None:
    cluster.create(a_deployment("web").replicas(3).build())
    editor = Editor(
        tmp_path,
        'sed -i "s/replicas: 3/replicas: -3/; s/red/blue/" "$FILE"',
        'sed -i "s/replicas: -3/replicas: 4/" "$FILE"',
    )
    result = editor.run(cluster, "cm/web", "deploy/web")
    assert result.stdout == "configmap/web edited\ndeployment.apps/web edited\n"
    assert "spec.replicas: Invalid value: -3" in editor.opened[1]
    assert cluster.one("deployments", "web")["spec"]["replicas"] == 4
    assert [sent.target.name for sent in cluster.calls if sent.verb == "patch"] == ["web", "web", "web"]


def test_as_json(cluster: RegistryCluster, tmp_path: Path) -> None:
    editor = Editor(tmp_path, RED_TO_BLUE)
    assert editor.run(cluster, "cm/web", "-o", "json").exit_code == 0
    assert '\n        "colour": "red",\n' in editor.opened[0]
    assert data(cluster)["colour"] == "blue"


def test_editors_that_do_not_work(cluster: RegistryCluster) -> None:
    absent = run(cluster, "edit", "cm/web", env={"BARQUE_EDITOR": "/nowhere/editor"})
    assert absent.stderr.startswith("error: unable to start the editor '/nowhere/editor': ")
    assert "BARQUE_EDITOR names another" in absent.stderr
    failing = run(cluster, "edit", "cm/web", env={"BARQUE_EDITOR": "false"})
    assert failing.stderr == "error: there was a problem with the editor 'false': it ended with 1\n"


def test_what_is_not_there(cluster: RegistryCluster, tmp_path: Path) -> None:
    editor = Editor(tmp_path)
    result = editor.run(cluster, "cm/gone")
    assert (result.stderr, result.exit_code) == ('Error from server (NotFound): configmaps "gone" not found\n', 1)
    assert editor.opened == []


def test_changes_are_a_merge_patch_without_what_is_the_systems_own() -> None:
    before = {"a": 1, "b": {"c": [1], "d": 2}, "metadata": {"resourceVersion": "1", "name": "x"}}
    after = {"a": True, "b": {"c": [1, 2]}, "metadata": {"resourceVersion": "2", "name": "x"}}
    patch = changes(before, after)
    assert patch == {"a": True, "b": {"c": [1, 2], "d": None}}
    assert merge_patch(before, patch) == after | {"metadata": before["metadata"]}


def test_a_clash_is_the_same_field_with_another_value() -> None:
    assert clash({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": 4}) == ["a.c"]
    assert clash({"a": None}, {"a": {"b": 1}}) == ["a"]
    assert clash({"a": 1}, {"b": 1}) == []
