"""Rules of pods that join several fields: host and namespaces, operating systems, restarts, debuggers, annotations."""

from __future__ import annotations

from typing import Any

import pytest

from barque.api.validation import pods
from tests.support.full_pod import REMOVED, build, planted

C, M = "containers/0", "spec.containers[0]"


def said(changes: dict[str, Any]) -> list[str]:
    return [str(fault) for fault in pods.check(planted(changes))]


def test_on_the_hosts_network_ports_are_the_hosts() -> None:
    on_host = {"hostNetwork": True, "securityContext/sysctls": [], f"{C}/ports/0/hostPort": 80}
    assert said(on_host) == []
    assert said({**on_host, f"{C}/ports/0/hostPort": 8080}) == [
        f"{M}.ports[0].hostPort: Invalid value: 8080: must match `containerPort` when `hostNetwork` is true"
    ]
    assert said({**on_host, "hostnameOverride": "a"}) == [
        "spec.hostnameOverride: Forbidden: may not be specified when hostNetwork is true"
    ]
    assert said({**on_host, "securityContext/sysctls": [{"name": "net.ipv4.ip_forward", "value": "1"}]}) == [
        'spec.securityContext.sysctls[0].name: Invalid value: "net.ipv4.ip_forward": may not be specified when '
        "'hostNetwork' is true"
    ]


def test_namespaces_exclude_one_another() -> None:
    assert said({"hostPID": True, "shareProcessNamespace": True}) == [
        "spec.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled"
    ]
    apart = {"hostUsers": False, f"{C}/volumeDevices": [], f"{C}/securityContext/procMount": "Unmasked"}
    assert said(apart) == []
    assert said({**apart, "hostPID": True}) == ["spec.hostPID: Forbidden: when `hostUsers` is false"]
    assert said({"setHostnameAsFQDN": True, "hostnameOverride": "a"}) == [
        "spec.hostnameOverride: Forbidden: may not be specified when setHostnameAsFQDN is true"
    ]


def test_privileges_are_not_taken_and_given_at_once() -> None:
    found = said({f"{C}/securityContext": {"privileged": True, "allowPrivilegeEscalation": False}})
    assert [fault.split(": ", 3)[3] for fault in found] == [
        "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
    ]
    admin = {"allowPrivilegeEscalation": False, "capabilities": {"add": ["CAP_SYS_ADMIN"]}}
    assert [fault.split(": ", 3)[3] for fault in said({f"{C}/securityContext": admin})] == [
        "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
    ]
    propagating = {f"{C}/volumeMounts/2/mountPropagation": "Bidirectional", f"{C}/securityContext": {}}
    assert said({**propagating, f"{C}/securityContext/privileged": True}) == []


@pytest.mark.parametrize(
    ("signal", "os", "right"),
    [
        ("SIGUSR1", "linux", True),
        ("SIGRTMIN+15", "linux", True),
        ("SIGRTMIN+16", "linux", False),
        ("SIGTERM", "windows", True),
        ("SIGUSR1", "windows", False),
    ],
)
def test_stop_signals_are_those_of_the_operating_system(signal: str, os: str, right: bool) -> None:
    spec = {"containers": [{"name": "c", "image": "w:1", "lifecycle": {"stopSignal": signal}}], "os": {"name": os}}
    found = [fault.path for fault in pods.check(build({"metadata": {"name": "w"}, "spec": spec}))]
    assert found == ([] if right else ["spec.containers[0].lifecycle.stopSignal"])


def test_a_windows_pod_has_nothing_of_linux() -> None:
    found = said({"os": {"name": "windows"}})
    of_containers = {fault for fault in found if fault.startswith("spec.containers")}
    assert "spec.resources: Forbidden: may not be set for a windows pod" in found
    assert "spec.securityContext.fsGroup: Forbidden: cannot be set for a windows pod" in found
    assert f"{M}.securityContext.runAsUser: Forbidden: cannot be set for a windows pod" in of_containers
    assert len(of_containers) == 7


