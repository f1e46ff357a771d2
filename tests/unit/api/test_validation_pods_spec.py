"""Every rule of a pod beside its containers: security, host, scheduling; one planted fault, named alone and exactly."""

from __future__ import annotations

from typing import Any

import pytest

from barque.api.validation import pods
from tests.support.full_pod import REMOVED, build, full_document, planted
from tests.support.name_words import LABEL, QUALIFIED, SUBDOMAIN

IP = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
ID = "must be between 0 and 2147483647, inclusive"
C, M = "containers/0", "spec.containers[0]"
AFFINITY = "affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms"
AFFINITY_PATH = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
POD_TERM = "affinity/podAffinity/requiredDuringSchedulingIgnoredDuringExecution/0"
POD_TERM_PATH = "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0]"

# Where the fault is planted, what it is, and all that is said of it.
Plant = tuple[str, Any, str | list[str]]

SECURITY: list[Plant] = [
    (f"{C}/securityContext/runAsUser", -1, f"{M}.securityContext.runAsUser: Invalid value: -1: {ID}"),
    (f"{C}/securityContext/runAsGroup", 2**31, f"{M}.securityContext.runAsGroup: Invalid value: 2147483648: {ID}"),
    (
        f"{C}/securityContext/procMount",
        "Unmasked",
        f'{M}.securityContext.procMount: Invalid value: "Unmasked": `hostUsers` must be false to use `Unmasked`',
    ),
    (
        f"{C}/securityContext/procMount",
        "None",
        f'{M}.securityContext.procMount: Unsupported value: "None": supported values: "Default", "Unmasked"',
    ),
    (
        f"{C}/securityContext/seccompProfile/type",
        "",
        [
            f"{M}.securityContext.seccompProfile.type: Required value: type is required when seccompProfile is set",
            f'{M}.securityContext.seccompProfile.localhostProfile: Invalid value: {{"localhostProfile":'
            '"profiles/a.json","type":""}: can only be set when seccomp type is Localhost',
        ],
    ),
    (
        f"{C}/securityContext/seccompProfile/localhostProfile",
        REMOVED,
        f"{M}.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is "
        "Localhost",
    ),
    (
        f"{C}/securityContext/seccompProfile/localhostProfile",
        "../x",
        f"{M}.securityContext.seccompProfile.localhostProfile: Invalid value: \"../x\": must not contain '..'",
    ),
    (
        f"{C}/securityContext/appArmorProfile",
        {"type": "Localhost"},
        f"{M}.securityContext.appArmorProfile.localhostProfile: Required value: must be set when AppArmor type is "
        "Localhost",
    ),
    (
        f"{C}/securityContext/appArmorProfile",
        {"type": "Localhost", "localhostProfile": " a"},
        f'{M}.securityContext.appArmorProfile.localhostProfile: Invalid value: " a": must not be padded with '
        "whitespace",
    ),
    (
        f"{C}/securityContext/appArmorProfile/type",
        "",
        f"{M}.securityContext.appArmorProfile.type: Required value: type is required when appArmorProfile is set",
    ),
    (
        f"{C}/securityContext/appArmorProfile/localhostProfile",
        "a",
        f'{M}.securityContext.appArmorProfile.localhostProfile: Invalid value: "a": can only be set when AppArmor type '
        "is Localhost",
    ),
    ("securityContext/fsGroup", -1, f"spec.securityContext.fsGroup: Invalid value: -1: {ID}"),
    (
        "securityContext/supplementalGroups",
        [-1],
        f"spec.securityContext.supplementalGroups[0]: Invalid value: -1: {ID}",
    ),
    (
        "securityContext/supplementalGroupsPolicy",
        "Some",
        'spec.securityContext.supplementalGroupsPolicy: Unsupported value: "Some": supported values: "Merge", "Strict"',
    ),
    (
        "securityContext/fsGroupChangePolicy",
        "Never",
        'spec.securityContext.fsGroupChangePolicy: Unsupported value: "Never": supported values: "Always", '
        '"OnRootMismatch"',
    ),
    (
        "securityContext/seLinuxChangePolicy",
        "Never",
        'spec.securityContext.seLinuxChangePolicy: Unsupported value: "Never": supported values: "MountOption", '
        '"Recursive"',
    ),
    ("securityContext/sysctls/0/name", "", "spec.securityContext.sysctls[0].name: Required value"),
    (
        "securityContext/sysctls/0/name",
        "Net",
        'spec.securityContext.sysctls[0].name: Invalid value: "Net": must have at most 253 characters and match regex '
        r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
    ),
    (
        "securityContext/sysctls/1/name",
        "net.core.somaxconn",
        'spec.securityContext.sysctls[1].name: Duplicate value: "net.core.somaxconn"',
    ),
    (
        "hostIPC",
        True,
        'spec.securityContext.sysctls[1].name: Invalid value: "kernel/shm_rmid_forced": may not be specified when '
        "'hostIPC' is true",
    ),
    (
        "securityContext/windowsOptions",
        {"runAsUserName": "a\\b\\c"},
        'spec.securityContext.windowsOptions.runAsUserName: Invalid value: "a\\\\b\\\\c": runAsUserName cannot contain '
        "more than one backslash",
    ),
    (
        "hostUsers",
        False,
        "spec.containers[0].volumeDevices: Forbidden: when `hostUsers` is false",
    ),
]

