"""`barque debug`: what is added to a pod, copied, or made on a node, and what it attaches to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from barque.api.types import core_v1 as v1
from barque.cli.debugging import Copying, Debugger, ephemeral_container, node_pod, pod_copy
from barque.cli.output import CliError
from barque.proto import pods_pb2
from tests.support.builders import NodeBuilder, PodBuilder
from tests.support.registry_cluster import RegistryCluster, run
from tests.support.worker_world import a_container, a_pod

SHELL = Debugger("debugger", "busybox", ("sh",), stdin=True, tty=True, env=(("A", "b"),))


def test_a_debugger_in_a_pod_may_trace_its_target() -> None:
    made = ephemeral_container(SHELL, "web")
    assert (made.name, made.image, made.command, made.args) == ("debugger", "busybox", ["sh"], [])
    assert (made.stdin, made.tty, made.targetContainerName) == (True, True, "web")
    assert made.env == [v1.EnvVar(name="A", value="b")]
    assert made.securityContext == v1.SecurityContext(capabilities=v1.Capabilities(add=["SYS_PTRACE"]))
    assert ephemeral_container(SHELL._replace(arguments_only=True), "").args == ["sh"]


@pytest.mark.parametrize(
    ("profile", "security"),
    [
        ("baseline", None),
        ("netadmin", v1.SecurityContext(capabilities=v1.Capabilities(add=["NET_ADMIN", "NET_RAW"]))),
        ("sysadmin", v1.SecurityContext(privileged=True)),
    ],
)
def test_a_profile_says_what_the_debugger_may_do(profile: str, security: Any) -> None:
    assert ephemeral_container(SHELL._replace(profile=profile), "").securityContext == security


def test_a_node_is_seen_whole() -> None:
    pod = node_pod(SHELL, "n1", "default", "abcde")
    assert pod.metadata.name == "node-debugger-n1-abcde"
    spec = pod.spec
    assert (spec.nodeName, spec.hostPID, spec.hostNetwork, spec.hostIPC) == ("n1", True, True, True)
    assert (spec.restartPolicy, spec.tolerations) == ("Never", [v1.Toleration(operator="Exists")])
    assert spec.containers[0].volumeMounts == [v1.VolumeMount(name="host-root", mountPath="/host")]
    assert spec.volumes[0].hostPath == v1.HostPathVolumeSource(path="/")


def a_probed_pod() -> v1.Pod:
    probe = v1.Probe(exec=v1.ExecAction(command=["true"]))
    pod = a_pod("p", a_container("web", livenessProbe=probe, readinessProbe=probe), a_container("proxy"))
    pod.metadata.labels = {"app": "web"}
    return pod


def test_a_copy_is_counted_on_by_nothing() -> None:
    pod = a_probed_pod()
    made = pod_copy(pod, SHELL, Copying("p-debug"))
    assert (made.metadata.name, made.metadata.labels, made.metadata.uid) == ("p-debug", {}, "")
    assert [c.name for c in made.spec.containers] == ["web", "proxy", "debugger"]
    assert (made.spec.containers[0].livenessProbe, made.spec.containers[0].readinessProbe) == (None, None)
    assert (made.spec.nodeName, made.spec.shareProcessNamespace) == ("", True)
    assert pod == a_probed_pod()
    same = pod_copy(pod, SHELL, Copying("p-debug", same_node=True, share_processes=False))
    assert (same.spec.nodeName, same.spec.shareProcessNamespace) == ("n1", pod.spec.shareProcessNamespace)


def test_a_copy_with_other_images_or_another_command() -> None:
    changed = pod_copy(a_probed_pod(), Debugger("web", "", ("sleep", "9")), Copying("c", images={"*": "new:1"}))
    assert [(c.name, c.image, c.command) for c in changed.spec.containers] == [
        ("web", "new:1", ["sleep", "9"]),
        ("proxy", "new:1", []),
    ]
    with pytest.raises(CliError, match="unable to find container named nope in pod p"):
        pod_copy(a_probed_pod(), SHELL, Copying("c", images={"nope": "x"}))


class FakePods:
    """A debugger that says hello, and remembers who was attached to."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def Attach(self, inputs: AsyncIterator[Any]) -> AsyncIterator[Any]:
        self.asked.append((await anext(inputs)).start)
        yield pods_pb2.ExecOutput(stdout=b"hello\n")

    async def Logs(self, request: Any) -> AsyncIterator[Any]:
        self.asked.append(request)
        yield pods_pb2.LogsChunk(data=b"said before\n")


def a_cluster() -> tuple[RegistryCluster, FakePods]:
    cluster = RegistryCluster(PodBuilder("web", "default").on("n1").running().build(), NodeBuilder("n1").build())
    cluster.pods = FakePods()
    return cluster, cluster.pods


