"""What a pod calls itself and how it finds others: its host name, its /etc/hosts, its /etc/resolv.conf. Pure.

The files are those that Kubernetes writes, line for line.
"""

from __future__ import annotations

from typing import NamedTuple

from barque.api.types import core_v1
from barque.worker.pods.env import ConfigError

CLUSTER_DOMAIN = "cluster.local"
# gethostname(2) gives no more; a label of DNS has one less.
_MAX_HOSTNAME, _MAX_LABEL = 64, 63
# glibc reads no more than so many servers, and Kubernetes writes no more than so many search domains.
MAX_NAMESERVERS, MAX_SEARCHES, MAX_SEARCH_CHARACTERS = 3, 32, 2048
_OWN_HEAD = "# Kubernetes-managed hosts file."
_HOST_HEAD = "# Kubernetes-managed hosts file (host network)."
_LOCAL = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""


class ClusterDns(NamedTuple):
    """Where the cluster's names are resolved."""

    servers: tuple[str, ...]
    domain: str = CLUSTER_DOMAIN


def shown(pod: core_v1.Pod) -> str:
    """The pod as Kubernetes' messages name it."""
    return f"{pod.metadata.name}_{pod.metadata.namespace}({pod.metadata.uid})"


def hostname(pod: core_v1.Pod) -> str:
    """The host name within the pod. Raises `ConfigError` where it is too long."""
    if pod.spec.hostnameOverride:
        return pod.spec.hostnameOverride
    short, full = short_name(pod), domain_name(pod)
    if not (pod.spec.setHostnameAsFQDN and full):
        return short
    if len(full) > _MAX_HOSTNAME:
        raise ConfigError(
            f"failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long "
            f"({_MAX_HOSTNAME} characters is the max, {len(full)} characters requested)"
        )
    return full


def short_name(pod: core_v1.Pod) -> str:
    return (pod.spec.hostname or pod.metadata.name)[:_MAX_LABEL].rstrip("-.")


def domain_name(pod: core_v1.Pod, domain: str = CLUSTER_DOMAIN) -> str:
    """The pod's name in the cluster's domain; "" for a pod without a subdomain."""
    if not pod.spec.subdomain or pod.spec.hostnameOverride:
        return ""
    return f"{short_name(pod)}.{pod.spec.subdomain}.{pod.metadata.namespace}.svc.{domain}"


def hosts(pod: core_v1.Pod, address: str, of_host: str = "") -> str:
    """/etc/hosts of a pod; without its own line while it has no address. `of_host` is the node's file, which a pod on
    the node's network keeps.
    """
    if pod.spec.hostNetwork:
        text = f"{_HOST_HEAD}\n{of_host}"
    else:
        text = f"{_OWN_HEAD}\n{_LOCAL}"
        if address:
            names = [name for name in (domain_name(pod), pod.spec.hostnameOverride or short_name(pod)) if name]
            text += "\t".join([address, *names]) + "\n"
    if pod.spec.hostAliases:
        text += "\n# Entries added by HostAliases.\n"
        text += "".join("\t".join([alias.ip, *alias.hostnames]) + "\n" for alias in pod.spec.hostAliases)
    return text


class _Lookup(NamedTuple):
    servers: list[str]
    searches: list[str]
    options: list[str]


def resolv_conf(pod: core_v1.Pod, of_host: str, cluster: ClusterDns | None = None) -> str:
    """/etc/resolv.conf of a pod by its dnsPolicy and dnsConfig; `of_host` is the node's file.

    Without cluster DNS a pod that asks for it uses the node's, as in Kubernetes.
    """
    found = _wanted(pod, of_host, cluster)
    lines = [f"nameserver {server}" for server in found.servers[:MAX_NAMESERVERS]]
    if searches := _fitting(found.searches):
        lines.append(f"search {' '.join(searches)}")
    if found.options:
        lines.append(f"options {' '.join(found.options)}")
    return "\n".join(lines) + "\n"


def dns_limits(pod: core_v1.Pod, of_host: str, cluster: ClusterDns | None = None) -> list[str]:
    """What of a pod's DNS `resolv_conf` had to leave out, in the kubelet's words."""
    found, said = _wanted(pod, of_host, cluster), []
    servers, searches = found.servers[:MAX_NAMESERVERS], _fitting(found.searches)
    if servers != found.servers:
        said.append(
            "Nameserver limits were exceeded, some nameservers have been omitted, "
            f"the applied nameserver line is: {' '.join(servers)}"
        )
    if searches != found.searches:
        said.append(
            "Search Line limits were exceeded, some search paths have been omitted, "
            f"the applied search line is: {' '.join(searches)}"
        )
    return said


def _wanted(pod: core_v1.Pod, of_host: str, cluster: ClusterDns | None) -> _Lookup:
    """All that the policy and the pod's own dnsConfig ask for."""
    found = _by_policy(pod, _parse(of_host), cluster)
    extra = pod.spec.dnsConfig
    if extra is not None:
        own = {o.name: f"{o.name}:{o.value}" if o.value else o.name for o in extra.options}
        found = _Lookup(
            list(dict.fromkeys([*found.servers, *extra.nameservers])),
            list(dict.fromkeys([*found.searches, *extra.searches])),
            [o for o in found.options if o.partition(":")[0] not in own] + list(own.values()),
        )
    return found


def _by_policy(pod: core_v1.Pod, host: _Lookup, cluster: ClusterDns | None) -> _Lookup:
    policy = pod.spec.dnsPolicy
    if policy == "None":
        return _Lookup([], [], [])
    wants_cluster = policy == "ClusterFirstWithHostNet" or (policy != "Default" and not pod.spec.hostNetwork)
    if cluster is None or not wants_cluster:
        return host
    own = [f"{pod.metadata.namespace}.svc.{cluster.domain}", f"svc.{cluster.domain}", cluster.domain]
    return _Lookup(list(cluster.servers), list(dict.fromkeys([*own, *host.searches])), ["ndots:5"])


def _parse(text: str) -> _Lookup:
    """resolv.conf(5): of several search lines the last one counts."""
    found = _Lookup([], [], [])
    for line in text.splitlines():
        word, *rest = line.split() or [""]
        if word == "nameserver":
            found.servers.extend(rest[:1])
        elif word in ("search", "domain"):
            found.searches[:] = rest
        elif word == "options":
            found.options.extend(rest)
    return found


def _fitting(searches: list[str]) -> list[str]:
    kept = searches[:MAX_SEARCHES]
    while len(" ".join(kept)) > MAX_SEARCH_CHARACTERS:
        kept.pop()
    return kept
