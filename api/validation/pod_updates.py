"""What may change of the spec of a pod that exists: little, for the spec is what runs.

In: the new and the stored pod, both defaulted. Out: every fault. The sentence that names the fields that may change is
Kubernetes' own; below it stand the fields that must not have changed, old and new.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from barque.api import codec
from barque.api.errors import FieldError, forbidden, invalid
from barque.api.types.core_v1 import Affinity, Container, NodeAffinity, NodeSelectorTerm, Pod, PodSpec, Toleration
from barque.api.validation.checks import INT32_MAX
from barque.api.validation.choices import within
from barque.api.validation.pod_annotations import MIRROR, check_annotations_update

_MUTABLE = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_REQUIRED_TERMS = "requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
_MAX_SHOWN = 200


def check_update(new: Pod, old: Pod) -> list[FieldError]:
    """A write of the pod by whoever may; what is wrong with the new pod as such is for `pods.check` to say."""
    faults = check_annotations_update(new.metadata.annotations, old.metadata.annotations, "metadata.annotations")
    for name in ("containers", "initContainers"):
        if len(getattr(new.spec, name)) != len(getattr(old.spec, name)):
            return [*faults, forbidden(f"spec.{name}", "pod updates may not add or remove containers")]
    if new.spec == old.spec:
        return faults
    deadline = _check_deadline(new.spec.activeDeadlineSeconds, old.spec.activeDeadlineSeconds)
    if deadline and new.spec.activeDeadlineSeconds is not None:
        return [*faults, *deadline]
    faults += deadline
    faults += _check_tolerations(new.spec.tolerations, old.spec.tolerations)
    faults += _check_gates(new.spec, old.spec)
    unchanged = _with_mutable_of(old.spec, new.spec)
    if old.spec.schedulingGates:
        faults += _check_gated(new.spec, old.spec)
        unchanged = msgspec.structs.replace(
            unchanged, nodeSelector=old.spec.nodeSelector, affinity=_with_node_affinity(new.spec, old.spec)
        )
    if unchanged != old.spec:
        faults.append(forbidden("spec", "\n".join((_MUTABLE, *_changes(unchanged, old.spec)))))
    return faults


def check_ephemeral_update(new: Pod, old: Pod) -> list[FieldError]:
    """A write of the ephemeral containers alone: they come, and neither change nor go."""
    if MIRROR in old.metadata.annotations:
        return [forbidden("", "static pods do not support ephemeral containers")]
    faults: list[FieldError] = []
    kept = {container.name: container for container in new.spec.ephemeralContainers}
    for container in old.spec.ephemeralContainers:
        named = f'existing ephemeral containers "{container.name}" may not be'
        if container.name not in kept:
            faults.append(forbidden("spec.ephemeralContainers", f"{named} removed"))
        elif kept[container.name] != container:
            changes = _changes(kept[container.name], container)
            faults.append(forbidden("spec.ephemeralContainers", "\n".join((f"{named} changed", *changes))))
    return faults


def _with_mutable_of(old: PodSpec, new: PodSpec) -> PodSpec:
    """`new` with everything that may change put back to what it was."""
    grace_s = new.terminationGracePeriodSeconds
    was_negative = old.terminationGracePeriodSeconds is not None and old.terminationGracePeriodSeconds < 0
    return msgspec.structs.replace(
        new,
        containers=_with_images(new.containers, old.containers),
        initContainers=_with_images(new.initContainers, old.initContainers),
        activeDeadlineSeconds=old.activeDeadlineSeconds,
        tolerations=old.tolerations,
        schedulingGates=old.schedulingGates,
        terminationGracePeriodSeconds=old.terminationGracePeriodSeconds if was_negative and grace_s == 1 else grace_s,
    )


def _with_images(new: list[Container], old: list[Container]) -> list[Container]:
    return [msgspec.structs.replace(fresh, image=was.image) for fresh, was in zip(new, old, strict=True)]


def _check_deadline(new: int | None, old: int | None) -> list[FieldError]:
    """A deadline may be set, and come nearer."""
    path = "spec.activeDeadlineSeconds"
    if new is None:
        return [] if old is None else [invalid(path, None, "must not update from a positive integer to nil value")]
    if outside := within(path, new, 0, INT32_MAX):
        return outside
    if old is not None and new > old:
        return [invalid(path, new, "must be less than or equal to previous value")]
    return []


def _check_tolerations(new: list[Toleration], old: list[Toleration]) -> list[FieldError]:
    lasting = [_timeless(toleration) for toleration in new]
    if all(_timeless(toleration) in lasting for toleration in old):
        return []
    return [forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds")]


def _timeless(toleration: Toleration) -> Toleration:
    return msgspec.structs.replace(toleration, tolerationSeconds=None)


def _check_gates(new: PodSpec, old: PodSpec) -> list[FieldError]:
    known = {gate.name for gate in old.schedulingGates}
    return [
        forbidden(
            f"spec.schedulingGates[{index}].name",
            f"only deletion is allowed, but found new scheduling gate '{gate.name}'",
        )
        for index, gate in enumerate(new.schedulingGates)
        if gate.name not in known
    ]


def _check_gated(new: PodSpec, old: PodSpec) -> list[FieldError]:
    """While gates hold a pod back, where it may go can still be narrowed down."""
    faults: list[FieldError] = []
    if any(new.nodeSelector.get(key) != value for key, value in old.nodeSelector.items()):
        why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
        faults.append(invalid("spec.nodeSelector", new.nodeSelector, why))
    before, after = _required_terms(_node_affinity(old)), _required_terms(_node_affinity(new))
    path = f"spec.affinity.nodeAffinity.{_REQUIRED_TERMS}"
    if before and len(before) != len(after):
        why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed"
        return [*faults, invalid(path, after, why)]
    for index, (was, now) in enumerate(zip(before, after, strict=False)):
        if not _narrows(now, was):
            why = "only additions are allowed (no mutations or deletions)"
            faults.append(invalid(f"{path}[{index}]", now, why))
    return faults


def _narrows(new: NodeSelectorTerm, old: NodeSelectorTerm) -> bool:
    """Whether the new term asks for all that the old one does; a term that asks for nothing selects nothing."""
    if not old.matchExpressions and not old.matchFields:
        return not new.matchExpressions and not new.matchFields
    expressions, fields = len(old.matchExpressions), len(old.matchFields)
    return new.matchExpressions[:expressions] == old.matchExpressions and new.matchFields[:fields] == old.matchFields


def _with_node_affinity(new: PodSpec, old: PodSpec) -> Affinity | None:
    """The new affinity with the node's part put back to what it was."""
    affinity = msgspec.structs.replace(new.affinity or Affinity(), nodeAffinity=_node_affinity(old))
    return None if old.affinity is None and affinity == Affinity() else affinity


def _node_affinity(spec: PodSpec) -> NodeAffinity | None:
    return spec.affinity.nodeAffinity if spec.affinity is not None else None


def _required_terms(affinity: NodeAffinity | None) -> list[NodeSelectorTerm]:
    needed = affinity.requiredDuringSchedulingIgnoredDuringExecution if affinity is not None else None
    return needed.nodeSelectorTerms if needed is not None else []


def _changes(new: Any, old: Any) -> list[str]:
    """`-` and `+` lines, as a diff has them, for each field that differs."""
    lines = []
    for path, was, now in _differences(codec.to_builtins(old), codec.to_builtins(new), ""):
        lines += [f"{sign} {path}: {_shown(value)}" for sign, value in (("-", was), ("+", now)) if value is not None]
    return lines


def _differences(old: Any, new: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if old == new:
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from _differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (was, now) in enumerate(zip(old, new, strict=True)):
            yield from _differences(was, now, f"{path}[{index}]")
    else:
        yield path, old, new


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"