HOST: list[Plant] = [
    ("dnsConfig", REMOVED, "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"),
    (
        "dnsConfig/nameservers",
        [],
        "spec.dnsConfig.nameservers: Required value: must provide at least one DNS nameserver when `dnsPolicy` is None",
    ),
    (
        "dnsPolicy",
        "Random",
        'spec.dnsPolicy: Unsupported value: "Random": supported values: "ClusterFirstWithHostNet", "ClusterFirst", '
        '"Default", "None"',
    ),
    (
        "dnsConfig/nameservers",
        ["1.1.1.1"] * 4,
        'spec.dnsConfig.nameservers: Invalid value: ["1.1.1.1","1.1.1.1","1.1.1.1","1.1.1.1"]: must not have more than '
        "3 nameservers",
    ),
    ("dnsConfig/nameservers/0", "dns", f'spec.dnsConfig.nameservers[0]: Invalid value: "dns": {IP}'),
    (
        "dnsConfig/nameservers/0",
        "010.0.0.1",
        'spec.dnsConfig.nameservers[0]: Invalid value: "010.0.0.1": must not have leading 0s',
    ),
    (
        "dnsConfig/nameservers/0",
        "::ffff:1.1.1.1",
        'spec.dnsConfig.nameservers[0]: Invalid value: "::ffff:1.1.1.1": must not be an IPv4-mapped IPv6 address',
    ),
    ("dnsConfig/options/0/name", "", "spec.dnsConfig.options[0]: Required value: must not be empty"),
    ("hostAliases/0/ip", "db", f'spec.hostAliases[0].ip: Invalid value: "db": {IP}'),
    ("hostAliases/0/hostnames/0", "DB", f'spec.hostAliases[0].hostnames[0]: Invalid value: "DB": {SUBDOMAIN}'),
    ("hostname", "web.0", f'spec.hostname: Invalid value: "web.0": {LABEL}'),
    ("subdomain", "web.0", f'spec.subdomain: Invalid value: "web.0": {LABEL}'),
    ("hostnameOverride", "Web", f'spec.hostnameOverride: Invalid value: "Web": {SUBDOMAIN}'),
    ("hostnameOverride", "a" * 65, "spec.hostnameOverride: Too long: may not be more than 64 bytes"),
    ("serviceAccountName", "Robot", f'spec.serviceAccountName: Invalid value: "Robot": {SUBDOMAIN}'),
    ("nodeName", "N1", f'spec.nodeName: Invalid value: "N1": {SUBDOMAIN}'),
    ("priorityClassName", "High", f'spec.priorityClassName: Invalid value: "High": {SUBDOMAIN}'),
    ("runtimeClassName", "Kata", f'spec.runtimeClassName: Invalid value: "Kata": {SUBDOMAIN}'),
    (
        "preemptionPolicy",
        "Always",
        'spec.preemptionPolicy: Unsupported value: "Always": supported values: "PreemptLowerPriority", "Never"',
    ),
    (
        "restartPolicy",
        "Sometimes",
        'spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"',
    ),
    (
        "activeDeadlineSeconds",
        0,
        "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
    ),
    ("os", {"name": ""}, "spec.os.name: Required value"),
    ("os", {"name": "plan9"}, 'spec.os: Unsupported value: "plan9": supported values: "linux", "windows"'),
    (
        "schedulingGroup",
        {},
        "spec.schedulingGroup.podGroupName: Invalid value: null: must specify one of: `podGroupName`",
    ),
]

