"""Validation of a Job's status: what its controller, whoever that is, may say."""

from __future__ import annotations

from barque.api import conditions, timestamps
from barque.api.errors import FieldError, duplicate, invalid, required
from barque.api.types.batch_v1 import Job, JobStatus
from barque.api.validation import indexes
from barque.api.validation.checks import not_negative
from barque.api.validation.jobs import INDEXED

_COUNTS = ("active", "succeeded", "failed", "ready", "terminating")
# What has come to an end stays so.
_FINAL = ("Failed", "Complete", "FailureTarget", "SuccessCriteriaMet")
_EXCLUSIVE = (
    ("Complete", "Failed", "cannot set Complete=True and Failed=true conditions"),
    ("Complete", "FailureTarget", "cannot set Complete=True and FailureTarget=true conditions"),
    ("SuccessCriteriaMet", "Failed", "cannot set SuccessCriteriaMet=True and Failed=true conditions"),
    ("SuccessCriteriaMet", "FailureTarget", "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions"),
)
_PRECEDED = (
    ("Failed", "FailureTarget", "cannot set Failed=True condition without the FailureTarget=true condition"),
    (
        "Complete",
        "SuccessCriteriaMet",
        "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
    ),
)


def check_status(new: Job, old: Job) -> list[FieldError]:
    status = new.status
    faults = [fault for name in _COUNTS for fault in not_negative(f"status.{name}", getattr(status, name))]
    faults += _check_uncounted(status)
    faults += _check_conditions(status)
    faults += _check_times(new)
    faults += _check_indexes(new)
    if (status.ready or 0) > (status.active or 0):
        faults.append(invalid("status.ready", status.ready, "cannot set more ready pods than active"))
    return [*faults, *_check_progress(new, old)]


def _is(status: JobStatus, type: str) -> bool:
    return conditions.is_true(status.conditions, type)


def _is_finished(status: JobStatus) -> bool:
    return _is(status, "Complete") or _is(status, "Failed")


def _check_uncounted(status: JobStatus) -> list[FieldError]:
    """Pods that have ended and are not in the counts yet; each once."""
    uncounted = status.uncountedTerminatedPods
    if uncounted is None:
        return []
    faults = []
    seen: set[str] = set()
    for name, uids in (("succeeded", uncounted.succeeded), ("failed", uncounted.failed)):
        for index, uid in enumerate(uids):
            path = f"status.uncountedTerminatedPods.{name}[{index}]"
            if not uid:
                faults.append(invalid(path, uid, "must not be empty"))
            elif uid in seen:
                faults.append(duplicate(path, uid))
            seen.add(uid)
    if seen and _is_finished(status):
        faults.append(invalid("status.uncountedTerminatedPods", uncounted, "must be empty for finished job"))
    return faults


def _check_conditions(status: JobStatus) -> list[FieldError]:
    faults = [_about_conditions(why) for a, b, why in _EXCLUSIVE if _is(status, a) and _is(status, b)]
    faults += [_about_conditions(why) for a, b, why in _PRECEDED if _is(status, a) and not _is(status, b)]
    if _is_finished(status):
        for name in ("active", "terminating"):
            if count := getattr(status, name):
                faults.append(invalid(f"status.{name}", count, f"{name}>0 is invalid for finished job"))
    return faults


def _check_times(job: Job) -> list[FieldError]:
    status, faults = job.status, []
    complete, path = _is(status, "Complete"), "status.completionTime"
    if status.completionTime and not complete:
        why = "cannot set completionTime when there is no Complete=True condition"
        faults.append(invalid(path, status.completionTime, why))
    if complete and not status.completionTime:
        faults.append(required(path, "completionTime is required for Complete jobs"))
    start, end = timestamps.parse(status.startTime), timestamps.parse(status.completionTime)
    if start is not None and end is not None and end < start:
        faults.append(invalid(path, status.completionTime, "must be equal to or after `startTime`"))
    if _is_finished(status) and not status.startTime:
        faults.append(required("status.startTime", "startTime is required for finished job"))
    return faults


def _check_indexes(job: Job) -> list[FieldError]:
    spec, status = job.spec, job.status
    faults = []
    if status.completedIndexes and spec.completionMode != INDEXED:
        why = "cannot set non-empty completedIndexes when non-indexed completion mode"
        faults.append(invalid("status.completedIndexes", status.completedIndexes, why))
    if status.failedIndexes and spec.backoffLimitPerIndex is None:
        why = "cannot set non-null failedIndexes when backoffLimitPerIndex is null"
        faults.append(invalid("status.failedIndexes", status.failedIndexes, why))
    if spec.completions is None:
        return faults
    read: dict[str, indexes.Intervals] = {}
    for name in ("completedIndexes", "failedIndexes"):
        text = getattr(status, name)
        try:
            read[name] = indexes.parse(text, spec.completions)
        except ValueError as error:
            faults.append(invalid(f"status.{name}", text, f"error parsing {name}: {error}"))
    shared = indexes.first_overlap(read["completedIndexes"], read["failedIndexes"]) if len(read) == 2 else None
    if shared is not None:
        why = f"failedIndexes and completedIndexes overlap at index: {shared}"
        faults.append(invalid("status.failedIndexes", status.failedIndexes, why))
    return faults


def _check_progress(new: Job, old: Job) -> list[FieldError]:
    """A Job's story is only carried on."""
    after, before = new.status, old.status
    faults = [
        _about_conditions(f"cannot disable the terminal {type}=True condition")
        for type in _FINAL
        if _is(before, type) and not _is(after, type)
    ]
    for name in ("failed", "succeeded"):
        if (getattr(after, name) or 0) < (getattr(before, name) or 0):
            path = f"status.{name}"
            faults.append(invalid(path, getattr(after, name) or 0, f"cannot decrease the {name} counter"))
    if after.completionTime and before.completionTime and after.completionTime != before.completionTime:
        faults.append(invalid("status.completionTime", after.completionTime, "field is immutable"))
    if before.startTime and after.startTime != before.startTime and not new.spec.suspend:
        faults.append(required("status.startTime", "startTime cannot be removed for unsuspended job"))
    return faults


def _about_conditions(why: str) -> FieldError:
    return FieldError("status.conditions", "FieldValueInvalid", f"Invalid value: {why}")
