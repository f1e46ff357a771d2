"""Warnings about volumes in which one file takes another's place, or needs a directory where another file is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from barque.api.types.core_v1 import Volume, VolumeProjection


def about_volumes(volumes: Iterable[Volume]) -> Iterator[str]:
    for volume in volumes:
        said = f'volume "{volume.name}"'
        if volume.configMap is not None:
            paths = [item.path for item in volume.configMap.items]
            yield from _overlaps(paths, f'{said} (ConfigMap "{volume.configMap.name}")')
        if volume.secret is not None:
            yield from _overlaps([i.path for i in volume.secret.items], f'{said} (Secret "{volume.secret.secretName}")')
        if volume.downwardAPI is not None:
            yield from _overlaps([item.path for item in volume.downwardAPI.items], f"{said} (DownwardAPI)")
        if volume.projected is not None:
            yield from _about_sources(volume.projected.sources, said)


def _about_sources(sources: Iterable[VolumeProjection], said: str) -> Iterator[str]:
    """Each source in itself, and then together with those before it."""
    before: set[str] = set()
    for source in sources:
        if source == VolumeProjection():
            yield f"{said} (Projected) has no sources provided"
            continue
        paths, what = _contents(source)
        if paths:
            yield from _overlaps(paths, f"{said} (Projected {what})")
            yield from _overlaps(sorted([*set(paths), *before]), f"{said} (Projected {what})")
            before.update(paths)


def _contents(source: VolumeProjection) -> tuple[list[str], str]:
    """The paths that a source names, and what it is."""
    if source.configMap is not None:
        return [item.path for item in source.configMap.items], f'ConfigMap "{source.configMap.name}"'
    if source.secret is not None:
        return [item.path for item in source.secret.items], f'Secret "{source.secret.name}"'
    if source.downwardAPI is not None:
        return [item.path for item in source.downwardAPI.items], "DownwardAPI"
    if source.serviceAccountToken is not None:
        return [source.serviceAccountToken.path], "ServiceAccountToken"
    return [], ""


def _overlaps(paths: Iterable[str], where: str) -> Iterator[str]:
    seen: dict[str, None] = {}
    for each in paths:
        path = each.rstrip("/")
        clash = next((other for other in seen if _overlap(path, other)), "")
        if clash:
            yield f'{where}: overlapping paths: "{path}" with "{clash}"'
        seen[path] = None


def _overlap(path: str, other: str) -> bool:
    """Whether they are the same file, or one would have to be a directory for the other."""
    return path == other or path.startswith(f"{other}/") or other.startswith(f"{path}/")
