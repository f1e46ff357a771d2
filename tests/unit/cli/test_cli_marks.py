"""`barque label` and `barque annotate`: what is set and taken off, and values that others have set."""

from __future__ import annotations

import pytest

from barque.client.verbs import Target
from tests.support.builders import a_config_map, a_deployment, a_pod
from tests.support.registry_cluster import RegistryCluster, run


def pods(*names: str) -> RegistryCluster:
    return RegistryCluster(*(a_pod(name).labelled(app=name[:3]).build() for name in names))


def labels(cluster: RegistryCluster, name: str = "web-1") -> dict[str, str]:
    found: dict[str, str] = cluster.one("pods", name)["metadata"].get("labels", {})
    return found


def test_labels_are_set_and_taken_off() -> None:
    cluster = pods("web-1")
    assert run(cluster, "label", "pod", "web-1", "tier=front", "team=blue").stdout == "pod/web-1 labeled\n"
    assert labels(cluster) == {"app": "web", "tier": "front", "team": "blue"}
    assert run(cluster, "label", "pod/web-1", "tier-").stdout == "pod/web-1 unlabeled\n"
    assert labels(cluster) == {"app": "web", "team": "blue"}


def test_nothing_to_change_writes_nothing() -> None:
    cluster = pods("web-1")
    revision = cluster.revision
    assert run(cluster, "label", "pod/web-1", "app=web").stdout == "pod/web-1 not labeled\n"
    gone = run(cluster, "label", "pod/web-1", "tier-")
    assert (gone.stdout, gone.stderr) == ("pod/web-1 not labeled\n", 'label "tier" not found.\n')
    assert cluster.revision == revision


def test_a_value_is_overwritten_only_when_asked() -> None:
    cluster = pods("web-1")
    refused = run(cluster, "label", "pods", "web-1", "app=api", "tier=front")
    assert refused.stderr == "error: 'app' already has a value (web), and --overwrite is false\n"
    assert refused.exit_code == 1
    assert labels(cluster) == {"app": "web"}
    assert run(cluster, "label", "pods", "web-1", "app=api", "--overwrite").exit_code == 0
    assert labels(cluster) == {"app": "api"}


def test_a_value_set_meanwhile_is_not_overwritten_unseen() -> None:
    cluster = pods("web-1")

    def on_call(verb: str, _: Target) -> None:
        if verb == "patch" and "tier" not in labels(cluster):
            cluster.put(a_pod("web-1").labelled(app="web", tier="back").build())

    cluster.on_call = on_call
    refused = run(cluster, "label", "pods", "web-1", "tier=front")
    assert refused.stderr == "error: 'tier' already has a value (back), and --overwrite is false\n"
    assert labels(cluster)["tier"] == "back"


def test_another_change_meanwhile_is_no_hindrance() -> None:
    cluster = pods("web-1")

    def on_call(verb: str, _: Target) -> None:
        if verb == "patch" and "team" not in labels(cluster):
            cluster.put(a_pod("web-1").labelled(app="web", team="blue").build())

    cluster.on_call = on_call
    assert run(cluster, "label", "pods", "web-1", "tier=front").stdout == "pod/web-1 labeled\n"
    assert labels(cluster) == {"app": "web", "team": "blue", "tier": "front"}


def test_one_version_alone() -> None:
    cluster = pods("web-1", "web-2")
    stale = run(cluster, "label", "pod/web-1", "a=b", "--resource-version=1")
    assert stale.stderr.startswith("Error from server (Conflict): Operation cannot be fulfilled on pods")
    revision = cluster.one("pods", "web-1")["metadata"]["resourceVersion"]
    assert run(cluster, "label", "pod/web-1", "a=b", f"--resource-version={revision}").exit_code == 0
    several = run(cluster, "label", "pods", "--all", "a=b", "--resource-version=7")
    assert several.stderr == "error: --resource-version may only be used with a single resource\n"


