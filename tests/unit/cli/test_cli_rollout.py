"""`barque rollout` and `barque scale` and `barque wait`: sentences, patience and its end."""

from __future__ import annotations

from barque.cli.commands.rollout import progress_of
from tests.support.builders import DeploymentBuilder, PodBuilder
from tests.unit.cli.fake_cluster import FakeCluster, run


def web(updated: int = 3, total: int = 3, available: int = 3) -> DeploymentBuilder:
    return (
        DeploymentBuilder("web", "default").replicas(3).observed().has(total, available=available)
        .with_status(updatedReplicas=updated)
    )  # fmt: skip


def test_the_sentences() -> None:
    begin = 'Waiting for deployment "web" rollout to finish: '
    said = [
        (web(updated=1), f"{begin}1 out of 3 new replicas have been updated..."),
        (web(total=4), f"{begin}1 old replicas are pending termination..."),
        (web(available=2), f"{begin}2 of 3 updated replicas are available..."),
        (web().generation(2), "Waiting for deployment spec update to be observed..."),
    ]
    for deployment, sentence in said:
        progress = progress_of(deployment.build())
        assert (progress.sentence, progress.done, progress.failed) == (sentence, False, False)
    assert progress_of(web().build()).sentence == 'deployment "web" successfully rolled out'
    late = web(updated=1).condition("Progressing", "False", "ProgressDeadlineExceeded")
    assert progress_of(late.build()).failed


def test_status_follows_the_rollout_to_its_end() -> None:
    cluster = FakeCluster(web(updated=1).generation(2).build())
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
    assert run(FakeCluster(web().build()), "rollout", "status", "deploy", "web").exit_code == 0
    once = run(FakeCluster(web(updated=1).build()), "rollout", "status", "deploy/web", "--watch=false")
    assert (len(once.stdout.splitlines()), once.exit_code) == (1, 0)


def test_a_rollout_that_fails() -> None:
    cluster = FakeCluster(web(updated=1).build())
    late = web(updated=1).condition("Progressing", "False", "ProgressDeadlineExceeded").build()
    cluster.on_idle = [lambda: cluster.put(late)]
    result = run(cluster, "rollout", "status", "deployment/web")
    assert result.stderr == 'error: deployment "web" exceeded its progress deadline\n'
    assert result.exit_code == 1


def test_a_rollout_whose_deployment_is_deleted_or_missing() -> None:
    cluster = FakeCluster(web(updated=1).build())
    cluster.on_idle = [lambda: cluster.remove("deployments.apps", "web")]
    gone = run(cluster, "rollout", "status", "deployment/web")
    assert gone.stderr == 'error: deployment "web" was deleted before its rollout was done\n'
    missing = run(FakeCluster(), "rollout", "status", "deployment/web")
    assert missing.stderr == 'Error from server (NotFound): deployments.apps "web" not found\n'


def test_only_deployments_roll_out() -> None:
    assert (
        run(FakeCluster(), "rollout", "status", "pod/web").stderr == "error: a pod has no rollout; deployments have\n"
    )
    assert run(FakeCluster(), "rollout", "status").exit_code == 1


def test_restart_changes_the_template() -> None:
    cluster = FakeCluster(web().build())
    assert run(cluster, "rollout", "restart", "deployment/web").stdout == "deployment.apps/web restarted\n"
    template = cluster.one("deployments.apps", "web")["spec"]["template"]
    assert template["metadata"]["annotations"] == {"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"}
    assert template["spec"]["containers"][0]["image"] == "web:1"


def test_scale() -> None:
    cluster = FakeCluster(web().build())
    assert run(cluster, "scale", "deployment/web", "--replicas=5").stdout == "deployment.apps/web scaled\n"
    assert cluster.one("deployments.apps", "web")["spec"]["replicas"] == 5
    wrong = run(cluster, "scale", "deployment/web", "--replicas=7", "--current-replicas=3")
    assert (wrong.stderr, wrong.exit_code) == ("error: Expected replicas to be 3, was 5\n", 1)
    assert run(cluster, "scale", "deployment/web", "--replicas=7", "--current-replicas=5").exit_code == 0
    assert cluster.one("deployments.apps", "web")["spec"]["replicas"] == 7


def test_what_cannot_be_scaled() -> None:
    cluster = FakeCluster(web().build())
    assert run(cluster, "scale", "pod/web", "--replicas=2").stderr == "error: pods have no replicas to scale\n"
    assert run(cluster, "scale", "deployment/web", "--replicas=-1").exit_code == 2
    assert run(cluster, "scale", "deployments", "--replicas=1").stderr.startswith("error: which of them?")


def test_wait_for_a_condition() -> None:
    cluster = FakeCluster(PodBuilder("web-1", "default").build())
    cluster.on_idle = [lambda: cluster.put(PodBuilder("web-1", "default").ready().build())]
    assert run(cluster, "wait", "--for=condition=Ready", "pod/web-1").stdout == "pod/web-1 condition met\n"


def test_wait_for_a_value_and_for_the_end() -> None:
    cluster = FakeCluster(PodBuilder("web-1", "default").ready().ip("10.244.0.9").build())
    path = "--for=jsonpath={.status.podIPs[0].ip}=10.244.0.9"
    assert run(cluster, "wait", path, "pod/web-1").stdout == "pod/web-1 condition met\n"
    cluster.on_idle = [lambda: cluster.remove("pods", "web-1")]
    assert run(cluster, "wait", "--for=delete", "pod/web-1").stdout == "pod/web-1 condition met\n"
    assert run(cluster, "wait", "--for=delete", "pod/web-1").exit_code == 0
    assert run(cluster, "wait", "--for=luck", "pod/web-1").stderr.startswith("error: 'luck' cannot be waited for;")


def test_a_condition_of_an_older_spec_does_not_count() -> None:
    cluster = FakeCluster(web().condition("Available", "True").generation(2).build())
    cluster.on_idle = [lambda: cluster.put(web().condition("Available", "True").generation(2).observed().build())]
    assert run(cluster, "wait", "--for=condition=Available", "deployment/web").exit_code == 0
    assert cluster.on_idle == []
