"""Names of the cluster, clause by clause of Kubernetes' DNS specification 1.1, and DNS' own rules about absence."""

import dns.message
import dns.rcode
import pytest

from tests.support.builders import ServiceBuilder, a_service
from tests.support.nameserver import NameServer, endpoints, external, headless


def web(name: str = "web", address: str = "10.96.0.7") -> ServiceBuilder:
    return a_service(name).cluster_ip(address).port(80, name="http").port(53, name="dns", protocol="UDP")


async def test_the_schema_version_is_told() -> None:
    assert await NameServer().told("dns-version.cluster.local", "TXT") == ['"1.1.0"']


async def test_a_service_has_its_cluster_ip() -> None:
    server = NameServer(web().build())
    answer = await server.ask("web.default.svc.cluster.local")
    assert [rrset.to_text() for rrset in answer.answer] == ["web.default.svc.cluster.local. 5 IN A 10.96.0.7"]
    assert answer.flags & dns.flags.AA
    assert await server.told("web.default.svc.cluster.local", "AAAA") == "NODATA"


async def test_a_service_of_both_families_has_both_addresses() -> None:
    service = web().build()
    service.spec.clusterIPs = ["10.96.0.7", "fd00::7"]
    server = NameServer(service)
    assert await server.told("web.default.svc.cluster.local", "AAAA") == ["fd00::7"]
    assert await server.told("web.default.svc.cluster.local", "A") == ["10.96.0.7"]


async def test_named_ports_have_srv_records_and_the_address_beside_them() -> None:
    answer = await NameServer(web().build()).ask("_http._tcp.web.default.svc.cluster.local", "SRV")
    assert [r.to_text() for r in answer.answer] == [
        "_http._tcp.web.default.svc.cluster.local. 5 IN SRV 0 100 80 web.default.svc.cluster.local."
    ]
    assert [r.to_text() for r in answer.additional] == ["web.default.svc.cluster.local. 5 IN A 10.96.0.7"]


@pytest.mark.parametrize("name", ["_http._udp", "_dns._tcp", "_ftp._tcp", "http._tcp", "_http.tcp", "a._http._tcp"])
async def test_a_port_that_is_not_there_has_no_name(name: str) -> None:
    assert await NameServer(web().build()).told(f"{name}.web.default.svc.cluster.local", "SRV") == "NXDOMAIN"


async def test_an_unnamed_port_has_no_srv_record() -> None:
    server = NameServer(a_service().cluster_ip("10.96.0.7").port(80).build())
    assert await server.told("_._tcp.web.default.svc.cluster.local", "SRV") == "NXDOMAIN"
    assert await server.told("_tcp.web.default.svc.cluster.local", "SRV") == "NXDOMAIN"
    assert await server.told("web.default.svc.cluster.local", "SRV") == ["0 100 80 web.default.svc.cluster.local."]


async def test_a_cluster_ip_has_its_services_name() -> None:
    server = NameServer(web().build())
    assert await server.told("7.0.96.10.in-addr.arpa", "PTR") == ["web.default.svc.cluster.local."]
    assert await server.told("7.0.96.10.in-addr.arpa", "A") == "NODATA"
    assert await server.told("8.0.96.10.in-addr.arpa", "PTR") == "NXDOMAIN"


async def test_a_headless_service_is_all_its_ready_endpoints_of_all_slices() -> None:
    server = NameServer(
        headless(),
        endpoints("10.244.1.2", "10.244.1.3"),
        endpoints("10.244.2.2", slice="2"),
        endpoints("10.244.2.9", slice="3", ready=False),
        endpoints("10.244.2.8", slice="4", ready=None),
    )
    assert await server.told("db.default.svc.cluster.local") == ["10.244.1.2", "10.244.1.3", "10.244.2.2", "10.244.2.8"]
    assert await server.told("db.default.svc.cluster.local", "AAAA") == "NODATA"


async def test_endpoints_of_the_other_family_are_told_apart() -> None:
    server = NameServer(headless(), endpoints("10.244.1.2"), endpoints("fd00::2", slice="6"))
    assert await server.told("db.default.svc.cluster.local", "A") == ["10.244.1.2"]
    assert await server.told("db.default.svc.cluster.local", "AAAA") == ["fd00::2"]
    answer = await server.ask("_pg._tcp.db.default.svc.cluster.local", "SRV")
    assert {dns.rdatatype.to_text(rrset.rdtype) for rrset in answer.additional} == {"A", "AAAA"}