def test_many_at_once() -> None:
    cluster = pods("web-1", "web-2", "api-1")
    assert run(cluster, "label", "pods", "-l", "app=web", "seen=yes").stdout == "pod/web-1 labeled\npod/web-2 labeled\n"
    assert [labels(cluster, name).get("seen") for name in ("web-1", "web-2", "api-1")] == ["yes", "yes", None]
    assert len(run(cluster, "label", "pods", "--all", "n=1").stdout.splitlines()) == 3
    manifest = "\n---\n".join(f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {n}}}" for n in ("web-1", "gone"))
    by_file = run(cluster, "label", "-f", "-", "n=2", "--overwrite", stdin=manifest)
    assert by_file.stdout == "pod/web-1 labeled\n"
    assert by_file.stderr == 'Error from server (NotFound): pods "gone" not found\n'
    assert by_file.exit_code == 1


def test_they_are_listed() -> None:
    cluster = RegistryCluster(a_pod("web-1").labelled(b="2", a="1").build(), a_pod("web-2").labelled(c="3").build())
    assert run(cluster, "label", "pod/web-1", "--list").stdout == "a=1\nb=2\n"
    assert run(cluster, "label", "pods", "--all", "--list").stdout == (
        "Listing labels for pod/web-1:\n a=1\n b=2\nListing labels for pod/web-2:\n c=3\n"
    )


def test_dry_runs_and_output() -> None:
    cluster = pods("web-1")
    revision = cluster.revision
    assert run(cluster, "label", "pod/web-1", "a=b", "--dry-run=client").stdout == "pod/web-1 labeled (dry run)\n"
    server = run(cluster, "label", "pod/web-1", "a=b", "--dry-run=server")
    assert server.stdout == "pod/web-1 labeled (server dry run)\n"
    shown = run(cluster, "label", "pod/web-1", "a=b", "--dry-run=client", "-o", "yaml").stdout
    assert "\n    a: b\n    app: web\n" in shown
    assert cluster.revision == revision
    assert run(cluster, "label", "pod/web-1", "a=b", "-o", "name").stdout == "pod/web-1\n"


def test_annotations() -> None:
    cluster = RegistryCluster(a_deployment("web").build(), a_config_map("web").build())
    result = run(cluster, "annotate", "deploy/web", "cm/web", "owner=the blue team", "url=http://x/?a=b")
    assert result.stdout == "deployment.apps/web annotated\nconfigmap/web annotated\n"
    for word in ("deployments", "configmaps"):
        assert cluster.one(word, "web")["metadata"]["annotations"] == {"owner": "the blue team", "url": "http://x/?a=b"}
    # A deployment's controller heeds annotations too, so they count as a change of what is wanted.
    assert cluster.one("deployments", "web")["metadata"].get("generation") == 2
    assert run(cluster, "annotate", "cm/web", "owner-", "url-").stdout == "configmap/web annotated\n"
    assert "annotations" not in cluster.one("configmaps", "web")["metadata"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("pod", "web-1"), "at least one label update is required, as in KEY=VALUE or KEY-"),
        (("pod", "web-1", "a=b", "a-"), '"a" is set or removed twice in one command'),
        (("pod", "web-1", "a=b", "web-2"), "all resources must be specified before label changes: web-2"),
        (("pod", "web-1", "=b"), "invalid label spec: =b"),
        (("pods", "a=b"), "which of them? Give names, -l LABELS or --all"),
        (("pods", "a=b", "-A"), "which of them? Give names, -l LABELS or --all"),
        (("pod", "web-1", "a=b", "--all"), "name cannot be provided when --all is specified"),
        (("pod", "web-1", "a=b", "-A"), "a resource cannot be retrieved by name across all namespaces"),
        (("pod", "web-1", "a=b", "--list"), "--list shows the labels there are; give it without changes"),
        (("a=b",), "say which resource type"),
    ],
)
def test_what_makes_no_sense(arguments: tuple[str, ...], complaint: str) -> None:
    cluster = pods("web-1")
    result = run(cluster, "label", *arguments)
    assert result.exit_code == 1
    assert complaint in result.stderr
    assert labels(cluster) == {"app": "web"}


def test_a_wrong_label_is_named_by_the_registry() -> None:
    result = run(pods("web-1"), "label", "pod/web-1", "a b=c")
    assert result.stderr.startswith('The Pod "web-1" is invalid: metadata.labels: Invalid value: "a b"')
