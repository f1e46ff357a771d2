"""What `diff` shows: two states of an object as files named for it, compared line by line. Pure but for `run_external`.

Values of Secrets never show: one that stays is `***`, one that changes `*** (before)` and `*** (after)`.
"""

from __future__ import annotations

import difflib
import os
import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from barque.cli.output import CliError, to_yaml
from barque.client.verbs import Target

EXTERNAL = "BARQUE_EXTERNAL_DIFF"
_KUBECTLS = "KUBECTL_EXTERNAL_DIFF"
MASK = "***"
# Trouble, not a difference, is what diff(1) means by it.
TROUBLE = 2

Document = dict[str, Any]


class Difference(NamedTuple):
    """One object: the file's name, and its text before and after; "" where it does not exist."""

    name: str
    before: str
    after: str


def file_name(target: Target) -> str:
    """`apps.v1.Deployment.default.web`."""
    resource = target.resource
    return ".".join(filter(None, (resource.group, resource.version, resource.kind, target.namespace, target.name)))


def difference(target: Target, before: Document | None, after: Document | None, *, owners: bool) -> Difference:
    """The two states as text; with `owners` also who manages which field."""
    if target.resource.kind == "Secret":
        before, after = masked(before, after)
    return Difference(file_name(target), _text(before, owners), _text(after, owners))


def _text(obj: Document | None, owners: bool) -> str:
    if obj is None:
        return ""
    hidden = () if owners else ("managedFields",)
    return to_yaml(obj | {"metadata": {key: value for key, value in obj["metadata"].items() if key not in hidden}})


def masked(before: Document | None, after: Document | None) -> tuple[Document | None, Document | None]:
    """A Secret's two states without its values."""
    old, new = _entries(before), _entries(after)
    same = {key for key in old.keys() & new.keys() if old[key] == new[key]}
    both = old.keys() & new.keys()
    return _mask(before, same, both, "before"), _mask(after, same, both, "after")


def _entries(obj: Document | None) -> dict[tuple[str, str], Any]:
    return {(f, k): v for f in ("data", "stringData") for k, v in ((obj or {}).get(f) or {}).items()}


def _mask(obj: Document | None, same: set[Any], both: set[Any], when: str) -> Document | None:
    if obj is None:
        return None
    hidden = dict(obj)
    for field in ("data", "stringData"):
        if obj.get(field):
            hidden[field] = {
                key: f"{MASK} ({when})" if (field, key) in both and (field, key) not in same else MASK
                for key in obj[field]
            }
    return hidden


def unified(differences: Sequence[Difference], *, colours: bool) -> str:
    """All that differ in the form of `diff -u`; "" where nothing does."""
    lines: list[str] = []
    for name, before, after in differences:
        if before == after:
            continue
        lines.append(f"diff -u -N LIVE/{name} MERGED/{name}")
        lines += difflib.unified_diff(
            before.splitlines(), after.splitlines(), f"LIVE/{name}", f"MERGED/{name}", lineterm=""
        )
    return "".join(f"{_coloured(line) if colours else line}\n" for line in lines)


def _coloured(line: str) -> str:
    if line.startswith(("diff ", "--- ", "+++ ")):
        return click.style(line, bold=True)
    colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
    return click.style(line, fg=colour) if colour else line


def external() -> list[str]:
    """The program that is to compare instead, [] where none is named."""
    return shlex.split(os.environ.get(EXTERNAL) or os.environ.get(_KUBECTLS) or "")


def run_external(program: Sequence[str], differences: Sequence[Difference]) -> int:
    """Let a program compare two folders, LIVE and MERGED. Returns its exit code; raises `CliError`."""
    with tempfile.TemporaryDirectory(prefix="barque-diff-") as scratch:
        folders = [Path(scratch, side) for side in ("LIVE", "MERGED")]
        for folder in folders:
            folder.mkdir()
        for name, before, after in differences:
            for folder, text in zip(folders, (before, after), strict=True):
                if text:
                    (folder / name).write_text(text)
        try:
            return subprocess.call([*program, *map(str, folders)])
        except OSError as error:
            raise CliError(f"unable to start {program[0]!r} of {EXTERNAL}: {error}") from None
