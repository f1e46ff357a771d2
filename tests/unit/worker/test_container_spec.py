"""How containers are created: hash, limits, security, and Docker's form of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from barque.api.types import core_v1
from barque.worker.pods import config
from barque.worker.pods.env import ConfigError, Sources
from barque.worker.pods.resources import limits_of
from barque.worker.runtime.docker_records import create_body, record_of
from barque.worker.runtime.port import ContainerSpec, ImageRecord, Limits, Mount, Security
from tests.support.worker_world import a_container, a_pod

NODE = config.NodeFacts("c1", "n1", "node-uid", 1000 * 1024**2)
GIB = 1024**3


def a_spec(pod: core_v1.Pod, image: ImageRecord = ImageRecord("sha256:1")) -> ContainerSpec:
    creation = config.Creation(2, 1, "sb", (Mount("/a", "/b"),))
    return config.container_spec(pod, pod.spec.containers[0], NODE, image, Sources({}, {}), creation)


def test_the_hash_sees_what_takes_effect_at_creation_only() -> None:
    plain = config.config_hash(a_container())
    assert config.config_hash(a_container(image="web:2")) != plain
    assert config.config_hash(a_container(env=[core_v1.EnvVar(name="A", value="b")])) != plain
    assert config.config_hash(a_container(readinessProbe=core_v1.Probe(), imagePullPolicy="Always")) == plain
    assert config.config_hash(a_container(resources=core_v1.ResourceRequirements(limits={"cpu": "1"}))) == plain


def test_the_hash_is_stable() -> None:
    # A new release that hashes otherwise must take a new HASH_VERSION, or it would restart every container.
    limits = core_v1.ResourceRequirements(limits={"memory": "1Gi", "cpu": "1"})
    assert (config.HASH_VERSION, config.config_hash(a_container(resources=limits))) == ("2", "37363e1b3e65")


def test_labels_say_whose_it_is() -> None:
    spec = a_spec(a_pod())
    assert spec.name == "barque_web_p_default_uid-p_2"
    assert spec.labels == {
        "barque.io/cluster": "c1",
        "barque.io/node": "n1",
        "barque.io/node-uid": "node-uid",
        "barque.io/pod-uid": "uid-p",
        "barque.io/pod-name": "p",
        "barque.io/pod-namespace": "default",
        "barque.io/role": "container",
        "barque.io/container-name": "web",
        "barque.io/attempt": "2",
        "barque.io/streak": "1",
        "barque.io/sandbox": "sb",
        "barque.io/config-hash": config.config_hash(a_container()),
        "barque.io/config-hash-version": "2",
        "barque.io/grace-s": "30",
    }


def test_commands_and_arguments_are_expanded() -> None:
    spec = a_spec(
        a_pod(
            "p", a_container(command=["run", "$(WHO)"], args=["$$(WHO)"], env=[core_v1.EnvVar(name="WHO", value="me")])
        )
    )
    assert (spec.command, spec.args, spec.env) == (("run", "me"), ("$(WHO)",), ("WHO=me",))
    body = create_body(spec)
    assert (body["Entrypoint"], body["Cmd"]) == (["run", "me"], ["$(WHO)"])


def test_a_command_alone_drops_the_images_arguments() -> None:
    assert create_body(a_spec(a_pod("p", a_container(command=["run"]))))["Cmd"] == []
    assert "Cmd" not in create_body(a_spec(a_pod()))


def test_the_sandbox_has_a_network_of_its_own_and_the_pods_name() -> None:
    body = create_body(config.sandbox_spec(a_pod("a-pod"), NODE, "pause", 0))
    assert (body["HostConfig"]["NetworkMode"], body["HostConfig"]["IpcMode"]) == ("none", "shareable")
    assert body["Hostname"] == "a-pod"
    inside = create_body(a_spec(a_pod()))
    assert (inside["HostConfig"]["NetworkMode"], inside["HostConfig"]["IpcMode"]) == ("container:sb", "container:sb")
    assert "Hostname" not in inside
    (mount,) = inside["HostConfig"]["Mounts"]
    assert (mount["Type"], mount["Source"], mount["Target"], mount["ReadOnly"]) == ("bind", "/a", "/b", False)


@pytest.mark.parametrize(
    ("resources", "limits"),
    [
        (None, Limits(2, 0, 0, 1000)),
        ({"requests": {"cpu": "250m", "memory": "100Mi"}}, Limits(256, 0, 0, 900)),
        ({"limits": {"cpu": "1.5", "memory": "200Mi"}}, Limits(1536, 1_500_000_000, 200 * 1024**2, -997)),
        (
            {"requests": {"cpu": "1m"}, "limits": {"cpu": "1m", "memory": "1Mi"}},
            Limits(2, 10_000_000, 6 * 1024**2, -997),
        ),
        ({"requests": {"memory": "2Gi"}}, Limits(2, 0, 0, 3)),
    ],
)
def test_requests_and_limits_as_the_kernel_takes_them(resources: dict[str, Any] | None, limits: Limits) -> None:
    container = a_container(resources=core_v1.ResourceRequirements(**resources) if resources else None)
    assert limits_of(a_pod("p", container), container, NODE.memory_bytes) == limits


def test_memory_limits_leave_no_swap() -> None:
    host = create_body(ContainerSpec("n", "i", {}, limits=Limits(memory_bytes=GIB)))["HostConfig"]
    assert (host["Memory"], host["MemorySwap"]) == (GIB, GIB)


def test_security_of_container_over_pod() -> None:
    container = a_container(
        securityContext=core_v1.SecurityContext(runAsUser=7, capabilities=core_v1.Capabilities(drop=["ALL"]))
    )
    shared = core_v1.PodSecurityContext(runAsUser=5, runAsGroup=6, supplementalGroups=[8], fsGroup=9)
    security = config.security_of(a_pod("p", container, securityContext=shared), container, ImageRecord("x"))
    assert (security.user, security.groups, security.cap_drop) == ("7:6", ("8", "9"), ("ALL",))


@pytest.mark.parametrize(
    ("image_user", "run_as", "why"),
    [
        ("1000", None, ""),
        ("", 1000, ""),
        ("web", 0, "container's runAsUser breaks non-root policy"),
        ("", None, "container has runAsNonRoot and image will run as root"),
        ("0:0", None, "container has runAsNonRoot and image will run as root"),
        (
            "web:web",
            None,
            "container has runAsNonRoot and image has non-numeric user (web), cannot verify user is non-root",
        ),
    ],
)
def test_root_is_ruled_out_by_run_as_non_root(image_user: str, run_as: int | None, why: str) -> None:
    container = a_container(securityContext=core_v1.SecurityContext(runAsNonRoot=True, runAsUser=run_as))
    pod = a_pod("p", container)
    if why:
        with pytest.raises(ConfigError) as refused:
            config.security_of(pod, container, ImageRecord("x", image_user))
        assert str(refused.value) == f'{why} (pod: "p_default(uid-p)", container: web)'
    else:
        config.security_of(pod, container, ImageRecord("x", image_user))


def test_a_sidecar_is_spared_as_long_as_the_apps_it_serves() -> None:
    def asking(name: str, memory: str, **fields: Any) -> core_v1.Container:
        return a_container(name, resources=core_v1.ResourceRequirements(requests={"memory": memory}), **fields)

    small, large = asking("small", "100Mi", restartPolicy="Always"), asking("large", "500Mi", restartPolicy="Always")
    pod = a_pod("p", asking("a", "200Mi"), asking("b", "300Mi"), initContainers=[small, large])
    scores = {c.name: limits_of(pod, c, NODE.memory_bytes).oom_score_adj for c in (*pod.spec.containers, small, large)}
    assert scores == {"a": 800, "b": 700, "small": 800, "large": 500}
    pod.spec.priorityClassName = "system-node-critical"
    assert limits_of(pod, small, NODE.memory_bytes).oom_score_adj == -997


def test_processes_are_limited_by_the_nodes_setting() -> None:
    creation = config.Creation(0, 0, "sb", ())
    pod = a_pod()
    node = NODE._replace(pids=64)
    spec = config.container_spec(pod, pod.spec.containers[0], node, ImageRecord("x"), Sources({}, {}), creation)
    assert create_body(spec)["HostConfig"]["PidsLimit"] == 64
    assert "PidsLimit" not in create_body(a_spec(a_pod()))["HostConfig"]


def test_the_hosts_namespaces_as_docker_takes_them() -> None:
    shared = a_pod("p", hostNetwork=True, hostPID=True, hostIPC=True)
    sandbox = create_body(config.sandbox_spec(shared, NODE, "pause", 0))
    assert [sandbox["HostConfig"][f"{kind}Mode"] for kind in ("Network", "Pid", "Ipc")] == ["host"] * 3
    # The host's own name, too.
    assert "Hostname" not in sandbox
    inside = create_body(a_spec(shared))["HostConfig"]
    assert [inside[f"{kind}Mode"] for kind in ("Network", "Pid", "Ipc")] == ["container:sb", "host", "host"]


@pytest.mark.parametrize(
    ("own", "shared", "found"),
    [
        (None, None, ""),
        (None, "Unconfined", "unconfined"),
        ("RuntimeDefault", "Unconfined", ""),
        ("Localhost", "Unconfined", "{}"),
    ],
)
def test_seccomp_of_container_over_pod(tmp_path: Path, own: str | None, shared: str | None, found: str) -> None:
    (tmp_path / "mine.json").write_text("{}")
    profiles = [
        core_v1.SeccompProfile(type=kind, localhostProfile="mine.json" if kind == "Localhost" else "") if kind else None
        for kind in (own, shared)
    ]
    container = a_container(securityContext=core_v1.SecurityContext(seccompProfile=profiles[0]))
    pod = a_pod("p", container, securityContext=core_v1.PodSecurityContext(seccompProfile=profiles[1]))
    assert config.seccomp_profile(pod, container, tmp_path) == found
    (tmp_path / "mine.json").unlink()
    if own == "Localhost":
        with pytest.raises(ConfigError, match=r"cannot load seccomp profile .*mine.json"):
            config.seccomp_profile(pod, container, tmp_path)


def test_security_options_as_docker_takes_them() -> None:
    security = Security(no_new_privileges=True, seccomp="unconfined")
    host = create_body(ContainerSpec("n", "i", {}, security=security))["HostConfig"]
    assert host["SecurityOpt"] == ["no-new-privileges", "seccomp=unconfined"]


def inspected(**state: Any) -> dict[str, Any]:
    given = {
        "Status": "running", "Pid": 5, "ExitCode": 0, "OOMKilled": False, "Error": "",
        "StartedAt": "2026-01-01T00:00:00.5Z", "FinishedAt": "0001-01-01T00:00:00Z",
    }  # fmt: skip
    return {
        "Id": "c", "Name": "/n", "Image": "sha256:1", "Created": "2025-12-31T00:00:00Z", "State": given | state,
        "Config": {"Image": "web:1", "Labels": None, "Tty": False, "StopSignal": "SIGQUIT"},
    }  # fmt: skip


def test_dockers_records() -> None:
    record = record_of(inspected())
    assert (record.name, record.state, record.finished_at, record.stop_signal) == ("n", "running", "", "SIGQUIT")


def test_a_container_that_could_not_start_has_ended() -> None:
    never = "0001-01-01T00:00:00Z"
    record = record_of(inspected(Status="created", ExitCode=127, Error="no such file", StartedAt=never))
    assert (record.state, record.finished_at, record.error) == ("exited", "2025-12-31T00:00:00Z", "no such file")
    assert record_of(inspected(Status="created", StartedAt=never)).state == "created"
