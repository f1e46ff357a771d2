"""Defaults of Job and CronJob, and the selector that a Job is given to find its own pods by."""

from __future__ import annotations

from barque.api.defaults.pods import default_template
from barque.api.types.batch_v1 import CronJob, Job, JobSpec, JobTemplateSpec
from barque.api.types.core_v1 import PodTemplateSpec
from barque.api.types.meta_v1 import LabelSelector, ObjectMeta

_RETRIES = 6
_INT32_MAX = 2**31 - 1
_KEPT_SUCCESSFUL, _KEPT_FAILED = 3, 1
_CONTROLLER_UID = "batch.kubernetes.io/controller-uid"
_JOB_NAME = "batch.kubernetes.io/job-name"


def default_job(job: Job) -> None:
    spec = job.spec
    _default_template(spec)
    if spec.completions is None and spec.parallelism is None:
        spec.completions = 1
    if spec.parallelism is None:
        spec.parallelism = 1
    if spec.backoffLimit is None:
        # Retries that are counted index by index are not counted over all besides.
        spec.backoffLimit = _RETRIES if spec.backoffLimitPerIndex is None else _INT32_MAX
    if not job.metadata.labels and spec.template is not None and spec.template.metadata is not None:
        job.metadata.labels = dict(spec.template.metadata.labels)
    spec.completionMode = spec.completionMode or "NonIndexed"
    spec.suspend = bool(spec.suspend)
    spec.manualSelector = bool(spec.manualSelector)
    if not spec.podReplacementPolicy:
        spec.podReplacementPolicy = "TerminatingOrFailed" if spec.podFailurePolicy is None else "Failed"


def default_cron_job(cron_job: CronJob) -> None:
    spec = cron_job.spec
    spec.concurrencyPolicy = spec.concurrencyPolicy or "Allow"
    spec.suspend = bool(spec.suspend)
    if spec.successfulJobsHistoryLimit is None:
        spec.successfulJobsHistoryLimit = _KEPT_SUCCESSFUL
    if spec.failedJobsHistoryLimit is None:
        spec.failedJobsHistoryLimit = _KEPT_FAILED
    spec.jobTemplate = spec.jobTemplate or JobTemplateSpec()
    spec.jobTemplate.metadata = spec.jobTemplate.metadata or ObjectMeta()
    spec.jobTemplate.spec = spec.jobTemplate.spec or JobSpec()
    # The rest of a Job's defaults come with the Job itself.
    _default_template(spec.jobTemplate.spec)


def select_own_pods(job: Job) -> None:
    """Label the template with the Job's uid and name, and select by the uid, unless the user selects by hand.

    Needs the uid. What the user has set stays, for validation to judge.
    """
    if job.spec.manualSelector:
        return
    template = job.spec.template = job.spec.template or PodTemplateSpec()
    template.metadata = template.metadata or ObjectMeta()
    uid, name = job.metadata.uid, job.metadata.name
    # The names without a prefix are the older ones, and still what people look for.
    labels = {_CONTROLLER_UID: uid, "controller-uid": uid, _JOB_NAME: name, "job-name": name}
    for key, value in labels.items():
        template.metadata.labels.setdefault(key, value)
    job.spec.selector = job.spec.selector or LabelSelector()
    job.spec.selector.matchLabels.setdefault(_CONTROLLER_UID, uid)


def _default_template(spec: JobSpec) -> None:
    spec.template = default_template(spec.template)
    for rule in spec.podFailurePolicy.rules if spec.podFailurePolicy is not None else ():
        for pattern in rule.onPodConditions:
            pattern.status = pattern.status or "True"
