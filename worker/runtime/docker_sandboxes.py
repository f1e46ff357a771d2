"""Sandboxes without containers on one Docker: whether it can bring a container into them, and how a container asks.

Docker must know the script of `Sandboxes` as an OCI runtime (`runtimes` of its daemon.json) and see what this process
mounts. Neither is believed: a container is sent through once, and looked at, on every boot and for every version met.
"""

from __future__ import annotations

import logging
import os
import uuid
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import docker
import docker.errors

from barque.worker.runtime.port import ContainerSpec, RuntimeFault
from barque.worker.runtime.sandboxes import NAMESPACES, PREFIX, RUNTIME, Sandboxes

log = logging.getLogger(__name__)

SHM = "/dev/shm"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def is_bare(container_id: str) -> bool:
    """Whether the id is one of a sandbox without a container."""
    return container_id.startswith(PREFIX)


def suits(spec: ContainerSpec) -> bool:
    """Whether a sandbox may do without a container: a pod that shares its processes needs a first one among them."""
    return not (spec.sandbox or spec.share_processes or spec.host_network or spec.host_pid or spec.host_ipc)


def entering(body: Mapping[str, Any], hostname: str, shm: str) -> dict[str, Any]:
    """The body of `POST /containers/create`, for a container that the script brings into a sandbox.

    Docker is to leave network and shared memory alone: with "host" it does nothing for the network, with "none" nothing
    for IPC, and the script replaces both.
    """
    host = dict(body["HostConfig"])
    host |= {"NetworkMode": "host", "IpcMode": "none", "Runtime": RUNTIME}
    if not any(mount["Target"] == SHM for mount in host["Mounts"]):
        host["Mounts"] = [*host["Mounts"], {"Type": "bind", "Source": shm, "Target": SHM}]
    if host.get("PidMode", "").startswith(f"container:{PREFIX}"):
        del host["PidMode"]
    return {**body, "Hostname": hostname, "HostConfig": host}


class Rehearsal:
    """Finds out whether containers of a Docker can enter `sandboxes`."""

    def __init__(self, sandboxes: Sandboxes, image: str, labels: Mapping[str, str]) -> None:
        self._sandboxes = sandboxes
        self._image = image
        self._labels = dict(labels)
        self._installed = False
        self._passed = sandboxes.script.with_name("rehearsed")
        self._told = ""

    def succeeds(self, api: docker.APIClient, version: str, runtimes: Mapping[str, Any]) -> bool:
        """For a Docker of this `version`, which knows these `runtimes`. Blocks for a container's start, once a boot."""
        try:
            self._install()
            script, known = str(self._sandboxes.script), (runtimes.get(RUNTIME) or {}).get("path")
            if known != script:
                raise RuntimeFault(f"its runtime {RUNTIME!r} is {known or 'not registered'}, not {script}")
            key = f"{version} {BOOT_ID.read_text().strip()} {zlib.crc32(self._sandboxes.script.read_bytes()):08x}"
            if not self._passed.exists() or self._passed.read_text() != key:
                self._rehearse(api)
                self._passed.write_text(key)
        except (RuntimeFault, docker.errors.APIError, OSError) as error:
            self._passed.unlink(missing_ok=True)
            why = str(getattr(error, "explanation", None) or error)
            if why != self._told:
                log.info("each pod gets a pause container, for Docker cannot start it without: %s", why)
            self._told = why
            return False
        self._told = ""
        return True

    def _install(self) -> None:
        if not self._installed:
            self._installed = self._sandboxes.install()
        if not self._installed:
            raise RuntimeFault(f"the path {self._sandboxes.script} has characters that a shell script would trip over")

    def _rehearse(self, api: docker.APIClient) -> None:
        """Send one container through, and compare its namespaces with the sandbox's."""
        name = f"barque_rehearsal_{uuid.uuid4().hex[:12]}"
        sandbox = self._sandboxes.create(ContainerSpec(name, self._image, self._labels, hostname="rehearsal"))
        container = ""
        try:
            self._sandboxes.start(sandbox)
            body = {"Image": self._image, "Labels": self._labels, "HostConfig": {"Mounts": []}}
            raw: Any = api
            body = entering(body, "rehearsal", self._sandboxes.shm(sandbox))
            container = raw.create_container_from_config(body, name=name)["Id"]
            self._sandboxes.join(sandbox, container)
            api.start(container)
            pid = api.inspect_container(container)["State"]["Pid"]
            wanted = self._sandboxes.inodes(sandbox)
            found = tuple(os.stat(f"/proc/{pid}/ns/{kind}").st_ino for kind in NAMESPACES)
            if found != wanted:
                raise RuntimeFault("its containers do not enter the namespaces made for them")
        finally:
            if container:
                api.remove_container(container, v=True, force=True)
            self._sandboxes.remove(sandbox)
