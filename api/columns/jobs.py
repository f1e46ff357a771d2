"""Tables of Job and CronJob."""

from __future__ import annotations

import datetime

from barque.api import conditions, timestamps
from barque.api.columns.age import age, human_duration
from barque.api.columns.table import AGE, NAME, Cell, Table, column
from barque.api.columns.words import NONE, UNSET, containers, selector
from barque.api.columns.workloads import CONTAINERS, SELECTOR
from barque.api.types.batch_v1 import CronJob, Job, JobSpec, JobTemplateSpec


def _job(job: Job, now: datetime.datetime) -> list[Cell]:
    return [
        job.metadata.name,
        job_status(job),
        _completions(job),
        _duration(job, now),
        age(job.metadata.creationTimestamp, now),
        *containers(job.spec.template),
        selector(job.spec.selector),
    ]


def _cron_job(cron_job: CronJob, now: datetime.datetime) -> list[Cell]:
    spec, status = cron_job.spec, cron_job.status
    job = (spec.jobTemplate or JobTemplateSpec()).spec or JobSpec()
    return [
        cron_job.metadata.name,
        spec.schedule,
        NONE if spec.timeZone is None else spec.timeZone,
        UNSET if spec.suspend is None else str(spec.suspend),
        len(status.active),
        age(status.lastScheduleTime, now) if status.lastScheduleTime else NONE,
        age(cron_job.metadata.creationTimestamp, now),
        *containers(job.template),
        selector(job.selector),
    ]


def job_status(job: Job) -> str:
    """One word for how the job is: the first condition that holds, in the order of their weight."""
    final = next((type for type in ("Complete", "Failed") if conditions.is_true(job.status.conditions, type)), "")
    if final or job.metadata.deletionTimestamp:
        return final or "Terminating"
    for type in ("Suspended", "FailureTarget", "SuccessCriteriaMet"):
        if conditions.is_true(job.status.conditions, type):
            return type
    return "Running"


def _completions(job: Job) -> str:
    done, wanted, parallelism = job.status.succeeded or 0, job.spec.completions, job.spec.parallelism or 0
    if wanted is not None:
        return f"{done}/{wanted}"
    return f"{done}/1 of {parallelism}" if parallelism > 1 else f"{done}/1"


def _duration(job: Job, now: datetime.datetime) -> str:
    start = timestamps.parse(job.status.startTime)
    if start is None:
        return ""
    end = timestamps.parse(job.status.completionTime) or now
    return human_duration((end - start).total_seconds())


TABLES = {
    "Job": Table(
        (
            NAME,
            column("Status", "How the job is, in one word."),
            column("Completions", "How many pods have succeeded, of how many that should."),
            column("Duration", "How long the job took, or has taken so far."),
            AGE,
            *CONTAINERS,
            SELECTOR,
        ),
        _job,
    ),
    "CronJob": Table(
        (
            NAME,
            column("Schedule", "When jobs are made, in cron's notation."),
            column("Timezone", "The time zone of the schedule."),
            column("Suspend", "Whether no jobs are made for now.", "boolean"),
            column("Active", "How many of its jobs run.", "integer"),
            column("Last Schedule", "The time since a job was last made."),
            AGE,
            *CONTAINERS,
            SELECTOR,
        ),
        _cron_job,
    ),
}
