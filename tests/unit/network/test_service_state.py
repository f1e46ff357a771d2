"""What the proxy makes of Services and EndpointSlices."""

from barque.api.types.core_v1 import (
    ClientIPConfig,
    LoadBalancerIngress,
    LoadBalancerStatus,
    Service,
    ServicePort,
    ServiceSpec,
    SessionAffinityConfig,
)
from barque.api.types.discovery_v1 import (
    Endpoint,
    EndpointConditions,
    EndpointHints,
    EndpointPort,
    EndpointSlice,
    ForNode,
    ForZone,
)
from barque.api.types.meta_v1 import ObjectMeta
from barque.network.proxy import state
from barque.network.proxy.state import Backend, health_check, service_ports, slice_keys


def a_service(ip: str = "10.96.0.10", **spec: object) -> Service:
    ports = [
        ServicePort(name="http", port=80, protocol="TCP", nodePort=30080),
        ServicePort(name="dns", port=53, protocol="UDP"),
    ]
    return Service(
        metadata=ObjectMeta(name="web", namespace="shop"),
        spec=ServiceSpec(**{"clusterIP": ip, "ports": ports, **spec}),  # type: ignore[arg-type]
    )


def a_slice(
    *endpoints: tuple[str, EndpointConditions | None], port: str = "http", protocol: str = "TCP"
) -> EndpointSlice:
    return EndpointSlice(
        metadata=ObjectMeta(name="web-1", namespace="shop", labels={state.SERVICE_NAME_LABEL: "web"}),
        addressType="IPv4",
        endpoints=[Endpoint(addresses=[ip], conditions=conditions) for ip, conditions in endpoints],
        ports=[EndpointPort(name=port, port=8080, protocol=protocol)],
    )


READY = EndpointConditions(ready=True, serving=True, terminating=False)
NOT_READY = EndpointConditions(ready=False, serving=False, terminating=False)
ENDING = EndpointConditions(ready=False, serving=True, terminating=True)
ENDED = EndpointConditions(ready=False, serving=False, terminating=True)


def backends(*slices: EndpointSlice) -> tuple[Backend, ...]:
    return service_ports(a_service(), slices)[0].backends


def test_each_port_has_its_own_endpoints_by_name_and_protocol() -> None:
    http, dns = service_ports(
        a_service(), [a_slice(("10.244.1.2", READY)), a_slice(("10.244.1.3", READY), port="dns", protocol="UDP")]
    )
    assert http == state.ServicePort("shop/web:http", "tcp", "10.96.0.10", 80, 30080, (Backend("10.244.1.2", 8080),))
    assert dns == state.ServicePort("shop/web:dns", "udp", "10.96.0.10", 53, 0, (Backend("10.244.1.3", 8080),))
    assert backends(a_slice(("10.244.1.2", READY), protocol="UDP")) == ()


def test_ready_endpoints_of_all_slices_in_order_and_once() -> None:
    found = backends(a_slice(("10.244.1.9", READY), ("10.244.1.2", None)), a_slice(("10.244.1.9", READY)))
    assert [b.ip for b in found] == ["10.244.1.2", "10.244.1.9"]
    assert backends(a_slice(("10.244.1.9", NOT_READY))) == ()


def test_unknown_readiness_counts_as_ready() -> None:
    assert backends(a_slice(("10.244.1.2", EndpointConditions()))) == (Backend("10.244.1.2", 8080),)


def test_those_that_end_but_serve_are_used_only_where_none_is_ready() -> None:
    assert [b.ip for b in backends(a_slice(("10.244.1.2", ENDING), ("10.244.1.3", ENDED)))] == ["10.244.1.2"]
    assert [b.ip for b in backends(a_slice(("10.244.1.2", ENDING), ("10.244.1.3", READY)))] == ["10.244.1.3"]


def test_services_that_are_not_ours_have_no_ports() -> None:
    some = [a_slice(("10.244.1.2", READY))]
    assert service_ports(None, some) == ()
    for ip in ("None", "", "fd00::1"):
        assert service_ports(a_service(ip), some) == ()
    assert service_ports(a_service(type="ExternalName"), some) == ()
    labelled = a_service()
    labelled.metadata.labels[state.OTHER_PROXY_LABEL] = "other"
    assert service_ports(labelled, some) == ()


def test_a_slice_names_its_service() -> None:
    assert slice_keys(a_slice()) == ["shop/web"]
    assert slice_keys(EndpointSlice(metadata=ObjectMeta(name="x", namespace="shop"))) == []


def here(ip: str, node: str, conditions: EndpointConditions = READY) -> EndpointSlice:
    made = a_slice((ip, conditions))
    made.endpoints[0].nodeName = node
    return made


def test_the_local_policy_knows_the_endpoints_of_this_node_only() -> None:
    slices = [here("10.244.1.2", "n1"), here("10.244.2.2", "n2"), here("10.244.1.3", "n1", ENDING)]
    local = a_service(type="NodePort", externalTrafficPolicy="Local")
    port = service_ports(local, slices, "n1")[0]
    assert (port.external_local, port.internal_local) == (True, False)
    assert port.local == (Backend("10.244.1.2", 8080),)
    assert port.backends == (Backend("10.244.1.2", 8080), Backend("10.244.2.2", 8080, near=False))
    inside = a_service(internalTrafficPolicy="Local")
    assert service_ports(inside, slices, "n3")[0].internal == ()
    # Those that end but serve are this node's last resort, though others are ready elsewhere.
    assert [b.ip for b in service_ports(inside, slices[1:], "n1")[0].internal] == ["10.244.1.3"]
    assert service_ports(a_service(), slices, "n1")[0].local == ()


