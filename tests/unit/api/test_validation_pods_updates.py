"""What may change of a pod that exists, and what may be said of it."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from barque.api.types.core_v1 import (
    Binding,
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStatus,
    HostIP,
    ObjectReference,
    Pod,
    PodCondition,
    PodIP,
    PodSchedulingGate,
    ResourceRequirements,
    Toleration,
)
from barque.api.validation import pods
from tests.support.full_pod import REMOVED, planted

MUTABLE = (
    "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
    "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing "
    "tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
TERMS = "affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms"
TERMS_PATH = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"


def said(changes: dict[str, Any], before: dict[str, Any] | None = None) -> list[str]:
    """What is said of a pod planted with `before` that is written anew with `changes`, too."""
    before = before or {}
    return [str(fault) for fault in pods.check_update(planted({**before, **changes}), planted(before))]


def test_what_may_change() -> None:
    added = {"key": "new", "operator": "Exists"}
    assert said({}) == []
    assert said({"containers/0/image": "web:2", "initContainers/0/image": "web:2"}) == []
    assert said({"activeDeadlineSeconds": 60, "tolerations/2": added}) == []
    assert said({"tolerations/1/tolerationSeconds": 50}) == []
    assert said({"schedulingGates": []}) == []


def test_whatever_else_changes_is_named_with_both_values() -> None:
    assert said({"nodeName": "n1", "containers/0/ports/0/hostPort": 9, "hostname": REMOVED}) == [
        "\n".join(
            (
                MUTABLE,
                "- containers[0].ports[0].hostPort: 8080",
                "+ containers[0].ports[0].hostPort: 9",
                '- hostname: "web-0"',
                '+ nodeName: "n1"',
            )
        )
    ]


def test_containers_neither_come_nor_go() -> None:
    why = "Forbidden: pod updates may not add or remove containers"
    assert said({"containers/2": {"name": "more", "image": "x"}}) == [f"spec.containers: {why}"]
    assert said({"initContainers/0": REMOVED}) == [f"spec.initContainers: {why}"]


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        (600, 601, "Invalid value: 601: must be less than or equal to previous value"),
        (600, REMOVED, "Invalid value: null: must not update from a positive integer to nil value"),
        (600, -1, "Invalid value: -1: must be between 0 and 2147483647, inclusive"),
    ],
)
def test_a_deadline_only_comes_nearer(before: int, after: Any, fault: str) -> None:
    found = said({"activeDeadlineSeconds": after}, {"activeDeadlineSeconds": before})
    assert found == [f"spec.activeDeadlineSeconds: {fault}"]


def test_tolerations_and_gates() -> None:
    assert said({"tolerations": []}) == [
        "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"
    ]
    assert said({"schedulingGates/1": {"name": "late"}}) == [
        "spec.schedulingGates[1].name: Forbidden: only deletion is allowed, but found new scheduling gate 'late'"
    ]


def test_a_negative_grace_period_may_become_one() -> None:
    assert said({"terminationGracePeriodSeconds": 1}, {"terminationGracePeriodSeconds": -1}) == []
    assert said({"terminationGracePeriodSeconds": 1})[0].startswith(MUTABLE)


def test_a_gated_pod_may_be_narrowed_down() -> None:
    assert said({"nodeSelector/rack": "1"}) == []
    assert said({f"{TERMS}/0/matchExpressions/2": {"key": "rack", "operator": "Exists"}}) == []
    assert said({"nodeSelector/disk": "hdd"}) == [
        'spec.nodeSelector: Invalid value: {"disk":"hdd"}: only additions to spec.nodeSelector are allowed (no '
        "mutations or deletions)"
    ]
    fewer = said({f"{TERMS}/0/matchExpressions/0": REMOVED})
    assert [fault.split(": ")[0] for fault in fewer] == [f"{TERMS_PATH}[0]"]
    assert fewer[0].endswith("only additions are allowed (no mutations or deletions)")
    more = said({f"{TERMS}/1": {"matchExpressions": [{"key": "rack", "operator": "Exists"}]}})
    assert [fault.split(": ")[0] for fault in more] == [TERMS_PATH]
    assert more[0].endswith("no additions/deletions to non-empty NodeSelectorTerms list are allowed")
    free = {"affinity": REMOVED}
    given = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
    assert said({"affinity": given}, free) == []


def test_a_pod_past_its_gates_stays_where_it_may_go() -> None:
    past = {"schedulingGates": []}
    assert said({"nodeSelector/rack": "1"}, past)[0].startswith(MUTABLE)
    assert said({f"{TERMS}/0/matchExpressions/2": {"key": "r", "operator": "Exists"}}, past)[0].startswith(MUTABLE)


def test_annotations_that_stay() -> None:
    old, new = planted({}), planted({})
    key = "container.apparmor.security.beta.kubernetes.io/main"
    old.metadata.annotations = {key: "unconfined"}
    new.metadata.annotations = {"kubernetes.io/config.mirror": "x"}
    assert [str(fault) for fault in pods.check_update(new, old)] == [
        f"metadata.annotations[{key}]: Forbidden: may not remove or update AppArmor annotations",
        "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not add mirror pod annotation",
    ]


def test_ephemeral_containers_come_and_stay() -> None:
    debugger = {"name": "debug", "image": "busybox:1"}
    none, one = planted({}), planted({"ephemeralContainers": [debugger]})
    other = planted({"ephemeralContainers": [{**debugger, "image": "busybox:2"}]})
    assert pods.check_ephemeral_update(one, none) == []
    assert [str(fault) for fault in pods.check_ephemeral_update(none, one)] == [
        'spec.ephemeralContainers: Forbidden: existing ephemeral containers "debug" may not be removed'
    ]
    assert [str(fault) for fault in pods.check_ephemeral_update(other, one)] == [
        'spec.ephemeralContainers: Forbidden: existing ephemeral containers "debug" may not be changed\n'
        '- image: "busybox:1"\n+ image: "busybox:2"'
    ]
    one.metadata.annotations = {"kubernetes.io/config.mirror": "x"}
    assert [str(fault) for fault in pods.check_ephemeral_update(one, one)] == [
        "Forbidden: static pods do not support ephemeral containers"
    ]


def test_bindings_name_a_node() -> None:
    assert pods.check_binding(Binding(target=ObjectReference(name="n1"))) == []
    assert [str(fault) for fault in pods.check_binding(Binding(target=ObjectReference(kind="Pod", name="n1")))] == [
        'target.kind: Unsupported value: "Pod": supported values: "Node", "<empty>"'
    ]
    assert [str(fault) for fault in pods.check_binding(Binding())] == ["target.name: Required value"]


# --- status


def status_faults(new: Pod, old: Pod | None = None) -> list[str]:
    return [str(fault) for fault in pods.check_status(new, old)]


def ended(name: str = "main", exit_code: int = 1) -> ContainerStatus:
    return ContainerStatus(name=name, state=ContainerState(terminated=ContainerStateTerminated(exitCode=exit_code)))


def running(name: str = "main") -> ContainerStatus:
    return ContainerStatus(name=name, state=ContainerState(running=ContainerStateRunning()))


@pytest.mark.parametrize(
    ("policy", "own", "exit_code", "comes_back"),
    [
        ("Always", "", 0, True),
        ("OnFailure", "", 1, True),
        ("OnFailure", "", 0, False),
        ("Never", "", 1, False),
        ("Never", "Always", 0, True),
        ("Always", "Never", 1, False),
        ("Never", "Never", 42, True),
    ],
)
def test_what_has_ended_for_good_stays_so(policy: str, own: str, exit_code: int, comes_back: bool) -> None:
    rules = [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}] if own else []
    changes = {"restartPolicy": policy, "containers/0/restartPolicy": own, "containers/0/restartPolicyRules": rules}
    old, new = planted(changes), planted(changes)
    old.status.containerStatuses = [ended(exit_code=exit_code)]
    new.status.containerStatuses = [running()]
    why = "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"
    assert status_faults(new, old) == ([] if comes_back else [why])
    assert status_faults(old, old) == []


def test_amounts_of_a_status_are_ones() -> None:
    """Nobody reckons with them here, but Go's clients read them all."""
    pod = planted({})
    fine = ResourceRequirements(limits={"cpu": "1"}, requests={"cpu": 0.5})
    pod.status.resources, pod.status.allocatedResources = fine, {"memory": "1Gi"}
    pod.status.containerStatuses = [ContainerStatus(name="main", resources=fine, allocatedResources={"cpu": "1"})]
    assert status_faults(pod) == []
    pod.status.resources = ResourceRequirements(limits={"cpu": "much"})
    pod.status.allocatedResources = {"cpu": "much"}
    pod.status.containerStatuses = [
        ContainerStatus(name="main", resources=ResourceRequirements(requests={"cpu": "much"})),
        ContainerStatus(name="other", allocatedResources={"cpu": "-1"}),
    ]
    assert [fault.partition(": ")[0] for fault in status_faults(pod)] == [
        "status.allocatedResources[cpu]",
        "status.resources.limits[cpu]",
        "status.containerStatuses[0].resources.requests[cpu]",
        "status.containerStatuses[1].allocatedResources[cpu]",
    ]


