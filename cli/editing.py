"""The text of `edit`: objects as a file with what is to be known at its head, and the changes made to it as patches.

Pure but for `open_editor`. A change is a merge patch from what was opened to what was saved; `clash` says which fields
of it someone else has changed since, so that an edit never undoes unseen what another has done.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from barque.cli.output import CliError, to_json, to_yaml

EDITORS = ("BARQUE_EDITOR", "KUBE_EDITOR", "EDITOR")
_FALLBACKS = ("vi", "nano")
_HEAD = """\
# Change what is below, save it and leave the editor. Lines that begin with '#' up here are not read.
# Saved as it is, or with nothing left in it, nothing happens. What is refused comes back with the reason.
"""
# The system's own; they change without anyone's doing.
_OWN = ("resourceVersion", "managedFields", "generation")

Document = dict[str, Any]


def render(objects: Sequence[Document], output: str) -> str:
    """The objects as the text of a file, YAML or JSON, several one after another."""
    if output == "json":
        return "".join(to_json(obj) for obj in objects)
    return "---\n".join(to_yaml(obj) for obj in objects)


def with_head(body: str, faults: Sequence[str] = ()) -> str:
    """The text as it is opened: the faults of what was saved before stand above it."""
    told = "".join(f"# {line}\n" for fault in faults for line in fault.splitlines())
    return f"{_HEAD}#\n{told + '#' + chr(10) if told else ''}{body}"


def without_head(text: str) -> str:
    """What the user wrote."""
    lines = text.splitlines(keepends=True)
    first = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "".join(lines[first:])


def open_editor(path: Path) -> None:
    """Let the user edit the file. Raises `CliError` where the editor cannot be started or ends in failure."""
    chosen = next((os.environ[name] for name in EDITORS if os.environ.get(name)), "")
    chosen = chosen or next((name for name in _FALLBACKS if shutil.which(name)), _FALLBACKS[0])
    try:
        code = subprocess.call([*shlex.split(chosen), str(path)])
    except (OSError, ValueError) as error:
        raise CliError(f"unable to start the editor {chosen!r}: {error}; {EDITORS[0]} names another") from None
    if code:
        raise CliError(f"there was a problem with the editor {chosen!r}: it ended with {code}")


def changes(before: Document, after: Document) -> Document:
    """The merge patch (RFC 7386) that makes one of the other, but for what is the system's own in metadata."""
    patch = _difference(before, after)
    if isinstance(patch.get("metadata"), dict):
        for field in _OWN:
            patch["metadata"].pop(field, None)
        if not patch["metadata"]:
            del patch["metadata"]
    return patch


def _difference(before: Document, after: Document) -> Document:
    patch: Document = {key: None for key in before if key not in after}
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            below = _difference(old, value)
            if below:
                patch[key] = below
        elif key not in before or old != value or type(old) is not type(value):
            patch[key] = value
    return patch


def clash(mine: Document, theirs: Document) -> list[str]:
    """The paths that both patches change, one of them perhaps as a part of the other; equal changes are none."""
    return sorted(_clashes(mine, theirs, ""))


def _clashes(mine: Document, theirs: Document, path: str) -> Iterator[str]:
    for key in mine.keys() & theirs.keys():
        below = f"{path}.{key}" if path else key
        if isinstance(mine[key], dict) and isinstance(theirs[key], dict):
            yield from _clashes(mine[key], theirs[key], below)
        elif mine[key] != theirs[key]:
            yield below
