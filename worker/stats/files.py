"""The kernel's small files: read in a few system calls, and looked into without parsing what nobody asked for."""

from __future__ import annotations

import os

# More than any such file holds on most hosts, so that one read has it all and a second one says so.
_CHUNK_BYTES = 32 * 1024


def read(path: str) -> bytes:
    """The whole file. Raises OSError. A third of the cost of a file object, which counts with several files a pod."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = chunk = os.read(file, _CHUNK_BYTES)
        while chunk:
            chunk = os.read(file, _CHUNK_BYTES)
            found += chunk
        return found
    finally:
        os.close(file)


def field(flat: bytes, name: bytes) -> int:
    """One number from a flat keyed file: a name and a number a line. Raises ValueError where it is missing."""
    begin = b"%b " % name
    at = 0 if flat.startswith(begin) else flat.find(b"\n" + begin) + 1
    if at == 0 and not flat.startswith(begin):
        raise ValueError(f"no {name.decode()} among {len(flat)} bytes")
    at += len(begin)
    end = flat.find(b"\n", at)
    return int(flat[at : end if end >= 0 else None])