def test_sidecars_come_back_and_debuggers_do_not() -> None:
    changes = {"restartPolicy": "Never"}
    old, new = planted(changes), planted(changes)
    old.status.initContainerStatuses = [ended("sidecar"), ended("prepare")]
    new.status.initContainerStatuses = [running("sidecar"), running("prepare")]
    old.status.ephemeralContainerStatuses = [ended("debug")]
    new.status.ephemeralContainerStatuses = [running("debug")]
    assert [fault.split(": ")[0] for fault in status_faults(new, old)] == [
        "status.initContainerStatuses[1].state",
        "status.ephemeralContainerStatuses[0].state",
    ]


def test_what_a_status_says() -> None:
    old, new = planted({"nodeName": "n1"}), planted({"nodeName": "n1"})
    new.status.phase = "Dancing"
    new.status.observedGeneration = -1
    new.status.qosClass = "Guaranteed"
    new.status.nominatedNodeName = "N2"
    new.status.conditions = [PodCondition(type="Ready"), PodCondition(type="-"), PodCondition(type="example.com/x")]
    new.status.hostIP = "10.0.0.1"
    new.status.hostIPs = [HostIP(ip="10.0.0.2")]
    new.status.podIPs = [PodIP(ip="10.0.0.9"), PodIP(ip="there")]
    new.status.containerStatuses = [ContainerStatus(name="main", restartCount=-1)]
    assert [fault.split(": ")[0] for fault in status_faults(new, old)] == [
        "status.phase",
        "status.observedGeneration",
        "status.conditions[1].type",
        "status.containerStatuses[0].restartCount",
        "status.nominatedNodeName",
        "status.nominatedNodeName",
        "status.qosClass",
        "status.podIPs[1].ip",
        "status.podIPs",
        "status.hostIPs[0].ip",
    ]


def test_a_status_moves_no_pod() -> None:
    assert status_faults(planted({"nodeName": "n2"}), planted({"nodeName": "n1"})) == [
        "status.nodeName: Forbidden: may not be changed directly"
    ]


def test_one_address_of_each_family() -> None:
    old, new = planted({}), planted({})
    new.status.podIPs = [PodIP(ip="10.0.0.9"), PodIP(ip="2001:db8::9")]
    assert status_faults(new, old) == []
    new.status.podIPs.append(PodIP(ip="10.0.0.8"))
    assert status_faults(new, old) == [
        'status.podIPs: Invalid value: ["10.0.0.9","2001:db8::9","10.0.0.8"]: may specify no more than one IP for '
        "each IP family"
    ]


def test_an_update_leaves_both_pods_as_they_were() -> None:
    old, new = planted({}), planted({"nodeName": "n1", "schedulingGates": []})
    new.spec.tolerations = [*new.spec.tolerations, Toleration(key="k", operator="Exists")]
    old.spec.schedulingGates.append(PodSchedulingGate(name="more"))
    before = copy.deepcopy((new, old))
    pods.check_update(new, old)
    assert (new, old) == before
