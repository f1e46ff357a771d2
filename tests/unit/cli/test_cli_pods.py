"""`barque logs`, `exec` and `attach`: which container, what is passed on, and the exit code."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from barque.api.errors import ApiError, not_found, unavailable
from barque.cli.commands.logs import MAX_LINE_BYTES, Lines
from barque.proto import pods_pb2
from tests.support.builders import DeploymentBuilder, PodBuilder
from tests.support.registry_cluster import RegistryCluster, run


class FakePods:
    """Answers for the master's Pods service; remembers what it was asked."""

    def __init__(self, *outputs: Any, logs: dict[str, list[Any]] | None = None) -> None:
        self.outputs = outputs
        self.logs = logs or {}
        self.asked: list[Any] = []

    async def Logs(self, request: Any) -> AsyncIterator[Any]:
        """An `ApiError` in a log breaks it off there; what follows is for who takes it up again."""
        self.asked.append(pods_pb2.LogsRequest.FromString(request.SerializeToString()))
        log = self.logs[request.pod]
        for number in range(int(request.position or 0), len(log)):
            if isinstance(log[number], ApiError):
                raise_once, log[number] = log[number], b""
                raise raise_once
            yield pods_pb2.LogsChunk(data=log[number], position=str(number + 1))

    async def Exec(self, inputs: AsyncIterator[Any]) -> AsyncIterator[Any]:
        self.asked.append((await anext(inputs)).start)
        for output in self.outputs:
            if isinstance(output, ApiError):
                raise output
            yield output

    Attach = Exec


def cluster_of(pods: FakePods, *more: Any) -> RegistryCluster:
    web = (PodBuilder(f"web-{n}", "default").labelled(app="web").on("n1") for n in (1, 2))
    cluster = RegistryCluster(*(pod.running().build() for pod in web), *more)
    cluster.pods = pods
    return cluster


def test_logs_are_printed_as_they_are() -> None:
    pods = FakePods(logs={"web-1": [b"one\ntw", b"o\n\xff\n"]})
    result = run(cluster_of(pods), "logs", "web-1", "--tail", "20", "--since=1m", "--timestamps", "-p")
    assert result.stdout_bytes == b"one\ntwo\n\xff\n"
    request = pods.asked[0]
    assert (request.namespace, request.pod, request.container) == ("default", "web-1", "main")
    assert (request.tail_lines, request.since_s, request.timestamps, request.previous) == (20, 60, True, True)


def test_logs_of_a_deployment_pick_the_pod_that_is_ready() -> None:
    pods = FakePods(logs={"web-2": [b"hello\n"]})
    cluster = cluster_of(pods, DeploymentBuilder("web", "default").build())
    cluster.put(PodBuilder("web-2", "default").labelled(app="web").ready().build())
    result = run(cluster, "logs", "-f", "deployment/web")
    assert result.stdout == "hello\n"
    assert result.stderr == "Found 2 pods, using pod/web-2\n"
    assert (pods.asked[0].follow, pods.asked[0].tail_lines) == (True, -1)


def test_logs_by_label_with_prefix() -> None:
    pods = FakePods(logs={"web-1": [b"a", b"b\nc"], "web-2": [b"d\n"]})
    for follow in ([], ["-f"]):
        result = run(cluster_of(pods), "logs", "-l", "app=web", "--prefix", *follow)
        assert sorted(result.stdout.splitlines()) == ["[pod/web-1/main] ab", "[pod/web-1/main] c", "[pod/web-2/main] d"]
    assert pods.asked[0].tail_lines == 10


def test_a_container_must_exist_and_the_first_is_named() -> None:
    pods = FakePods(logs={"two": [b"x\n"]})
    cluster = cluster_of(pods, PodBuilder("two", "default").container("app").container("proxy").build())
    assert run(cluster, "logs", "two").stderr == 'Defaulted container "app" out of: app, proxy\n'
    assert run(cluster, "logs", "two", "-c", "proxy").stdout == "x\n"
    assert pods.asked[-1].container == "proxy"
    wrong = run(cluster, "logs", "two", "nginx")
    assert wrong.stderr == "error: container nginx is not valid for pod two; it has app, proxy\n"