def becomes(cluster: RegistryCluster, **state: Any) -> None:
    """What the worker reports of the debugger while the command waits."""

    def report() -> None:
        pod = cluster.one("pods", "web")
        name = pod["spec"]["ephemeralContainers"][0]["name"]
        status = {"name": name, "image": "busybox", "imageID": "", "ready": False, "restartCount": 0, "state": state}
        pod["status"]["ephemeralContainerStatuses"] = [status]
        cluster.put(pod)

    cluster.on_idle.append(report)


def test_a_debugger_is_added_waited_for_and_attached_to() -> None:
    cluster, pods = a_cluster()
    becomes(cluster, waiting={"reason": "ErrImagePull", "message": "no such image"})
    becomes(cluster, running={"startedAt": "2026-01-01T00:00:00Z"})
    result = run(
        cluster, "debug", "web", "--image=busybox", "-c", "look", "--target=main", "--attach", "--", "ls", "-l"
    )
    assert (result.stdout, result.exit_code) == ("hello\n", 0)
    assert result.stderr == (
        'Targeting container "main". If you don\'t see processes from this container it may be because the container '
        "runtime doesn't support this feature.\ncontainer look waits: ErrImagePull: no such image\n"
    )
    (added,) = cluster.one("pods", "web")["spec"]["ephemeralContainers"]
    assert (added["name"], added["command"], added["targetContainerName"]) == ("look", ["ls", "-l"], "main")
    assert (pods.asked[0].pod, pods.asked[0].container) == ("web", "look")


def test_of_a_debugger_that_has_ended_the_log_is_printed() -> None:
    cluster, _ = a_cluster()
    becomes(cluster, terminated={"exitCode": 0})
    result = run(cluster, "debug", "web", "--image=busybox", "--attach")
    assert result.stdout == "said before\n"
    first, second = result.stderr.splitlines()
    assert first.startswith("Defaulting debug container name to debugger-")
    assert second == "warning: couldn't attach to pod/web, falling back to streaming logs: "


def test_without_input_nothing_is_attached_to() -> None:
    cluster, pods = a_cluster()
    assert run(cluster, "debug", "web", "--image=busybox", "-q").stderr == ""
    assert run(cluster, "debug", "web", "--image=busybox", "-q").exit_code == 0
    assert len(cluster.one("pods", "web")["spec"]["ephemeralContainers"]) == 2
    assert pods.asked == []


def test_a_copy_takes_the_pods_place_when_asked_to() -> None:
    cluster, _ = a_cluster()
    arguments = ("debug", "web", "--copy-to=web-2", "-c", "main", "--", "sleep", "9")
    assert run(cluster, *arguments).exit_code == 0
    assert cluster.one("pods", "web-2")["spec"]["containers"][0]["command"] == ["sleep", "9"]
    assert cluster.exists("pods", "web")
    assert run(cluster, "debug", "web", "--copy-to=web-3", "--replace", "--set-image=main=x").exit_code == 0
    assert cluster.one("pods", "web-3")["spec"]["containers"][0]["image"] == "x"
    assert cluster.one("pods", "web")["metadata"].get("deletionTimestamp")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "NAME or TYPE/NAME is required for debug"),
        (["web"], "you must specify --image when not using --copy-to."),
        (["web", "--copy-to=b"], "you must specify --image, --set-image or command arguments."),
        (
            ["web", "--copy-to=b", "--", "sh"],
            "you must specify an existing container or a new image when specifying args.",
        ),
        (
            ["web", "--copy-to=b", "--image=x", "--target=main"],
            "--target is incompatible with --copy-to. Use --share-processes instead.",
        ),
        (["web", "--image=x", "--replace"], "--replace may only be used with --copy-to."),
        (["web", "--image=x", "--same-node"], "--same-node may only be used with --copy-to."),
        (["web", "--set-image=a=b"], "--set-image may only be used with --copy-to."),
        (["web", "--image=x", "-t"], "-i/--stdin is required for containers with -t/--tty=true"),
        (["web", "--image=x", "--env=A"], "invalid argument 'A' for --env: it must be NAME=VALUE"),
    ],
)
def test_what_contradicts_itself_is_refused_in_kubectls_words(arguments: list[str], words: str) -> None:
    cluster, _ = a_cluster()
    result = run(cluster, "debug", *arguments)
    assert (result.stderr, result.exit_code) == (f"error: {words}\n", 1)


def test_a_target_that_is_not_there_is_refused_by_the_master() -> None:
    cluster, _ = a_cluster()
    result = run(cluster, "debug", "web", "-q", "--image=x", "--target=nope")
    assert 'spec.ephemeralContainers[0].targetContainerName: Not found: "nope"' in result.stderr
