"""`ReferenceFiles`: the ConfigMaps and Secrets of this node's pods on disk, for a start while no master answers.

One file per object, mode 0600, replaced atomically. It is a copy of what the masters keep: a file that cannot be read
is dropped and fetched again. Docker keeps the same values in its own files, as containers' environments, so nothing is
stored here that root on this host could not read anyway.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import msgspec

from barque.api import codec
from barque.api.types import core_v1
from barque.api.types.base import Object

log = logging.getLogger(__name__)

Key = tuple[type[Object], str, str]
_KINDS: dict[str, type[Object]] = {kind.__name__: kind for kind in (core_v1.ConfigMap, core_v1.Secret)}


class ReferenceFiles:
    """Files in one directory; every method blocks for the length of a small file."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self) -> dict[Key, Object]:
        """All that is there."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        found: dict[Key, Object] = {}
        for path in self._directory.iterdir():
            kind = _KINDS.get(path.name.partition("_")[0])
            try:
                if kind is None or path.suffix != ".json":
                    raise ValueError("not a file of this directory")
                obj = codec.decode(kind, path.read_bytes())
            except (ValueError, msgspec.DecodeError) as error:
                log.warning("dropping the cached %s: %s", path, error)
                path.unlink()
                continue
            assert isinstance(obj, core_v1.ConfigMap | core_v1.Secret)
            found[kind, obj.metadata.namespace, obj.metadata.name] = obj
        return found

    def write(self, key: Key, value: Object) -> None:
        path = self._path(key)
        following = path.with_suffix(".new")
        with open(os.open(following, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(codec.encode(value))
        following.replace(path)

    def remove(self, key: Key) -> None:
        self._path(key).unlink(missing_ok=True)

    def _path(self, key: Key) -> Path:
        # Neither a namespace nor a name can hold an underscore.
        return self._directory / f"{key[0].__name__}_{key[1]}_{key[2]}.json"
