"""Validation of Job and CronJob: completions, failures, schedules, and what a controller may say of them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque.api import codec
from barque.api.defaults import apply_defaults
from barque.api.defaults.jobs import select_own_pods
from barque.api.types.batch_v1 import CronJob, Job, JobCondition, JobStatus, UncountedTerminatedPods
from barque.api.validation import indexes, validate, validate_status_update, validate_update

TEMPLATE: dict[str, Any] = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "job:1"}]}}


def a_job(name: str = "job", **spec: Any) -> Job:
    """A defaulted Job with the selector it is given at creation; `spec` adds to it."""
    meta = {"name": name, "namespace": "default", "uid": "u"}
    job = codec.from_document(Job, {"metadata": meta, "spec": {"template": copy.deepcopy(TEMPLATE)} | spec})
    apply_defaults(job)
    select_own_pods(job)
    return job


def a_cron_job(name: str = "cron", **spec: Any) -> CronJob:
    whole = {"schedule": "*/5 * * * *", "jobTemplate": {"spec": {"template": copy.deepcopy(TEMPLATE)}}} | spec
    cron_job = codec.from_document(CronJob, {"metadata": {"name": name, "namespace": "default"}, "spec": whole})
    apply_defaults(cron_job)
    return cron_job


def faults(obj: Any) -> list[str]:
    return [str(fault) for fault in validate(obj)]


def update_faults(new: Any, old: Any) -> list[str]:
    return [str(fault) for fault in validate_update(new, old)]


def status_faults(new: Any, old: Any) -> list[str]:
    return [str(fault) for fault in validate_status_update(new, old)]


def test_what_is_right_passes_and_may_be_written_again() -> None:
    indexed = {"completionMode": "Indexed", "completions": 5, "backoffLimitPerIndex": 1, "maxFailedIndexes": 3}
    for job in (a_job(), a_job(completions=5, parallelism=2), a_job(**indexed)):
        assert faults(job) == []
        assert update_faults(job, job) == []
        assert status_faults(job, job) == []
    assert faults(a_cron_job()) == []
    assert update_faults(a_cron_job(), a_cron_job()) == []


# --- selectors


def test_a_made_selector_finds_the_jobs_own_pods_alone() -> None:
    job = a_job()
    assert job.spec.selector is not None
    assert job.spec.selector.matchLabels == {"batch.kubernetes.io/controller-uid": "u"}
    assert job.spec.template is not None
    assert job.spec.template.metadata is not None
    job.spec.template.metadata.labels["job-name"] = "other"
    assert faults(job)[0].endswith(": must be 'job'")
    del job.spec.template.metadata.labels["job-name"]
    assert "spec.template.metadata.labels[job-name]: Required value: must be 'job'" in faults(job)
    other = a_job()
    assert other.spec.selector is not None
    other.spec.selector.matchLabels["batch.kubernetes.io/controller-uid"] = "v"
    assert "`selector` not auto-generated" in faults(other)[0]


def test_a_selector_made_by_hand_is_left_alone() -> None:
    template = {**copy.deepcopy(TEMPLATE), "metadata": {"labels": {"a": "b"}}}
    job = a_job(manualSelector=True, selector={"matchLabels": {"a": "b"}}, template=template)
    assert faults(job) == []
    assert faults(a_job(manualSelector=True)) == ["spec.selector: Required value"]


# --- completions


@pytest.mark.parametrize(
    ("spec", "complaints"),
    [
        ({"parallelism": -1}, ["spec.parallelism: Invalid value: -1: must be greater than or equal to 0"]),
        ({"backoffLimit": -1}, ["spec.backoffLimit: Invalid value: -1: must be greater than or equal to 0"]),
        (
            {"completionMode": "Odd"},
            ['spec.completionMode: Unsupported value: "Odd": supported values: "NonIndexed", "Indexed"'],
        ),
        ({"completionMode": "Indexed"}, []),
        (
            {"completionMode": "Indexed", "parallelism": 1},
            ["spec.completions: Required value: when completion mode is Indexed"],
        ),
        (
            {"completionMode": "Indexed", "completions": 2, "parallelism": 100_001},
            [
                "spec.parallelism: Invalid value: 100001: must be less than or equal to 100000 "
                "when completion mode is Indexed"
            ],
        ),
        (
            {"completionMode": "Indexed", "completions": 100_001, "backoffLimitPerIndex": 1, "parallelism": 10_001},
            [
                "spec.maxFailedIndexes: Required value: must be specified when completions is above 100000",
                "spec.parallelism: Invalid value: 10001: must be less than or equal to 10000 "
                "when completions are above 100000 and used with backoff limit per index",
            ],
        ),
        (
            {"backoffLimitPerIndex": 1},
            ["spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode"],
        ),
        (
            {"completionMode": "Indexed", "completions": 2, "maxFailedIndexes": 3},
            [
                "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified",
                "spec.maxFailedIndexes: Invalid value: 3: must be less than or equal to completions",
            ],
        ),
        (
            {"managedBy": "me"},
            ['spec.managedBy: Invalid value: "me": must be a domain-prefixed path (such as "acme.io/foo")'],
        ),
        ({"managedBy": "example.com/controller"}, []),
    ],
)
def test_how_often_a_job_runs(spec: dict[str, Any], complaints: list[str]) -> None:
    assert faults(a_job(**spec)) == complaints


def test_an_indexed_jobs_pods_must_have_hostnames() -> None:
    job = a_job("j" * 62, completionMode="Indexed", completions=10)
    assert faults(job) == [
        f'metadata.name: Invalid value: "{"j" * 62}": will not able to create pod with invalid DNS label: {"j" * 62}-9'
    ]
    assert faults(a_job("j" * 61, completionMode="Indexed", completions=10)) == []


@pytest.mark.parametrize("policy", ["Always", ""])
def test_a_jobs_pods_must_be_able_to_end(policy: str) -> None:
    template = copy.deepcopy(TEMPLATE)
    template["spec"]["restartPolicy"] = policy
    assert faults(a_job(template=template)) == [
        'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"'
    ]


# --- failures


def rule(**rule: Any) -> dict[str, Any]:
    return {"podFailurePolicy": {"rules": [rule]}}


AT = "spec.podFailurePolicy.rules[0]"


@pytest.mark.parametrize(
    ("spec", "complaints"),
    [
        (rule(action="Ignore", onPodConditions=[{"type": "DisruptionTarget"}]), []),
        (rule(action="FailJob", onExitCodes={"operator": "In", "values": [1, 2]}), []),
        (
            rule(action="Odd", onExitCodes={"operator": "In", "values": [1]}),
            [f'{AT}.action: Unsupported value: "Odd": supported values: "Count", "FailIndex", "FailJob", "Ignore"'],
        ),
        (
            rule(action="FailIndex", onExitCodes={"operator": "In", "values": [1]}),
            [f'{AT}.action: Invalid value: "FailIndex": requires the backoffLimitPerIndex to be set'],
        ),
        (
            rule(action="Count"),
            [f"{AT}: Invalid value: specifying one of OnExitCodes and OnPodConditions is required"],
        ),
        (
            rule(action="Count", onExitCodes={"operator": "In", "values": [2, 0, 2], "containerName": "other"}),
            [
                f'{AT}.onExitCodes.containerName: Invalid value: "other": '
                "must be one of the container or initContainer names in the pod template",
                f"{AT}.onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator",
                f"{AT}.onExitCodes.values[2]: Duplicate value: 2",
                f"{AT}.onExitCodes.values: Invalid value: [2,0,2]: must be ordered",
            ],
        ),
        (
            rule(onExitCodes={"values": []}),
            [
                f'{AT}.action: Required value: valid values: ["Count" "FailIndex" "FailJob" "Ignore"]',
                f'{AT}.onExitCodes.operator: Required value: valid values: ["In" "NotIn"]',
                f"{AT}.onExitCodes.values: Invalid value: []: at least one value is required",
            ],
        ),
    ],
)
def test_which_failures_count(spec: dict[str, Any], complaints: list[str]) -> None:
    assert faults(a_job(**spec)) == complaints


def test_failures_are_judged_only_of_pods_that_do_not_restart() -> None:
    template = copy.deepcopy(TEMPLATE)
    template["spec"]["restartPolicy"] = "OnFailure"
    policy = rule(action="Ignore", onPodConditions=[{"type": "DisruptionTarget"}])
    assert faults(a_job(template=template, **policy)) == [
        'spec.template.spec.restartPolicy: Invalid value: "OnFailure": '
        'only "Never" is supported when podFailurePolicy is specified'
    ]
    assert faults(a_job(podReplacementPolicy="TerminatingOrFailed", **policy)) == [
        'spec.podReplacementPolicy: Unsupported value: "TerminatingOrFailed": supported values: "Failed"'
    ]


@pytest.mark.parametrize(
    ("success_rule", "complaint"),
    [
        ({}, ": Required value: at least one of succeededCount or succeededIndexes must be specified"),
        (
            {"succeededCount": 6},
            ".succeededCount: Invalid value: 6: must be less than or equal to 5 (the number of specified completions)",
        ),
        (
            {"succeededIndexes": "0,7"},
            '.succeededIndexes: Invalid value: "0,7": error parsing succeededIndexes: too large index: "7"',
        ),
        (
            {"succeededIndexes": "0,2-3", "succeededCount": 4},
            ".succeededCount: Invalid value: 4: must be less than or equal to 3 "
            "(the number of indexes in the specified succeededIndexes field)",
        ),
    ],
)
def test_when_a_job_has_succeeded(success_rule: dict[str, Any], complaint: str) -> None:
    job = a_job(completionMode="Indexed", completions=5, successPolicy={"rules": [success_rule]})
    assert faults(job) == [f"spec.successPolicy.rules[0]{complaint}"]


# --- updates


def test_what_a_job_does_stays() -> None:
    old = a_job(completions=3)
    assert update_faults(a_job(completions=3, parallelism=5, suspend=True, activeDeadlineSeconds=9), old) == []
    assert update_faults(a_job(completions=4), old) == ["spec.completions: Invalid value: 4: field is immutable"]
    template = copy.deepcopy(TEMPLATE)
    template["spec"]["containers"][0]["image"] = "job:2"
    assert update_faults(a_job(completions=3, template=template), old)[0].startswith("spec.template: Invalid value: {")
    assert update_faults(a_job(completions=3, completionMode="Indexed"), old) == [
        'spec.completionMode: Invalid value: "Indexed": field is immutable'
    ]


def test_an_indexed_job_grows_with_all_its_pods() -> None:
    old = a_job(completionMode="Indexed", completions=3, parallelism=3)
    assert update_faults(a_job(completionMode="Indexed", completions=5, parallelism=5), old) == []
    assert update_faults(a_job(completionMode="Indexed", completions=5, parallelism=3), old) == [
        "spec.completions: Invalid value: 5: can only be modified in tandem with spec.parallelism"
    ]


def test_where_pods_go_may_change_until_they_start() -> None:
    template = copy.deepcopy(TEMPLATE)
    template["spec"]["nodeSelector"] = {"disk": "fast"}
    new, old = a_job(template=template, suspend=True), a_job(suspend=True)
    assert update_faults(new, old) == []
    old.status.startTime = "2026-01-01T00:00:00Z"
    assert [fault.split(":")[0] for fault in update_faults(new, old)] == ["spec.template"]


def affine(weight: int) -> dict[str, Any]:
    """A template whose affinity has a part for nodes, which `weight` tells apart, and one for pods."""
    term = {"labelSelector": {"matchLabels": {"a": "b"}}, "topologyKey": "zone"}
    preference = {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}
    nodes = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": weight, "preference": preference}]}
    template = copy.deepcopy(TEMPLATE)
    template["spec"]["affinity"] = {
        "nodeAffinity": nodes,
        "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]},
    }
    return template


def test_of_the_affinity_only_the_part_for_nodes_may_change() -> None:
    def template_faults(new: dict[str, Any], old: dict[str, Any]) -> list[str]:
        found = update_faults(a_job(template=new, suspend=True), a_job(template=old, suspend=True))
        return [fault for fault in found if "immutable" in fault]

    assert template_faults(affine(2), affine(1)) == []
    without_pods = affine(2)
    del without_pods["spec"]["affinity"]["podAffinity"]
    assert len(template_faults(without_pods, affine(1))) == 1
    assert len(template_faults(TEMPLATE, affine(1))) == 1
    assert template_faults(TEMPLATE, without_pods) == []
    assert template_faults(without_pods, TEMPLATE) == []


# --- status


def with_status(status: JobStatus, **spec: Any) -> Job:
    job = a_job(**spec)
    job.status = status
    return job


def conditions(*types: str) -> list[JobCondition]:
    return [JobCondition(type=type, status="True") for type in types]


COMPLETE = JobStatus(
    succeeded=1,
    startTime="2026-01-01T00:00:00Z",
    completionTime="2026-01-01T00:01:00Z",
    conditions=conditions("SuccessCriteriaMet", "Complete"),
)


def test_a_jobs_story_is_told_in_order() -> None:
    assert status_faults(with_status(copy.deepcopy(COMPLETE)), a_job()) == []
    hasty = with_status(JobStatus(conditions=conditions("Complete"), active=1))
    assert status_faults(hasty, a_job()) == [
        "status.conditions: Invalid value: cannot set Complete=True condition "
        "without the SuccessCriteriaMet=true condition",
        "status.active: Invalid value: 1: active>0 is invalid for finished job",
        "status.completionTime: Required value: completionTime is required for Complete jobs",
        "status.startTime: Required value: startTime is required for finished job",
    ]
    torn = with_status(copy.deepcopy(COMPLETE))
    torn.status.conditions += conditions("FailureTarget", "Failed")
    assert "status.conditions: Invalid value: cannot set Complete=True and Failed=true conditions" in (
        status_faults(torn, a_job())
    )
    back = with_status(JobStatus(startTime="2026-01-01T00:00:30Z"))
    assert status_faults(back, with_status(copy.deepcopy(COMPLETE))) == [
        "status.conditions: Invalid value: cannot disable the terminal Complete=True condition",
        "status.conditions: Invalid value: cannot disable the terminal SuccessCriteriaMet=True condition",
        "status.succeeded: Invalid value: 0: cannot decrease the succeeded counter",
        "status.startTime: Required value: startTime cannot be removed for unsuspended job",
    ]
    early = with_status(copy.deepcopy(COMPLETE))
    early.status.completionTime = "2025-12-31T00:00:00Z"
    assert status_faults(early, a_job()) == [
        'status.completionTime: Invalid value: "2025-12-31T00:00:00Z": must be equal to or after `startTime`'
    ]


def test_pods_not_yet_counted_are_each_named_once() -> None:
    uncounted = UncountedTerminatedPods(succeeded=["a", ""], failed=["a"])
    job = with_status(JobStatus(uncountedTerminatedPods=uncounted, ready=1))
    assert status_faults(job, a_job()) == [
        'status.uncountedTerminatedPods.succeeded[1]: Invalid value: "": must not be empty',
        'status.uncountedTerminatedPods.failed[0]: Duplicate value: "a"',
        "status.ready: Invalid value: 1: cannot set more ready pods than active",
    ]


def test_indexes_belong_to_indexed_jobs() -> None:
    plain = with_status(JobStatus(completedIndexes="0", failedIndexes="1"), completions=5)
    assert [fault.split(":")[0] for fault in status_faults(plain, plain)] == [
        "status.completedIndexes",
        "status.failedIndexes",
    ]
    spec = {"completionMode": "Indexed", "completions": 5, "backoffLimitPerIndex": 1}
    assert status_faults(with_status(JobStatus(completedIndexes="0-2", failedIndexes="2,4"), **spec), a_job()) == [
        'status.failedIndexes: Invalid value: "2,4": failedIndexes and completedIndexes overlap at index: 2'
    ]
    assert status_faults(with_status(JobStatus(completedIndexes="3-1"), **spec), a_job()) == [
        'status.completedIndexes: Invalid value: "3-1": '
        "error parsing completedIndexes: non-increasing order, previous: 3, current: 1"
    ]


@given(st.sets(st.integers(0, 60)), st.sets(st.integers(0, 60)))
def test_sets_of_indexes_are_read_as_they_are_written(a: set[int], b: set[int]) -> None:
    def written(numbers: set[int]) -> str:
        parts: list[str] = []
        for number in sorted(numbers):
            if number - 1 in numbers:
                parts[-1] = f"{parts[-1].partition('-')[0]}-{number}"
            else:
                parts.append(str(number))
        return ",".join(parts)

    first, second = indexes.parse(written(a), 61), indexes.parse(written(b), 61)
    assert {n for low, high in first for n in range(low, high + 1)} == a
    assert indexes.size(first) == len(a)
    assert indexes.first_overlap(first, second) == min(a & b, default=None)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("1-2-3", "at most two parts separated by '-'"),
        ("x", 'cannot convert string to integer for index: "x"'),
        ("9", 'too large index: "9"'),
        ("2,1", "non-increasing order, previous: 2, current: 1"),
        ("1,", 'cannot convert string to integer for index: ""'),
    ],
)
def test_what_is_no_set_of_indexes_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        indexes.parse(text, 5)


# --- cron jobs


@pytest.mark.parametrize(
    ("spec", "complaints"),
    [
        ({"schedule": ""}, ["spec.schedule: Required value"]),
        (
            {"schedule": "* * *"},
            ['spec.schedule: Invalid value: "* * *": expected exactly 5 fields, found 3: [* * *]'],
        ),
        (
            {"schedule": "TZ=UTC * * * * *"},
            [
                'spec.schedule: Invalid value: "TZ=UTC * * * * *": '
                "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
            ],
        ),
        ({"timeZone": "Europe/Berlin"}, []),
        ({"timeZone": "UTC"}, []),
        ({"timeZone": ""}, ['spec.timeZone: Invalid value: "": timeZone must be nil or non-empty string']),
        (
            {"timeZone": "Mars/Olympus"},
            ['spec.timeZone: Invalid value: "Mars/Olympus": unknown time zone Mars/Olympus'],
        ),
        ({"timeZone": "../UTC"}, ['spec.timeZone: Invalid value: "../UTC": unknown time zone ../UTC']),
        ({"timeZone": "Europe"}, ['spec.timeZone: Invalid value: "Europe": unknown time zone Europe']),
        (
            {"timeZone": "Local"},
            [
                'spec.timeZone: Invalid value: "Local": '
                "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
            ],
        ),
        (
            {"concurrencyPolicy": "Odd"},
            ['spec.concurrencyPolicy: Unsupported value: "Odd": supported values: "Allow", "Forbid", "Replace"'],
        ),
        (
            {"startingDeadlineSeconds": -1},
            ["spec.startingDeadlineSeconds: Invalid value: -1: must be greater than or equal to 0"],
        ),
    ],
)
def test_cron_jobs(spec: dict[str, Any], complaints: list[str]) -> None:
    assert faults(a_cron_job(**spec)) == complaints


def test_the_jobs_of_a_cron_job_are_checked_in_its_template() -> None:
    job = {"template": TEMPLATE, "selector": {}, "manualSelector": True, "completions": -1}
    assert faults(a_cron_job(jobTemplate={"spec": job})) == [
        "spec.jobTemplate.spec.completions: Invalid value: -1: must be greater than or equal to 0",
        "spec.jobTemplate.spec.selector: Invalid value: {}: `selector` will be auto-generated",
        'spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: "nil", "false"',
    ]


def test_a_cron_jobs_name_leaves_room_for_its_jobs() -> None:
    long = a_cron_job("c" * 53)
    assert faults(long) == [f'metadata.name: Invalid value: "{"c" * 53}": must be no more than 52 characters']
    assert update_faults(long, long) == []
