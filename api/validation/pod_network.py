"""Validation of a pod's names and its place in the network: DNS, host names, aliases, ports of the host."""

from __future__ import annotations

import re

from barque.api import names
from barque.api.errors import FieldError, forbidden, invalid, required, too_long
from barque.api.types.core_v1 import HostAlias, PodDNSConfig, PodSpec
from barque.api.validation.checks import spelt
from barque.api.validation.choices import ip_address

# What the resolver of Linux's C library takes.
_MAX_NAMESERVERS = 3
_MAX_SEARCHES = 32
_MAX_SEARCH_CHARACTERS = 2048
_MAX_HOSTNAME = 64
_MAX_SUBDOMAIN = 253

# Search domains may have underscores, as those of service discovery do.
_SEARCH_LABEL = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_SEARCH = rf"{_SEARCH_LABEL}(\.{_SEARCH_LABEL})*"
_is_search = re.compile(_SEARCH, re.ASCII).fullmatch
_SEARCH_WORDS = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must "
    f"start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{_SEARCH}')"
)


def check_dns_config(config: PodDNSConfig | None, policy: str, path: str) -> list[FieldError]:
    if policy == "None":
        if config is None:
            return [required(path, "must provide `dnsConfig` when `dnsPolicy` is None")]
        if not config.nameservers:
            why = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            return [required(f"{path}.nameservers", why)]
    if config is None:
        return []
    faults: list[FieldError] = []
    if len(config.nameservers) > _MAX_NAMESERVERS:
        why = f"must not have more than {_MAX_NAMESERVERS} nameservers"
        faults.append(invalid(f"{path}.nameservers", config.nameservers, why))
    for index, nameserver in enumerate(config.nameservers):
        faults += ip_address(f"{path}.nameservers[{index}]", nameserver)
    faults += _check_searches(config.searches, f"{path}.searches")
    for index, option in enumerate(config.options):
        if not option.name:
            faults.append(required(f"{path}.options[{index}]", "must not be empty"))
    return faults


def check_host_aliases(aliases: list[HostAlias], path: str) -> list[FieldError]:
    faults: list[FieldError] = []
    for index, alias in enumerate(aliases):
        faults += ip_address(f"{path}[{index}].ip", alias.ip)
        for at, hostname in enumerate(alias.hostnames):
            faults += spelt(f"{path}[{index}].hostnames[{at}]", hostname, names.dns1123_subdomain)
    return faults


def check_hostname_override(spec: PodSpec, path: str) -> list[FieldError]:
    override = spec.hostnameOverride
    if override is None:
        return []
    faults: list[FieldError] = []
    if spec.setHostnameAsFQDN:
        faults.append(forbidden(path, "may not be specified when setHostnameAsFQDN is true"))
    if spec.hostNetwork:
        faults.append(forbidden(path, "may not be specified when hostNetwork is true"))
    if len(override) > _MAX_HOSTNAME:
        faults.append(too_long(path, _MAX_HOSTNAME))
    return [*faults, *spelt(path, override, names.dns1123_subdomain)]


def check_host_network_ports(spec: PodSpec, path: str, of_pod: bool) -> list[FieldError]:
    """On the host's network a port is the host's; a template may leave it to its pods to say so."""
    if not spec.hostNetwork:
        return []
    faults: list[FieldError] = []
    for index, container in enumerate(spec.containers):
        for at, port in enumerate(container.ports):
            if (of_pod or port.hostPort) and port.hostPort != port.containerPort:
                why = "must match `containerPort` when `hostNetwork` is true"
                faults.append(invalid(f"{path}[{index}].ports[{at}].hostPort", port.hostPort or 0, why))
    return faults


def _check_searches(searches: list[str], path: str) -> list[FieldError]:
    faults: list[FieldError] = []
    if len(searches) > _MAX_SEARCHES:
        faults.append(invalid(path, searches, f"must not have more than {_MAX_SEARCHES} search paths"))
    if len(" ".join(searches)) > _MAX_SEARCH_CHARACTERS:
        why = f"must not have more than {_MAX_SEARCH_CHARACTERS} characters (including spaces) in the search list"
        faults.append(invalid(path, searches, why))
    for index, search in enumerate(searches):
        if search == ".":
            continue
        domain = search.removesuffix(".")
        if len(domain) > _MAX_SUBDOMAIN:
            why = f"must be no more than {_MAX_SUBDOMAIN} characters"
            faults.append(invalid(f"{path}[{index}]", domain, why))
        if not _is_search(domain):
            faults.append(invalid(f"{path}[{index}]", domain, _SEARCH_WORDS))
    return faults
