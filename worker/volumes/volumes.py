"""`PodVolumes`: the directories and files of each pod under one root, `<root>/<uid>/`.

`volumes/<name>` holds a volume, `etc/` the pod's hosts and resolv.conf, `ends/<container>/<attempt>` what a container
leaves to say. Everything may be called again after a crash; `remove` unmounts and deletes whatever is there. All
methods block: call them in a thread.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from barque.api import quantity
from barque.api.types import core_v1
from barque.worker.pods import config
from barque.worker.pods.env import ConfigError, Names
from barque.worker.runtime.port import Mount
from barque.worker.volumes import render
from barque.worker.volumes.mounts import Mounter
from barque.worker.volumes.publish import publish

RESOLV_CONF = Path("/etc/resolv.conf")
# Where systemd-resolved keeps the servers themselves: its own 127.0.0.53 answers in the host's namespace only.
RESOLVED_CONF = Path("/run/systemd/resolve/resolv.conf")
# As much of a container's last words as Kubernetes keeps.
MESSAGE_BYTES = 4096
_DEFAULT_MESSAGE_PATH = "/dev/termination-log"


def references(pod: core_v1.Pod) -> Names:
    """The ConfigMaps and Secrets that the pod's volumes show."""
    return Names(
        frozenset(v.configMap.name for v in pod.spec.volumes if v.configMap),
        frozenset(v.secret.secretName for v in pod.spec.volumes if v.secret),
    )


class PodVolumes:
    """The files of all pods of this node."""

    def __init__(self, root: Path, mounter: Mounter) -> None:
        self._root = root
        self._mounter = mounter

    def prepare(
        self,
        pod: core_v1.Pod,
        address: str,
        config_maps: Mapping[str, core_v1.ConfigMap | None],
        secrets: Mapping[str, core_v1.Secret | None],
    ) -> None:
        """Make every volume and the pod's files. Raises `ConfigError` with Kubernetes' words, or OSError."""
        home = self._root / pod.metadata.uid
        for part in ("volumes", "etc", "ends"):
            (home / part).mkdir(parents=True, exist_ok=True)
        for volume in pod.spec.volumes:
            try:
                self._prepare(home / "volumes" / volume.name, volume, config_maps, secrets)
            except ConfigError as error:
                raise ConfigError(f'MountVolume.SetUp failed for volume "{volume.name}" : {error}') from error
        self.write_hosts(pod, address)
        _write_in_place(home / "etc" / "resolv.conf", render.resolv_conf(pod, _host_resolv_conf()))

    def write_hosts(self, pod: core_v1.Pod, address: str) -> None:
        """Write /etc/hosts; in place, since containers have the file itself mounted."""
        text = render.hosts(address, config.hostname(pod), pod.spec.subdomain, pod.spec.hostAliases)
        _write_in_place(self._root / pod.metadata.uid / "etc" / "hosts", text)

    def mounts(self, pod: core_v1.Pod, container: core_v1.Container, attempt: int) -> tuple[Mount, ...]:
        """What one attempt of a container has mounted. Raises `ConfigError`."""
        home = self._root / pod.metadata.uid
        found: dict[str, Mount] = {}
        for name in ("hosts", "resolv.conf"):
            found[f"/etc/{name}"] = Mount(str(home / "etc" / name), f"/etc/{name}")
        end = self._end_path(pod.metadata.uid, container.name, attempt)
        end.parent.mkdir(parents=True, exist_ok=True)
        end.touch(mode=0o666)
        end.chmod(0o666)
        said_at = container.terminationMessagePath or _DEFAULT_MESSAGE_PATH
        found[said_at] = Mount(str(end), said_at)
        kinds = {volume.name: volume for volume in pod.spec.volumes}
        for wanted in container.volumeMounts:
            volume = kinds.get(wanted.name)
            if volume is None:
                raise ConfigError(f"volume {wanted.name!r} of container {container.name!r} is not in the pod")
            read_only = bool(wanted.readOnly) or volume.emptyDir is None
            source = self._source(home / "volumes" / wanted.name, wanted)
            found[wanted.mountPath] = Mount(source, wanted.mountPath, read_only)
        return tuple(found.values())

    def message(self, uid: str, container: str, attempt: int) -> str:
        """What a container wrote to its termination message path; "" for nothing."""
        try:
            with self._end_path(uid, container, attempt).open("rb") as file:
                return file.read(MESSAGE_BYTES).decode(errors="replace")
        except FileNotFoundError:
            return ""

    def uids(self) -> set[str]:
        """The pods that have anything here."""
        return {entry.name for entry in self._root.iterdir()} if self._root.is_dir() else set()

    def remove(self, uid: str) -> None:
        """Unmount and delete everything of a pod. Raises OSError where something stays mounted."""
        home = self._root / uid
        if not home.exists():
            return
        for mount in self._mounter.mounts_under(home):
            self._mounter.unmount(mount)
        # Never delete through a mount: what is in it may not be ours.
        still = self._mounter.mounts_under(home)
        if still:
            raise OSError(f"cannot unmount {still[0]}")
        shutil.rmtree(home)

    def _prepare(
        self,
        directory: Path,
        volume: core_v1.Volume,
        config_maps: Mapping[str, core_v1.ConfigMap | None],
        secrets: Mapping[str, core_v1.Secret | None],
    ) -> None:
        directory.mkdir(exist_ok=True)
        if volume.configMap:
            publish(directory, render.config_map_files(volume.configMap, config_maps.get(volume.configMap.name)))
        elif volume.secret:
            # Looked up first: a mount that stays empty is of no use.
            files = render.secret_files(volume.secret, secrets.get(volume.secret.secretName))
            self._ensure_tmpfs(directory, mode=0o755)
            publish(directory, files)
        elif volume.emptyDir:
            if volume.emptyDir.medium == "Memory":
                limit = volume.emptyDir.sizeLimit
                size = quantity.whole(limit) if limit is not None else 0
                self._ensure_tmpfs(directory, mode=0o777, size_bytes=size, executable=True)
            else:
                directory.chmod(0o777)
        else:
            raise ConfigError("barque does not support this kind of volume")

    def _ensure_tmpfs(self, directory: Path, *, mode: int, size_bytes: int = 0, executable: bool = False) -> None:
        if not any(m == Path(os.path.realpath(directory)) for m in self._mounter.mounts_under(directory)):
            self._mounter.mount_tmpfs(directory, mode=mode, size_bytes=size_bytes, executable=executable)

    def _source(self, directory: Path, wanted: core_v1.VolumeMount) -> str:
        if not wanted.subPath:
            return str(directory)
        root, path = os.path.realpath(directory), os.path.realpath(directory / wanted.subPath)
        if os.path.commonpath([root, path]) != root:
            raise ConfigError(f"subPath {wanted.subPath!r} of volume {wanted.name!r} leads out of the volume")
        if not os.path.exists(path):
            os.makedirs(path, mode=0o777)
        return path

    def _end_path(self, uid: str, container: str, attempt: int) -> Path:
        return self._root / uid / "ends" / container / str(attempt)


def _write_in_place(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def _host_resolv_conf() -> str:
    for path in (RESOLV_CONF, RESOLVED_CONF):
        try:
            text = path.read_text()
        except FileNotFoundError:
            continue
        servers = [line.split()[1] for line in text.splitlines() if line.startswith("nameserver ")]
        if servers and not all(server.startswith("127.") or server == "::1" for server in servers):
            return text
    # Only loopback servers, or none: unreachable from a pod, which then resolves nothing.
    return ""
