"""`barque rollout` and `barque scale`: sentences, revisions, patience and its end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from barque.cli.rollouts import REVISION, progress_of
from tests.support.builders import DeploymentBuilder, a_deployment, a_pod, a_replica_set
from tests.support.registry_cluster import RegistryCluster, run


def web(updated: int = 3, total: int = 3, available: int = 3) -> DeploymentBuilder:
    return (
        a_deployment("web").replicas(3).observed().has(total, available=available).with_status(updatedReplicas=updated)
    )


def deployment(cluster: RegistryCluster) -> dict[str, Any]:
    return cluster.one("deployments", "web")


def test_the_sentences() -> None:
    begin = 'Waiting for deployment "web" rollout to finish: '
    said = [
        (web(updated=1), f"{begin}1 out of 3 new replicas have been updated..."),
        (web(total=4), f"{begin}1 old replicas are pending termination..."),
        (web(available=2), f"{begin}2 of 3 updated replicas are available..."),
        (web().generation(2), "Waiting for deployment spec update to be observed..."),
    ]
    for builder, sentence in said:
        progress = progress_of(builder.build())
        assert (progress.sentence, progress.done, progress.failed) == (sentence, False, False)
    assert progress_of(web().build()).sentence == 'deployment "web" successfully rolled out'
    late = web(updated=1).condition("Progressing", "False", "ProgressDeadlineExceeded")
    assert progress_of(late.build()).failed


def test_status_follows_the_rollout_to_its_end() -> None:
    cluster = RegistryCluster(web(updated=1).generation(2).build())
    steps = [web(updated=1), web(updated=1), web(total=4), web()]
    cluster.on_idle = [lambda step=step: cluster.put(step.build()) for step in steps]  # type: ignore[misc]
    cluster.on_idle.insert(2, cluster.break_watches)
    result = run(cluster, "rollout", "status", "deployment/web")
    assert result.stdout.splitlines() == [
        "Waiting for deployment spec update to be observed...",
        'Waiting for deployment "web" rollout to finish: 1 out of 3 new replicas have been updated...',
        'Waiting for deployment "web" rollout to finish: 1 old replicas are pending termination...',
        'deployment "web" successfully rolled out',
    ]
    assert result.exit_code == 0


def test_status_of_one_that_is_done_or_only_asked_once() -> None:
    assert run(RegistryCluster(web().build()), "rollout", "status", "deploy", "web").exit_code == 0
    once = run(RegistryCluster(web(updated=1).build()), "rollout", "status", "deploy/web", "--watch=false")
    assert (len(once.stdout.splitlines()), once.exit_code) == (1, 0)


def test_a_rollout_that_fails() -> None:
    cluster = RegistryCluster(web(updated=1).build())
    late = web(updated=1).condition("Progressing", "False", "ProgressDeadlineExceeded").build()
    cluster.on_idle = [lambda: cluster.put(late)]
    result = run(cluster, "rollout", "status", "deployment/web")
    assert result.stderr == 'error: deployment "web" exceeded its progress deadline\n'
    assert result.exit_code == 1


def test_a_rollout_whose_deployment_is_deleted_or_missing() -> None:
    cluster = RegistryCluster(web(updated=1).build())
    cluster.on_idle = [lambda: cluster.remove("deployments", "web")]
    gone = run(cluster, "rollout", "status", "deployment/web")
    assert gone.stderr == 'error: deployment "web" was deleted before its rollout was done\n'
    missing = run(RegistryCluster(), "rollout", "status", "deployment/web")
    assert missing.stderr == 'Error from server (NotFound): deployments.apps "web" not found\n'


@pytest.mark.parametrize("verb", ["status", "restart", "pause", "resume", "undo", "history"])
def test_only_deployments_roll_out(verb: str) -> None:
    wrong = run(RegistryCluster(a_pod("web").build()), "rollout", verb, "pod/web")
    assert wrong.stderr == "error: a pod has no rollout; deployments have\n"
    assert run(RegistryCluster(), "rollout", verb).exit_code == 1


def test_a_verb_without_words_names_a_type_it_is_for() -> None:
    assert "as in `barque rollout restart deployments`" in run(RegistryCluster(), "rollout", "restart").stderr
    assert "as in `barque scale deployments`" in run(RegistryCluster(), "scale", "--replicas=1").stderr


def test_restart_changes_the_template() -> None:
    cluster = RegistryCluster(web().build())
    assert run(cluster, "rollout", "restart", "deployment/web").stdout == "deployment.apps/web restarted\n"
    template = deployment(cluster)["spec"]["template"]
    assert template["metadata"]["annotations"] == {"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"}
    assert template["spec"]["containers"][0]["image"] == "web:1"


def test_pause_and_resume() -> None:
    cluster = RegistryCluster(web().build(), a_deployment("api").paused().build())
    assert run(cluster, "rollout", "pause", "deploy/web").stdout == "deployment.apps/web paused\n"
    assert deployment(cluster)["spec"]["paused"] is True
    again = run(cluster, "rollout", "pause", "deploy/web")
    assert (again.stderr, again.exit_code) == ('error: deployments.apps "web" is already paused\n', 1)
    restart = run(cluster, "rollout", "restart", "deploy/web")
    assert restart.stderr == 'error: deployments.apps "web" is paused; `barque rollout resume` it first\n'
    assert run(cluster, "rollout", "resume", "deploy/web").stdout == "deployment.apps/web resumed\n"
    assert "paused" not in deployment(cluster)["spec"]
    both = run(cluster, "rollout", "resume", "deployments", "--all")
    assert both.stdout == "deployment.apps/api resumed\n"
    assert both.stderr == 'error: deployments.apps "web" is not paused\n'


def with_history() -> RegistryCluster:
    """A deployment at revision 3, image web:3; the sets of the two before, and one that is another's."""
    now = web().uid("u1").image("web:3").annotated({REVISION: "3"})
    cluster = RegistryCluster(now.build())
    for revision, cause in ((1, ""), (2, "a new colour"), (3, "")):
        builder = (
            a_replica_set(f"web-{revision}")
            .image(f"web:{revision}")
            .annotated({REVISION: str(revision)})
            .selecting(app="web")
        )
        builder = builder.template_labels(**{"pod-template-hash": f"h{revision}"}).owned_by(now.build())
        replica_set = builder.build()
        replica_set.metadata.labels = {"app": "web"}
        if cause:
            replica_set.metadata.annotations["kubernetes.io/change-cause"] = cause
        cluster.put(replica_set)
    stranger = a_replica_set("other").annotated({REVISION: "9"}).selecting(app="web").build()
    stranger.metadata.labels = {"app": "web"}
    cluster.put(stranger)
    return cluster


