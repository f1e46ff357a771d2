"""What the bench of the API loads: ConfigMaps of 1 KB, pods as a user writes them, and pods as a worker leaves them.

Pods name a scheduler of their own, so that no one binds them and the API alone is measured.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from barque.api.errors import ApiError
from barque.api.resources import by_plural
from barque.client.client import Client
from barque.client.verbs import MERGE_PATCH, Create, Delete, Patch, Target, Write
from barque.proto import resources_pb2

SCHEDULER = "bench"
# What one stored ConfigMap and one stored pod weigh; the latter as in a Kubernetes list of 5,000 pods of 13.3 MB.
CONFIGMAP_BYTES = 1000
POD_BYTES = 2660
# Writes of one call while filling, and calls under way; even, so that a pod and its status travel together.
_BATCH = 200
_IN_FLIGHT = 3

Document = dict[str, Any]


def configmap(name: str, namespace: str = "default", *, generate: bool = False) -> Document:
    """A ConfigMap whose data is 1 KB."""
    naming = {"generateName" if generate else "name": name}
    return {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {**naming, "namespace": namespace},
        "data": {"settings": "x" * CONFIGMAP_BYTES},
    }  # fmt: skip


def small_pod(name: str, namespace: str = "default", *, generate: bool = False) -> Document:
    """A pod of one container, as a user writes it."""
    naming = {"generateName" if generate else "name": name}
    container = {
        "name": "web", "image": "busybox", "command": ["sleep", "1"], "env": [{"name": "MODE", "value": "fast"}],
        "ports": [{"containerPort": 80}], "resources": {"requests": {"cpu": "100m"}},
    }  # fmt: skip
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {**naming, "namespace": namespace, "labels": {"app": "web"}},
        "spec": {"schedulerName": SCHEDULER, "containers": [container]},
    }  # fmt: skip


def run_pod(name: str, namespace: str, padding: int) -> Document:
    """A pod to be given a status; `padding` brings it to the wanted size."""
    pod = small_pod(name, namespace)
    del pod["spec"]["containers"][0]["env"]
    if padding > 0:
        pod["metadata"]["annotations"] = {"note": "x" * padding}
    return pod


def run_status() -> Document:
    """The status of a running pod."""
    since = "2026-01-01T00:00:00Z"
    kinds = ("Initialized", "Ready", "ContainersReady", "PodScheduled")
    container = {
        "name": "web", "image": "docker.io/library/busybox:latest", "ready": True, "started": True, "restartCount": 0,
        "imageID": "docker.io/library/busybox", "containerID": f"docker://{'9f' * 32}",
        "state": {"running": {"startedAt": since}}, "lastState": {},
    }  # fmt: skip
    return {
        "phase": "Running", "qosClass": "Burstable", "startTime": since,
        "hostIP": "192.168.0.7", "podIP": "10.244.3.17",
        "conditions": [{"type": kind, "status": "True", "lastTransitionTime": since} for kind in kinds],
        "containerStatuses": [container],
    }  # fmt: skip


def encode(document: Document) -> bytes:
    return msgspec.json.encode(document)


def target(plural: str, namespace: str = "default", name: str = "", subresource: str = "") -> Target:
    return Target(by_plural("", plural), namespace, name, subresource)


def wire_target(plural: str, namespace: str = "default", name: str = "", subresource: str = "") -> Any:
    return resources_pb2.Target(version="v1", resource=plural, namespace=namespace, name=name, subresource=subresource)


def create_message(plural: str, document: Document) -> bytes:
    """The CreateRequest of a document."""
    at = wire_target(plural, document["metadata"]["namespace"])
    request = resources_pb2.CreateRequest(target=at, json=encode(document))
    return bytes(request.SerializeToString())


async def write_all(client: Client, writes: Iterable[Write]) -> None:
    """Bring the writes to the master, many to a call. Raises the first refusal."""
    waiting = iter(writes)

    async def bring() -> None:
        while batch := [write for _, write in zip(range(_BATCH), waiting, strict=False)]:
            refused = next((a for a in await client.batch(batch) if isinstance(a, ApiError)), None)
            if refused is not None:
                raise refused

    async with asyncio.TaskGroup() as group:
        for _ in range(_IN_FLIGHT):
            group.create_task(bring())


async def create(client: Client, plural: str, document: Document) -> bytes:
    """Create one object; returns it as stored."""
    return await client.verbs.create(target(plural, document["metadata"]["namespace"]), encode(document))


async def fill_small_pods(client: Client, names: Sequence[str], namespace: str) -> None:
    at = target("pods", namespace)
    await write_all(client, (Create(at, encode(small_pod(name, namespace))) for name in names))


async def fill_configmaps(client: Client, names: Sequence[str], namespace: str) -> None:
    at = target("configmaps", namespace)
    await write_all(client, (Create(at, encode(configmap(name, namespace))) for name in names))


async def remove(client: Client, plural: str, names: Sequence[str], namespace: str) -> None:
    await write_all(client, (Delete(target(plural, namespace, name)) for name in names))


async def fill_run_pods(client: Client, names: Sequence[str], namespace: str) -> None:
    """Pods with a status, each of POD_BYTES as stored."""
    status = encode({"status": run_status()})

    def writes(names: Sequence[str], padding: int) -> Iterable[Write]:
        for name in names:
            yield Create(target("pods", namespace), encode(run_pod(name, namespace, padding)))
            yield Patch(target("pods", namespace, name, "status"), MERGE_PATCH, status)

    sample = names[0]
    await write_all(client, writes([sample], 0))
    stored = await client.verbs.get(target("pods", namespace, sample))
    await client.verbs.delete(target("pods", namespace, sample), b'{"gracePeriodSeconds":0}')
    await write_all(client, writes(names, POD_BYTES - len(stored)))
