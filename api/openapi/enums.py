"""The fields that take one of a few words, as validation judges them: the `enum` of their schemas.

Only fields whose words are a closed set stand here; a status, which newer masters may write in words of their own, does
not.
"""

from __future__ import annotations

_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_EFFECTS = ("NoExecute", "NoSchedule", "PreferNoSchedule")
_PROFILES = ("Localhost", "RuntimeDefault", "Unconfined")
_FAMILIES = ("IPv4", "IPv6")

_CONTAINER = {
    "imagePullPolicy": _PULL_POLICIES,
    "terminationMessagePolicy": ("FallbackToLogsOnError", "File"),
}
_WORDS: dict[tuple[str, str], dict[str, tuple[str, ...]]] = {
    ("core_v1", "AppArmorProfile"): {"type": _PROFILES},
    ("core_v1", "Container"): _CONTAINER,
    ("core_v1", "ContainerPort"): {"protocol": _PROTOCOLS},
    ("core_v1", "EphemeralContainer"): _CONTAINER,
    ("core_v1", "HTTPGetAction"): {"scheme": ("HTTP", "HTTPS")},
    ("core_v1", "PodSecurityContext"): {"fsGroupChangePolicy": ("Always", "OnRootMismatch")},
    ("core_v1", "PodSpec"): {
        "dnsPolicy": ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"),
        "preemptionPolicy": ("Never", "PreemptLowerPriority"),
        "restartPolicy": ("Always", "Never", "OnFailure"),
    },
    ("core_v1", "SeccompProfile"): {"type": _PROFILES},
    ("core_v1", "SecurityContext"): {"procMount": ("Default", "Unmasked")},
    ("core_v1", "ServicePort"): {"protocol": _PROTOCOLS},
    ("core_v1", "ServiceSpec"): {
        "externalTrafficPolicy": ("Cluster", "Local"),
        "internalTrafficPolicy": ("Cluster", "Local"),
        "ipFamilies": _FAMILIES,
        "ipFamilyPolicy": ("PreferDualStack", "RequireDualStack", "SingleStack"),
        "sessionAffinity": ("ClientIP", "None"),
        "type": ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort"),
    },
    ("core_v1", "Taint"): {"effect": _EFFECTS},
    ("core_v1", "Toleration"): {"effect": _EFFECTS, "operator": ("Equal", "Exists")},
    ("core_v1", "TopologySpreadConstraint"): {"whenUnsatisfiable": ("DoNotSchedule", "ScheduleAnyway")},
    ("core_v1", "VolumeMount"): {"mountPropagation": ("Bidirectional", "HostToContainer", "None")},
    ("apps_v1", "DeploymentStrategy"): {"type": ("Recreate", "RollingUpdate")},
    ("apps_v1", "StatefulSetSpec"): {"podManagementPolicy": ("OrderedReady", "Parallel")},
    ("apps_v1", "StatefulSetUpdateStrategy"): {"type": ("OnDelete", "RollingUpdate")},
    ("batch_v1", "CronJobSpec"): {"concurrencyPolicy": ("Allow", "Forbid", "Replace")},
    ("discovery_v1", "EndpointSlice"): {"addressType": ("FQDN", "IPv4", "IPv6")},
}


def enum_of(module: str, struct: str, field: str) -> tuple[str, ...]:
    """The words that this field takes, in alphabetical order; none where it is free."""
    return _WORDS.get((module, struct), {}).get(field, ())