def test_a_followed_log_goes_on_where_it_broke_off() -> None:
    broken = unavailable("the master ended the stream")
    pods = FakePods(logs={"web-1": [b"one\n", broken, b"two\n", unavailable("node n1 cannot be reached"), b"three\n"]})
    result = run(cluster_of(pods), "logs", "-f", "web-1", "--limit-bytes=100")
    assert (result.stdout, result.exit_code) == ("one\ntwo\nthree\n", 0)
    assert [(r.position, r.limit_bytes) for r in pods.asked] == [("", 100), ("1", 96), ("3", 92)]


def test_a_log_that_cannot_be_opened_is_an_error() -> None:
    for follow in ([], ["-f"]):
        pods = FakePods(logs={"web-1": [unavailable("node n1 cannot be reached")]})
        result = run(cluster_of(pods), "logs", "web-1", *follow)
        assert (result.stderr, result.exit_code) == (
            "Error from server (ServiceUnavailable): node n1 cannot be reached\n", 1
        )  # fmt: skip


def test_a_followed_log_whose_pod_is_gone_ends_with_an_error() -> None:
    pods = FakePods(logs={"web-1": [b"one\n", unavailable("x"), not_found("pods", "", "web-1")]})
    result = run(cluster_of(pods), "logs", "-f", "web-1")
    assert (result.stdout, result.exit_code) == ("one\n", 1)
    assert result.stderr == 'Error from server (NotFound): pods "web-1" not found\n'


def test_errors_of_one_log_may_be_ignored() -> None:
    logs = {"web-1": [not_found("pods", "", "web-1")], "web-2": [b"b\n"]}
    result = run(cluster_of(FakePods(logs=logs)), "logs", "-l", "app=web", "--ignore-errors")
    assert (result.stdout, result.exit_code) == ("b\n", 0)
    assert result.stderr == 'Error from server (NotFound): pods "web-1" not found\n'


def test_no_more_logs_are_followed_than_allowed() -> None:
    pods = FakePods(logs={"web-1": [b"a\n"], "web-2": [b"b\n"]})
    result = run(cluster_of(pods), "logs", "-f", "-l", "app=web", "--max-log-requests=1")
    assert result.stderr == (
        "error: you are attempting to follow 2 log streams, but maximum allowed concurrency is 1, use "
        "--max-log-requests to increase the limit\n"
    )
    assert run(cluster_of(pods), "logs", "-l", "app=web", "--max-log-requests=1").exit_code == 0


def test_all_pods_of_a_deployment_and_all_containers() -> None:
    pods = FakePods(logs={"web-1": [b"a\n"], "web-2": [b"b\n"]})
    cluster = cluster_of(pods, DeploymentBuilder("web", "default").build())
    result = run(cluster, "logs", "deployment/web", "--all-pods")
    assert sorted(result.stdout.splitlines()) == ["[pod/web-1/main] a", "[pod/web-2/main] b"]
    both = cluster_of(pods, PodBuilder("web-1", "default").container("app").container("proxy").build())
    assert run(both, "logs", "web-1", "--all-containers").stdout == "a\na\n"
    assert [r.container for r in pods.asked[-2:]] == ["app", "proxy"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["web-1", "--since=1m", "--since-time=2026-01-01T00:00:00Z"],
            "at most one of `sinceTime` or `sinceSeconds` may be specified",
        ),
        (["web-1", "--tail=-2"], "--tail must be greater than or equal to -1"),
        (["web-1", "--limit-bytes=-1"], "--limit-bytes must be greater than 0"),
        (
            ["web-1", "-c", "main", "--all-containers"],
            "--all-containers=true should not be specified with container name main",
        ),
    ],
)
def test_logs_that_contradict_themselves(arguments: list[str], words: str) -> None:
    assert run(cluster_of(FakePods()), "logs", *arguments).stderr == f"error: {words}\n"


