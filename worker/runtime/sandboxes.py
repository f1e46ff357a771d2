"""`Sandboxes`: pod sandboxes that are namespaces alone, without a process and without a container.

A sandbox is a folder: a record, and the network, IPC and UTS namespaces bind-mounted into it, and a tmpfs for /dev/shm.
It lives as long as its mounts do: beyond the worker and beyond Docker, not beyond a reboot. Containers come into it by
a small OCI runtime, `RUNTIME`, which Docker calls instead of runc: a shell script that writes the paths of the
namespaces into the container's config.json (OCI runtime-spec, linux.namespaces) and hands over to runc.

Every method blocks, for a millisecond or two; each may be cut off at any instruction and is completed or undone by a
later call. Source of the shape: containerd's pinned network namespaces. Decision record 0007 has the reasons.
"""

from __future__ import annotations

import ctypes
import datetime
import logging
import os
import re
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from barque.network.sysctls import PROC_SYS, SysctlError, write_sysctl
from barque.worker.mounts import KernelMounter
from barque.worker.runtime.port import (
    ContainerNotFoundError,
    ContainerRecord,
    ContainerSpec,
    NameTakenError,
    RuntimeFault,
)

log = logging.getLogger(__name__)

# The name under which dockerd knows the script.
RUNTIME = "barque"
# No id of Docker's begins so: those are hexadecimal.
PREFIX = "ns-"
# As much as Docker gives a container.
SHM_BYTES = 64 * 1024 * 1024
NAMESPACES = ("net", "ipc", "uts")
_CLONE = {"net": 0x40000000, "ipc": 0x08000000, "uts": 0x04000000}
# What Docker sets in a network namespace of its own: any user may listen on any port, and ping.
_SYSCTLS = {"net/ipv4/ip_unprivileged_port_start": "0", "net/ipv4/ping_group_range": "0 2147483647"}
# Settings that belong to an IPC namespace (ipc_namespaces(7)); all others outside net/ are the host's own.
_IPC_SYSCTLS = frozenset(
    f"kernel/{name}" for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")
)
_RECORD, _STARTED, _JOINED, _SHM = "record.json", "started", "joined", "shm"
# The script puts its own path into sed's replacement text.
_PLAIN_PATH = re.compile(r"[\w./-]+", re.ASCII)

_SCRIPT = r"""#!/bin/sh
# runc, but a container noted in SANDBOX/joined/ enters the namespaces pinned in SANDBOX, beside this script. Written by
# the worker; Docker calls it.
for id; do :; done
case " $* " in
*" create --bundle "*) ;;
*) exec runc "$@" ;;
esac
for note in "${0%/*}"/ns-*/joined/"$id"; do sandbox=${note%/joined/*}; done
bundle= log= previous=
for word; do
    case $previous in
    --bundle) bundle=$word ;;
    --log) log=$word ;;
    esac
    previous=$word
done
# Inside a string every quote of JSON is escaped, so these patterns fit nothing but the namespaces themselves.
if [ ! -e "$note" ] || ! sed -i '
s#{"type":"network"\(,"path":"[^"]*"\)\{0,1\}}#{"type":"network","path":"'"$sandbox"'/net"}#;T refuse
s#{"type":"ipc"\(,"path":"[^"]*"\)\{0,1\}}#{"type":"ipc","path":"'"$sandbox"'/ipc"}#;T refuse
s#{"type":"uts"\(,"path":"[^"]*"\)\{0,1\}}#{"type":"uts","path":"'"$sandbox"'/uts"}#;T refuse
b
:refuse
q 1' "$bundle/config.json"; then
    # Where Docker looks for runc's own words.
    echo '{"level":"error","msg":"the container has no sandbox to enter"}' >>"${log:-/dev/stderr}"
    exit 1
fi
exec runc "$@"
"""


def script_in(folder: Path) -> Path:
    """The OCI runtime of the sandboxes under this folder."""
    return folder / "oci-runtime"


class _Held(msgspec.Struct):
    """A sandbox's record on disk."""

    name: str
    labels: dict[str, str]
    created_at: str
    hostname: str = ""
    sysctls: list[tuple[str, str]] = []


