"""`StaticPods`: the pods that this node runs by itself, from manifests in a folder, and their mirrors at the masters.

In: a folder of YAML or JSON files, one pod each. Out: pods for the manager, named after the node and known by a hash of
what they say, so that a changed file is another pod; and for each a mirror, a pod object that shows at the API what
runs here (kubelet's annotations `kubernetes.io/config.*`). A static pod needs no master; deleting its mirror does not
stop it, removing its file does. A file that cannot be used is told of in the log and left out until it changes.
"""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from barque.api import codec, resources, yaml_documents
from barque.api.decode import decode_object
from barque.api.defaults import apply_defaults
from barque.api.errors import ApiError
from barque.api.types import core_v1, meta_v1
from barque.api.validation import validate
from barque.client.clock import timestamp
from barque.worker.pods.manager import PodManager
from barque.worker.pods.origin import HASH, MIRROR, SEEN, SOURCE, is_mirror
from barque.worker.pods.parts import Parts

log = logging.getLogger(__name__)

# How often the folder is looked at, and how often mirrors that could not be written are tried again.
LOOK_S = 2.0
MIRROR_RETRY_S = 10.0
# A folder with more is not what it seems to be.
MAX_FILES = 256
MAX_FILE_BYTES = 1024 * 1024


class ManifestError(Exception):
    """Why a manifest cannot be used, in one line."""


def static_pod(data: bytes, path: str, node: str, now: str) -> core_v1.Pod:
    """The pod that a manifest stands for. Raises `ManifestError`."""
    try:
        documents = list(yaml_documents.read_documents(data))
        if len(documents) != 1:
            raise ManifestError(f"it holds {len(documents)} documents instead of one pod")
        found = decode_object(msgspec.json.encode(documents[0].data), resources.by_plural("", "pods"))[0]
    except (yaml_documents.YamlError, ApiError) as error:
        raise ManifestError(str(error)) from error
    assert isinstance(found, core_v1.Pod)
    pod = core_v1.Pod(metadata=copy.copy(found.metadata), spec=found.spec)
    meta = pod.metadata
    if not meta.name:
        raise ManifestError("the pod has no name")
    uid = hashlib.sha256(b"\0".join((codec.encode(pod), node.encode(), path.encode()))).hexdigest()[:32]
    meta.uid, meta.name, meta.namespace = uid, f"{meta.name}-{node}", meta.namespace or "default"
    meta.annotations = {**meta.annotations, SOURCE: "file", HASH: uid, SEEN: now}
    meta.creationTimestamp = now
    pod.spec.nodeName = node
    # No taint drives away what the node itself wants.
    pod.spec.tolerations = [*pod.spec.tolerations, core_v1.Toleration(operator="Exists", effect="NoExecute")]
    apply_defaults(pod)
    faults = validate(pod)
    if faults:
        raise ManifestError("; ".join(str(fault) for fault in faults))
    return pod


def mirror_of(pod: core_v1.Pod, node_uid: str) -> core_v1.Pod:
    """The object that shows a static pod at the API; it goes with its node."""
    meta = pod.metadata
    owner = meta_v1.OwnerReference(
        apiVersion="v1", kind="Node", name=pod.spec.nodeName, uid=node_uid, controller=True
    )  # fmt: skip
    return core_v1.Pod(
        metadata=meta_v1.ObjectMeta(
            name=meta.name,
            namespace=meta.namespace,
            labels=meta.labels,
            annotations={**meta.annotations, MIRROR: meta.uid},
            ownerReferences=[owner],
        ),
        spec=pod.spec,
    )


class CreateMirror(NamedTuple):
    pod: core_v1.Pod


class DeleteMirror(NamedTuple):
    mirror: core_v1.Pod


def plan_mirrors(static: Iterable[core_v1.Pod], seen: Iterable[core_v1.Pod]) -> list[CreateMirror | DeleteMirror]:
    """What to change so that every static pod has its mirror among `seen` (this node's pods) and no other is there.

    One that is wrong or being deleted goes first; its successor is made once it is seen to be gone.
    """
    wanted = {(p.metadata.namespace, p.metadata.name): p for p in static}
    steps: list[CreateMirror | DeleteMirror] = []
    for mirror in seen:
        if not is_mirror(mirror):
            continue
        pod = wanted.pop((mirror.metadata.namespace, mirror.metadata.name), None)
        right = pod is not None and mirror.metadata.annotations[MIRROR] == pod.metadata.uid
        if not right or mirror.metadata.deletionTimestamp:
            steps.append(DeleteMirror(mirror))
    return steps + [CreateMirror(pod) for pod in wanted.values()]


