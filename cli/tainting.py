"""What `barque taint` makes of a node's taints. Pure; the forms, the checks and their words are kubectl's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from barque.api import names
from barque.cli.output import CliError

EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")

Taint = dict[str, Any]


class Changes(NamedTuple):
    """Taints to set, and (key, effect) to take off, "" for every effect."""

    added: tuple[Taint, ...]
    removed: tuple[tuple[str, str], ...]


def parse_changes(specs: Sequence[str]) -> Changes:
    """`key=value:Effect`, `key:Effect`, `key:Effect-`, `key-`. Raises `CliError`."""
    added: dict[tuple[str, str], Taint] = {}
    removed: list[tuple[str, str]] = []
    for spec in specs:
        if spec.endswith("-"):
            key, _, effect = spec.removesuffix("-").partition(":")
            key = key.partition("=")[0]
            if effect:
                _check_effect(effect)
            _check_key(key, spec)
            removed.append((key, effect))
            continue
        label, colon, effect = spec.partition(":")
        key, _, value = label.partition("=")
        if not colon or ":" in effect:
            raise CliError(f"invalid taint spec: {spec}")
        _check_effect(effect)
        _check_key(key, spec)
        if value and names.label_value(value):
            raise CliError(f"invalid taint spec: {spec}, {'; '.join(names.label_value(value))}")
        if (key, effect) in added:
            raise CliError(f"duplicated taints with the same key and effect: {spec}")
        added[key, effect] = {"key": key, "value": value, "effect": effect} if value else {"key": key, "effect": effect}
    both = [f"{key}:{effect}" for key, effect in added if (key, effect) in removed or (key, "") in removed]
    if both:
        raise CliError(f"can not both modify and remove the following taint(s) in the same command: {', '.join(both)}")
    return Changes(tuple(added.values()), tuple(removed))


def apply_changes(node: str, present: Sequence[Taint], changes: Changes, *, overwrite: bool) -> tuple[list[Taint], str]:
    """The node's taints afterwards, and what became of it in kubectl's words. Raises `CliError`."""
    wanted = {_identity(taint) for taint in changes.added}
    taken = [taint["key"] for taint in present if _identity(taint) in wanted]
    if taken and not overwrite:
        raise CliError(
            f"node {node} already has {','.join(taken)} taint(s) with same effect(s) and --overwrite is false"
        )
    taints = [*changes.added, *(taint for taint in present if _identity(taint) not in wanted)]
    for key, effect in changes.removed:
        kept = [taint for taint in taints if taint["key"] != key or (effect and taint["effect"] != effect)]
        if len(kept) == len(taints):
            raise CliError(f'taint "{key}{f":{effect}" if effect else ""}" not found')
        taints = kept
    if overwrite or (changes.added and changes.removed):
        return taints, "modified"
    return taints, "tainted" if changes.added else "untainted"


def _identity(taint: Taint) -> tuple[str, str]:
    return taint["key"], taint.get("effect", "")


def _check_effect(effect: str) -> None:
    if effect not in EFFECTS:
        raise CliError(f"invalid taint effect: {effect}, unsupported taint effect; it is one of {', '.join(EFFECTS)}")


def _check_key(key: str, spec: str) -> None:
    faults = names.qualified_name(key)
    if faults:
        raise CliError(f"invalid taint spec: {spec}, {'; '.join(faults)}")