def image(cluster: RegistryCluster) -> str:
    return str(deployment(cluster)["spec"]["template"]["spec"]["containers"][0]["image"])


def test_history() -> None:
    cluster = with_history()
    assert run(cluster, "rollout", "history", "deployment/web").stdout == (
        "deployment.apps/web\nREVISION   CHANGE-CAUSE\n1          <none>\n2          a new colour\n3          <none>\n"
    )
    one = run(cluster, "rollout", "history", "deployment/web", "--revision=2")
    assert one.stdout.startswith("deployment.apps/web with revision #2\nPod Template:\n")
    assert "Image:" in one.stdout
    assert "web:2" in one.stdout
    none = run(cluster, "rollout", "history", "deployment/web", "--revision=9")
    assert none.stderr == "error: unable to find the specified revision 9 of deployment.apps/web\n"


def test_undo_goes_back_one_revision_or_to_the_one_asked_for() -> None:
    cluster = with_history()
    assert run(cluster, "rollout", "undo", "deployment/web").stdout == "deployment.apps/web rolled back\n"
    assert image(cluster) == "web:2"
    assert "pod-template-hash" not in deployment(cluster)["spec"]["template"]["metadata"]["labels"]
    cluster = with_history()
    tried = run(cluster, "rollout", "undo", "deployment/web", "--to-revision=1", "--dry-run=server")
    assert (tried.stdout, image(cluster)) == ("deployment.apps/web rolled back (server dry run)\n", "web:3")
    assert run(cluster, "rollout", "undo", "deployment/web", "--to-revision=1").exit_code == 0
    assert image(cluster) == "web:1"


