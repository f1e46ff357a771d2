"""Validation of what every workload has: a selector, and a template of pods that the selector finds."""

from __future__ import annotations

from barque.api.errors import FieldError, forbidden, invalid, not_supported, required
from barque.api.selectors import from_label_selector
from barque.api.types.core_v1 import PodTemplateSpec
from barque.api.types.meta_v1 import LabelSelector
from barque.api.validation import pods
from barque.api.validation.metadata import check_selector


def check_template(template: PodTemplateSpec, path: str) -> list[FieldError]:
    """What is wrong with a template, whoever makes pods of it."""
    faults = pods.check_template(template, path)
    if template.spec is not None and template.spec.ephemeralContainers:
        why = "ephemeral containers not allowed in pod template"
        faults.append(forbidden(f"{path}.spec.ephemeralContainers", why))
    return faults


def check_lasting(template: PodTemplateSpec, path: str, kind: str) -> list[FieldError]:
    """The pods of this kind of workload run until it is deleted: they restart always and have no deadline."""
    faults: list[FieldError] = []
    spec = template.spec
    if spec is None:
        return faults
    if spec.restartPolicy in ("OnFailure", "Never"):
        faults.append(not_supported(f"{path}.spec.restartPolicy", spec.restartPolicy, ["Always"]))
    if spec.activeDeadlineSeconds is not None:
        why = f"activeDeadlineSeconds in {kind} is not Supported"
        faults.append(forbidden(f"{path}.spec.activeDeadlineSeconds", why))
    return faults


def check_owned(selector: LabelSelector | None, template: PodTemplateSpec, path: str) -> list[FieldError]:
    """The pods of a template must be found by the selector, or their workload would make more and more of them.

    `path` is the template's. The selector must have been found right.
    """
    labels = template.metadata.labels if template.metadata else {}
    if selector is None or from_label_selector(selector).matches(labels):
        return []
    return [invalid(f"{path}.metadata.labels", labels, "`selector` does not match template `labels`")]


def check_workload(
    selector: LabelSelector | None, template: PodTemplateSpec | None, kind: str, path: str = "spec"
) -> list[FieldError]:
    """Selector and template of a Deployment, ReplicaSet or the like, in the spec at `path`."""
    faults = []
    if selector is None:
        faults.append(required(f"{path}.selector"))
    else:
        faults += check_selector(selector, f"{path}.selector")
        if not selector.matchLabels and not selector.matchExpressions:
            # Kubernetes says so of ReplicaSets, too.
            named = "deployment" if kind == "ReplicaSet" else kind.lower()
            why = f"empty selector is invalid for {named}"
            faults.append(invalid(f"{path}.selector", selector, why))
    if template is None or template.spec is None:
        return [*faults, required(f"{path}.template")]
    if not faults:
        faults += check_owned(selector, template, f"{path}.template")
    faults += check_template(template, f"{path}.template")
    return [*faults, *check_lasting(template, f"{path}.template", kind)]
