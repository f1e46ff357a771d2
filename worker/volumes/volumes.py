"""`PodVolumes`: the directories and files of each pod under one root, `<root>/<uid>/`.

`volumes/<name>` holds a volume, `subpaths/<volume>/<container>/<index>` shows a part of one to a container, `etc/`
holds the pod's hosts and resolv.conf, `ends/<container>/<attempt>` what a container leaves to say. Everything may be
called again after a crash; `remove` unmounts and deletes whatever is there. All methods block: call them in a thread.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from barque.api import quantity
from barque.api.types import core_v1
from barque.worker.mounts import Mounter
from barque.worker.pods import names
from barque.worker.pods.config import fs_group_of
from barque.worker.pods.env import ConfigError, expand
from barque.worker.runtime.port import Mount, Propagation
from barque.worker.stats.proc import size_of
from barque.worker.volumes import payloads
from barque.worker.volumes.host_paths import ensure_host_path
from barque.worker.volumes.ownership import give_to_group
from barque.worker.volumes.payloads import Held
from barque.worker.volumes.publish import publish
from barque.worker.volumes.subpaths import bind_sub_path

HOSTS = Path("/etc/hosts")
RESOLV_CONF = Path("/etc/resolv.conf")
# Where systemd-resolved keeps the servers themselves: its own 127.0.0.53 answers in the host's namespace only.
RESOLVED_CONF = Path("/run/systemd/resolve/resolv.conf")
# As much of a container's last words as Kubernetes keeps.
MESSAGE_BYTES = 4096
_DEFAULT_MESSAGE_PATH = "/dev/termination-log"
_PROPAGATIONS: dict[str, Propagation] = {
    "": "rprivate",
    "None": "rprivate",
    "HostToContainer": "rslave",
    "Bidirectional": "rshared",
}


class DiskUse(NamedTuple):
    """What a pod's directories take: `used_bytes` as du(1) counts, and by emptyDir volume."""

    used_bytes: int
    volumes: Mapping[str, int]


