"""Validation of workloads: what their templates and strategies may be, and what of them never changes."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from barque.api import codec
from barque.api.defaults import apply_defaults
from barque.api.types import apps_v1, core_v1
from barque.api.types.base import Object
from barque.api.validation import validate, validate_status_update, validate_update

LABELS = {"app": "web"}
TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": LABELS},
    "spec": {"containers": [{"name": "main", "image": "web:1"}]},
}


def made(kind: type[Object], **spec: Any) -> Any:
    """A defaulted object of this kind that selects `app: web`; `spec` adds to it, None takes away."""
    selector: Any = LABELS if kind is core_v1.ReplicationController else {"matchLabels": LABELS}
    whole = {"selector": selector, "template": copy.deepcopy(TEMPLATE)} | spec
    meta = {"name": "web", "namespace": "default", "uid": "u"}
    obj = codec.from_document(kind, {"metadata": meta, "spec": {k: v for k, v in whole.items() if v is not None}})
    apply_defaults(obj)
    return obj


def faults(obj: Any) -> list[str]:
    return [str(fault) for fault in validate(obj)]


def update_faults(new: Any, old: Any) -> list[str]:
    return [str(fault) for fault in validate_update(new, old)]


def status_faults(new: Any, old: Any) -> list[str]:
    return [str(fault) for fault in validate_status_update(new, old)]


LASTING = (
    core_v1.ReplicationController,
    apps_v1.ReplicaSet,
    apps_v1.Deployment,
    apps_v1.DaemonSet,
    apps_v1.StatefulSet,
)
SELECTING = LASTING[1:]


@pytest.mark.parametrize("kind", LASTING, ids=lambda kind: kind.__name__)
class TestEveryLastingWorkload:
    def test_passes_and_may_be_written_again(self, kind: type[Object]) -> None:
        assert faults(made(kind)) == []
        assert update_faults(made(kind), made(kind)) == []
        assert status_faults(made(kind), made(kind)) == []

    def test_restarts_its_pods_always_and_without_a_deadline(self, kind: type[Object]) -> None:
        template = copy.deepcopy(TEMPLATE)
        template["spec"] |= {"restartPolicy": "Never", "activeDeadlineSeconds": 5}
        assert faults(made(kind, template=template))[:2] == [
            'spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"',
            "spec.template.spec.activeDeadlineSeconds: Forbidden: "
            f"activeDeadlineSeconds in {kind.__name__} is not Supported",
        ]

    def test_finds_its_own_pods(self, kind: type[Object]) -> None:
        template = {**TEMPLATE, "metadata": {"labels": {"app": "other"}}}
        assert faults(made(kind, template=template)) == [
            'spec.template.metadata.labels: Invalid value: {"app":"other"}: `selector` does not match template `labels`'
        ]

    def test_has_a_template_with_containers(self, kind: type[Object]) -> None:
        assert "spec.template.spec.containers: Required value" in faults(made(kind, template=None))

    def test_counts_from_nought(self, kind: type[Object]) -> None:
        assert faults(made(kind, minReadySeconds=-1)) == [
            "spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0"
        ]


@pytest.mark.parametrize("kind", SELECTING, ids=lambda kind: kind.__name__)
class TestEverySelectingWorkload:
    def test_must_say_what_it_selects(self, kind: type[Object]) -> None:
        named = "deployment" if kind is apps_v1.ReplicaSet else kind.__name__.lower()
        assert faults(made(kind, selector=None)) == ["spec.selector: Required value"]
        assert faults(made(kind, selector={})) == [
            f"spec.selector: Invalid value: {{}}: empty selector is invalid for {named}"
        ]
        odd = {"matchExpressions": [{"key": "app", "operator": "Near"}]}
        assert faults(made(kind, selector=odd)) == [
            'spec.selector.matchExpressions[0].operator: Invalid value: "Near": not a valid selector operator'
        ]

    def test_selects_the_same_for_ever(self, kind: type[Object]) -> None:
        other = {"matchExpressions": [{"key": "app", "operator": "Exists"}]}
        found = update_faults(made(kind, selector=other), made(kind))
        assert len(found) == 1
        assert found[0].startswith("spec.selector: Invalid" if kind is not apps_v1.StatefulSet else "spec: Forbidden")


def test_a_replication_controller_selects_by_its_templates_labels() -> None:
    controller = made(core_v1.ReplicationController, selector=None)
    assert controller.spec.selector == controller.metadata.labels == LABELS
    controller.spec.selector = {}
    assert faults(controller) == ["spec.selector: Required value"]


def test_a_templates_metadata_is_checked_where_it_stands() -> None:
    template = copy.deepcopy(TEMPLATE)
    template["metadata"] = {"labels": LABELS | {"a b": "x"}, "annotations": {"/x": ""}}
    assert [fault.split(":")[0] for fault in faults(made(apps_v1.Deployment, template=template))] == [
        "spec.template.metadata.labels",
        "spec.template.metadata.annotations",
    ]


def test_a_pod_template_is_checked_like_any_other() -> None:
    good = codec.from_document(
        core_v1.PodTemplate, {"metadata": {"name": "t", "namespace": "default"}, "template": TEMPLATE}
    )
    apply_defaults(good)
    assert faults(good) == []
    good.template = None
    assert "template.spec.containers: Required value" in faults(good)


@pytest.mark.parametrize(
    ("rolling", "complaint"),
    [
        ({"maxSurge": 0, "maxUnavailable": 0}, "maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"),
        ({"maxSurge": "0%", "maxUnavailable": "0%"}, 'maxUnavailable: Invalid value: "0%": may not be 0 when'),
        ({"maxUnavailable": "101%"}, 'maxUnavailable: Invalid value: "101%": must not be greater than 100%'),
        ({"maxUnavailable": -1}, "maxUnavailable: Invalid value: -1: must be greater than or equal to 0"),
        ({"maxSurge": "some"}, 'maxSurge: Invalid value: "some": a valid percent string must be a numeric string'),
    ],
)
def test_how_a_deployment_rolls(rolling: dict[str, Any], complaint: str) -> None:
    found = faults(made(apps_v1.Deployment, strategy={"rollingUpdate": rolling}))
    assert [fault.startswith(f"spec.strategy.rollingUpdate.{complaint}") for fault in found] == [True]


def test_a_deployments_strategy_and_deadline() -> None:
    assert faults(made(apps_v1.Deployment, strategy={"type": "Recreate", "rollingUpdate": {"maxSurge": 1}})) == [
        "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"
    ]
    assert faults(made(apps_v1.Deployment, strategy={"type": "Odd"})) == [
        'spec.strategy.type: Unsupported value: "Odd": supported values: "Recreate", "RollingUpdate"'
    ]
    assert faults(made(apps_v1.Deployment, progressDeadlineSeconds=5, minReadySeconds=5)) == [
        "spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds"
    ]


@pytest.mark.parametrize(
    ("rolling", "complaints"),
    [
        ({"maxSurge": 1}, ["maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero"]),
        ({"maxUnavailable": 0}, ["maxUnavailable: Required value: cannot be 0 when maxSurge is 0"]),
        ({"maxUnavailable": 0, "maxSurge": "10%"}, []),
        (
            {"maxUnavailable": 0, "maxSurge": "200%"},
            ['maxSurge: Invalid value: "200%": must not be greater than 100%'],
        ),
    ],
)
def test_how_a_daemon_set_rolls(rolling: dict[str, Any], complaints: list[str]) -> None:
    found = faults(made(apps_v1.DaemonSet, updateStrategy={"rollingUpdate": rolling}))
    assert found == [f"spec.updateStrategy.rollingUpdate.{complaint}" for complaint in complaints]


def test_how_a_stateful_set_rolls() -> None:
    assert faults(made(apps_v1.StatefulSet, updateStrategy={"rollingUpdate": {"maxUnavailable": 0}})) == [
        "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0"
    ]
    odd = {"type": "OnDelete", "rollingUpdate": {"partition": 1}}
    assert faults(made(apps_v1.StatefulSet, updateStrategy=odd)) == [
        'spec.updateStrategy.rollingUpdate: Invalid value: {"partition":1}: '
        "only allowed for updateStrategy 'RollingUpdate'"
    ]
    assert faults(made(apps_v1.StatefulSet, podManagementPolicy="Odd")) == [
        "spec.podManagementPolicy: Invalid value: \"Odd\": must be 'OrderedReady' or 'Parallel'"
    ]
    assert faults(made(apps_v1.StatefulSet, persistentVolumeClaimRetentionPolicy={"whenScaled": "Odd"})) == [
        "spec.persistentVolumeClaimRetentionPolicy.whenScaled: "
        'Unsupported value: "Odd": supported values: "Retain", "Delete"'
    ]


def test_a_stateful_sets_pods_are_named_in_the_dns() -> None:
    dotted = made(apps_v1.StatefulSet)
    dotted.metadata.name = "web.example"
    assert [fault.split(":")[0] for fault in faults(dotted)] == ["metadata.name"]
    assert [fault.split(":")[0] for fault in faults(made(apps_v1.StatefulSet, serviceName="A"))] == ["spec.serviceName"]


def test_a_stateful_sets_pods_may_mount_the_claims_they_get() -> None:
    template = copy.deepcopy(TEMPLATE)
    template["spec"]["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    claims = [{"metadata": {"name": "data"}, "spec": {"resources": {"requests": {"storage": "1Gi"}}}}]
    assert any("volumeMounts" in fault for fault in faults(made(apps_v1.StatefulSet, template=template)))
    assert faults(made(apps_v1.StatefulSet, template=template, volumeClaimTemplates=claims)) == []


def test_what_a_stateful_sets_pods_hang_on_stays() -> None:
    old = made(apps_v1.StatefulSet)
    free: dict[str, Any] = {
        "replicas": 5,
        "minReadySeconds": 3,
        "revisionHistoryLimit": 2,
        "ordinals": {"start": 1},
        "updateStrategy": {"type": "OnDelete"},
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete"},
    }
    assert update_faults(made(apps_v1.StatefulSet, **free), old) == []
    assert update_faults(made(apps_v1.StatefulSet, podManagementPolicy="Parallel"), old) == [
        "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', "
        "'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' "
        "are forbidden"
    ]


def test_the_parts_of_a_status_are_not_more_than_the_whole() -> None:
    old, new = made(apps_v1.Deployment), made(apps_v1.Deployment)
    new.status = apps_v1.DeploymentStatus(replicas=2, readyReplicas=3, availableReplicas=4, updatedReplicas=1)
    assert status_faults(new, old) == [
        "status.readyReplicas: Invalid value: 3: cannot be greater than status.replicas",
        "status.availableReplicas: Invalid value: 4: cannot be greater than status.replicas",
        "status.availableReplicas: Invalid value: 4: cannot be greater than readyReplicas",
    ]
    old.status.collisionCount = 2
    new.status = apps_v1.DeploymentStatus(collisionCount=1)
    assert status_faults(new, old) == ["status.collisionCount: Invalid value: 1: cannot be decremented"]
    new.status = apps_v1.DeploymentStatus(collisionCount=2, terminatingReplicas=-1)
    assert status_faults(new, old) == [
        "status.terminatingReplicas: Invalid value: -1: must be greater than or equal to 0"
    ]
    daemons = made(apps_v1.DaemonSet)
    daemons.status.numberReady = -1
    assert status_faults(daemons, daemons) == [
        "status.numberReady: Invalid value: -1: must be greater than or equal to 0"
    ]