class Sandboxes:
    """The sandboxes under `folder`; one worker's alone. `wall` is in seconds since the epoch."""

    def __init__(
        self, folder: Path, wall: Callable[[], float], new_id: Callable[[], str] = lambda: uuid.uuid4().hex[:24]
    ) -> None:
        self._folder = folder
        self._wall = wall
        self._new_id = new_id
        self._mounts = KernelMounter()
        # Guards the names: two sandboxes of one name must not come to be.
        self._lock = threading.Lock()

    @property
    def script(self) -> Path:
        """What Docker must know as `RUNTIME`."""
        return script_in(self._folder)

    def install(self) -> bool:
        """Write the script, and remove what an earlier run did not finish; False where no script can work here.

        To be called before anything else. Raises OSError.
        """
        if not _PLAIN_PATH.fullmatch(str(self._folder)):
            return False
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self.script.exists() or self.script.read_text() != _SCRIPT:
            beside = self._folder / ".oci-runtime.new"
            beside.write_text(_SCRIPT)
            beside.chmod(0o755)
            beside.replace(self.script)
        for box in self._folder.glob(f"{PREFIX}*"):
            if self._read(box) is None:
                log.warning("the sandbox %s was not finished, or its record is damaged: removing it", box)
                self._destroy(box)
        return True

    def create(self, spec: ContainerSpec) -> str:
        """Note a sandbox to be started; its id. Raises `NameTakenError`, `RuntimeFault`."""
        sysctls = [(sysctl_path(name), value) for name, value in spec.sysctls]
        held = _Held(spec.name, dict(spec.labels), self._now(), spec.hostname, sysctls)
        with self._lock:
            if any(found.name == spec.name for _, found in self._all()):
                raise NameTakenError(f"the sandbox name {spec.name} is already in use")
            box = self._folder / f"{PREFIX}{self._new_id()}"
            try:
                (box / _JOINED).mkdir(parents=True)
                beside = box / ".record.new"
                beside.write_bytes(msgspec.json.encode(held))
                beside.replace(box / _RECORD)
            except OSError as error:
                # Without a record nobody would know of it before the next start.
                self._destroy(box)
                raise RuntimeFault(f"cannot note the pod's sandbox: {error}") from error
        return box.name

    def start(self, sandbox_id: str) -> None:
        """Make its namespaces, unless they are there. Raises `RuntimeFault`."""
        box, held = self._find(sandbox_id)
        if not _pinned(box):
            self._make(box, held)
        # Last: a sandbox with this and without its namespaces has lost them.
        if not _started_at(box):
            (box / _STARTED).write_text(self._now())

    def record(self, sandbox_id: str) -> ContainerRecord:
        """Raises `ContainerNotFoundError`."""
        return _record_of(*self._find(sandbox_id))

    def records(self) -> list[ContainerRecord]:
        return [_record_of(box, held) for box, held in self._all()]

    def hostname(self, sandbox_id: str) -> str:
        """The name of every container in it: each sets it anew as it enters. Raises `ContainerNotFoundError`."""
        return self._find(sandbox_id)[1].hostname

    def shm(self, sandbox_id: str) -> str:
        """What the containers of a pod share as /dev/shm: the path on the host."""
        return str(self._folder / sandbox_id / _SHM)

    def inodes(self, sandbox_id: str) -> tuple[int, ...]:
        """The namespaces' identities, in the order of `NAMESPACES`. Raises OSError."""
        return tuple((self._folder / sandbox_id / kind).stat().st_ino for kind in NAMESPACES)

    def join(self, sandbox_id: str, container_id: str) -> None:
        """Have a created container enter the sandbox when it starts; again is no error. Raises `RuntimeFault`."""
        try:
            (self._folder / sandbox_id / _JOINED / container_id).touch()
        except OSError as error:
            raise RuntimeFault(f"sandbox {sandbox_id} is gone: {error.strerror}") from error

    def leave(self, container_id: str) -> None:
        """The container is no more."""
        for note in self._folder.glob(f"{PREFIX}*/{_JOINED}/{container_id}"):
            note.unlink(missing_ok=True)

    def remove(self, sandbox_id: str) -> None:
        """Let go of the namespaces; the kernel ends them with the last process in them. Nothing if it is gone."""
        self._destroy(self._folder / sandbox_id)

    def clear(self) -> list[str]:
        """Remove every sandbox, and the script; the names of those removed."""
        removed: list[str] = []
        for box in sorted(self._folder.glob(f"{PREFIX}*")):
            held = self._read(box)
            self._destroy(box)
            removed.append(held.name if held else box.name)
        shutil.rmtree(self._folder, ignore_errors=True)
        return removed

    def _all(self) -> Iterator[tuple[Path, _Held]]:
        for box in sorted(self._folder.glob(f"{PREFIX}*")):
            held = self._read(box)
            if held is not None:
                yield box, held

    def _find(self, sandbox_id: str) -> tuple[Path, _Held]:
        box = self._folder / sandbox_id
        held = self._read(box)
        if held is None:
            raise ContainerNotFoundError(f"No such sandbox: {sandbox_id}")
        return box, held

    def _read(self, box: Path) -> _Held | None:
        """The record; None where there is none that can be read: half made, half removed, or torn by a crash."""
        try:
            return msgspec.json.decode((box / _RECORD).read_bytes(), type=_Held)
        except (OSError, msgspec.DecodeError):
            return None

    def _make(self, box: Path, held: _Held) -> None:
        self._unmount(box)
        try:
            for name in NAMESPACES:
                (box / name).touch()
            (box / _SHM).mkdir(exist_ok=True)
            self._mounts.mount_tmpfs(box / _SHM, mode=0o1777, size_bytes=SHM_BYTES)
            _in_thread(lambda: _make_namespaces(box, held))
        except (OSError, SysctlError) as error:
            self._unmount(box)
            raise RuntimeFault(f"cannot make the pod's namespaces: {error}") from error

    def _destroy(self, box: Path) -> None:
        self._unmount(box)
        # The record goes last but for the folder, so that what is cut off here is still known.
        for path in (box / _JOINED, box / _SHM):
            shutil.rmtree(path, ignore_errors=True)
        for name in (*NAMESPACES, _STARTED, ".record.new", _RECORD):
            (box / name).unlink(missing_ok=True)
        if box.is_dir():
            box.rmdir()

    def _unmount(self, box: Path) -> None:
        for name in (*NAMESPACES, _SHM):
            while _is_mounted(box / name):
                self._mounts.unmount(box / name)

    def _now(self) -> str:
        return datetime.datetime.fromtimestamp(self._wall(), datetime.UTC).isoformat()