def test_logs_of_nothing() -> None:
    cluster = cluster_of(FakePods(), DeploymentBuilder("idle", "default").build())
    assert run(cluster, "logs").exit_code == 1
    assert run(cluster, "logs", "gone").stderr == 'Error from server (NotFound): pods "gone" not found\n'
    assert run(cluster, "logs", "deployment/idle").stderr == (
        "error: no pod belongs to deployment/idle yet; `barque describe deployment idle` tells why\n"
    )
    assert run(cluster, "logs", "-l", "app=none").stderr == "No resources found in default namespace.\n"


def test_a_line_without_end_does_not_grow() -> None:
    lines = Lines(b"> ")
    assert lines.whole(b"x" * MAX_LINE_BYTES) == b""
    assert lines.whole(b"y").startswith(b"> xxx")
    assert lines.rest() == b""


def output(**what: Any) -> Any:
    return pods_pb2.ExecOutput(**what)


def test_exec_passes_on_what_is_printed_and_the_exit_code() -> None:
    pods = FakePods(output(stdout=b"out\n"), output(stderr=b"err\n"), output(exit_code=3))
    result = run(cluster_of(pods), "exec", "web-1", "--", "ls", "-l", "--", "x")
    assert result.stdout == "out\n"
    assert result.stderr == "err\ncommand terminated with exit code 3\n"
    assert result.exit_code == 3
    start = pods.asked[0]
    assert (start.pod, start.container, list(start.command)) == ("web-1", "main", ["ls", "-l", "--", "x"])
    assert (start.stdin, start.tty) == (False, False)


def test_exec_without_a_terminal_does_not_ask_for_one() -> None:
    pods = FakePods(output(exit_code=0))
    cluster = cluster_of(pods)
    result = run(cluster, "exec", "-t", "web-1", "--", "tty")
    assert (result.exit_code, pods.asked[0].tty) == (0, True)


@pytest.mark.parametrize("arguments", [["web-1"], ["web-1", "ls"], ["--", "ls"], []])
def test_exec_needs_a_pod_and_a_command(arguments: list[str]) -> None:
    result = run(cluster_of(FakePods()), "exec", *arguments)
    assert result.exit_code == 1
    assert result.stderr == "error: give a pod, then -- and the command, as in `barque exec -it web-1 -- sh`\n"


def test_a_connection_that_ends_early_is_said() -> None:
    result = run(cluster_of(FakePods(output(stdout=b"half"))), "exec", "web-1", "--", "sh")
    assert result.stderr == "error: the connection ended before the command did; it may still be running\n"
    assert result.exit_code == 1


def test_a_container_that_does_not_run_is_said_as_kubectl_says_it() -> None:
    for verb in (["exec", "web-1", "--", "sh"], ["attach", "web-1"]):
        pods = FakePods(ApiError(404, "NotFound", 'container not found ("main")'))
        result = run(cluster_of(pods), *verb)
        assert result.stderr == 'error: unable to upgrade connection: container not found ("main")\n'
        assert result.exit_code == 1


def test_a_completed_pod_is_not_entered() -> None:
    done = PodBuilder("done", "default").on("n1").build()
    done.status.phase = "Succeeded"
    cluster = cluster_of(FakePods(), done)
    assert run(cluster, "exec", "done", "--", "sh").stderr == (
        "error: cannot exec into a container in a completed pod; current phase is Succeeded\n"
    )
    assert run(cluster, "attach", "done").stderr == (
        "error: cannot attach a container in a completed pod; current phase is Succeeded\n"
    )


def test_attach_prints_what_the_container_writes() -> None:
    pods = FakePods(output(stdout=b"out\n"), output(stderr=b"err\n"))
    result = run(cluster_of(pods), "attach", "web-1")
    assert (result.stdout, result.stderr, result.exit_code) == ("out\n", "err\n", 0)
    assert (pods.asked[0].container, list(pods.asked[0].command), pods.asked[0].stdin) == ("main", [], False)


def test_attach_gives_no_input_to_a_container_without_one() -> None:
    result = run(cluster_of(FakePods()), "attach", "-i", "web-1")
    assert result.stderr == "error: container main has no standard input: its `stdin` is not true\n"
