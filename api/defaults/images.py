"""When an image is pulled, where nobody says: by how its reference names a version."""

from __future__ import annotations


def pull_policy(reference: str) -> str:
    """Always where the image names no fixed version: tag `latest`, or neither tag nor digest."""
    name, at, _digest = reference.partition("@")
    # A colon before the last slash belongs to the registry's port.
    _repository, colon, tag = name.rpartition("/")[2].partition(":")
    unversioned = bool(reference) and not at and not colon
    return "Always" if unversioned or tag == "latest" else "IfNotPresent"
