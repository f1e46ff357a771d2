"""Validation of CronJob: a schedule, its time zone, and the template of Jobs."""

from __future__ import annotations

import re

from barque.api import cron
from barque.api.errors import FieldError, invalid, not_supported, required
from barque.api.types.batch_v1 import CronJob, CronJobSpec, JobTemplateSpec
from barque.api.validation.checks import not_negative
from barque.api.validation.choices import choice
from barque.api.validation.jobs import check_job_spec

# A Job is named after its CronJob and the minute it is for, which takes eleven of the 63 characters.
_MAX_NAME = 52
_ZONE_PART = re.compile(r"[A-Za-z._0-9+-]{1,14}", re.ASCII)
_POLICIES = ("Allow", "Forbid", "Replace")


def check(cron_job: CronJob) -> list[FieldError]:
    spec = cron_job.spec
    faults = _check_schedule(spec, "spec.schedule")
    faults += not_negative("spec.startingDeadlineSeconds", spec.startingDeadlineSeconds)
    if spec.timeZone is not None:
        faults += _check_zone(spec.timeZone, "spec.timeZone")
    faults += choice("spec.concurrencyPolicy", spec.concurrencyPolicy, _POLICIES)
    faults += _check_job_template(spec.jobTemplate, "spec.jobTemplate")
    faults += not_negative("spec.successfulJobsHistoryLimit", spec.successfulJobsHistoryLimit)
    return [*faults, *not_negative("spec.failedJobsHistoryLimit", spec.failedJobsHistoryLimit)]


def check_create(cron_job: CronJob) -> list[FieldError]:
    name = cron_job.metadata.name
    if len(name) <= _MAX_NAME:
        return []
    return [invalid("metadata.name", name, f"must be no more than {_MAX_NAME} characters")]


def _check_schedule(spec: CronJobSpec, path: str) -> list[FieldError]:
    if not spec.schedule:
        return [required(path)]
    faults = []
    try:
        cron.parse(spec.schedule)
    except ValueError as error:
        faults.append(invalid(path, spec.schedule, str(error)))
    if "TZ" in spec.schedule:
        why = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        faults.append(invalid(path, spec.schedule, why))
    return faults


def _check_zone(name: str, path: str) -> list[FieldError]:
    if not name:
        return [invalid(path, name, "timeZone must be nil or non-empty string")]
    parts = name.split("/")
    if any(part in (".", "..") or part.startswith("-") or not _ZONE_PART.fullmatch(part) for part in parts):
        return [invalid(path, name, f"unknown time zone {name}")]
    if name.lower() == "local":
        why = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
        return [invalid(path, name, why)]
    return [] if _is_zone(name) else [invalid(path, name, f"unknown time zone {name}")]


def _is_zone(name: str) -> bool:
    """Whether the machine's time zone data has it."""
    # With it comes what Python knows of its own making, nearly a MiB, and few CronJobs name a zone.
    import zoneinfo

    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return name == "UTC"
    return True


def _check_job_template(template: JobTemplateSpec | None, path: str) -> list[FieldError]:
    if template is None or template.spec is None:
        return [required(path)]
    spec = template.spec
    faults = check_job_spec(spec, f"{path}.spec")
    if spec.selector is not None:
        faults.append(invalid(f"{path}.spec.selector", spec.selector, "`selector` will be auto-generated"))
    if spec.manualSelector:
        faults.append(not_supported(f"{path}.spec.manualSelector", True, ["nil", "false"]))
    return faults
