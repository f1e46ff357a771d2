"""Validation of volumes."""

from __future__ import annotations

from barque.api import names
from barque.api.errors import FieldError, forbidden, invalid, required
from barque.api.shapes import shape_of
from barque.api.types.core_v1 import KeyToPath, Volume
from barque.api.validation.checks import spelt

_MAX_MODE = 0o777


def check_volume(volume: Volume, path: str) -> list[FieldError]:
    faults = spelt(f"{path}.name", volume.name, names.dns1123_label) if volume.name else [required(f"{path}.name")]
    sources = [name for name in shape_of(Volume) if name != "name" and getattr(volume, name) is not None]
    if not sources:
        faults.append(required(path, "must specify a volume type"))
    faults += [forbidden(f"{path}.{name}", "may not specify more than 1 volume type") for name in sources[1:]]
    if volume.configMap is not None:
        below = f"{path}.configMap"
        faults += [] if volume.configMap.name else [required(f"{below}.name")]
        faults += _check_files(volume.configMap.defaultMode, volume.configMap.items, below)
    if volume.secret is not None:
        below = f"{path}.secret"
        faults += [] if volume.secret.secretName else [required(f"{below}.secretName")]
        faults += _check_files(volume.secret.defaultMode, volume.secret.items, below)
    return faults


def _check_files(default_mode: int | None, items: list[KeyToPath], path: str) -> list[FieldError]:
    faults = _check_mode(f"{path}.defaultMode", default_mode)
    for index, item in enumerate(items):
        below = f"{path}.items[{index}]"
        faults += [] if item.key else [required(f"{below}.key")]
        faults += _check_relative(f"{below}.path", item.path) if item.path else [required(f"{below}.path")]
        faults += _check_mode(f"{below}.mode", item.mode)
    return faults


def _check_mode(path: str, mode: int | None) -> list[FieldError]:
    if mode is None or 0 <= mode <= _MAX_MODE:
        return []
    return [invalid(path, mode, "must be a number between 0 and 0777 (octal), both inclusive")]


def _check_relative(path: str, target: str) -> list[FieldError]:
    """A file of a volume stays inside it."""
    faults = []
    if target.startswith("/"):
        faults.append(invalid(path, target, "must be a relative path"))
    if ".." in target.split("/"):
        faults.append(invalid(path, target, "must not contain '..'"))
    if target.startswith("..") and not target.startswith("../") and target != "..":
        faults.append(invalid(path, target, "must not start with '..'"))
    return faults
