"""`PodCache`: this node's pods on disk, so that a worker which starts while no master answers knows what to keep up.

One file per pod, replaced atomically and fsynced. A pod is written when what is wanted of it changes, or its restarts
do; a change of status alone is not written. The directory names the cluster: another cluster's pods are not read.
What a full disk does not take stays in memory and is tried again: no pod is the worse for it while the worker runs.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import msgspec

from barque.api import codec
from barque.api.types import core_v1
from barque.client.clock import Clock

log = logging.getLogger(__name__)

# Between two tries to write what the disk did not take.
RETRY_S = 5.0


class PodCache:
    """`load` once, then `put` and `drop` (neither blocks) while `run` writes."""

    def __init__(self, directory: Path, cluster: str, clock: Clock) -> None:
        self._directory = directory / cluster
        self._clock = clock
        self._held: dict[str, bytes] = {}
        self._dirty: dict[str, bytes | None] = {}
        self._woken = asyncio.Event()

    def load(self) -> list[core_v1.Pod]:
        """The pods as last written; a file that cannot be read is told of and left out. Blocks."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        pods: list[core_v1.Pod] = []
        for path in sorted(self._directory.iterdir()):
            if path.suffix != ".json":
                # Left by a write that was cut off.
                path.unlink()
                continue
            try:
                pod = codec.decode(core_v1.Pod, path.read_bytes())
            except msgspec.DecodeError as error:
                log.error("the cached pod %s cannot be read and is left out: %s", path, error)
                continue
            self._held[path.stem] = _wanted(pod)
            pods.append(pod)
        return pods

    def handle_pod(self, old: core_v1.Pod | None, new: core_v1.Pod | None) -> None:
        """Keep up with the cluster; an informer's handler."""
        if new is not None:
            self.put(new)
        elif old is not None:
            self.drop(old.metadata.uid)

    def put(self, pod: core_v1.Pod) -> None:
        uid, wanted = pod.metadata.uid, _wanted(pod)
        if self._held.get(uid) != wanted:
            self._held[uid] = wanted
            self._dirty[uid] = codec.encode(pod)
            self._woken.set()

    def drop(self, uid: str) -> None:
        if self._held.pop(uid, None) is not None:
            self._dirty[uid] = None
            self._woken.set()

    def retain(self, uids: set[str]) -> None:
        """These are all there are."""
        for uid in set(self._held) - uids:
            self.drop(uid)

    async def run(self) -> None:
        """Write what changes until cancelled."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            taken, self._dirty = self._dirty, {}
            try:
                await asyncio.to_thread(self._write, taken)
            except OSError as error:
                log.error("this node's pods cannot be kept on disk, next try in %g s: %s", RETRY_S, error)
                self._dirty = taken | self._dirty
                self._woken.set()
                await self._clock.sleep(RETRY_S)

    def _write(self, changes: dict[str, bytes | None]) -> None:
        for uid, data in changes.items():
            path = self._directory / f"{uid}.json"
            if data is None:
                path.unlink(missing_ok=True)
            else:
                write_durably(path, data, sync_directory=False)
        _sync_directory(self._directory)


def write_durably(path: Path, data: bytes, *, mode: int = 0o600, sync_directory: bool = True) -> None:
    """Replace a file so that after any crash it holds the old or the new bytes. Blocks."""
    following = path.with_suffix(".tmp")
    with open(os.open(following, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    following.replace(path)
    if sync_directory:
        _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _wanted(pod: core_v1.Pod) -> bytes:
    """What of a pod matters here: all but its status and revision, and of the status the restarts."""
    meta = pod.metadata
    counts = [(c.name, c.restartCount, c.containerID, c.ready) for c in pod.status.containerStatuses]
    ended = pod.status.phase if pod.status.phase in ("Succeeded", "Failed") else ""
    held = (meta.uid, meta.labels, meta.annotations, meta.deletionTimestamp, meta.deletionGracePeriodSeconds, pod.spec)
    return msgspec.json.encode((held, counts, ended))
