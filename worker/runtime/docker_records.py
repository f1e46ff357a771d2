"""Docker's JSON to the runtime's records, and container specs to Docker's JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from barque.worker.runtime.port import (
    ContainerRecord,
    ContainerSpec,
    ContainerSummary,
    Limits,
    LogRotation,
    Mount,
    State,
)

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
        netns=f"/proc/{state['Pid']}/ns/net" if state["Pid"] else "",
        exit_code=state["ExitCode"],
        oom_killed=state["OOMKilled"],
        error=state["Error"],
        created_at=data["Created"],
        started_at=_time(state["StartedAt"]),
        finished_at=_time(state["FinishedAt"]) or (data["Created"] if failed else ""),
        stop_signal=config.get("StopSignal") or "",
        tty=config["Tty"],
        written=_written(data),
        limits=_limits(data.get("HostConfig") or {}),
    )


def _limits(host: Mapping[str, Any]) -> Limits | None:
    """The limits in effect, as far as they can change."""
    if not host:
        return None
    return Limits(host.get("CpuShares") or 0, host.get("NanoCpus") or 0, host.get("Memory") or 0)


def update_body(limits: Limits) -> dict[str, Any]:
    """The body of `POST /containers/{id}/update`; what is zero stays as it is."""
    return {
        "CpuShares": limits.cpu_shares,
        "NanoCpus": limits.nano_cpus,
        "Memory": limits.memory_bytes,
        "MemorySwap": limits.memory_bytes,
    }


def _written(data: Mapping[str, Any]) -> tuple[str, ...]:
    """The container's own layer, where its storage driver has one in a directory, and the directory of its log."""
    layer = ((data.get("GraphDriver") or {}).get("Data") or {}).get("UpperDir") or ""
    log = data.get("LogPath") or ""
    return tuple(path for path in (layer, log.rpartition("/")[0]) if path)


def _time(text: str) -> str:
    return "" if text == _NEVER else text


def summary_of(data: Mapping[str, Any]) -> ContainerSummary:
    """A summary from an entry of `GET /containers/json`."""
    return ContainerSummary(data["Id"], data.get("Labels") or {}, _STATES.get(data["State"], "exited"))


def create_body(
    spec: ContainerSpec, lowest_oom_score: int = -1000, rotation: LogRotation = LogRotation()
) -> dict[str, Any]:
    """The body of `POST /containers/create`. With `Mounts`, unlike `Binds`, a missing source is an error.

    `lowest_oom_score` is what this host lets a container have; asking for less would stop it from starting.
    """
    security = spec.security
    host: dict[str, Any] = {
        "NetworkMode": f"container:{spec.sandbox}" if spec.sandbox else "host" if spec.host_network else "none",
        "IpcMode": "host" if spec.host_ipc else f"container:{spec.sandbox}" if spec.sandbox else "shareable",
        "CpuShares": spec.limits.cpu_shares,
        "OomScoreAdj": max(spec.limits.oom_score_adj, lowest_oom_score),
        "Privileged": security.privileged,
        "ReadonlyRootfs": security.read_only_root,
        "RestartPolicy": {"Name": "no"},
        "LogConfig": {
            "Type": "json-file",
            "Config": {"max-size": str(rotation.file_bytes), "max-file": str(rotation.files)},
        },
        "Mounts": [_mount_body(mount) for mount in spec.mounts],
    }
    if processes := _processes(spec):
        host["PidMode"] = processes
    if spec.limits.pids:
        host["PidsLimit"] = spec.limits.pids
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
    options = ["no-new-privileges"] if security.no_new_privileges else []
    if security.seccomp:
        options.append(f"seccomp={security.seccomp}")
    if options:
        host["SecurityOpt"] = options
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
    if spec.hostname and not spec.sandbox and not spec.host_network:
        body["Hostname"] = spec.hostname
    if spec.working_dir:
        body["WorkingDir"] = spec.working_dir
    if security.user:
        body["User"] = security.user
    return body


def _mount_body(mount: Mount) -> dict[str, Any]:
    # Unsaid, it is "rprivate", save for a source that Docker's own directory is in, which it mounts in no such way.
    options: dict[str, Any] = {"Propagation": mount.propagation} if mount.propagation != "rprivate" else {}
    if mount.read_only:
        # Docker 25 makes what is mounted within read-only too, unless told otherwise; older ones never do.
        options["ReadOnlyNonRecursive"] = True
    return {
        "Type": "bind",
        "Source": mount.source,
        "Target": mount.target,
        "ReadOnly": mount.read_only,
        "BindOptions": options,
    }


def _processes(spec: ContainerSpec) -> str:
    """Whose process namespace the container enters; "" for one of its own."""
    if spec.host_pid:
        return "host"
    if spec.processes_of:
        return f"container:{spec.processes_of}"
    return f"container:{spec.sandbox}" if spec.sandbox and spec.share_processes else ""
