"""Makes a script known to dockerd as an OCI runtime: an entry of `runtimes` in its daemon.json, and SIGHUP.

dockerd reads that part of its file anew on SIGHUP (dockerd(8), "configuration reloading") and stops no container for
it. Everything else in the file stays as it was; what cannot be read is not written over.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from barque.worker.runtime.sandboxes import RUNTIME, script_in

DAEMON_JSON = Path("/etc/docker/daemon.json")
_CREDENTIALS = struct.Struct("3i")
_TIMEOUT_S = 10.0


class RegistrationError(Exception):
    """The runtime is not registered; the message says why. Pods run all the same, each with a pause container."""


def register(docker_host: str, folder: Path) -> bool:
    """Make the script of the sandboxes under `folder` a runtime of the dockerd at `docker_host`; False where it was.
    Raises `RegistrationError`.
    """
    pid = _dockerd(docker_host)
    command = _command_of(pid)
    if any(word.startswith("--add-runtime") for word in command):
        # Given on the command line, where the file may say nothing of runtimes.
        return False
    changed = _change(config_file(command), lambda text: with_runtime(text, script_in(folder)))
    if changed:
        _reload(pid)
    return changed


def unregister(docker_host: str, folder: Path) -> bool:
    """Take that entry out again; False where there is none. A dockerd that runs forgets it at its next start: it drops
    no runtime on SIGHUP. Raises `RegistrationError`.
    """
    config = config_file(_command_of(_dockerd(docker_host)))
    return _change(config, lambda text: without_runtime(text, script_in(folder)))


def with_runtime(text: str, script: Path) -> str:
    """daemon.json with `script` as our runtime. Raises ValueError for what is no daemon.json."""
    document = _read(text)
    entry = {"path": str(script)}
    if document.get("runtimes", {}).get(RUNTIME) == entry:
        return text
    document["runtimes"] = {**document.get("runtimes", {}), RUNTIME: entry}
    return json.dumps(document, indent=2) + "\n"


def without_runtime(text: str, script: Path) -> str:
    """daemon.json without `script`, "" where nothing is left in it. Raises ValueError for what is no daemon.json."""
    document = _read(text)
    if document.get("runtimes", {}).get(RUNTIME) != {"path": str(script)}:
        return text
    del document["runtimes"][RUNTIME]
    if not document["runtimes"]:
        del document["runtimes"]
    return json.dumps(document, indent=2) + "\n" if document else ""


def _read(text: str) -> dict[str, Any]:
    document = json.loads(text or "{}")
    if not isinstance(document, dict) or not isinstance(document.get("runtimes", {}), dict):
        raise ValueError("it holds no JSON object of settings")
    return document


def names_runtimes(config: Path = DAEMON_JSON) -> bool:
    """Whether a daemon.json has `runtimes`, beside which dockerd takes no `--add-runtime`."""
    try:
        return "runtimes" in json.loads(config.read_text())
    except (OSError, ValueError, TypeError):
        return False


def config_file(command: Sequence[str]) -> Path:
    """The file that a dockerd with this command line reads."""
    for at, word in enumerate(command):
        if word.startswith("--config-file="):
            return Path(word.partition("=")[2])
        if word == "--config-file" and at + 1 < len(command):
            return Path(command[at + 1])
    return DAEMON_JSON


def _change(config: Path, change: Callable[[str], str]) -> bool:
    try:
        text = config.read_text() if config.exists() else ""
        wanted = change(text)
        if wanted == text:
            return False
        if wanted:
            config.parent.mkdir(parents=True, exist_ok=True)
            beside = config.with_name(f".{config.name}.new")
            beside.write_text(wanted)
            beside.chmod(config.stat().st_mode & 0o777 if config.exists() else 0o644)
            beside.replace(config)
        else:
            config.unlink()
    except (OSError, ValueError) as error:
        raise RegistrationError(f"{config} is left as it is: {error}") from error
    return True


def _dockerd(docker_host: str) -> int:
    """The process that listens on Docker's socket: dockerd, or systemd on its behalf."""
    if not docker_host.startswith("unix://"):
        raise RegistrationError(f"Docker at {docker_host} is not on this machine")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
        asked.settimeout(_TIMEOUT_S)
        try:
            asked.connect(docker_host.removeprefix("unix://"))
        except OSError as error:
            raise RegistrationError(f"no Docker at {docker_host}: {error.strerror}") from error
        return int(_CREDENTIALS.unpack(asked.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))[0])


def _command_of(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        if Path(words[0]).name == "dockerd":
            return words[1:]
    return []


def _reload(pid: int) -> None:
    """SIGHUP to dockerd; by systemd where that holds its socket."""
    try:
        if Path(f"/proc/{pid}/comm").read_text().strip() == "dockerd":
            os.kill(pid, signal.SIGHUP)
            return
        subprocess.run(["systemctl", "reload", "docker"], check=True, capture_output=True, timeout=_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError) as error:
        raise RegistrationError(f"Docker does not read its configuration anew: {error}; restart it yourself") from error