def test_a_linux_pod_has_nothing_of_windows() -> None:
    options = {"windowsOptions": {"runAsUserName": "NT AUTHORITY\\SYSTEM"}}
    assert said({"os": {"name": "linux"}, f"{C}/securityContext": options}) == [
        f"{M}.securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod"
    ]


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("user", True),
        ("DOMAIN\\user", True),
        ("example.com\\user", True),
        ("DOMAIN\\", False),
        ("a:b\\user", False),
        ("a" * 105, False),
        ("user\n", False),
        ("...", False),
        ("us@er", False),
    ],
)
def test_windows_users(name: str, right: bool) -> None:
    assert (said({"securityContext/windowsOptions": {"runAsUserName": name}}) == []) is right


def test_host_processes_are_all_of_a_pod_or_none() -> None:
    on_host = {"hostNetwork": True, "securityContext/sysctls": [], f"{C}/ports": []}
    ports = {f"{C}/livenessProbe": REMOVED}
    assert said({**on_host, **ports, "securityContext/windowsOptions": {"hostProcess": True}}) == []
    assert said({**ports, f"{C}/ports": [], "securityContext/windowsOptions": {"hostProcess": True}}) == [
        "spec.hostNetwork: Invalid value: false: hostNetwork must be true if pod contains any hostProcess containers"
    ]
    assert said({**on_host, **ports, f"{C}/securityContext/windowsOptions": {"hostProcess": True}}) == [
        'spec: Invalid value: "": If pod contains any hostProcess containers then all containers must be HostProcess '
        "containers"
    ]
    both = {
        "securityContext/windowsOptions": {"hostProcess": True},
        f"{C}/securityContext/windowsOptions": {"hostProcess": False},
    }
    assert said({**on_host, **ports, **both})[0] == (
        f"{M}.securityContext.windowsOptions.hostProcess: Invalid value: false: pod hostProcess value must be "
        "identical if both are specified, was true"
    )


def test_long_search_lists() -> None:
    assert said({"dnsConfig/searches": ["a.b"] * 33})[0].endswith("must not have more than 32 search paths")
    long = [f"{'a' * 60}.{'b' * 60}.example.com"] * 20
    assert said({"dnsConfig/searches": long})[0].endswith(
        "must not have more than 2048 characters (including spaces) in the search list"
    )
    assert said({"dnsConfig/searches": ["a_b-"]})[0].startswith('spec.dnsConfig.searches[0]: Invalid value: "a_b-"')


def test_a_pod_that_never_restarts_resizes_without_a_restart() -> None:
    policy = [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]
    assert said({"restartPolicy": "Never", f"{C}/resizePolicy": policy}) == [
        f"{M}.resizePolicy[0].restartPolicy: Invalid value: \"RestartContainer\": must be 'NotRequired' when pod "
        "`restartPolicy` is 'Never'"
    ]


def test_init_containers_may_share_ports_with_each_other() -> None:
    ports = [{"containerPort": 1, "hostPort": 9}]
    assert said({"initContainers/0/ports": ports, "initContainers/1/ports": ports}) == []
    assert said({"initContainers/0/ports": ports * 2}) == [
        'spec.initContainers[0].ports[1].hostPort: Duplicate value: "TCP//9"'
    ]


# --- ephemeral containers

DEBUGGER = {"name": "debug", "image": "busybox:1", "targetContainerName": "main"}


def test_ephemeral_containers_look_and_serve_nothing() -> None:
    assert said({"ephemeralContainers": [DEBUGGER]}) == []
    limits = {"limits": {"cpu": "1"}}
    serving = {**DEBUGGER, "ports": [{"containerPort": 9}], "resources": limits, "livenessProbe": {"grpc": {"port": 1}}}
    assert said({"ephemeralContainers": [serving]}) == [
        f"spec.ephemeralContainers[0].{name}: Forbidden: cannot be set for an Ephemeral Container"
        for name in ("livenessProbe", "ports", "resources")
    ]
    mounting = {**DEBUGGER, "volumeMounts": [{"name": "scratch", "mountPath": "/s", "subPath": "a"}]}
    assert said({"ephemeralContainers": [mounting]}) == [
        "spec.ephemeralContainers[0].volumeMounts[0].subPath: Forbidden: cannot be set for an Ephemeral Container"
    ]
    assert said({"ephemeralContainers": [{**DEBUGGER, "name": "main"}]}) == [
        'spec.ephemeralContainers[0].name: Duplicate value: "main"'
    ]
    assert said({"ephemeralContainers": [{**DEBUGGER, "targetContainerName": "x"}]}) == [
        'spec.ephemeralContainers[0].targetContainerName: Not found: "x"'
    ]


