"""What stands in a pod's files: ConfigMap and Secret volumes, /etc/hosts, /etc/resolv.conf. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

from barque.api.types import core_v1
from barque.worker.pods.env import ConfigError
from barque.worker.volumes.publish import FileContent

DEFAULT_MODE = 0o644
# glibc reads no more than so many.
MAX_NAMESERVERS = 3
_HOSTS_HEAD = """\
# Written by barque.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""


def config_map_files(
    source: core_v1.ConfigMapVolumeSource, config_map: core_v1.ConfigMap | None
) -> dict[str, FileContent]:
    """The files of a configMap volume. Raises `ConfigError` where it or a key it names is missing."""
    if config_map is None:
        if source.optional:
            return {}
        raise ConfigError(f'configmap "{source.name}" not found')
    data = {key: value.encode() for key, value in config_map.data.items()}
    data |= {key: base64.b64decode(value) for key, value in config_map.binaryData.items()}
    return _files(data, source.items, source.defaultMode, bool(source.optional), f'configmap "{source.name}"')


def secret_files(source: core_v1.SecretVolumeSource, secret: core_v1.Secret | None) -> dict[str, FileContent]:
    """The files of a secret volume. Raises `ConfigError` where it or a key it names is missing."""
    if secret is None:
        if source.optional:
            return {}
        raise ConfigError(f'secret "{source.secretName}" not found')
    data = {key: base64.b64decode(value) for key, value in secret.data.items()}
    return _files(data, source.items, source.defaultMode, bool(source.optional), f'secret "{source.secretName}"')


def _files(
    data: Mapping[str, bytes], items: Sequence[core_v1.KeyToPath], mode: int | None, optional: bool, what: str
) -> dict[str, FileContent]:
    default = DEFAULT_MODE if mode is None else mode
    if not items:
        return {key: FileContent(value, default) for key, value in data.items()}
    found: dict[str, FileContent] = {}
    for item in items:
        if item.key in data:
            found[item.path] = FileContent(data[item.key], default if item.mode is None else item.mode)
        elif not optional:
            raise ConfigError(f"{what} references non-existent key: {item.key}")
    return found


def hosts(address: str, hostname: str, subdomain: str, aliases: Sequence[core_v1.HostAlias]) -> str:
    """/etc/hosts of a pod; without its own line while it has no address."""
    lines = _HOSTS_HEAD
    if address:
        names = f"{hostname}.{subdomain}\t{hostname}" if subdomain else hostname
        lines += f"{address}\t{names}\n"
    for alias in aliases:
        lines += "\t".join([alias.ip, *alias.hostnames]) + "\n"
    return lines


def resolv_conf(pod: core_v1.Pod, host: str) -> str:
    """/etc/resolv.conf of a pod: the host's, unless dnsPolicy is None, with what dnsConfig adds."""
    nameservers: list[str] = []
    searches: list[str] = []
    options: list[str] = []
    if pod.spec.dnsPolicy != "None":
        for line in host.splitlines():
            word, _, rest = line.strip().partition(" ")
            if word == "nameserver":
                nameservers += rest.split()[:1]
            elif word in ("search", "domain"):
                searches = rest.split()
            elif word == "options":
                options += rest.split()
    extra = pod.spec.dnsConfig
    if extra is not None:
        nameservers = list(dict.fromkeys([*nameservers, *extra.nameservers]))
        searches = list(dict.fromkeys([*searches, *extra.searches]))
        own = {o.name: f"{o.name}:{o.value}" if o.value else o.name for o in extra.options}
        options = [o for o in options if o.partition(":")[0] not in own] + list(own.values())
    lines = [f"nameserver {server}" for server in nameservers[:MAX_NAMESERVERS]]
    if searches:
        lines.append(f"search {' '.join(searches)}")
    if options:
        lines.append(f"options {' '.join(options)}")
    return "\n".join(lines) + "\n"