async def test_a_headless_service_without_ready_endpoints_has_no_name() -> None:
    assert await NameServer(headless()).told("db.default.svc.cluster.local") == "NXDOMAIN"
    server = NameServer(headless(), endpoints("10.244.1.2", ready=False))
    assert await server.told("db.default.svc.cluster.local") == "NXDOMAIN"


async def test_addresses_that_are_not_ready_are_published_where_the_service_says_so() -> None:
    server = NameServer(headless(publishNotReadyAddresses=True), endpoints("10.244.1.2", ready=False))
    assert await server.told("db.default.svc.cluster.local") == ["10.244.1.2"]


async def test_pods_with_a_hostname_have_names_as_those_of_a_stateful_set() -> None:
    server = NameServer(headless(), endpoints(("db-0", "10.244.1.2"), ("db-1", "10.244.1.3")))
    assert await server.told("db-0.db.default.svc.cluster.local") == ["10.244.1.2"]
    assert await server.told("db-1.db.default.svc.cluster.local") == ["10.244.1.3"]
    assert await server.told("db-1.db.default.svc.cluster.local", "AAAA") == "NODATA"
    assert await server.told("db-2.db.default.svc.cluster.local") == "NXDOMAIN"
    assert await server.told("a.db-1.db.default.svc.cluster.local") == "NXDOMAIN"


async def test_a_hostname_of_several_endpoints_has_all_their_addresses() -> None:
    server = NameServer(headless(), endpoints(("a", "10.244.1.2"), ("a", "10.244.1.3")))
    assert await server.told("a.db.default.svc.cluster.local") == ["10.244.1.2", "10.244.1.3"]


async def test_an_endpoint_without_a_hostname_is_called_by_its_address() -> None:
    server = NameServer(headless(), endpoints("10.244.1.2"))
    assert await server.told("10-244-1-2.db.default.svc.cluster.local") == ["10.244.1.2"]


async def test_ports_of_a_headless_service_lead_to_each_endpoint() -> None:
    ports = (("pg", 5432), ("admin", 8080))
    server = NameServer(headless(), endpoints(("db-0", "10.244.1.2"), "10.244.1.3", ports=ports))
    answer = await server.ask("_pg._tcp.db.default.svc.cluster.local", "SRV")
    assert [rdata.to_text() for rdata in answer.answer[0]] == [
        "0 100 5432 db-0.db.default.svc.cluster.local.",
        "0 100 5432 10-244-1-3.db.default.svc.cluster.local.",
    ]
    assert [r.to_text() for r in answer.additional] == [
        "db-0.db.default.svc.cluster.local. 5 IN A 10.244.1.2",
        "10-244-1-3.db.default.svc.cluster.local. 5 IN A 10.244.1.3",
    ]
    assert len(await server.told("db.default.svc.cluster.local", "SRV")) == 4
    assert await server.told("_pg._udp.db.default.svc.cluster.local", "SRV") == "NXDOMAIN"


async def test_endpoints_of_headless_services_have_reverse_names_and_no_others() -> None:
    server = NameServer(
        headless(),
        web().build(),
        endpoints(("db-0", "10.244.1.2"), "10.244.1.3"),
        endpoints("10.244.1.9", of="web"),
        endpoints(("db-7", "10.244.1.7"), slice="2", ready=False),
    )
    assert await server.told("2.1.244.10.in-addr.arpa", "PTR") == ["db-0.db.default.svc.cluster.local."]
    assert await server.told("3.1.244.10.in-addr.arpa", "PTR") == ["10-244-1-3.db.default.svc.cluster.local."]
    assert await server.told("9.1.244.10.in-addr.arpa", "PTR") == "NXDOMAIN"
    assert await server.told("7.1.244.10.in-addr.arpa", "PTR") == "NXDOMAIN"


async def test_an_endpoint_of_two_services_has_two_reverse_names() -> None:
    server = NameServer(headless(), headless("all"), endpoints("10.244.1.2"), endpoints("10.244.1.2", of="all"))
    assert await server.told("2.1.244.10.in-addr.arpa", "PTR") == [
        "10-244-1-2.all.default.svc.cluster.local.",
        "10-244-1-2.db.default.svc.cluster.local.",
    ]


