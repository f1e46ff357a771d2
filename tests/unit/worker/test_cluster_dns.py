"""How the worker is told of cluster DNS, and how its pods are."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from barque.network.dns.upstreams import Server
from barque.worker import command
from barque.worker.pods.env import Sources
from barque.worker.pods.names import ClusterDns
from barque.worker.settings import Settings
from barque.worker.volumes import volumes
from barque.worker.volumes.payloads import Held
from barque.worker.volumes.volumes import PodVolumes
from tests.support.worker_world import FakeMounter, a_container, a_pod


def told(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[Result, list[Settings]]:
    """What `barque worker run` makes of its options."""
    found: list[Settings] = []

    async def run(settings: Settings) -> None:
        found.append(settings)

    monkeypatch.setattr("barque.worker.daemon.run", run)
    return CliRunner().invoke(command.worker, ["run", *arguments]), found


def test_the_address_is_the_service_ranges_tenth(monkeypatch: pytest.MonkeyPatch) -> None:
    _, (plain,) = told(monkeypatch)
    assert (plain.dns_address, plain.dns_ttl_s, plain.stub_domains) == ("10.96.0.10", 5, ())
    _, (other,) = told(monkeypatch, "--service-cidr", "172.30.0.0/16")
    assert other.dns_address == "172.30.0.10"
    _, (own,) = told(monkeypatch, "--cluster-dns", "172.30.0.53", "--dns-ttl", "30")
    assert (own.dns_address, own.dns_ttl_s) == ("172.30.0.53", 30)


def test_stub_domains_may_be_several(monkeypatch: pytest.MonkeyPatch) -> None:
    _, (found,) = told(monkeypatch, "--stub-domain", "a.b=10.0.0.1,10.0.0.2", "--stub-domain", "c=10.0.0.3:5353")
    assert [(str(stub.domain), stub.servers) for stub in found.stub_domains] == [
        ("a.b.", (Server("10.0.0.1"), Server("10.0.0.2"))),
        ("c.", (Server("10.0.0.3", 5353),)),
    ]


@pytest.mark.parametrize(
    ("option", "value", "why"),
    [
        ("--stub-domain", "a.b", "'a.b' must be DOMAIN=SERVER[,SERVER]"),
        ("--cluster-dns", "dns.example", "Expected 4 octets in 'dns.example'"),
        ("--dns-ttl", "3601", "3601 is not in the range 0<=x<=3600"),
    ],
)
def test_a_wrong_option_is_named(monkeypatch: pytest.MonkeyPatch, option: str, value: str, why: str) -> None:
    result, found = told(monkeypatch, option, value)
    assert (result.exit_code, found) == (2, [])
    assert option in result.output
    assert why in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({}, "nameserver 10.96.0.10\nsearch default.svc.cluster.local svc.cluster.local cluster.local lan\n"
             "options ndots:5\n"),
        ({"dnsPolicy": "Default"}, "nameserver 192.0.2.1\nsearch lan\n"),
        ({"hostNetwork": True}, "nameserver 192.0.2.1\nsearch lan\n"),
        ({"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"},
         "nameserver 10.96.0.10\nsearch default.svc.cluster.local svc.cluster.local cluster.local lan\n"
         "options ndots:5\n"),
    ],
)  # fmt: skip
def test_pods_are_told_by_their_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: dict[str, object], text: str
) -> None:
    of_host = tmp_path / "resolv.conf"
    of_host.write_text("nameserver 192.0.2.1\nsearch lan\n")
    monkeypatch.setattr(volumes, "RESOLV_CONF", of_host)
    made = PodVolumes(tmp_path / "pods", FakeMounter(), dns=ClusterDns(("10.96.0.10",)))
    pod = a_pod("p", a_container(), **spec)
    made.prepare(pod, "10.0.0.2", Held(Sources({}, {})))
    assert (tmp_path / "pods" / pod.metadata.uid / "etc/resolv.conf").read_text() == text
