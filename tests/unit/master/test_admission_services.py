"""Cluster IPs and node ports: given once, checked in Kubernetes' words, given back."""

import dataclasses
from typing import Any

import pytest

from barque.client.verbs import MERGE_PATCH
from barque.master.apiserver.registry import UserVerbs
from barque.master.apiserver.settings import ApiSettings
from tests.support.memory_store import ADMIN, Bench, a_bench, refusal, target

TINY = ApiSettings(service_cidr="10.96.0.0/28", first_node_port=30000, last_node_port=30002)


def service(name: str = "web", ports: list[dict[str, Any]] | None = None, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"ports": ports or [{"port": 80}], **spec}}


def port(made: dict[str, Any], index: int = 0) -> int | None:
    number: int | None = made["spec"]["ports"][index].get("nodePort")
    return number


def held(bench: Bench) -> list[str]:
    return sorted(bench.store.reserved(""))


async def test_a_service_gets_an_address_and_gives_it_back() -> None:
    bench = await a_bench()
    made = await bench.create("services", service())
    address = made["spec"]["clusterIP"]
    assert made["spec"]["clusterIPs"] == [address]
    assert held(bench) == [f"clusterip/{address}"]
    await bench.delete("services", "web")
    assert held(bench) == []


async def test_a_headless_service_gets_none() -> None:
    bench = await a_bench()
    made = await bench.create("services", service(clusterIP="None"))
    assert (made["spec"]["clusterIP"], made["spec"]["clusterIPs"]) == ("None", ["None"])
    assert held(bench) == []


async def test_a_chosen_address_is_kept_and_no_one_else_gets_it() -> None:
    bench = await a_bench()
    await bench.create("services", service(clusterIP="10.96.0.12"))
    refused = await refusal(bench.create("services", service("other", clusterIP="10.96.0.12")))
    assert refused.code == 422
    assert refused.message == (
        'Service "other" is invalid: spec.clusterIPs: Invalid value: ["10.96.0.12"]: failed to allocate IP 10.96.0.12: '
        "provided IP is already allocated"
    )
    refused = await refusal(bench.create("services", service("other", clusterIP="192.0.2.1")))
    assert refused.message.endswith(
        "the provided IP (192.0.2.1) is not in the valid range. The range of valid IPs is 10.96.0.0/12"
    )
    assert (await refusal(bench.create("services", service("other", clusterIP="10.96.0.0")))).code == 422


async def test_the_address_another_master_takes_at_the_same_moment() -> None:
    """Chosen by us: another one is tried. Asked for by the user: refused."""
    bench = await a_bench(ApiSettings(service_cidr="10.96.0.0/28"))
    asked = service("asked", clusterIP="10.96.0.5")
    bench.store.before_commit = lambda: bench.create("services", service("quick", clusterIP="10.96.0.5"))
    assert "already allocated" in (await refusal(bench.create("services", asked))).message

    async def take_all_but_one() -> None:
        for last in (2, 3, 4, 6, 7, 8, 9, 11, 12, 13):
            await bench.create("services", service(f"s{last}", clusterIP=f"10.96.0.{last}"))

    bench.store.before_commit = take_all_but_one
    made = await bench.create("services", service("chosen"))
    assert made["spec"]["clusterIP"] == "10.96.0.14"


async def test_the_addresses_run_out() -> None:
    bench = await a_bench(TINY)
    # Of sixteen: the network, its broadcast, the API's and the cluster DNS' are never chosen.
    for index in range(12):
        await bench.create("services", service(f"s{index}"))
    refused = await refusal(bench.create("services", service()))
    assert refused.code == 403
    assert "failed to allocate a serviceIP: range is full: no address of 10.96.0.0/28 is free" in refused.message
    assert await bench.names("services", fields="metadata.name=web") == []


async def test_node_ports_are_given_checked_and_run_out() -> None:
    bench = await a_bench(TINY)
    made = await bench.create("services", service(type="NodePort", ports=[{"port": 80, "nodePort": 30001}]))
    assert port(made) == 30001
    taken = service("other", type="NodePort", ports=[{"port": 80, "nodePort": 30001}])
    refused = await refusal(bench.create("services", taken))
    assert refused.message == (
        'Service "other" is invalid: spec.ports[0].nodePort: Invalid value: 30001: provided port is already allocated'
    )
    outside = service("other", type="NodePort", ports=[{"port": 80, "nodePort": 80}])
    assert "The range of valid ports is 30000-30002" in (await refusal(bench.create("services", outside))).message
    udp = service("udp", type="NodePort", ports=[{"port": 53, "protocol": "UDP", "nodePort": 30001}])
    await bench.create("services", udp)
    for name in ("a", "b"):
        await bench.create("services", service(name, type="NodePort"))
    refused = await refusal(bench.create("services", service("c", type="NodePort")))
    assert (refused.code, "range is full" in refused.message) == (403, True)