async def test_an_endpoint_outside_the_clusters_ranges_has_a_reverse_name_too() -> None:
    server = NameServer(headless(), endpoints(("far", "198.51.100.4")))
    assert await server.told("4.100.51.198.in-addr.arpa", "PTR") == ["far.db.default.svc.cluster.local."]
    server.outside.answers["5.100.51.198.in-addr.arpa. PTR"] = [
        "5.100.51.198.in-addr.arpa. 60 IN PTR elsewhere.example."
    ]
    assert await server.told("5.100.51.198.in-addr.arpa", "PTR") == ["elsewhere.example."]


async def test_slices_may_come_before_their_service_and_outlive_it() -> None:
    service = headless()
    server = NameServer(endpoints(("db-0", "10.244.1.2")), service)
    assert await server.told("db.default.svc.cluster.local") == ["10.244.1.2"]
    assert await server.told("2.1.244.10.in-addr.arpa", "PTR") == ["db-0.db.default.svc.cluster.local."]
    server.put(None, service)
    assert await server.told("db.default.svc.cluster.local") == "NXDOMAIN"
    assert await server.told("2.1.244.10.in-addr.arpa", "PTR") == "NXDOMAIN"


async def test_a_service_that_gets_an_address_is_no_longer_its_endpoints() -> None:
    service = headless()
    server = NameServer(service, endpoints(("db-0", "10.244.1.2")))
    server.put(web("db", "10.96.0.8").build(), service)
    assert await server.told("db.default.svc.cluster.local") == ["10.96.0.8"]
    assert await server.told("db-0.db.default.svc.cluster.local") == "NXDOMAIN"
    assert await server.told("2.1.244.10.in-addr.arpa", "PTR") == "NXDOMAIN"


async def test_an_external_name_is_an_alias_whose_target_is_asked_for_outside() -> None:
    server = NameServer(external("shop", "www.example.com"))
    server.outside.answers["www.example.com. A"] = ["www.example.com. 60 IN A 192.0.2.53"]
    answer = await server.ask("shop.default.svc.cluster.local")
    assert [rrset.to_text() for rrset in answer.answer] == [
        "shop.default.svc.cluster.local. 5 IN CNAME www.example.com.",
        "www.example.com. 60 IN A 192.0.2.53",
    ]
    assert await server.told("shop.default.svc.cluster.local", "CNAME") == ["www.example.com."]
    assert await server.told("_http._tcp.shop.default.svc.cluster.local", "SRV") == "NXDOMAIN"


async def test_an_external_name_within_the_cluster_is_followed_here() -> None:
    server = NameServer(
        external("a", "b.default.svc.cluster.local"), external("b", "web.default.svc.cluster.local"), web().build()
    )
    assert await server.told("a.default.svc.cluster.local") == [
        "b.default.svc.cluster.local.",
        "web.default.svc.cluster.local.",
        "10.96.0.7",
    ]
    assert server.outside.asked == []


async def test_external_names_in_a_circle_are_a_failure_and_not_endless() -> None:
    server = NameServer(external("a", "b.default.svc.cluster.local"), external("b", "a.default.svc.cluster.local"))
    assert await server.told("a.default.svc.cluster.local") == "SERVFAIL"


async def test_an_alias_to_nothing_says_so() -> None:
    server = NameServer(external("a", "gone.default.svc.cluster.local"))
    answer = await server.ask("a.default.svc.cluster.local")
    assert dns.rcode.to_text(answer.rcode()) == "NXDOMAIN"
    assert [rrset.to_text() for rrset in answer.answer] == [
        "a.default.svc.cluster.local. 5 IN CNAME gone.default.svc.cluster.local."
    ]


async def test_pods_are_named_by_their_address() -> None:
    server = NameServer()
    assert await server.told("10-244-1-2.default.pod.cluster.local") == ["10.244.1.2"]
    assert await server.told("10-244-1-2.default.pod.cluster.local", "AAAA") == "NODATA"
    assert await server.told("fd00--2.default.pod.cluster.local", "AAAA") == ["fd00::2"]
    for wrong in ("10-244-1", "10-244-1-256", "web", "1-2-3-4.x"):
        assert await server.told(f"{wrong}.default.pod.cluster.local") == "NXDOMAIN", wrong