def test_ephemeral_containers_come_by_their_subresource_alone() -> None:
    with_debugger = planted({"ephemeralContainers": [DEBUGGER], "nodeName": "n1"})
    assert [str(fault) for fault in pods.check_create(with_debugger)] == [
        "spec.ephemeralContainers: Forbidden: cannot be set on create",
        "spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared",
    ]
    assert "spec.ephemeralContainers: Forbidden: ephemeral containers not allowed in pod template" in [
        str(fault) for fault in pods.check_spec(with_debugger.spec, "spec")
    ]


# --- annotations

APP_ARMOR = "container.apparmor.security.beta.kubernetes.io/main"


def annotated(annotations: dict[str, str], **changes: Any) -> list[str]:
    pod = planted(changes)
    pod.metadata.annotations = annotations
    return [str(fault) for fault in pods.check(pod)]


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        (
            "kubernetes.io/config.mirror",
            "x",
            [
                'metadata.annotations[kubernetes.io/config.mirror]: Invalid value: "x": must set spec.nodeName if '
                "mirror pod annotation is set",
                "spec.resourceClaims: Forbidden: static pods do not support resource claims",
            ],
        ),
        (
            "controller.kubernetes.io/pod-deletion-cost",
            "+1",
            'metadata.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value: "+1": must be a 32bit '
            "integer",
        ),
        ("controller.kubernetes.io/pod-deletion-cost", "-7", []),
        (
            "scheduler.alpha.kubernetes.io/tolerations",
            '[{"key": "k", "operator": "Exists", "value": "v"}]',
            'metadata.annotations.scheduler.alpha.kubernetes.io/tolerations[0].operator: Invalid value: "v": value '
            "must be empty when `operator` is 'Exists'",
        ),
        (
            "seccomp.security.alpha.kubernetes.io/pod",
            "loose",
            [
                'metadata.annotations.seccomp.security.alpha.kubernetes.io/pod: Invalid value: "loose": must be a '
                "valid seccomp profile",
                "spec.securityContext.seccompProfile.type: Forbidden: seccomp type in annotation and field must match",
            ],
        ),
        ("seccomp.security.alpha.kubernetes.io/pod", "docker/default", []),
        (
            "container.seccomp.security.alpha.kubernetes.io/main",
            "localhost/profiles/b.json",
            f"{M}.securityContext.seccompProfile.localhostProfile: Forbidden: seccomp profile in annotation and field "
            "must match",
        ),
        (APP_ARMOR, "runtime/default", []),
        (
            APP_ARMOR,
            "unconfined",
            f"{M}.securityContext.appArmorProfile.type: Forbidden: apparmor type in annotation and field must match",
        ),
        (
            "container.apparmor.security.beta.kubernetes.io/other",
            "strict",
            [
                'metadata.annotations[container.apparmor.security.beta.kubernetes.io/other]: Invalid value: "other": '
                "container not found",
                'metadata.annotations[container.apparmor.security.beta.kubernetes.io/other]: Invalid value: "strict": '
                'invalid AppArmor profile name: "strict"',
            ],
        ),
    ],
)
def test_annotations_that_mean_something(key: str, value: str, fault: str | list[str]) -> None:
    assert annotated({key: value}) == ([fault] if isinstance(fault, str) else fault)


def test_templates_are_judged_as_pods_without_names() -> None:
    template = planted({f"{C}/image": " web "}).spec
    assert pods.check_spec(template, "spec.template.spec") == []
    template.containers[0].image = ""
    assert [fault.path for fault in pods.check_spec(template, "spec.template.spec")] == [
        "spec.template.spec.containers[0].image"
    ]
