"""Validation of Windows' security options, and of pods that run as processes of their Windows host."""

from __future__ import annotations

import re
from collections.abc import Iterable

from barque.api import names
from barque.api.errors import FieldError, invalid
from barque.api.types.core_v1 import Container, EphemeralContainer, PodSpec, WindowsSecurityContextOptions
from barque.api.validation.checks import spelt

_MAX_SPEC_KIB = 64
_MAX_DOMAIN = 256
_MAX_USER = 104
_CONTROL = re.compile(r"[\x00-\x1f\x7f]").search
_is_net_bios = re.compile(r'[^\\/:*?"<>|.][^\\/:*?"<>|]{0,14}').fullmatch
_DNS_LABEL = "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_is_dns_domain = re.compile(rf"{_DNS_LABEL}(?:\.{_DNS_LABEL})*", re.ASCII).fullmatch
_FORBIDDEN_IN_USER = frozenset('"/\\:;|=,+*?<>@[]')


def check_options(options: WindowsSecurityContextOptions, path: str) -> list[FieldError]:
    faults: list[FieldError] = []
    if options.gmsaCredentialSpecName:
        faults += spelt(f"{path}.gmsaCredentialSpecName", options.gmsaCredentialSpecName, names.dns1123_subdomain)
    if len(options.gmsaCredentialSpec.encode()) > _MAX_SPEC_KIB * 1024:
        why = f"gmsaCredentialSpec size must be under {_MAX_SPEC_KIB} KiB"
        faults.append(invalid(f"{path}.gmsaCredentialSpec", options.gmsaCredentialSpec, why))
    if options.runAsUserName:
        faults += [invalid(f"{path}.runAsUserName", options.runAsUserName, w) for w in _judge(options.runAsUserName)]
    return faults


def check_host_processes(
    spec: PodSpec, path: str, containers: Iterable[tuple[Container | EphemeralContainer, str]]
) -> list[FieldError]:
    """Containers that are processes of the host: all of a pod's or none, and on the host's network.

    `containers` are the pod's, each with the path to it.
    """
    of_pod = _host_process(spec)
    faults: list[FieldError] = []
    own: list[bool | None] = []
    for container, below in containers:
        of_container = _host_process(container)
        own.append(of_pod if of_container is None else of_container)
        if of_pod is not None and of_container is not None and of_pod != of_container:
            shown = str(of_pod).lower()
            why = f"pod hostProcess value must be identical if both are specified, was {shown}"
            faults.append(invalid(f"{below}.securityContext.windowsOptions.hostProcess", of_container, why))
    if not any(own):
        return faults
    if not all(own):
        why = "If pod contains any hostProcess containers then all containers must be HostProcess containers"
        faults.append(invalid(path, "", why))
    if not spec.hostNetwork:
        why = "hostNetwork must be true if pod contains any hostProcess containers"
        faults.append(invalid(f"{path}.hostNetwork", False, why))
    return faults


def _host_process(holder: PodSpec | Container | EphemeralContainer) -> bool | None:
    context = holder.securityContext
    return context.windowsOptions.hostProcess if context is not None and context.windowsOptions is not None else None


def _judge(user_name: str) -> list[str]:
    """What is wrong with `DOMAIN\\user` or `user`."""
    if _CONTROL(user_name):
        return ["runAsUserName cannot contain control characters"]
    parts = user_name.split("\\")
    if len(parts) > 2:
        return ["runAsUserName cannot contain more than one backslash"]
    faults = _judge_domain(parts[0]) if len(parts) == 2 else []
    user = parts[-1]
    if not user:
        faults.append("runAsUserName's User cannot be empty")
    elif len(user) > _MAX_USER:
        faults.append(f"runAsUserName's User length must not be longer than {_MAX_USER} characters")
    if user and not user.strip(". "):
        faults.append("runAsUserName's User cannot contain only periods or spaces")
    if _FORBIDDEN_IN_USER.intersection(user):
        faults.append("runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]")
    return faults


def _judge_domain(domain: str) -> list[str]:
    faults = []
    if len(domain) >= _MAX_DOMAIN:
        faults.append(f"runAsUserName's Domain length must be under {_MAX_DOMAIN} characters")
    if not _is_net_bios(domain) and not _is_dns_domain(domain):
        faults.append("runAsUserName's Domain doesn't match the NetBios nor the DNS format")
    return faults