@pytest.mark.parametrize(
    "name", ["cluster.local", "svc.cluster.local", "default.svc.cluster.local", "pod.cluster.local",
             "default.pod.cluster.local", "dns.cluster.local", "_tcp.web.default.svc.cluster.local",
             "_tcp.db.default.svc.cluster.local", "96.10.in-addr.arpa", "0.96.10.in-addr.arpa"],
)  # fmt: skip
async def test_a_name_that_has_only_others_below_it_exists(name: str) -> None:
    answer = await NameServer(web().build(), headless(), endpoints("10.244.1.2")).ask(name)
    assert dns.rcode.to_text(answer.rcode()) == "NOERROR"
    assert answer.answer == []
    assert answer.authority[0].rdtype == dns.rdatatype.SOA


@pytest.mark.parametrize(
    "name", ["nothing.cluster.local", "gone.svc.cluster.local", "web.gone.svc.cluster.local",
             "web.default.cluster.local", "gone.default.svc.cluster.local", "_udp.db.default.svc.cluster.local",
             "a.dns-version.cluster.local", r"web\.default.svc.cluster.local", "999.0.96.10.in-addr.arpa",
             "x.96.10.in-addr.arpa"],
)  # fmt: skip
async def test_a_name_that_does_not_exist_says_for_how_long(name: str) -> None:
    answer = await NameServer(web().build(), headless(), endpoints("10.244.1.2")).ask(name)
    assert dns.rcode.to_text(answer.rcode()) == "NXDOMAIN"
    (soa,) = answer.authority
    assert (soa.ttl, soa[0].minimum) == (5, 5)
    assert dns.name.from_text(name).is_subdomain(soa.name)
    assert answer.flags & dns.flags.AA


async def test_the_zone_names_its_authority_and_server() -> None:
    server = NameServer()
    assert await server.told("cluster.local", "SOA") == [
        "ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5"
    ]
    answer = await server.ask("cluster.local", "NS")
    assert [rrset.to_text() for rrset in answer.answer] == ["cluster.local. 5 IN NS ns.dns.cluster.local."]
    assert [rrset.to_text() for rrset in answer.additional] == ["ns.dns.cluster.local. 5 IN A 10.96.0.10"]
    assert await server.told("ns.dns.cluster.local") == ["10.96.0.10"]
    assert (await server.told("96.10.in-addr.arpa", "SOA"))[0].startswith("ns.dns.cluster.local.")


async def test_reverse_names_beside_our_ranges_are_asked_for_outside() -> None:
    server = NameServer()
    server.outside.answers["1.0.95.10.in-addr.arpa. PTR"] = ["1.0.95.10.in-addr.arpa. 60 IN PTR host.example."]
    server.outside.answers["1.0.112.10.in-addr.arpa. PTR"] = ["1.0.112.10.in-addr.arpa. 60 IN PTR more.example."]
    assert await server.told("1.0.95.10.in-addr.arpa", "PTR") == ["host.example."]
    assert await server.told("1.0.112.10.in-addr.arpa", "PTR") == ["more.example."]
    assert await server.told("1.0.111.10.in-addr.arpa", "PTR") == "NXDOMAIN"


async def test_case_does_not_matter_and_the_askers_spelling_is_kept() -> None:
    answer = await NameServer(web().build()).ask("WeB.Default.SVC.cluster.LOCAL")
    assert answer.question[0].name.to_text() == "WeB.Default.SVC.cluster.LOCAL."
    assert answer.answer[0].to_text() == "WeB.Default.SVC.cluster.LOCAL. 5 IN A 10.96.0.7"
    srv = await NameServer(web().build()).told("_HTTP._Tcp.web.default.svc.cluster.local", "SRV")
    assert srv == ["0 100 80 web.default.svc.cluster.local."]


async def test_before_the_first_sync_the_clusters_names_fail_and_others_do_not() -> None:
    server = NameServer(web().build())
    server.synced = False
    server.outside.answers["example.com. A"] = ["example.com. 60 IN A 192.0.2.53"]
    assert await server.told("web.default.svc.cluster.local") == "SERVFAIL"
    assert await server.told("gone.default.svc.cluster.local") == "SERVFAIL"
    assert await server.told("7.0.96.10.in-addr.arpa", "PTR") == "SERVFAIL"
    assert await server.told("example.com") == ["192.0.2.53"]


async def test_a_service_without_an_address_yet_has_no_name() -> None:
    assert await NameServer(a_service().port(80).build()).told("web.default.svc.cluster.local") == "NXDOMAIN"
