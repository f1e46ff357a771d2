"""Docker's JSON to the runtime's records, and container specs to Docker's JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from barque.worker.runtime.port import ContainerRecord, ContainerSpec, ContainerSummary, State

# As much per container as Kubernetes' kubelet keeps by default in one rotation.
LOG_MAX_SIZE = "10m"
LOG_MAX_FILES = "5"
_NEVER = "0001-01-01T00:00:00Z"
_STATES: dict[str, State] = {
    "created": "created",
    "running": "running",
    "paused": "running",
    "restarting": "running",
    "removing": "exited",
    "exited": "exited",
    "dead": "exited",
}


def record_of(data: Mapping[str, Any]) -> ContainerRecord:
    """A record from `GET /containers/{id}/json`. One that could not be started counts as exited, at its creation."""
    state, config = data["State"], data["Config"]
    failed = state["Status"] == "created" and (state["ExitCode"] != 0 or state["Error"])
    return ContainerRecord(
        id=data["Id"],
        name=data["Name"].lstrip("/"),
        labels=config.get("Labels") or {},
        state="exited" if failed else _STATES.get(state["Status"], "exited"),
        image=config["Image"],
        image_id=data["Image"],
        pid=state["Pid"],
        exit_code=state["ExitCode"],
        oom_killed=state["OOMKilled"],
        error=state["Error"],
        created_at=data["Created"],
        started_at=_time(state["StartedAt"]),
        finished_at=_time(state["FinishedAt"]) or (data["Created"] if failed else ""),
        stop_signal=config.get("StopSignal") or "",
        tty=config["Tty"],
    )


def _time(text: str) -> str:
    return "" if text == _NEVER else text


def summary_of(data: Mapping[str, Any]) -> ContainerSummary:
    """A summary from an entry of `GET /containers/json`."""
    return ContainerSummary(data["Id"], data.get("Labels") or {}, _STATES.get(data["State"], "exited"))


def create_body(spec: ContainerSpec, lowest_oom_score: int = -1000) -> dict[str, Any]:
    """The body of `POST /containers/create`. With `Mounts`, unlike `Binds`, a missing source is an error.

    `lowest_oom_score` is what this host lets a container have; asking for less would stop it from starting.
    """
    security = spec.security
    host: dict[str, Any] = {
        "NetworkMode": f"container:{spec.sandbox}" if spec.sandbox else "none",
        "IpcMode": f"container:{spec.sandbox}" if spec.sandbox else "shareable",
        "CpuShares": spec.limits.cpu_shares,
        "OomScoreAdj": max(spec.limits.oom_score_adj, lowest_oom_score),
        "Privileged": security.privileged,
        "ReadonlyRootfs": security.read_only_root,
        "RestartPolicy": {"Name": "no"},
        "LogConfig": {"Type": "json-file", "Config": {"max-size": LOG_MAX_SIZE, "max-file": LOG_MAX_FILES}},
        "Mounts": [
            {"Type": "bind", "Source": m.source, "Target": m.target, "ReadOnly": m.read_only} for m in spec.mounts
        ],
    }
    if spec.sandbox and spec.share_processes:
        host["PidMode"] = f"container:{spec.sandbox}"
    if spec.limits.nano_cpus:
        host["NanoCpus"] = spec.limits.nano_cpus
    if spec.limits.memory_bytes:
        # The same limit for memory and swap together: no swap, as in Kubernetes.
        host["Memory"] = host["MemorySwap"] = spec.limits.memory_bytes
    if security.cap_add:
        host["CapAdd"] = list(security.cap_add)
    if security.cap_drop:
        host["CapDrop"] = list(security.cap_drop)
    if security.groups:
        host["GroupAdd"] = list(security.groups)
    if security.no_new_privileges:
        host["SecurityOpt"] = ["no-new-privileges"]
    if spec.sysctls:
        host["Sysctls"] = dict(spec.sysctls)
    body: dict[str, Any] = {
        "Image": spec.image,
        "Labels": dict(spec.labels),
        "Env": list(spec.env),
        "Tty": spec.tty,
        "OpenStdin": spec.stdin,
        "StdinOnce": spec.stdin_once,
        "HostConfig": host,
        # Kubernetes knows probes of its own; an image's HEALTHCHECK does not run.
        "Healthcheck": {"Test": ["NONE"]},
    }
    if spec.command:
        body["Entrypoint"] = list(spec.command)
    if spec.args:
        body["Cmd"] = list(spec.args)
    elif spec.command:
        # A given command also drops the image's own arguments.
        body["Cmd"] = []
    if spec.hostname and not spec.sandbox:
        body["Hostname"] = spec.hostname
    if spec.working_dir:
        body["WorkingDir"] = spec.working_dir
    if security.user:
        body["User"] = security.user
    return body


def split_reference(reference: str) -> tuple[str, str]:
    """An image reference as repository and tag or digest, "latest" where it names neither."""
    repository, at, digest = reference.partition("@")
    if at:
        return repository, digest
    head, colon, tag = reference.rpartition(":")
    if colon and "/" not in tag:
        return head, tag
    return reference, "latest"