def sysctl_path(name: str) -> str:
    """A setting's path under /proc/sys (sysctl(8): the first separator decides). Raises `RuntimeFault` for one that is
    not of the pod's own namespaces.
    """
    first = re.search(r"[./]", name)
    path = name.translate(str.maketrans("./", "/.")) if first and first.group() == "." else name
    parts = path.split("/")
    owned = parts[0] == "net" or parts[:2] == ["fs", "mqueue"] or path in _IPC_SYSCTLS
    if not owned or not all(part.strip(".") for part in parts):
        raise RuntimeFault(f'sysctl "{name}" is not in a separate kernel namespace')
    return path


def _record_of(box: Path, held: _Held) -> ContainerRecord:
    started_at, pinned = _started_at(box), _pinned(box)
    return ContainerRecord(
        id=box.name,
        name=held.name,
        labels=held.labels,
        state="running" if pinned and started_at else "exited" if started_at else "created",
        netns=str(box / "net") if pinned else "",
        created_at=held.created_at,
        started_at=started_at,
    )


def _started_at(box: Path) -> str:
    """When its namespaces were complete; "" where they never were."""
    try:
        return (box / _STARTED).read_text()
    except FileNotFoundError:
        return ""


def _pinned(box: Path) -> bool:
    """Whether all of its namespaces are held here, and its shared memory."""
    return all(_is_mounted(box / name) for name in (*NAMESPACES, _SHM))


def _is_mounted(path: Path) -> bool:
    try:
        return path.stat().st_dev != path.parent.stat().st_dev
    except OSError:
        return False


def _make_namespaces(box: Path, held: _Held) -> None:
    """In a thread of its own, which ends in the new namespaces: make them, set them up, and pin them."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(sum(_CLONE.values())) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    for key, value in _SYSCTLS.items():
        if (PROC_SYS / key).exists():
            write_sysctl(key, value)
    for key, value in held.sysctls:
        write_sysctl(key, value)
    mounts = KernelMounter()
    for kind in NAMESPACES:
        mounts.bind(Path(f"/proc/thread-self/ns/{kind}"), box / kind)


def _in_thread(work: Callable[[], None]) -> None:
    """Run it in a thread that ends with it; its exception is raised here."""
    failed: list[BaseException] = []

    def body() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=body, name="barque-sandbox")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