def test_affinity_and_addresses_from_outside() -> None:
    sticky = SessionAffinityConfig(clientIP=ClientIPConfig(timeoutSeconds=60))
    service = a_service(
        sessionAffinity="ClientIP", sessionAffinityConfig=sticky, externalIPs=["203.0.113.9", "fd00::1"]
    )
    ingress = [
        LoadBalancerIngress(ip="203.0.113.7", ipMode="VIP"),
        LoadBalancerIngress(ip="203.0.113.8", ipMode="Proxy"),
    ]
    service.status.loadBalancer = LoadBalancerStatus(ingress=ingress)
    port = service_ports(service, [])[0]
    assert port.affinity_s == 60
    assert port.external_ips == ("203.0.113.7", "203.0.113.9")
    assert service_ports(a_service(sessionAffinity="ClientIP"), [])[0].affinity_s == 10800


def test_a_balancer_is_told_how_many_ready_endpoints_are_here() -> None:
    slices = [
        here("10.244.1.2", "n1"),
        here("10.244.1.2", "n1"),
        here("10.244.1.3", "n1", ENDING),
        here("10.244.2.2", "n2"),
    ]
    service = a_service(type="LoadBalancer", externalTrafficPolicy="Local", healthCheckNodePort=31000)
    assert health_check(service, slices, "n1") == ("shop", "web", 31000, 1)
    assert health_check(service, slices, "n3") == ("shop", "web", 31000, 0)
    service.spec.externalTrafficPolicy = "Cluster"
    assert health_check(service, slices, "n1") is None


def hinted(ip: str, node: str, zones: tuple[str, ...] = (), nodes: tuple[str, ...] = ()) -> EndpointSlice:
    made = here(ip, node)
    hints = EndpointHints(forZones=[ForZone(name=z) for z in zones], forNodes=[ForNode(name=n) for n in nodes])
    made.endpoints[0].hints = hints
    return made


def chosen(slices: list[EndpointSlice], node: str = "n1", zone: str = "east", **spec: object) -> list[str]:
    return [b.ip for b in service_ports(a_service(**spec), slices, node, zone)[0].backends]


EAST, WEST = hinted("10.244.1.2", "n1", ("east",)), hinted("10.244.2.2", "n2", ("west",))


def test_endpoints_meant_for_this_zone_are_preferred() -> None:
    assert chosen([EAST, WEST]) == ["10.244.1.2"]
    assert chosen([EAST, WEST], zone="west") == ["10.244.2.2"]
    # None for this zone, or the node's zone unknown, or an endpoint that does not say: all.
    everyone = ["10.244.1.2", "10.244.2.2"]
    assert chosen([EAST, WEST], zone="north") == everyone
    assert chosen([EAST, WEST], zone="") == everyone
    assert chosen([EAST, here("10.244.2.2", "n2")]) == everyone
    # Those that are not ready need not say.
    assert chosen([EAST, WEST, here("10.244.3.3", "n3", NOT_READY)]) == ["10.244.1.2"]


def test_endpoints_meant_for_this_node_come_before_those_for_its_zone() -> None:
    near = hinted("10.244.1.2", "n1", ("east",), ("n1",))
    same_zone = hinted("10.244.2.2", "n2", ("east",), ("n2",))
    other_zone = hinted("10.244.3.2", "n3", ("west",), ("n3",))
    slices = [near, same_zone, other_zone]
    assert chosen(slices) == ["10.244.1.2"]
    assert chosen(slices, node="n4") == ["10.244.1.2", "10.244.2.2"]
    assert chosen(slices, node="n4", zone="north") == ["10.244.1.2", "10.244.2.2", "10.244.3.2"]


def test_the_policy_local_and_the_last_resort_ask_for_no_hints() -> None:
    (port, _) = service_ports(a_service(internalTrafficPolicy="Local"), [hinted("10.244.1.2", "n1", ("west",))], "n1")
    assert [b.ip for b in port.internal] == ["10.244.1.2"]
    ending = hinted("10.244.2.2", "n2", ("west",))
    ending.endpoints[0].conditions = ENDING
    assert chosen([ending]) == ["10.244.2.2"]


def test_two_named_ports_lead_to_targets_of_their_own() -> None:
    service = a_service()
    service.spec.ports[1] = ServicePort(name="admin", port=81, protocol="TCP")
    both = a_slice(("10.244.1.2", READY))
    both.ports = [
        EndpointPort(name="admin", port=9090, protocol="TCP"),
        EndpointPort(name="http", port=8080, protocol="TCP"),
    ]
    # A pod that names its target otherwise stands in a slice of its own.
    other = a_slice(("10.244.1.3", READY))
    other.ports[0].port = 8081
    http, admin = service_ports(service, [both, other])
    assert http.backends == (Backend("10.244.1.2", 8080), Backend("10.244.1.3", 8081))
    assert admin.backends == (Backend("10.244.1.2", 9090),)