async def test_an_update_keeps_what_was_given() -> None:
    bench = await a_bench()
    made = await bench.create("services", service(type="NodePort", ports=[{"name": "http", "port": 80}]))
    plain = service(type="NodePort", ports=[{"name": "http", "port": 80}, {"name": "https", "port": 443}])
    new = await bench.update("services", plain)
    assert new["spec"]["clusterIP"] == made["spec"]["clusterIP"]
    assert port(new) == port(made)
    assert port(new, 1) not in (None, port(made))
    assert len(held(bench)) == 3


async def test_a_change_of_type_gives_back_what_is_no_longer_needed() -> None:
    bench = await a_bench()
    made = await bench.create("services", service(type="NodePort"))
    new = await bench.patch("services", "web", {"spec": {"type": "ClusterIP"}})
    assert port(new) is None
    assert held(bench) == [f"clusterip/{made['spec']['clusterIP']}"]
    new = await bench.patch("services", "web", {"spec": {"type": "NodePort"}})
    assert held(bench) == [f"clusterip/{made['spec']['clusterIP']}", f"nodeport/tcp/{port(new)}"]


async def test_what_a_service_has_is_not_judged_again() -> None:
    """The range of node ports may be narrowed; services that lie outside it live on."""
    bench = await a_bench()
    await bench.create("services", service(type="NodePort", ports=[{"port": 80, "nodePort": 32000}]))
    narrow = dataclasses.replace(bench.registry.environment.settings, last_node_port=30010)
    environment = dataclasses.replace(bench.registry.environment, settings=narrow)
    verbs = UserVerbs(environment, ADMIN, [])
    await verbs.patch(target("services", "web"), MERGE_PATCH, b'{"metadata":{"labels":{"a":"b"}}}')
    outside = b'{"spec":{"ports":[{"port":80,"nodePort":31000}]}}'
    assert (await refusal(verbs.patch(target("services", "web"), MERGE_PATCH, outside))).code == 422


async def test_the_address_of_a_service_does_not_change() -> None:
    bench = await a_bench()
    await bench.create("services", service(clusterIP="10.96.0.5"))
    refused = await refusal(bench.patch("services", "web", {"spec": {"clusterIP": "10.96.0.6", "clusterIPs": None}}))
    assert refused.code == 422
    assert held(bench) == ["clusterip/10.96.0.5"]


BALANCED = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}


async def test_a_balancer_that_wants_local_endpoints_gets_a_health_check_port() -> None:
    bench = await a_bench(dataclasses.replace(TINY, service_cidr="10.96.0.0/24"))
    made = await bench.create("services", service(**BALANCED))
    health = made["spec"]["healthCheckNodePort"]
    assert health in (30000, 30001, 30002)
    assert health != port(made)
    assert f"nodeport/tcp/{health}" in held(bench)
    # Another patch keeps it; another policy gives it back.
    kept = await bench.patch("services", "web", {"metadata": {"labels": {"a": "b"}}})
    assert kept["spec"]["healthCheckNodePort"] == health
    other = await bench.patch("services", "web", {"spec": {"externalTrafficPolicy": "Cluster"}})
    assert "healthCheckNodePort" not in other["spec"]
    assert f"nodeport/tcp/{health}" not in held(bench)


async def test_a_health_check_port_may_be_asked_for() -> None:
    bench = await a_bench()
    made = await bench.create("services", service(**BALANCED, healthCheckNodePort=30777))
    assert made["spec"]["healthCheckNodePort"] == 30777
    taken = await refusal(bench.create("services", service("other", **BALANCED, healthCheckNodePort=30777)))
    assert taken.message.endswith(
        "spec.healthCheckNodePort: Invalid value: 30777: failed to allocate requested HealthCheck NodePort 30777: "
        "provided port is already allocated"
    )
    outside = await refusal(bench.create("services", service("other", **BALANCED, healthCheckNodePort=80)))
    assert "provided port is not in the valid range. The range of valid ports is 30000-32767" in outside.message


async def test_the_addresses_of_the_api_and_the_cluster_dns_are_theirs_alone() -> None:
    bench = await a_bench()
    for address in ("10.96.0.1", "10.96.0.10"):
        refused = await refusal(bench.create("services", service(clusterIP=address)))
        assert refused.code == 422
        assert refused.message.endswith(f"failed to allocate IP {address}: provided IP is already allocated")
    await bench.create("services", service("kubernetes", clusterIP="10.96.0.1"))
    await bench.create("services", service("kube-dns", clusterIP="10.96.0.10"), "kube-system")
    assert held(bench) == ["clusterip/10.96.0.1", "clusterip/10.96.0.10"]


