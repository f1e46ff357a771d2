"""Defaults of pods and of pod templates.

In: a Pod or a template, changed in place. Out: what an API server of Kubernetes v1.36 would have stored. As there,
`enableServiceLinks`, requests taken from limits, pod-level resources, host ports of the host's network, and the status
come only with a Pod itself: a template leaves them to the pods made from it. Priority, tolerations of taints, service
account and its token volume come from admission, never from here; topology spread policies have no default.
"""

from __future__ import annotations

from barque.api.defaults.amounts import canonicalise
from barque.api.defaults.pod_containers import default_container
from barque.api.defaults.pod_resources import default_pod_resources, default_requests
from barque.api.defaults.pod_volumes import default_volume
from barque.api.podstatus import qos_class
from barque.api.types.core_v1 import Container, Pod, PodSecurityContext, PodSpec, PodTemplateSpec
from barque.api.types.meta_v1 import ObjectMeta

_GRACE_S = 30


def default_pod(pod: Pod) -> None:
    spec = pod.spec
    default_pod_spec(spec)
    default_requests(spec.containers)
    default_requests(spec.initContainers)
    if spec.resources is not None:
        default_pod_resources(spec)
    if spec.enableServiceLinks is None:
        spec.enableServiceLinks = True
    if spec.hostNetwork:
        _default_host_ports(spec.containers)
        _default_host_ports(spec.initContainers)
    pod.status.phase = pod.status.phase or "Pending"
    pod.status.qosClass = pod.status.qosClass or _qos_class(spec)


def default_template(template: PodTemplateSpec | None) -> PodTemplateSpec:
    """The template with its defaults; an absent one comes out empty, for validation to say what it lacks."""
    template = template or PodTemplateSpec()
    template.metadata = template.metadata or ObjectMeta()
    template.spec = template.spec or PodSpec()
    default_pod_spec(template.spec)
    return template


def default_pod_spec(spec: PodSpec) -> None:
    spec.restartPolicy = spec.restartPolicy or "Always"
    spec.dnsPolicy = spec.dnsPolicy or "ClusterFirst"
    spec.schedulerName = spec.schedulerName or "default-scheduler"
    if spec.terminationGracePeriodSeconds is None:
        spec.terminationGracePeriodSeconds = _GRACE_S
    if spec.securityContext is None:
        spec.securityContext = PodSecurityContext()
    # serviceAccount is the older name of serviceAccountName; both are always shown.
    spec.serviceAccountName = spec.serviceAccountName or spec.serviceAccount
    spec.serviceAccount = spec.serviceAccountName
    for container in spec.containers:
        default_container(container)
    for container in spec.initContainers:
        default_container(container)
    for debugger in spec.ephemeralContainers:
        default_container(debugger)
    for volume in spec.volumes:
        default_volume(volume)
    if spec.overhead:
        canonicalise(spec.overhead)
    if spec.resources is not None:
        canonicalise(spec.resources.limits)
        canonicalise(spec.resources.requests)


def _default_host_ports(containers: list[Container]) -> None:
    """On the host's network a container's port is the host's port."""
    for container in containers:
        for port in container.ports:
            port.hostPort = port.hostPort or port.containerPort


def _qos_class(spec: PodSpec) -> str:
    try:
        return qos_class(spec)
    except ValueError:  # a quantity that validation will name
        return ""
