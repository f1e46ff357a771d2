"""The command as a whole: help, hints, exit codes, and every failure as one line."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from barque.api.errors import refused, too_many_requests, unauthorized, unavailable
from barque.cli.arguments import parse_duration, parse_wanted
from barque.cli.commands.config import command as config
from barque.cli.commands.token import join_host
from barque.cli.main import COMMANDS, cli
from barque.cli.output import CliError, styled
from barque.cli.session import Session, certificate_fault
from barque.client.pki import ADMIN, create_authority
from barque.client.profile import Profile
from barque.proto import cluster_pb2
from barque.worker.command import join_command
from tests.support.builders import PodBuilder
from tests.support.registry_cluster import RegistryCluster, a_session, run

CLUSTER_VERBS = [
    ["cluster", *words] for words in (["status"], ["rotate-key"], ["snapshot", "save"], ["snapshot", "restore"])
]
CONFIG_VERBS = [["config", verb] for verb in config.commands]
GROUPS = [
    ["rollout"],
    ["token"],
    ["image"],
    ["cluster"],
    ["config"],
    ["set"],
    ["node"],
    ["top"],
    ["auth"],
    ["certificate"],
]
SET_VERBS = [["set", "image"], ["set", "env"], ["set", "resources"], ["node", "rm"], ["top", "nodes"], ["top", "pods"]]
VERBS = [name for name, entry in COMMANDS.items() if entry.module]


def failing(error: BaseException) -> RegistryCluster:
    cluster = RegistryCluster()

    def on_call(*_: Any) -> None:
        raise error

    cluster.on_call = on_call
    return cluster


@pytest.mark.parametrize(
    "arguments",
    [[v] for v in VERBS] + [["rollout", "status"], ["token", "create"]] + SET_VERBS + CLUSTER_VERBS + CONFIG_VERBS,
)
def test_every_verb_has_help_with_a_paragraph_and_examples(arguments: list[str]) -> None:
    result = run(RegistryCluster(), *arguments, "--help")
    assert result.exit_code == 0
    assert ("Examples:" in result.stdout) == (arguments not in GROUPS)
    assert len(result.stdout.splitlines()[2].strip()) > 25


def test_the_help_lists_every_command_without_importing_any() -> None:
    program = (
        "import sys\nfrom click.testing import CliRunner\nfrom barque.cli.main import cli\n"
        "out = CliRunner().invoke(cli, ['--help']).stdout\n"
        "assert 'apply' in out and 'worker' in out, out\n"
        "print([m for m in sys.modules if m.startswith(('barque.', 'grpc', 'rich', 'yaml', 'msgspec'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "['barque.cli', 'barque.cli.verb', 'barque.cli.main']\n"


def test_nothing_brings_grpc_in_before_its_fork_handlers_are_off() -> None:
    """With them a master may stand still while it starts its nats-server; gRPC asks only once."""
    program = """
import importlib.abc, os, sys

class Watch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "grpc":
            print("fork support", os.environ.get("GRPC_ENABLE_FORK_SUPPORT"))