async def test_what_nobody_asked_for_comes_from_the_upper_part_until_that_is_full() -> None:
    # Of 62 addresses the first 16 are left to those who ask; of 512 ports as many.
    bench = await a_bench(ApiSettings(service_cidr="10.96.0.0/26", first_node_port=30000, last_node_port=30511))
    made = [await bench.create("services", service(f"s{n}", type="NodePort")) for n in range(46)]
    assert {int(m["spec"]["clusterIP"].rpartition(".")[2]) for m in made} == set(range(17, 63))
    assert min(port(m) or 0 for m in made) >= 30016
    low = await bench.create("services", service("low"))
    assert 1 < int(low["spec"]["clusterIP"].rpartition(".")[2]) < 17
    await bench.create("services", service("asked", type="NodePort", ports=[{"port": 80, "nodePort": 30003}]))


async def test_one_port_of_two_protocols_has_one_node_port() -> None:
    bench = await a_bench()
    both = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53}]
    made = await bench.create("services", service(type="NodePort", ports=both))
    assert port(made) == port(made, 1)
    assert {f"nodeport/udp/{port(made)}", f"nodeport/tcp/{port(made)}"} <= set(held(bench))
    other = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "web", "port": 80}]
    apart = await bench.create("services", service("apart", type="NodePort", ports=other))
    assert port(apart) != port(apart, 1)


@pytest.mark.parametrize("cleared", [{}, {"clusterIP": ""}, {"clusterIP": None, "clusterIPs": None}])
async def test_an_external_name_has_no_address_and_gives_back_the_one_it_had(cleared: dict[str, Any]) -> None:
    """Whether its clients leave the address out, as they may, or empty it, as they once had to."""
    bench = await a_bench()
    made = await bench.create("services", {"metadata": {"name": "out"}, "spec": NAMED})
    assert ("clusterIP" in made["spec"], held(bench)) == (False, [])
    await bench.create("services", service(type="NodePort"))
    assert len(held(bench)) == 2
    named = await bench.patch("services", "web", {"spec": {**NAMED, **cleared}})
    assert (named["spec"]["type"], held(bench)) == ("ExternalName", [])
    assert not named["spec"].keys() & {"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"}
    back = await bench.patch("services", "web", {"spec": {"type": "ClusterIP", "externalName": None}})
    assert held(bench) == [f"clusterip/{back['spec']['clusterIP']}"]


NAMED = {"type": "ExternalName", "externalName": "db.example.com"}


async def test_a_balancer_nobody_provides_has_node_ports_unless_it_wants_none() -> None:
    bench = await a_bench()
    made = await bench.create("services", service(type="LoadBalancer", loadBalancerIP="192.0.2.9"))
    assert port(made) is not None
    assert "ingress" not in made["status"].get("loadBalancer", {})
    bare = await bench.create("services", service("bare", type="LoadBalancer", allocateLoadBalancerNodePorts=False))
    assert port(bare) is None
    assert f"clusterip/{bare['spec']['clusterIP']}" in held(bench)


async def test_what_the_cluster_says_of_an_address_is_nobody_s() -> None:
    bench = await a_bench()
    made = await bench.create("services", service(clusterIP="10.96.0.5"), field_manager="me")
    filled = {"clusterIPs": ["10.96.0.5"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}
    assert {name: made["spec"][name] for name in filled} == filled
    (entry,) = made["metadata"]["managedFields"]
    owned = set(entry["fieldsV1"]["f:spec"])
    assert owned == {"f:clusterIP", "f:internalTrafficPolicy", "f:ports", "f:sessionAffinity", "f:type"}
    # Nor does whoever replaces it without them come to own them, or take them away.
    replaced = await bench.update("services", service(clusterIP="10.96.0.5", selector={"a": "b"}))
    assert {name: replaced["spec"][name] for name in filled} == filled
    for entry in replaced["metadata"]["managedFields"]:
        assert not {f"f:{name}" for name in filled} & set(entry["fieldsV1"]["f:spec"])


async def test_clients_that_know_the_older_field_alone_and_those_that_leave_it_out() -> None:
    bench = await a_bench()
    refused = await refusal(bench.create("services", service(clusterIPs=["10.96.0.5"])))
    assert refused.message == (
        'Service "web" is invalid: spec.clusterIPs: Invalid value: ["10.96.0.5"]: '
        "must be empty when `clusterIP` is not specified"
    )
    await bench.create("services", service(clusterIP="10.96.0.5"))
    for kept in ({"clusterIP": "10.96.0.5"}, {"clusterIPs": ["10.96.0.5"]}, {}):
        new = await bench.update("services", service(**kept))
        assert (new["spec"]["clusterIP"], new["spec"]["clusterIPs"]) == ("10.96.0.5", ["10.96.0.5"])
    refused = await refusal(bench.update("services", service(clusterIP="10.96.0.6")))
    assert refused.message == (
        'Service "web" is invalid: spec.clusterIPs[0]: Invalid value: ["10.96.0.6"]: may not change once set'
    )
    await bench.create("services", {"metadata": {"name": "out"}, "spec": NAMED})
    back = await bench.update("services", service("out", clusterIP="10.96.0.7"))
    assert back["spec"]["clusterIPs"] == ["10.96.0.7"]
