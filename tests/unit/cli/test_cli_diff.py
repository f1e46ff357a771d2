"""`barque diff`: what apply would change, and nothing else; exit codes; Secrets stay secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from barque.api.errors import unavailable
from barque.cli.differences import Difference, masked, unified
from barque.client.verbs import Target
from tests.support.registry_cluster import RegistryCluster, run

MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\ndata: {colour: red, size: big}\n"
SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: db}\nstringData: {user: me, password: %s}\n"


def applied(manifest: str = MAP) -> RegistryCluster:
    cluster = RegistryCluster()
    assert run(cluster, "apply", "-f", "-", stdin=manifest).exit_code == 0
    return cluster


def test_no_difference() -> None:
    result = run(applied(), "diff", "-f", "-", stdin=MAP)
    assert (result.stdout, result.stderr, result.exit_code) == ("", "", 0)


def test_a_difference_is_shown_and_nothing_is_changed() -> None:
    cluster = applied()
    revision = cluster.revision
    result = run(cluster, "diff", "-f", "-", stdin=MAP.replace("red", "blue").replace(", size: big", ""))
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    name = "v1.ConfigMap.default.web"
    assert lines[:3] == [f"diff -u -N LIVE/{name} MERGED/{name}", f"--- LIVE/{name}", f"+++ MERGED/{name}"]
    assert [line for line in lines[3:] if line[0] in "+-"] == ["-  colour: red", "-  size: big", "+  colour: blue"]
    assert cluster.revision == revision


def test_what_others_change_meanwhile_is_no_difference() -> None:
    cluster = applied()
    notes = iter(["a", "b"])

    def on_call(verb: str, _: Target) -> None:
        for note in notes if verb == "patch" else ():
            live = cluster.one("configmaps", "web")
            cluster.put(live | {"metadata": live["metadata"] | {"annotations": {"note": note}}})
            break

    cluster.on_call = on_call
    assert run(cluster, "diff", "-f", "-", stdin=MAP).stdout == ""
    assert cluster.one("configmaps", "web")["metadata"]["annotations"] == {"note": "b"}


def test_a_new_object_is_all_new() -> None:
    manifest = (
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  selector: {matchLabels: {a: b}}\n"
    )
    manifest += "  template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}\n"
    result = run(RegistryCluster(), "diff", "-f", "-", stdin=manifest)
    assert result.exit_code == 1
    header, *rest = result.stdout.splitlines()
    assert header.endswith("MERGED/apps.v1.Deployment.default.web")
    assert "+  progressDeadlineSeconds: 600" in rest
    assert not [line for line in rest if line.startswith("-") and not line.startswith("---")]


def test_owners_are_shown_when_asked() -> None:
    cluster = applied()
    assert run(cluster, "diff", "-f", "-", "--field-manager=team", stdin=MAP).exit_code == 0
    shown = run(cluster, "diff", "-f", "-", "--field-manager=team", "--show-managed-fields", stdin=MAP)
    assert "+    manager: team" in shown.stdout


def test_secrets_stay_secret() -> None:
    cluster = applied(SECRET % "swordfish")
    result = run(cluster, "diff", "-f", "-", stdin=SECRET % "marlin")
    assert [line for line in result.stdout.splitlines() if line[:3] in ("-  ", "+  ")] == [
        "-  password: '*** (before)'",
        "+  password: '*** (after)'",
    ] or "-  password: '*** (before)'".replace("'", '"') in result.stdout
    for word in ("swordfish", "marlin", "c3dvcmRmaXNo", "bWFybGlu"):
        assert word not in result.stdout
    assert result.exit_code == 1


def test_masks() -> None:
    before, after = (
        {"data": {"same": "a", "other": "b", "gone": "c"}},
        {"data": {"same": "a", "other": "x", "new": "y"}},
    )
    assert masked(before, after) == (
        {"data": {"same": "***", "other": "*** (before)", "gone": "***"}},
        {"data": {"same": "***", "other": "*** (after)", "new": "***"}},
    )
    assert masked(None, {"data": {"a": "b"}}) == (None, {"data": {"a": "***"}})


def test_a_namespace_of_the_same_manifests() -> None:
    manifest = MAP.replace("{name: web}", "{name: web, namespace: shop}")
    manifest += "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n"
    result = run(RegistryCluster(), "diff", "-f", "-", stdin=manifest)
    assert result.exit_code == 1
    assert [line.rpartition("/")[2] for line in result.stdout.splitlines() if line.startswith("+++")] == [
        "v1.Namespace.shop",
        "v1.ConfigMap.shop.web",
    ]


def test_trouble_is_more_than_a_difference() -> None:
    cluster = applied()
    wrong = run(cluster, "diff", "-f", "-", stdin=f"{MAP.replace('red', 'blue')}---\n{SECRET % '1'}type: 7\n")
    assert wrong.exit_code == 2
    assert wrong.stderr.startswith('error: standard input:6: Secret "db": ')
    missing = MAP.replace("{name: web}", "{name: web, namespace: nowhere}")
    some = run(cluster, "diff", "-f", "-", stdin=f"{MAP.replace('red', 'blue')}---\n{missing}")
    assert "+  colour: blue" in some.stdout
    assert 'error when comparing "standard input": namespaces "nowhere" not found' in some.stderr
    assert some.exit_code == 2
    assert run(cluster, "diff").exit_code == 2

    def gone(*_: Target | str) -> None:
        raise unavailable("no master is reachable (10.0.0.1:7443: connection refused)")

    cluster.on_call = gone
    assert run(cluster, "diff", "-f", "-", stdin=MAP).exit_code == 2


def test_conflicts() -> None:
    cluster = applied()
    run(cluster, "patch", "cm/web", "-p", "data: {colour: green}")
    told = run(cluster, "diff", "-f", "-", stdin=MAP)
    assert 'conflict with "barque-patch" using v1: .data.colour' in told.stderr
    assert told.exit_code == 2
    forced = run(cluster, "diff", "-f", "-", "--force-conflicts", stdin=MAP)
    assert ("+  colour: red" in forced.stdout, forced.exit_code) == (True, 1)


def test_a_program_of_ones_own(tmp_path: Path) -> None:
    program = tmp_path / "compare"
    program.write_text(f"#!/bin/sh\nls $2 $3 > {tmp_path}/seen\ngrep -rh colour $2 $3 >> {tmp_path}/seen\nexit 1\n")
    program.chmod(0o755)
    cluster = applied()
    environment = {"BARQUE_EXTERNAL_DIFF": f"{program} -x"}
    result = run(cluster, "diff", "-f", "-", stdin=MAP.replace("red", "blue"), env=environment)
    assert (result.stdout, result.exit_code) == ("", 1)
    seen = (tmp_path / "seen").read_text()
    assert seen.count("v1.ConfigMap.default.web") == 2
    assert "  colour: red\n  colour: blue\n" in seen
    broken = run(cluster, "diff", "-f", "-", stdin=MAP, env={"BARQUE_EXTERNAL_DIFF": "/nowhere/compare"})
    assert (broken.exit_code, "unable to start '/nowhere/compare'" in broken.stderr) == (2, True)


@pytest.mark.parametrize("colours", [True, False])
def test_colours(colours: bool) -> None:
    text = unified([Difference("v1.X", "a\nb\n", "a\nc\n"), Difference("v1.Y", "same", "same")], colours=colours)
    assert ("\x1b[32m+c" in text, "\x1b[31m-b" in text) == (colours, colours)
    assert "v1.Y" not in text