SCHEDULING: list[Plant] = [
    (
        "tolerations/0/operator",
        "Equal",
        'spec.tolerations[0].operator: Invalid value: "Equal": operator must be Exists when `key` is empty, which '
        'means "match all values and all keys"',
    ),
    (
        "tolerations/0/value",
        "v",
        "spec.tolerations[0].operator: Invalid value: \"v\": value must be empty when `operator` is 'Exists'",
    ),
    (
        "tolerations/1/operator",
        "Lt",
        'spec.tolerations[1].operator: Unsupported value: "Lt": supported values: "Equal", "Exists"',
    ),
    (
        "tolerations/0/effect",
        "Never",
        'spec.tolerations[0].effect: Unsupported value: "Never": supported values: "NoSchedule", "PreferNoSchedule", '
        '"NoExecute"',
    ),
    (
        "tolerations/1/effect",
        "NoSchedule",
        "spec.tolerations[1].effect: Invalid value: \"NoSchedule\": effect must be 'NoExecute' when "
        "`tolerationSeconds` is set",
    ),
    ("tolerations/1/key", "-", f'spec.tolerations[1].key: Invalid value: "-": {QUALIFIED}'),
    (AFFINITY, [], f"{AFFINITY_PATH}: Required value: must have at least one node selector term"),
    (
        f"{AFFINITY}/0/matchExpressions/0/values",
        [],
        f"{AFFINITY_PATH}[0].matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or "
        "'NotIn'",
    ),
    (
        f"{AFFINITY}/0/matchExpressions/0/operator",
        "Exists",
        f"{AFFINITY_PATH}[0].matchExpressions[0].values: Forbidden: may not be specified when `operator` is 'Exists' "
        "or 'DoesNotExist'",
    ),
    (
        f"{AFFINITY}/0/matchExpressions/1/values",
        ["1", "2"],
        f"{AFFINITY_PATH}[0].matchExpressions[1].values: Required value: must be specified single value when "
        "`operator` is 'Lt' or 'Gt'",
    ),
    (
        f"{AFFINITY}/0/matchExpressions/0/operator",
        "Near",
        f'{AFFINITY_PATH}[0].matchExpressions[0].operator: Invalid value: "Near": not a valid selector operator',
    ),
    (
        f"{AFFINITY}/0/matchFields/0/key",
        "metadata.uid",
        f'{AFFINITY_PATH}[0].matchFields[0].key: Invalid value: "metadata.uid": not a valid field selector key',
    ),
    (
        f"{AFFINITY}/0/matchFields/0/operator",
        "Exists",
        f'{AFFINITY_PATH}[0].matchFields[0].operator: Invalid value: "Exists": not a valid selector operator',
    ),
    (
        "affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution/0/weight",
        0,
        "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: must "
        "be in the range 1-100",
    ),
    (
        "affinity/podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution/0/weight",
        101,
        "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 101: "
        "must be in the range 1-100",
    ),
    (f"{POD_TERM}/topologyKey", "", f"{POD_TERM_PATH}.topologyKey: Required value: can not be empty"),
    (f"{POD_TERM}/namespaces/0", "Data", f'{POD_TERM_PATH}.namespaces[0]: Invalid value: "Data": {LABEL}'),
    (
        f"{POD_TERM}/matchLabelKeys/0",
        "app",
        f'{POD_TERM_PATH}.matchLabelKeys[0]: Invalid value: "app": exists in both matchLabelKeys and labelSelector',
    ),
    (
        f"{POD_TERM}/matchLabelKeys/0",
        "tenant",
        f'{POD_TERM_PATH}.matchLabelKeys[0]: Invalid value: "tenant": exists in both matchLabelKeys and '
        "mismatchLabelKeys",
    ),
    (
        "topologySpreadConstraints/0/labelSelector",
        REMOVED,
        "spec.topologySpreadConstraints[0].matchLabelKeys: Forbidden: must not be specified when labelSelector is not "
        "set",
    ),
    (
        "topologySpreadConstraints/0/maxSkew",
        0,
        "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
    ),
    (
        "topologySpreadConstraints/0/topologyKey",
        "",
        "spec.topologySpreadConstraints[0].topologyKey: Required value: can not be empty",
    ),
    (
        "topologySpreadConstraints/0/whenUnsatisfiable",
        "ScheduleAnyway",
        "spec.topologySpreadConstraints[0].minDomains: Invalid value: 2: can only use minDomains if "
        "whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway",
    ),
    (
        "topologySpreadConstraints/0/nodeAffinityPolicy",
        "Maybe",
        'spec.topologySpreadConstraints[0].nodeAffinityPolicy: Unsupported value: "Maybe": supported values: "Honor", '
        '"Ignore"',
    ),
    (
        "topologySpreadConstraints/1",
        {"topologyKey": "zone", "maxSkew": 2, "whenUnsatisfiable": "DoNotSchedule"},
        'spec.topologySpreadConstraints[0].{topologyKey, whenUnsatisfiable}: Duplicate value: "{zone, DoNotSchedule}"',
    ),
    ("readinessGates/0/conditionType", "-", f'spec.readinessGates[0].conditionType: Invalid value: "-": {QUALIFIED}'),
    ("schedulingGates/0/name", "-", f'spec.schedulingGates[0]: Invalid value: "-": {QUALIFIED}'),
    (
        "schedulingGates/1",
        {"name": "example.com/quota"},
        'spec.schedulingGates[1]: Duplicate value: "example.com/quota"',
    ),
]

PLANTS = [*SECURITY, *HOST, *SCHEDULING]


def said(changes: dict[str, Any]) -> list[str]:
    return [str(fault) for fault in pods.check(planted(changes))]


@pytest.mark.parametrize(("where", "value", "fault"), PLANTS, ids=[f"{w}-{i}" for i, (w, *_) in enumerate(PLANTS)])
def test_one_fault_is_named_alone_and_exactly(where: str, value: Any, fault: str | list[str]) -> None:
    assert said({where: value}) == ([fault] if isinstance(fault, str) else fault)


def test_the_full_pod_is_right() -> None:
    assert pods.check(build(full_document())) == []
