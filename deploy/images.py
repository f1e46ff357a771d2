"""Images built from local files alone, for machines with no registry in reach."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

import docker

_BUSYBOX_TOOLS = (
    "sh",
    "cat",
    "echo",
    "env",
    "hostname",
    "httpd",
    "id",
    "ls",
    "nslookup",
    "ps",
    "sleep",
    "stty",
    "tail",
    "tar",
    "test",
    "timeout",
    "wget",
)

# Writes the page at start, so that each pod shows its own name, and serves it until told to stop. httpd is a child, for
# a shell as first process reacts to SIGTERM only with a trap.
_WEB_START = """#!/bin/sh
trap 'kill $server; exit 0' TERM
echo "${GREETING:-Hello}: version $(cat /version), pod ${POD_NAME:-$(hostname)}" > /www/index.html
httpd -f -p 8080 -h /www &
server=$!
wait $server
"""


def busybox() -> Path:
    """The machine's static busybox. Raises `FileNotFoundError` saying what to install."""
    found = shutil.which("busybox")
    if found is None:
        raise FileNotFoundError("no busybox on this machine: apt-get install busybox-static")
    return Path(found)


def build_busybox(docker_host: str, tag: str, extra: dict[str, str] | None = None, command: str = "/bin/sh") -> None:
    """Import an image `tag` of busybox and the `extra` files (path to text; executable when it starts with `#!`)."""
    repository, _, version = tag.partition(":")
    client = docker.APIClient(base_url=docker_host, timeout=60)
    try:
        client.import_image_from_data(
            _root_tar(extra or {}), repository=repository, tag=version, changes=[f'CMD ["{command}"]']
        )
    finally:
        client.close()


def has(docker_host: str, tag: str) -> bool:
    """Whether that Docker has an image of this tag."""
    client = docker.APIClient(base_url=docker_host, timeout=60)
    try:
        return bool(client.images(name=tag))
    finally:
        client.close()


def web_tag(version: str) -> str:
    """What `build_web` names the demo's web server."""
    return f"barque-demo/web:{version}"


def build_web(docker_host: str, version: str) -> str:
    """Build the demo's web server at `version`; returns its tag."""
    tag = web_tag(version)
    build_busybox(docker_host, tag, {"version": f"{version}\n", "www/robots.txt": "", "start": _WEB_START}, "/start")
    return tag


def _root_tar(extra: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder in ("bin", "tmp", "etc", "proc", "sys", "dev", "www"):
            _add(tar, folder, kind=tarfile.DIRTYPE, mode=0o1777 if folder == "tmp" else 0o755)
        _add(tar, "bin/busybox", busybox().read_bytes(), mode=0o755)
        for tool in _BUSYBOX_TOOLS:
            _add(tar, f"bin/{tool}", kind=tarfile.SYMTYPE, target="busybox")
        for path, text in extra.items():
            _add(tar, path, text.encode(), mode=0o755 if text.startswith("#!") else 0o644)
    return buffer.getvalue()


def _add(
    tar: tarfile.TarFile,
    path: str,
    data: bytes = b"",
    mode: int = 0o644,
    kind: bytes = tarfile.REGTYPE,
    target: str = "",
) -> None:
    entry = tarfile.TarInfo(path)
    entry.type, entry.mode, entry.size, entry.linkname = kind, mode, len(data), target
    tar.addfile(entry, io.BytesIO(data) if data else None)