class PodVolumes:
    """The files of all pods of this node. `memory_bytes` is the host's, the most that a volume in memory may take;
    `dns` is where pods resolve the cluster's names.
    """

    def __init__(
        self, root: Path, mounter: Mounter, memory_bytes: int = 0, dns: names.ClusterDns | None = None
    ) -> None:
        self._root = root
        self._mounter = mounter
        self._memory_bytes = memory_bytes
        self._dns = dns

    def prepare(self, pod: core_v1.Pod, address: str, held: Held) -> list[str]:
        """Make every volume and the pod's files; what of its DNS had to be left out. Raises `ConfigError` with
        Kubernetes' words, or OSError.

        While the address is not known ("") a hosts file from before stays: the pod may well run.
        """
        home = self._root / pod.metadata.uid
        for part in ("volumes", "etc", "ends"):
            (home / part).mkdir(parents=True, exist_ok=True)
        for volume in pod.spec.volumes:
            try:
                self._prepare(home / "volumes" / volume.name, pod, volume, held)
            except ConfigError as error:
                raise ConfigError(f'MountVolume.SetUp failed for volume "{volume.name}" : {error}') from error
            except OSError as error:
                why = f"{error.filename}: {error.strerror}" if error.filename else error
                raise ConfigError(f'MountVolume.SetUp failed for volume "{volume.name}" : {why}') from error
        if address or not (home / "etc" / "hosts").exists():
            self.write_hosts(pod, address)
        of_host = _host_resolv_conf()
        _write_in_place(home / "etc" / "resolv.conf", names.resolv_conf(pod, of_host, self._dns))
        return names.dns_limits(pod, of_host, self._dns)

    def write_hosts(self, pod: core_v1.Pod, address: str) -> None:
        """Write /etc/hosts; in place, since containers have the file itself mounted."""
        text = names.hosts(pod, address, _host_hosts() if pod.spec.hostNetwork else "")
        _write_in_place(self._root / pod.metadata.uid / "etc" / "hosts", text)

    def mounts(
        self, pod: core_v1.Pod, container: core_v1.Container, attempt: int, variables: Mapping[str, str] | None = None
    ) -> tuple[Mount, ...]:
        """What one attempt of a container has mounted. `variables` is its environment, for `subPathExpr`.

        Raises `ConfigError`.
        """
        home = self._root / pod.metadata.uid
        found: dict[str, Mount] = {}
        for name in ("hosts", "resolv.conf"):
            found[f"/etc/{name}"] = Mount(str(home / "etc" / name), f"/etc/{name}")
        said_at = container.terminationMessagePath or _DEFAULT_MESSAGE_PATH
        found[said_at] = Mount(str(self._make_end(pod.metadata.uid, container.name, attempt)), said_at)
        kinds = {volume.name: volume for volume in pod.spec.volumes}
        for at, wanted in enumerate(container.volumeMounts):
            volume = kinds.get(wanted.name)
            if volume is None:
                raise ConfigError(f"volume {wanted.name!r} of container {container.name!r} is not in the pod")
            directory = home / "volumes" / wanted.name
            source = Path(volume.hostPath.path) if volume.hostPath else directory
            sub_path = _sub_path(wanted, variables or {})
            if sub_path:
                target = home / "subpaths" / wanted.name / container.name / str(at)
                source = self._bind(source, sub_path, target, wanted, container)
            found[wanted.mountPath] = _mount(wanted, source, shown=payloads.changes_by_itself(volume))
        return tuple(found.values())

    def message(self, uid: str, container: str, attempt: int) -> str:
        """What a container wrote to its termination message path; "" for nothing."""
        try:
            with self._end_path(uid, container, attempt).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - MESSAGE_BYTES))
                return file.read(MESSAGE_BYTES).decode(errors="replace")
        except FileNotFoundError:
            return ""

    def uids(self) -> set[str]:
        """The pods that have anything here."""
        return {entry.name for entry in self._root.iterdir()} if self._root.is_dir() else set()

    def disk_use(self, pod: core_v1.Pod) -> DiskUse:
        """What the pod's emptyDir volumes take, in memory or on disk, and what it takes on disk in all."""
        home = self._root / pod.metadata.uid / "volumes"
        used, volumes = 0, {}
        for volume in pod.spec.volumes:
            if volume.emptyDir is None or not (home / volume.name).is_dir():
                continue
            size = size_of(home / volume.name)
            volumes[volume.name] = size
            used += size if volume.emptyDir.medium != "Memory" else 0
        return DiskUse(used, volumes)

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

    def _prepare(self, directory: Path, pod: core_v1.Pod, volume: core_v1.Volume, held: Held) -> None:
        group = fs_group_of(pod)
        if volume.hostPath:
            ensure_host_path(volume.hostPath)
        elif volume.emptyDir:
            self._prepare_empty(directory, volume.emptyDir, group)
        elif payloads.changes_by_itself(volume):
            # Looked up first: a mount that stays empty is of no use.
            files = payloads.files_of(pod, volume, held)
            directory.mkdir(exist_ok=True)
            if volume.secret or volume.projected:
                self._ensure_tmpfs(directory, mode=0o755)
            publish(directory, files, group)
        else:
            raise ConfigError("barque does not support this kind of volume")

    def _prepare_empty(self, directory: Path, source: core_v1.EmptyDirVolumeSource, group: int | None) -> None:
        """Made once: what is in it afterwards, its mode included, is the pod's."""
        if source.medium == "Memory":
            directory.mkdir(exist_ok=True)
            limit = quantity.whole(source.sizeLimit) if source.sizeLimit is not None else 0
            size = min(filter(None, (limit, self._memory_bytes)), default=0)
            if self._ensure_tmpfs(directory, mode=0o777, size_bytes=size, executable=True) and group is not None:
                give_to_group(directory, group)
        elif not directory.exists():
            # Renamed when it is as it should be: one that is there needs nothing more, also after a crash.
            following = directory.with_name(f".{directory.name}")
            following.mkdir(exist_ok=True)
            following.chmod(0o777)
            if group is not None:
                give_to_group(following, group)
            following.rename(directory)

    def _ensure_tmpfs(self, directory: Path, *, mode: int, size_bytes: int = 0, executable: bool = False) -> bool:
        """Whether there was none yet."""
        if self._mounter.is_tmpfs(directory):
            return False
        self._mounter.mount_tmpfs(directory, mode=mode, size_bytes=size_bytes, executable=executable)
        return True

    def _bind(
        self, source: Path, sub_path: str, target: Path, wanted: core_v1.VolumeMount, container: core_v1.Container
    ) -> Path:
        """The part of a volume that a container wants, mounted where only the worker can move it."""
        # An earlier attempt's, of a file that may have been replaced since; a container that has it keeps its own.
        for mount in self._mounter.mounts_under(target):
            self._mounter.unmount(mount)
        try:
            bind_sub_path(source, sub_path, target, self._mounter)
        except (ConfigError, OSError) as error:
            raise ConfigError(
                f'failed to prepare subPath for volumeMount "{wanted.name}" of container "{container.name}"'
            ) from error
        return target

    def _make_end(self, uid: str, container: str, attempt: int) -> Path:
        """An empty file for this attempt's last words; those of attempts whose containers are gone too are removed."""
        end = self._end_path(uid, container, attempt)
        end.parent.mkdir(parents=True, exist_ok=True)
        for old in end.parent.iterdir():
            if old.name.isdecimal() and int(old.name) < attempt - 1:
                old.unlink()
        end.touch(mode=0o666)
        end.chmod(0o666)
        return end

    def _end_path(self, uid: str, container: str, attempt: int) -> Path:
        return self._root / uid / "ends" / container / str(attempt)


def _mount(wanted: core_v1.VolumeMount, source: Path, *, shown: bool) -> Mount:
    """How the volume appears; what shows the cluster's objects is read-only whatever is asked."""
    return Mount(
        str(source),
        wanted.mountPath,
        read_only=bool(wanted.readOnly) or shown,
        propagation=_PROPAGATIONS[wanted.mountPropagation],
    )


def _sub_path(wanted: core_v1.VolumeMount, variables: Mapping[str, str]) -> str:
    """Relative and without steps back. Raises `ConfigError` in Kubernetes' words."""
    path = wanted.subPath
    if wanted.subPathExpr:
        path = expand(wanted.subPathExpr, _Strict(variables))
    if path.startswith("/"):
        raise ConfigError(f"error SubPath `{path}` must not be an absolute path")
    if ".." in path.split("/"):
        raise ConfigError(f"unable to provision SubPath `{path}`: must not contain '..'")
    return path


class _Strict(dict[str, str]):
    """Variables of which none may be missing or empty: a part left out would name another directory."""

    def get(self, name: str, default: object = None) -> str:
        value = super().get(name)
        if not value:
            raise ConfigError(f'missing value for "{name}"')
        return value


def _write_in_place(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def _host_hosts() -> str:
    try:
        return HOSTS.read_text()
    except FileNotFoundError:
        return ""


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
