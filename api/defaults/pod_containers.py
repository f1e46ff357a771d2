"""Defaults of containers of all three kinds: pull policy, ports, environment, probes, hooks, amounts."""

from __future__ import annotations

from barque.api.defaults.amounts import canonical_or_same, canonicalise
from barque.api.defaults.images import pull_policy
from barque.api.types.core_v1 import (
    Container,
    EphemeralContainer,
    GRPCAction,
    HTTPGetAction,
    Lifecycle,
    Probe,
    ResourceFieldSelector,
)


def default_container(container: Container | EphemeralContainer) -> None:
    container.terminationMessagePath = container.terminationMessagePath or "/dev/termination-log"
    container.terminationMessagePolicy = container.terminationMessagePolicy or "File"
    container.imagePullPolicy = container.imagePullPolicy or pull_policy(container.image)
    for port in container.ports:
        port.protocol = port.protocol or "TCP"
    for variable in container.env:
        if variable.valueFrom is not None and variable.valueFrom.fieldRef is not None:
            variable.valueFrom.fieldRef.apiVersion = variable.valueFrom.fieldRef.apiVersion or "v1"
        elif variable.valueFrom is not None and variable.valueFrom.resourceFieldRef is not None:
            default_divisor(variable.valueFrom.resourceFieldRef)
    for probe in (container.livenessProbe, container.readinessProbe, container.startupProbe):
        if probe is not None:
            _default_probe(probe)
    if container.lifecycle is not None:
        _default_hooks(container.lifecycle)
    if container.resources is not None:
        canonicalise(container.resources.limits)
        canonicalise(container.resources.requests)


def default_divisor(reference: ResourceFieldSelector) -> None:
    """An unset divisor is stored as "0", which means one."""
    reference.divisor = "0" if reference.divisor is None else canonical_or_same(reference.divisor)


def _default_probe(probe: Probe) -> None:
    probe.timeoutSeconds = probe.timeoutSeconds or 1
    probe.periodSeconds = probe.periodSeconds or 10
    probe.successThreshold = probe.successThreshold or 1
    probe.failureThreshold = probe.failureThreshold or 3
    if probe.httpGet is not None:
        _default_http(probe.httpGet)
    if probe.grpc is not None:
        _default_grpc(probe.grpc)


def _default_hooks(hooks: Lifecycle) -> None:
    for handler in (hooks.postStart, hooks.preStop):
        if handler is not None and handler.httpGet is not None:
            _default_http(handler.httpGet)


def _default_http(action: HTTPGetAction) -> None:
    action.path = action.path or "/"
    action.scheme = action.scheme or "HTTP"


def _default_grpc(action: GRPCAction) -> None:
    # The service's name is shown even where it is empty, which asks for the server as a whole.
    action.service = action.service or ""