class _Seen(NamedTuple):
    """What tells one version of a file from another."""

    name: str
    inode: int
    size: int
    changed_ns: int


class StaticPods:
    """`run` until cancelled; `pods_seen` gives this node's pods at the masters, None before they are known."""

    def __init__(
        self, folder: Path, manager: PodManager, parts: Parts, pods_seen: Callable[[], list[core_v1.Pod] | None]
    ) -> None:
        self._folder = folder
        self._manager = manager
        self._parts = parts
        self._pods_seen = pods_seen
        self._files: list[_Seen] = []
        self._pods: dict[str, core_v1.Pod] = {}
        self._looked = False
        self._refused: dict[tuple[str, str], float] = {}

    async def look(self) -> None:
        """Compare the folder with what runs, and the mirrors with both."""
        await self.load()
        seen = self._pods_seen()
        if seen is not None:
            for step in plan_mirrors(self._pods.values(), seen):
                await self._mirror(step)

    async def run(self) -> None:
        while True:
            await self.look()
            await self._parts.clock.sleep(LOOK_S)

    async def load(self) -> None:
        """Bring what has changed in the folder to the manager."""
        try:
            files = await self._parts.blocking(_list, self._folder)
        except OSError as error:
            log.error("the static pods in %s cannot be read and stay as they are: %s", self._folder, error)
            return
        if files == self._files and self._looked:
            return
        self._files, self._looked = files, True
        now, node = timestamp(self._parts.clock.wall()), self._parts.node.name
        found: dict[str, core_v1.Pod] = {}
        for file in files:
            path = self._folder / file.name
            try:
                data = await self._parts.blocking(_read, path)
                pod = static_pod(data, str(path), node, now)
            except (OSError, ManifestError) as error:
                log.error("static pod %s is left out: %s", path, error)
                continue
            # One that runs already keeps when it was first seen.
            found[pod.metadata.uid] = self._pods.get(pod.metadata.uid, pod)
        for uid in set(self._pods) - set(found):
            self._manager.handle_pod(self._pods[uid], None)
        before, self._pods = self._pods, found
        for uid in set(found) - set(before):
            self._manager.handle_pod(None, found[uid])

    async def _mirror(self, step: CreateMirror | DeleteMirror) -> None:
        """Carry it out; a refusal is told once and waited out, for the pod itself runs without its mirror."""
        meta = step.pod.metadata if isinstance(step, CreateMirror) else step.mirror.metadata
        key, now = (meta.namespace, meta.name), self._parts.clock.monotonic()
        if self._refused.get(key, 0.0) > now:
            return
        client = self._parts.client
        try:
            if isinstance(step, DeleteMirror):
                await client.delete(core_v1.Pod, meta.name, meta.namespace, grace_s=0, uid=meta.uid)
            else:
                await client.create(mirror_of(step.pod, self._parts.node.uid))
                self._manager.report_anew(meta.uid)
        except ApiError as error:
            if error.code == 409 or (error.code == 404 and isinstance(step, DeleteMirror)):
                # Done already: the watch has yet to bring it.
                return
            if key not in self._refused:
                log.warning("the mirror of static pod %s/%s cannot be written: %s", *key, error)
            self._refused[key] = now + MIRROR_RETRY_S
        else:
            self._refused.pop(key, None)


def _list(folder: Path) -> list[_Seen]:
    """The manifests of a folder; none where there is no folder."""
    found: list[_Seen] = []
    if not folder.is_dir():
        return found
    for path in sorted(folder.iterdir()):
        # As kubelet: hidden files and folders are somebody's work in progress.
        if not path.name.startswith(".") and path.is_file():
            stat = path.stat()
            found.append(_Seen(path.name, stat.st_ino, stat.st_size, stat.st_mtime_ns))
    return found[:MAX_FILES]


def _read(path: Path) -> bytes:
    data = path.read_bytes()
    if len(data) > MAX_FILE_BYTES:
        raise ManifestError(f"it is larger than {MAX_FILE_BYTES} bytes")
    return data
