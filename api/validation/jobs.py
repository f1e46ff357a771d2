"""Validation of Job: how often its pods run, which failures count, and what of it may change."""

from __future__ import annotations

import copy
import re

from barque.api import names
from barque.api.errors import FieldError, invalid, not_supported, required, too_long
from barque.api.selectors import from_label_selector
from barque.api.types.batch_v1 import Job, JobSpec, SuccessPolicyRule
from barque.api.types.core_v1 import Affinity, PodTemplateSpec
from barque.api.types.meta_v1 import ObjectMeta
from barque.api.validation import indexes
from barque.api.validation.checks import immutable, not_negative
from barque.api.validation.choices import choice_if_set, too_many
from barque.api.validation.job_failures import check_failure_policy
from barque.api.validation.metadata import check_selector
from barque.api.validation.templates import check_owned, check_template

INDEXED = "Indexed"
# Both bound the text of `status.completedIndexes`.
_MAX_INDEXED_PARALLELISM = 100_000
_MAX_FAILED_INDEXES = 100_000
# Beyond so many completions, retries counted by index are bounded more narrowly.
_MANY_COMPLETIONS = 100_000
_MAX_WITH_MANY = 10_000
_MAX_MANAGED_BY = 63
_MAX_SUCCESS_RULES = 20
_MAX_INDEXES_TEXT = 64 * 1024
_COUNTS = (
    "parallelism",
    "completions",
    "activeDeadlineSeconds",
    "backoffLimit",
    "ttlSecondsAfterFinished",
    "backoffLimitPerIndex",
    "maxFailedIndexes",
)
_IMMUTABLE = ("completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy")
_PATH = re.compile(r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+", re.ASCII)
_MANY = "must be less than or equal to {} when completions are above {} and used with backoff limit per index"


def check(job: Job) -> list[FieldError]:
    """What is wrong with a Job whose selector has been made or given."""
    spec = job.spec
    faults = _check_generated(job)
    faults += check_job_spec(spec, "spec")
    faults += [required("spec.selector")] if spec.selector is None else check_selector(spec.selector, "spec.selector")
    if spec.template is not None and not faults:
        faults += check_owned(spec.selector, spec.template, "spec.template")
    return [*faults, *_check_hostnames(job)]


def check_update(new: Job, old: Job) -> list[FieldError]:
    faults = _check_completions_update(new.spec, old.spec)
    faults += immutable("spec.selector", new.spec.selector, old.spec.selector)
    faults += immutable("spec.template", new.spec.template, _reschedulable(new, old))
    for name in _IMMUTABLE:
        faults += immutable(f"spec.{name}", getattr(new.spec, name), getattr(old.spec, name))
    return faults


def check_job_spec(spec: JobSpec, path: str) -> list[FieldError]:
    """What a Job and the template of one share: all but the selector."""
    faults = [fault for name in _COUNTS for fault in not_negative(f"{path}.{name}", getattr(spec, name))]
    if spec.maxFailedIndexes is not None and spec.backoffLimitPerIndex is None:
        faults.append(required(f"{path}.backoffLimitPerIndex", "when maxFailedIndexes is specified"))
    if spec.managedBy is not None:
        faults += _check_manager(spec.managedBy, f"{path}.managedBy")
    faults += choice_if_set(f"{path}.completionMode", spec.completionMode, ("NonIndexed", INDEXED))
    faults += _check_indexed(spec, path) if spec.completionMode == INDEXED else _check_not_indexed(spec, path)
    if spec.podFailurePolicy is not None:
        faults += check_failure_policy(spec, spec.podFailurePolicy, f"{path}.podFailurePolicy")
    faults += _check_replacement(spec, f"{path}.podReplacementPolicy")
    if spec.template is None:
        return [*faults, required(f"{path}.template")]
    faults += check_template(spec.template, f"{path}.template")
    return [*faults, *_check_restarts(spec, spec.template, f"{path}.template.spec.restartPolicy")]


def _check_generated(job: Job) -> list[FieldError]:
    """A selector that was made for the Job finds by the Job's uid and name, so no other Job's pods."""
    spec = job.spec
    if spec.manualSelector or spec.selector is None:
        return []
    faults = [] if job.metadata.uid else [required("metadata.uid")]
    labels = {
        "controller-uid": job.metadata.uid,
        "job-name": job.metadata.name,
        "batch.kubernetes.io/controller-uid": job.metadata.uid,
        "batch.kubernetes.io/job-name": job.metadata.name,
    }
    have = ((spec.template and spec.template.metadata) or ObjectMeta()).labels
    for key, value in labels.items():
        path = f"spec.template.metadata.labels[{key}]"
        if key not in have:
            faults.append(required(path, f"must be '{value}'"))
        elif have[key] != value:
            faults.append(invalid(path, have, f"must be '{value}'"))
    if not check_selector(spec.selector, "") and not from_label_selector(spec.selector).matches(labels):
        faults.append(invalid("spec.selector", spec.selector, "`selector` not auto-generated"))
    return faults


def _check_hostnames(job: Job) -> list[FieldError]:
    """The pods of an indexed Job are named after it and their index, in what is one label of a DNS name."""
    spec = job.spec
    if spec.completionMode != INDEXED or not spec.completions or spec.completions < 0:
        return []
    longest = f"{job.metadata.name}-{spec.completions - 1}"
    if not names.dns1123_label(longest):
        return []
    why = f"will not able to create pod with invalid DNS label: {longest}"
    return [invalid("metadata.name", job.metadata.name, why)]


def _check_manager(manager: str, path: str) -> list[FieldError]:
    """Who runs the Job in the controller's place: `example.com/controller`."""
    host, _, rest = manager.partition("/")
    if not manager:
        faults = [required(path)]
    elif not host or not rest:
        faults = [invalid(path, manager, 'must be a domain-prefixed path (such as "acme.io/foo")')]
    else:
        faults = [invalid(path, host, fault) for fault in names.dns1123_subdomain(host)]
        if _PATH.fullmatch(rest) is None:
            faults.append(invalid(path, rest, f"Invalid path (regex used for validation is '{_PATH.pattern}')"))
    return [*faults, too_long(path, _MAX_MANAGED_BY)] if len(manager) > _MAX_MANAGED_BY else faults


def _check_indexed(spec: JobSpec, path: str) -> list[FieldError]:
    faults = [required(f"{path}.completions", f"when completion mode is {INDEXED}")] if spec.completions is None else []
    parallelism, failed = spec.parallelism or 0, spec.maxFailedIndexes
    if parallelism > _MAX_INDEXED_PARALLELISM:
        why = f"must be less than or equal to {_MAX_INDEXED_PARALLELISM} when completion mode is {INDEXED}"
        faults.append(invalid(f"{path}.parallelism", parallelism, why))
    if failed is not None and spec.completions is not None and failed > spec.completions:
        faults.append(invalid(f"{path}.maxFailedIndexes", failed, "must be less than or equal to completions"))
    if failed is not None and failed > _MAX_FAILED_INDEXES:
        faults.append(
            invalid(f"{path}.maxFailedIndexes", failed, f"must be less than or equal to {_MAX_FAILED_INDEXES}")
        )
    if (spec.completions or 0) > _MANY_COMPLETIONS and spec.backoffLimitPerIndex is not None:
        faults += _check_many(spec, path)
    if spec.successPolicy is not None:
        faults += _check_success_policy(spec, f"{path}.successPolicy.rules")
    return faults


def _check_many(spec: JobSpec, path: str) -> list[FieldError]:
    faults = []
    if spec.maxFailedIndexes is None:
        why = f"must be specified when completions is above {_MANY_COMPLETIONS}"
        faults.append(required(f"{path}.maxFailedIndexes", why))
    for name in ("parallelism", "maxFailedIndexes"):
        count = getattr(spec, name)
        if count is not None and count > _MAX_WITH_MANY:
            faults.append(invalid(f"{path}.{name}", count, _MANY.format(_MAX_WITH_MANY, _MANY_COMPLETIONS)))
    return faults


def _check_not_indexed(spec: JobSpec, path: str) -> list[FieldError]:
    return [
        invalid(f"{path}.{name}", getattr(spec, name), "requires indexed completion mode")
        for name in ("backoffLimitPerIndex", "maxFailedIndexes", "successPolicy")
        if getattr(spec, name) is not None
    ]


def _check_success_policy(spec: JobSpec, path: str) -> list[FieldError]:
    rules = spec.successPolicy.rules if spec.successPolicy is not None else []
    if not rules:
        return [required(path, "at least one rules must be specified when the successPolicy is specified")]
    faults = too_many(path, len(rules), _MAX_SUCCESS_RULES)
    for index, rule in enumerate(rules):
        faults += _check_success_rule(rule, spec.completions or 0, f"{path}[{index}]")
    return faults


def _check_success_rule(rule: SuccessPolicyRule, completions: int, path: str) -> list[FieldError]:
    count, listed = rule.succeededCount, rule.succeededIndexes
    if count is None and not listed:
        return [required(path, "at least one of succeededCount or succeededIndexes must be specified")]
    faults = []
    if len(listed) > _MAX_INDEXES_TEXT:
        faults.append(too_long(f"{path}.succeededIndexes", _MAX_INDEXES_TEXT))
    total = 0
    try:
        total = indexes.size(indexes.parse(listed, completions))
    except ValueError as error:
        faults.append(invalid(f"{path}.succeededIndexes", listed, f"error parsing succeededIndexes: {error}"))
    faults += not_negative(f"{path}.succeededCount", count)
    if count is not None and count > completions:
        why = f"must be less than or equal to {completions} (the number of specified completions)"
        faults.append(invalid(f"{path}.succeededCount", count, why))
    if count is not None and listed and count > total:
        why = f"must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
        faults.append(invalid(f"{path}.succeededCount", count, why))
    return faults


def _check_replacement(spec: JobSpec, path: str) -> list[FieldError]:
    """Where failures are judged, a pod must have failed before another takes its place."""
    allowed = ("Failed",) if spec.podFailurePolicy is not None else ("Failed", "TerminatingOrFailed")
    return choice_if_set(path, spec.podReplacementPolicy, allowed)


def _check_restarts(spec: JobSpec, template: PodTemplateSpec, path: str) -> list[FieldError]:
    policy = template.spec.restartPolicy if template.spec is not None else ""
    if policy in ("", "Always"):
        return [required(path, 'valid values: "OnFailure", "Never"')]
    if policy not in ("OnFailure", "Never"):
        return [not_supported(path, policy, ["OnFailure", "Never"])]
    if spec.podFailurePolicy is not None and policy != "Never":
        return [invalid(path, policy, 'only "Never" is supported when podFailurePolicy is specified')]
    return []


def _check_completions_update(new: JobSpec, old: JobSpec) -> list[FieldError]:
    """An indexed Job may grow and shrink, all its pods at once; any other keeps its number."""
    if new.completionMode != INDEXED:
        return immutable("spec.completions", new.completions, old.completions)
    if new.completions in (None, old.completions, new.parallelism):
        return []
    return [invalid("spec.completions", new.completions, "can only be modified in tandem with spec.parallelism")]


def _reschedulable(new: Job, old: Job) -> PodTemplateSpec | None:
    """The old template, with what the new one may say otherwise: where pods go, while none has started yet."""
    before, after = old.spec.template, new.spec.template
    if before is None or after is None or not old.spec.suspend or old.status.startTime:
        return before
    allowed = copy.deepcopy(before)
    if allowed.spec is not None and after.spec is not None:
        for name in ("nodeSelector", "tolerations", "schedulingGates"):
            setattr(allowed.spec, name, getattr(after.spec, name))
        affinity = copy.copy(allowed.spec.affinity) or Affinity()
        affinity.nodeAffinity = after.spec.affinity.nodeAffinity if after.spec.affinity is not None else None
        allowed.spec.affinity = after.spec.affinity if affinity == (after.spec.affinity or Affinity()) else affinity
    if allowed.metadata is not None and after.metadata is not None:
        allowed.metadata.labels, allowed.metadata.annotations = after.metadata.labels, after.metadata.annotations
    return allowed
