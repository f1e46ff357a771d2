"""What a pod calls itself, and the files by which it finds others."""

from __future__ import annotations

from typing import Any

import pytest

from barque.api.types import core_v1
from barque.worker.pods import names
from barque.worker.pods.env import ConfigError
from barque.worker.pods.names import ClusterDns
from tests.support.worker_world import a_pod

HOST = "# hi\nnameserver 10.0.0.53\nsearch lab.example\noptions ndots:1 rotate\n"
DNS = ClusterDns(("10.96.0.10",))
LOCAL = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ({}, "p"),
        ({"hostname": "other"}, "other"),
        ({"hostname": "other", "subdomain": "sub"}, "other"),
        ({"subdomain": "sub", "setHostnameAsFQDN": True}, "p.sub.default.svc.cluster.local"),
        ({"setHostnameAsFQDN": True}, "p"),
        ({"hostname": "other", "subdomain": "sub", "hostnameOverride": "mine.example"}, "mine.example"),
    ],
)
def test_host_names(spec: dict[str, Any], found: str) -> None:
    assert names.hostname(a_pod("p", **spec)) == found


def test_a_long_name_is_cut_and_a_long_full_name_refused() -> None:
    assert names.hostname(a_pod("a" * 62 + ".b")) == "a" * 62
    with pytest.raises(ConfigError) as refused:
        names.hostname(a_pod("a" * 40, subdomain="sub", setHostnameAsFQDN=True))
    full = "a" * 40 + ".sub.default.svc.cluster.local"
    assert str(refused.value) == (
        f"failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long "
        f"(64 characters is the max, {len(full)} characters requested)"
    )


def test_hosts() -> None:
    assert names.hosts(a_pod(), "") == f"# Kubernetes-managed hosts file.\n{LOCAL}"
    assert names.hosts(a_pod(), "10.0.0.2") == f"# Kubernetes-managed hosts file.\n{LOCAL}10.0.0.2\tp\n"
    alias = core_v1.HostAlias(ip="10.9.9.9", hostnames=["x", "y"])
    assert names.hosts(a_pod(subdomain="sub", hostAliases=[alias]), "10.0.0.2") == (
        f"# Kubernetes-managed hosts file.\n{LOCAL}10.0.0.2\tp.sub.default.svc.cluster.local\tp\n"
        "\n# Entries added by HostAliases.\n10.9.9.9\tx\ty\n"
    )
    assert names.hosts(a_pod(hostNetwork=True, hostAliases=[alias]), "10.0.0.2", "127.0.0.1 localhost\n") == (
        "# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n"
        "\n# Entries added by HostAliases.\n10.9.9.9\tx\ty\n"
    )


NODE_FILE = "nameserver 10.0.0.53\nsearch lab.example\noptions ndots:1 rotate\n"
CLUSTER_FILE = (
    "nameserver 10.96.0.10\nsearch default.svc.cluster.local svc.cluster.local cluster.local lab.example\n"
    "options ndots:5\n"
)


@pytest.mark.parametrize(
    ("policy", "host_network", "text"),
    [
        ("ClusterFirst", False, CLUSTER_FILE),
        ("ClusterFirst", True, NODE_FILE),
        ("ClusterFirstWithHostNet", True, CLUSTER_FILE),
        ("Default", False, NODE_FILE),
        ("None", False, "\n"),
    ],
)
def test_resolv_conf_by_policy(policy: str, host_network: bool, text: str) -> None:
    assert names.resolv_conf(a_pod(dnsPolicy=policy, hostNetwork=host_network), HOST, DNS) == text


def test_without_cluster_dns_the_nodes_is_used() -> None:
    assert names.resolv_conf(a_pod(dnsPolicy="ClusterFirst"), HOST) == NODE_FILE


def test_dns_config_adds_and_overrides() -> None:
    extra = core_v1.PodDNSConfig(
        nameservers=["10.0.0.53", "9.9.9.9", "9.9.9.10", "9.9.9.11"],
        searches=["lab.example", "more.example"],
        options=[core_v1.PodDNSConfigOption(name="ndots", value="2"), core_v1.PodDNSConfigOption(name="edns0")],
    )
    assert names.resolv_conf(a_pod(dnsPolicy="Default", dnsConfig=extra), HOST) == (
        "nameserver 10.0.0.53\nnameserver 9.9.9.9\nnameserver 9.9.9.10\n"
        "search lab.example more.example\noptions rotate ndots:2 edns0\n"
    )


def test_what_is_left_out_of_the_dns_is_said() -> None:
    extra = core_v1.PodDNSConfig(
        nameservers=[f"9.9.9.{n}" for n in range(1, 5)], searches=[f"d{n}.example" for n in range(33)]
    )
    pod = a_pod(dnsPolicy="None", dnsConfig=extra)
    assert names.dns_limits(pod, "") == [
        "Nameserver limits were exceeded, some nameservers have been omitted, "
        "the applied nameserver line is: 9.9.9.1 9.9.9.2 9.9.9.3",
        "Search Line limits were exceeded, some search paths have been omitted, "
        f"the applied search line is: {' '.join(f'd{n}.example' for n in range(32))}",
    ]
    assert names.dns_limits(a_pod(dnsPolicy="ClusterFirst"), HOST, DNS) == []


def test_more_search_domains_than_fit_are_left_out() -> None:
    def searched(*domains: str) -> list[str]:
        extra = core_v1.PodDNSConfig(searches=list(domains))
        return names.resolv_conf(a_pod(dnsPolicy="None", dnsConfig=extra), "").split()[1:]

    assert len(searched(*(f"d{n}" for n in range(40)))) == 32
    assert len(searched(*(f"d{n}.{'x' * 200}" for n in range(12)))) == 10
