"""Which pods of a node a drain evicts, which it leaves, and which it will not touch unasked. Pure.

The order of the questions, the flags that answer them and the words are `kubectl drain`'s.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

MIRROR = "kubernetes.io/config.mirror"

_DAEMON = "cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore)"
_ORPHANED_DAEMON = "cannot delete Pods that their DaemonSet has left behind (use --force to override)"
_LOCAL = "cannot delete Pods with local storage (use --delete-emptydir-data to override)"
_BARE = "cannot delete Pods that declare no controller (use --force to override)"
_IGNORED = "ignoring DaemonSet-managed Pods"
_LOCAL_DELETED = "deleting Pods with local storage"
_BARE_DELETED = "deleting Pods that declare no controller"


class Flags(NamedTuple):
    """What the user allows; `daemon_sets` are those there are, as (namespace, name)."""

    ignore_daemon_sets: bool = False
    delete_empty_dir_data: bool = False
    force: bool = False
    daemon_sets: Collection[tuple[str, str]] = ()


class DrainPlan(NamedTuple):
    """Pods to delete, and sentences: what is done nevertheless, and why nothing may be done."""

    doomed: tuple[Any, ...]
    warnings: tuple[str, ...]
    refusals: tuple[str, ...]


def plan_drain(pods: Iterable[Any], flags: Flags) -> DrainPlan:
    """Nothing is to be deleted where there are refusals."""
    doomed: list[Any] = []
    warnings: dict[str, list[str]] = {}
    refusals: dict[str, list[str]] = {}
    for pod in pods:
        stays, warned, refused = _judge(pod, flags)
        name = f"{pod.metadata.namespace}/{pod.metadata.name}"
        for sentence in warned:
            warnings.setdefault(sentence, []).append(name)
        if refused:
            refusals.setdefault(refused, []).append(name)
        elif not stays:
            doomed.append(pod)
    return DrainPlan(tuple(doomed), _sentences(warnings), _sentences(refusals))


def _judge(pod: Any, flags: Flags) -> tuple[bool, list[str], str]:
    """(whether it stays, warnings, why it cannot be deleted or "")."""
    ended = pod.status.phase in ("Succeeded", "Failed")
    controller = next((owner for owner in pod.metadata.ownerReferences if owner.controller), None)
    if controller is not None and controller.kind == "DaemonSet" and not ended:
        known = (pod.metadata.namespace, controller.name) in flags.daemon_sets
        if not known and not flags.force:
            return False, [], _ORPHANED_DAEMON
        if known:
            return (True, [_IGNORED], "") if flags.ignore_daemon_sets else (False, [], _DAEMON)
    if MIRROR in pod.metadata.annotations:
        return True, [], ""
    warned: list[str] = []
    if not ended and any(volume.emptyDir is not None for volume in pod.spec.volumes):
        if not flags.delete_empty_dir_data:
            return False, [], _LOCAL
        warned.append(_LOCAL_DELETED)
    if not ended and controller is None:
        if not flags.force:
            return False, [], _BARE
        warned.append(_BARE_DELETED)
    return False, warned, ""


def _sentences(found: dict[str, list[str]]) -> tuple[str, ...]:
    return tuple(f"{sentence}: {', '.join(names)}" for sentence, names in sorted(found.items()))
