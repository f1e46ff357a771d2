"""Defaults of pods and of pod templates.

As in Kubernetes, `enableServiceLinks`, requests taken from limits, and the status come only with a Pod itself: a
template leaves them to the pods made from it.
"""

from __future__ import annotations

from barque.api.defaults.amounts import canonical_or_same, canonicalise
from barque.api.podstatus import qos_class
from barque.api.types.core_v1 import (
    Container,
    EmptyDirVolumeSource,
    Pod,
    PodSecurityContext,
    PodSpec,
    PodTemplateSpec,
    Probe,
    Volume,
)
from barque.api.types.meta_v1 import ObjectMeta

_FILE_MODE = 0o644


def default_pod(pod: Pod) -> None:
    default_pod_spec(pod.spec)
    if pod.spec.enableServiceLinks is None:
        pod.spec.enableServiceLinks = True
    for container in pod.spec.containers:
        if container.resources is not None:
            for name, limit in container.resources.limits.items():
                container.resources.requests.setdefault(name, limit)
    pod.status.phase = pod.status.phase or "Pending"
    pod.status.qosClass = pod.status.qosClass or _qos_class(pod.spec)


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
        spec.terminationGracePeriodSeconds = 30
    if spec.securityContext is None:
        spec.securityContext = PodSecurityContext()
    # serviceAccount is the older name of serviceAccountName; both are always shown.
    spec.serviceAccountName = spec.serviceAccountName or spec.serviceAccount
    spec.serviceAccount = spec.serviceAccountName
    for container in spec.containers:
        _default_container(container)
    for volume in spec.volumes:
        _default_volume(volume)


def _default_container(container: Container) -> None:
    container.terminationMessagePath = container.terminationMessagePath or "/dev/termination-log"
    container.terminationMessagePolicy = container.terminationMessagePolicy or "File"
    container.imagePullPolicy = container.imagePullPolicy or _pull_policy(container.image)
    for port in container.ports:
        port.protocol = port.protocol or "TCP"
    for variable in container.env:
        if variable.valueFrom is not None and variable.valueFrom.fieldRef is not None:
            variable.valueFrom.fieldRef.apiVersion = variable.valueFrom.fieldRef.apiVersion or "v1"
    for probe in (container.livenessProbe, container.readinessProbe, container.startupProbe):
        if probe is not None:
            _default_probe(probe)
    if container.resources is not None:
        canonicalise(container.resources.limits)
        canonicalise(container.resources.requests)


def _default_probe(probe: Probe) -> None:
    probe.timeoutSeconds = probe.timeoutSeconds or 1
    probe.periodSeconds = probe.periodSeconds or 10
    probe.successThreshold = probe.successThreshold or 1
    probe.failureThreshold = probe.failureThreshold or 3
    if probe.httpGet is not None:
        probe.httpGet.path = probe.httpGet.path or "/"
        probe.httpGet.scheme = probe.httpGet.scheme or "HTTP"


def _default_volume(volume: Volume) -> None:
    if volume == Volume(name=volume.name):
        volume.emptyDir = EmptyDirVolumeSource()
    if volume.configMap is not None and volume.configMap.defaultMode is None:
        volume.configMap.defaultMode = _FILE_MODE
    if volume.secret is not None and volume.secret.defaultMode is None:
        volume.secret.defaultMode = _FILE_MODE
    if volume.emptyDir is not None and volume.emptyDir.sizeLimit is not None:
        volume.emptyDir.sizeLimit = canonical_or_same(volume.emptyDir.sizeLimit)


def _pull_policy(image: str) -> str:
    """Always where the image names no fixed version: tag `latest`, or neither tag nor digest."""
    name, at, _digest = image.partition("@")
    # A colon before the last slash belongs to the registry's port.
    _repository, colon, tag = name.rpartition("/")[2].partition(":")
    unversioned = bool(image) and not at and not colon
    return "Always" if unversioned or tag == "latest" else "IfNotPresent"


def _qos_class(spec: PodSpec) -> str:
    try:
        return qos_class(spec)
    except ValueError:  # a quantity that validation will name
        return ""
