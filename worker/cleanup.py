"""Takes everything of this worker off the host: containers, mounts, pod network, data. Also for `barque down`."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from pathlib import Path

import docker
import docker.errors
import requests

from barque.network import cleanup as network_cleanup
from barque.network.iptables.driver import IptablesError
from barque.network.sysctls import SysctlError
from barque.worker import labels
from barque.worker.lock import only_one
from barque.worker.mounts import KernelMounter
from barque.worker.runtime import pause
from barque.worker.runtime.docker_runtime import DEFAULT_HOST, plain_reason
from barque.worker.runtime.registration import RegistrationError, unregister
from barque.worker.runtime.sandboxes import Sandboxes
from barque.worker.settings import Settings, WorkerError
from barque.worker.volumes.volumes import PodVolumes


async def cleanup(settings: Settings, *, keep_data: bool = False) -> list[str]:
    """Remove everything; returns what was done. Idempotent. Raises `WorkerError`, also where the worker still runs."""
    # Where there is no data directory no worker has run; what bears our names goes all the same.
    with only_one(settings) if settings.data_dir.exists() else contextlib.nullcontext():
        return await _remove_all(settings, keep_data)


async def _remove_all(settings: Settings, keep_data: bool) -> list[str]:
    docker_host = settings.docker_host or DEFAULT_HOST
    done = await asyncio.to_thread(_remove_containers, docker_host)
    sandboxes = Sandboxes(settings.sandboxes, time.time)
    done += [f"removed sandbox {name}" for name in await asyncio.to_thread(sandboxes.clear)]
    volumes = PodVolumes(settings.pods, KernelMounter())
    for uid in sorted(await asyncio.to_thread(volumes.uids)):
        await asyncio.to_thread(volumes.remove, uid)
        done.append(f"removed the volumes of pod {uid}")
    try:
        done += await network_cleanup.cleanup(settings.network)
    except (IptablesError, SysctlError) as error:
        raise WorkerError(f"the pod network is not wholly removed: {error}") from error
    if not keep_data:
        done += await asyncio.to_thread(_unregister, docker_host, settings.sandboxes)
    if not keep_data and settings.data_dir.exists():
        await asyncio.to_thread(shutil.rmtree, settings.data_dir)
        done.append(f"removed {settings.data_dir}")
    return done


def _unregister(docker_host: str, folder: Path) -> list[str]:
    try:
        return ["removed Barque's runtime from Docker's configuration"] if unregister(docker_host, folder) else []
    except RegistrationError as error:
        return [f"Barque's runtime stays in Docker's configuration: {error}"]


def _remove_containers(host: str) -> list[str]:
    """Every container that bears our labels, and our sandbox images."""
    try:
        api = docker.APIClient(base_url=host, version="auto", timeout=60)
    except docker.errors.DockerException as error:
        raise WorkerError(
            f"no Docker at {host}, so the pods' containers cannot be removed: {plain_reason(error)}; start it "
            "(`systemctl start docker`), or say by --docker-host where it is"
        ) from error
    done: list[str] = []
    try:
        # Applications before the sandboxes whose namespaces they use.
        for role in (labels.CONTAINER_ROLE, labels.SANDBOX_ROLE):
            for found in api.containers(all=True, filters={"label": [labels.CLUSTER, f"{labels.ROLE}={role}"]}):
                api.remove_container(found["Id"], v=True, force=True)
                done.append(f"removed container {found['Names'][0].lstrip('/')}")
        for image in api.images(name=pause.REPOSITORY):
            api.remove_image(image["Id"], force=True)
            done.append("removed the sandbox image")
    except (docker.errors.APIError, requests.RequestException) as error:
        raise WorkerError(f"Docker at {host} did not remove everything: {error}") from error
    finally:
        api.close()
    return done
