"""Validation of probes and of the hooks around a container's life."""

from __future__ import annotations

from typing import NamedTuple

from barque.api import names
from barque.api.errors import FieldError, forbidden, invalid, not_supported, required
from barque.api.types.base import IntOrString
from barque.api.types.core_v1 import (
    Container,
    ExecAction,
    GRPCAction,
    HTTPGetAction,
    Lifecycle,
    LifecycleHandler,
    Probe,
    SleepAction,
    TCPSocketAction,
)
from barque.api.validation.checks import not_negative, port_or_name, spelt
from barque.api.validation.choices import choice

_SCHEMES = ("HTTP", "HTTPS")
_SECONDS_AND_COUNTS = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
_WINDOWS_SIGNALS = ("SIGKILL", "SIGTERM")
_NAMED_SIGNALS = (
    "SIGABRT", "SIGALRM", "SIGBUS", "SIGCHLD", "SIGCLD", "SIGCONT", "SIGFPE", "SIGHUP", "SIGILL", "SIGINT", "SIGIO",
    "SIGIOT", "SIGKILL", "SIGPIPE", "SIGPOLL", "SIGPROF", "SIGPWR", "SIGQUIT", "SIGSEGV", "SIGSTKFLT", "SIGSTOP",
    "SIGSYS", "SIGTERM", "SIGTRAP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGUSR1", "SIGUSR2", "SIGVTALRM",
    "SIGWINCH", "SIGXCPU", "SIGXFSZ", "SIGRTMIN", "SIGRTMAX",
)  # fmt: skip
_SIGNALS = sorted((*_NAMED_SIGNALS, *(f"SIGRTMIN+{n}" for n in range(1, 16)), *(f"SIGRTMAX-{n}" for n in range(1, 15))))


class _Handler(NamedTuple):
    """What a probe or a hook does: one of these."""

    exec: ExecAction | None
    http_get: HTTPGetAction | None
    tcp_socket: TCPSocketAction | None
    grpc: GRPCAction | None
    sleep: SleepAction | None


def check_probes(container: Container, path: str, grace_s: int | None) -> list[FieldError]:
    """The three probes and the hooks of a container that may have them."""
    faults: list[FieldError] = []
    if container.livenessProbe is not None:
        faults += _check_probe(container.livenessProbe, f"{path}.livenessProbe", grace_s)
        faults += _check_single_success(container.livenessProbe, f"{path}.livenessProbe")
    if container.readinessProbe is not None:
        below = f"{path}.readinessProbe"
        faults += _check_probe(container.readinessProbe, below, grace_s)
        own_grace_s = container.readinessProbe.terminationGracePeriodSeconds
        if own_grace_s is not None:
            why = "must not be set for readinessProbes"
            faults.append(invalid(f"{below}.terminationGracePeriodSeconds", own_grace_s, why))
    if container.startupProbe is not None:
        faults += _check_probe(container.startupProbe, f"{path}.startupProbe", grace_s)
        faults += _check_single_success(container.startupProbe, f"{path}.startupProbe")
    return faults


def check_hooks(hooks: Lifecycle, path: str, grace_s: int | None, os: str | None) -> list[FieldError]:
    """What runs after the start and before the stop; `os` is the pod's own word on it, None without one."""
    faults: list[FieldError] = []
    if hooks.postStart is not None:
        faults += _check_handler(_of_hook(hooks.postStart), f"{path}.postStart", grace_s)
    if hooks.preStop is not None:
        faults += _check_handler(_of_hook(hooks.preStop), f"{path}.preStop", grace_s)
    if hooks.stopSignal:
        faults += _check_signal(hooks.stopSignal, f"{path}.stopSignal", os)
    return faults


def _check_probe(probe: Probe, path: str, grace_s: int | None) -> list[FieldError]:
    handler = _Handler(probe.exec, probe.httpGet, probe.tcpSocket, probe.grpc, None)
    faults = _check_handler(handler, path, grace_s)
    for name in _SECONDS_AND_COUNTS:
        faults += not_negative(f"{path}.{name}", getattr(probe, name))
    own_grace_s = probe.terminationGracePeriodSeconds
    if own_grace_s is not None and own_grace_s <= 0:
        faults.append(invalid(f"{path}.terminationGracePeriodSeconds", own_grace_s, "must be greater than 0"))
    return faults


def _check_single_success(probe: Probe, path: str) -> list[FieldError]:
    if probe.successThreshold == 1:
        return []
    return [invalid(f"{path}.successThreshold", probe.successThreshold, "must be 1")]


def _of_hook(hook: LifecycleHandler) -> _Handler:
    return _Handler(hook.exec, hook.httpGet, hook.tcpSocket, None, hook.sleep)


def _check_handler(handler: _Handler, path: str, grace_s: int | None) -> list[FieldError]:
    """Exactly one handler; of several, the first is judged and the others are too many."""
    found: list[tuple[str, list[FieldError]]] = []
    if handler.exec is not None:
        found.append(("exec", [] if handler.exec.command else [required(f"{path}.exec.command")]))
    if handler.http_get is not None:
        found.append(("httpGet", _check_http(handler.http_get, f"{path}.httpGet")))
    if handler.tcp_socket is not None:
        found.append(("tcpSocket", _check_port(handler.tcp_socket.port, f"{path}.tcpSocket.port")))
    if handler.grpc is not None:
        found.append(("grpc", _check_port(handler.grpc.port, f"{path}.grpc.port")))
    if handler.sleep is not None:
        found.append(("sleep", _check_sleep(handler.sleep, f"{path}.sleep", grace_s)))
    if not found:
        return [required(path, "must specify a handler type")]
    extra = [forbidden(f"{path}.{name}", "may not specify more than 1 handler type") for name, _ in found[1:]]
    return [*found[0][1], *extra]


def _check_port(port: IntOrString | None, path: str) -> list[FieldError]:
    return [required(path)] if port is None else port_or_name(path, port)


def _check_http(action: HTTPGetAction, path: str) -> list[FieldError]:
    faults = [] if action.path else [required(f"{path}.path")]
    faults += _check_port(action.port, f"{path}.port")
    faults += choice(f"{path}.scheme", action.scheme, _SCHEMES)
    for index, header in enumerate(action.httpHeaders):
        faults += spelt(f"{path}.httpHeaders[{index}].name", header.name, names.http_header_name)
    return faults


def _check_sleep(action: SleepAction, path: str, grace_s: int | None) -> list[FieldError]:
    if grace_s is None or 0 <= action.seconds <= grace_s:
        return []
    why = f"must be non-negative and less than terminationGracePeriodSeconds ({grace_s})"
    return [invalid(path, action.seconds, why)]


def _check_signal(signal: str, path: str, os: str | None) -> list[FieldError]:
    if os is None:
        return [forbidden(path, "may not be set for containers with empty `spec.os.name`")]
    supported = {"windows": list(_WINDOWS_SIGNALS), "linux": _SIGNALS}.get(os)
    return [] if supported is None or signal in supported else [not_supported(path, signal, supported)]