sys.meta_path.insert(0, Watch())
from barque.cli.main import main
sys.argv = ["barque", "master", "run", "--tls-san", "not a name"]
main()
"""
    environment = {name: value for name, value in os.environ.items() if name != "GRPC_ENABLE_FORK_SUPPORT"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    assert done.stdout == "fork support 0\n", done.stderr
    assert "'not a name' is neither a DNS name nor an IP address" in done.stderr


def test_unknown_commands_get_a_hint() -> None:
    wrong = run(RegistryCluster(), "gte", "pods")
    assert (wrong.stderr, wrong.exit_code) == ('error: unknown command "gte"; did you mean get?\n', 2)
    far = run(RegistryCluster(), "sing")
    assert far.stderr == 'error: unknown command "sing"; `barque --help` lists the commands\n'


def test_unknown_options_are_wrong_usage() -> None:
    result = run(RegistryCluster(), "get", "pods", "--namespac", "x")
    assert result.exit_code == 2
    hint = "Did you mean one of: '--all-namespaces', '--filename', '--namespace'?"
    assert result.stderr == f"error: no such option '--namespac'. ({hint})\nSee `barque get --help` for usage.\n"
    bare = run(RegistryCluster(), "get", "pods", "-o")
    assert bare.stderr == "error: option '-o' requires an argument\nSee `barque get --help` for usage.\n"
    first = run(RegistryCluster(), "--frob", "get")
    assert (first.stderr, first.exit_code) == (
        "error: no such option '--frob'\nSee `barque --help` for usage.\n",
        2,
    )


def test_colours_are_for_terminals_whose_owner_likes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = SimpleNamespace(isatty=lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert styled("x", terminal, fg="red") == "\x1b[31mx\x1b[0m"
    assert styled("x", SimpleNamespace(isatty=lambda: False), fg="red") == "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert styled("x", terminal, fg="red") == "x"


def test_a_group_alone_shows_its_help() -> None:
    result = run(RegistryCluster(), "rollout")
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: barque rollout ")
    told = " ".join(result.stderr.split())
    assert "status Wait until a rollout is done: until every replica is of the new version and available, and" in told
    assert not any(line.endswith("...") for line in result.stderr.splitlines()[1:])


def test_refusals_of_the_daemons_look_like_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    result = run(RegistryCluster(), "down")
    assert result.exit_code == 1
    assert result.stderr == "error: only root can stop the cluster: run `sudo barque down`\n"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            unavailable("no master is reachable (10.0.0.1:7443: connection refused)"),
            "Unable to reach the cluster: no master is reachable (10.0.0.1:7443: connection refused); "
            "if none runs here, `barque up` or `barque master run` starts one",
        ),
        (
            refused("pods", "", "web", "the namespace is being deleted"),
            'Error from server (Forbidden): pods "web" is forbidden: the namespace is being deleted',
        ),
        (
            refused(
                "pods", "", "web", 'User "jane" cannot get resource "pods" in API group "" in the namespace "shop"'
            ),
            'Error from server (Forbidden): pods "web" is forbidden: User "jane" cannot get resource "pods" in API '
            'group "" in the namespace "shop"; `barque auth can-i --list` shows what you may do',
        ),
        (
            unauthorized("the certificate has expired"),
            "error: you are not known to the cluster: the certificate has expired",
        ),
        (
            unavailable("the worker n1 does not answer"),
            "Error from server (ServiceUnavailable): the worker n1 does not answer",
        ),
        (too_many_requests("slow down"), "Error from server (TooManyRequests): slow down"),
        (ValueError("odd"), "error: unexpected ValueError: odd; BARQUE_DEBUG=1 shows where"),
        (
            PermissionError(13, "Permission denied", "/x"),
            "error: /x: permission denied; run it as root, or name a place that you may use",
        ),
        (
            unavailable("no master is reachable (10.0.0.1:7443: its certificate is not of this cluster's CA)"),
            "Unable to reach the cluster: no master is reachable (10.0.0.1:7443: its certificate is not of this "
            "cluster's CA); another cluster answers there, or this one was founded anew: `barque config get-contexts` "
            "lists those of the profile, `barque config import FILE` takes over the way to another",
        ),
    ],
)
def test_every_failure_is_one_line(error: Exception, line: str) -> None:
    result = run(failing(error), "get", "pods")
    assert (result.stdout, result.stderr, result.exit_code) == ("", line + "\n", 1)


def test_a_certificate_that_has_ended_is_named_in_the_place_of_masters_that_break_off() -> None:
    now = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    admin = create_authority(now).identity(ADMIN, now)
    way_in = Profile.of(["10.0.0.1:7443"], admin)
    broken_off = "no master is reachable (10.0.0.1:7443: connection closed)"
    fault = certificate_fault(broken_off, way_in, admin.expires)
    assert fault.startswith(
        f"your certificate for this cluster has ended, on {admin.expires:%Y-%m-%d}: `barque master init`"
    )
    assert certificate_fault(broken_off, way_in, now) == ""
    assert certificate_fault("no master is reachable (10.0.0.1:7443: connection refused)", way_in, admin.expires) == ""
    assert certificate_fault("the worker n1: connection closed", way_in, admin.expires) == ""


def test_a_manifest_without_its_option_gets_a_hint(tmp_path: Path) -> None:
    manifest = tmp_path / "web.yaml"
    manifest.touch()
    result = run(RegistryCluster(), "apply", str(manifest))
    assert result.stderr.splitlines()[0] == (
        f"error: got unexpected extra argument ({manifest}); a manifest is given with -f: `-f {manifest}`"
    )
    manifest.unlink()
    assert "with -f" not in run(RegistryCluster(), "apply", str(manifest)).stderr


def test_debugging_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARQUE_DEBUG", "1")
    result = run(failing(ValueError("odd")), "get", "pods")
    assert isinstance(result.exception, ValueError)


def test_ctrl_c_is_130() -> None:
    assert run(failing(KeyboardInterrupt()), "get", "pods").exit_code == 130


def test_a_request_that_takes_too_long_is_given_up() -> None:
    import asyncio

    cluster = RegistryCluster()

    async def never(*_: Any) -> Any:
        await asyncio.get_running_loop().create_future()

    cluster.cluster = SimpleNamespace(Status=never)
    result = run(cluster, "cluster", "status", "--request-timeout", "1ms")
    assert result.stderr.startswith("error: no answer of 10.0.0.1:7443 within 0.001s; is a master running there?")
    assert result.exit_code == 1


def test_no_profile_says_what_to_do(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["get", "pods", "--config", str(tmp_path / "none")], obj=Session())
    assert result.exit_code == 1
    assert result.stderr.startswith(
        f"error: no profile at {tmp_path}/none: `barque up` makes a cluster on this machine"
    )


def test_the_profiles_namespace_counts_where_none_is_given() -> None:
    session = a_session(RegistryCluster(PodBuilder("web-1", "shop").build()))
    session.profile.namespace = "shop"
    assert CliRunner().invoke(cli, ["get", "pods", "-o", "name"], obj=session).stdout == "pod/web-1\n"


class FakeMasters:
    """Answers for the Cluster service."""

    def __init__(self, healthy: bool = True) -> None:
        self.healthy = healthy
        self.ttl_s = 0

    async def Status(self, _: Any) -> Any:
        component = cluster_pb2.Component(name="bus", healthy=self.healthy, message="" if self.healthy else "no answer")
        return cluster_pb2.StatusReply(
            cluster_id="c-1",
            version="0.1.0",
            members=[cluster_pb2.Member(name="m1", address="10.0.0.1:7443", leader=True)],
            revision=42,
            https_port=16443,
            components=[component],
        )

    async def CreateJoinToken(self, request: Any) -> Any:
        self.ttl_s = request.ttl_s
        return cluster_pb2.CreateJoinTokenReply(
            token="abcdef.0123456789abcdef", ca_pin="sha256:00ff", expires="2026-01-02T00:00:00Z"
        )


def with_masters(healthy: bool = True) -> RegistryCluster:
    cluster = RegistryCluster()
    cluster.cluster = FakeMasters(healthy)
    return cluster


def test_token_create_prints_the_whole_command() -> None:
    cluster = with_masters()
    result = run(cluster, "token", "create", "--ttl", "1h")
    assert result.stdout == (
        "barque worker join --master 10.0.0.1:16443 --token abcdef.0123456789abcdef --ca-pin sha256:00ff\n"
    )
    assert cluster.cluster.ttl_s == 3600
    # The worker's own command understands it.
    join_command.make_context("join", result.stdout.split()[3:])


def test_a_worker_elsewhere_cannot_join_at_loopback() -> None:
    assert join_host("127.0.0.1:7443", ["127.0.0.1:7443", "10.0.0.5:7443"]) == "10.0.0.5"
    assert join_host("10.0.0.1:7443", ["10.0.0.5:7443"]) == "10.0.0.1"
    assert join_host("127.0.0.1:7443", []) == "127.0.0.1"


def test_durations() -> None:
    assert [parse_duration(t) for t in ("0", "90", "1m30s", "500ms", "2h", "1d")] == [0, 90, 90, 0.5, 7200, 86400]
    for wrong in ("", "soon", "1x", "-1", "5 m"):
        with pytest.raises(CliError):
            parse_duration(wrong)


def test_what_people_type() -> None:
    def parsed(*words: str) -> list[tuple[str, tuple[str, ...]]]:
        return [(w.resource.plural, w.names) for w in parse_wanted(words, verb="get")]

    assert parsed("po") == [("pods", ())]
    assert parsed("Deployment.apps", "a", "b") == [("deployments", ("a", "b"))]
    assert parsed("pods,svc,pods") == [("pods", ()), ("services", ())]
    assert parsed("pod/a", "pod/b", "svc/c", "pod/d") == [("pods", ("a", "b")), ("services", ("c",)), ("pods", ("d",))]
    assert parsed("all") == [("pods", ()), ("services", ()), ("deployments", ()), ("replicasets", ())]
    for wrong in (["pod/"], ["/a"], ["pod/a/b"], ["pod,svc/a"], ["all", "web"]):
        with pytest.raises(CliError):
            parse_wanted(wrong, verb="get")