def test_undo_where_there_is_nothing_to_go_back_to() -> None:
    cluster = with_history()
    same = run(cluster, "rollout", "undo", "deploy/web", "--to-revision=3")
    assert same.stdout == "deployment.apps/web skipped rollback (current template already matches revision 3)\n"
    absent = run(cluster, "rollout", "undo", "deploy/web", "--to-revision=7")
    assert absent.stderr == 'error: unable to find revision 7 of deployment "web"; it has 1, 2, 3\n'
    run(cluster, "rollout", "pause", "deploy/web")
    assert run(cluster, "rollout", "undo", "deploy/web").stderr.startswith("error: cannot rollback a paused deployment")
    alone = run(RegistryCluster(web().build()), "rollout", "undo", "deploy/web")
    assert alone.stderr.startswith('error: no rollout history found for deployment "web"')


def test_scale() -> None:
    cluster = RegistryCluster(web().build())
    assert run(cluster, "scale", "deployment/web", "--replicas=5").stdout == "deployment.apps/web scaled\n"
    assert deployment(cluster)["spec"]["replicas"] == 5
    wrong = run(cluster, "scale", "deployment/web", "--replicas=7", "--current-replicas=3")
    assert (wrong.stderr, wrong.exit_code) == ("error: Expected replicas to be 3, was 5\n", 1)
    assert run(cluster, "scale", "deployment/web", "--replicas=7", "--current-replicas=5").exit_code == 0
    assert deployment(cluster)["spec"]["replicas"] == 7
    stale = run(cluster, "scale", "deployment/web", "--replicas=8", "--resource-version=1")
    assert stale.stderr.startswith("Error from server (Conflict): Operation cannot be fulfilled on")
    assert deployment(cluster)["spec"]["replicas"] == 7


def test_scale_of_many_and_dry_runs() -> None:
    cluster = RegistryCluster(web().build(), a_deployment("api").build())
    for mode, suffix in (("client", " (dry run)"), ("server", " (server dry run)")):
        tried = run(cluster, "scale", "deployments", "--all", "--replicas=0", f"--dry-run={mode}")
        assert tried.stdout == f"deployment.apps/api scaled{suffix}\ndeployment.apps/web scaled{suffix}\n"
    shown = run(cluster, "scale", "deploy/web", "--replicas=9", "--dry-run=client", "-o", "json")
    assert json.loads(shown.stdout)["spec"]["replicas"] == 9
    assert deployment(cluster)["spec"]["replicas"] == 3
    assert run(cluster, "scale", "deploy", "-l", "app=web", "--replicas=0").exit_code == 0
    missing = run(cluster, "scale", "deploy", "web", "gone", "--replicas=2")
    assert missing.stdout == "deployment.apps/web scaled\n"
    assert (missing.stderr, missing.exit_code) == (
        'Error from server (NotFound): deployments.apps "gone" not found\n', 1,
    )  # fmt: skip


def test_scale_waits_until_they_are_there() -> None:
    cluster = RegistryCluster(web().build())

    def scaled() -> None:
        present = deployment(cluster)
        generation = present["metadata"]["generation"]
        cluster.put(present | {"status": present["status"] | {"replicas": 5, "observedGeneration": generation}})

    cluster.on_idle = [cluster.break_watches, scaled]
    assert run(cluster, "scale", "deployment/web", "--replicas=5", "--timeout=1m").exit_code == 0
    assert cluster.on_idle == []


def test_what_cannot_be_scaled() -> None:
    cluster = RegistryCluster(web().build())
    assert run(cluster, "scale", "pod/web", "--replicas=2").stderr == "error: pods have no replicas to scale\n"
    assert run(cluster, "scale", "deployment/web", "--replicas=-1").exit_code == 2
    assert run(cluster, "scale", "deployments", "--replicas=1").stderr.startswith("error: which of them?")
