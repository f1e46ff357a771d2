"""What the proxy makes of Services and EndpointSlices."""

from barque.api.types.core_v1 import Service, ServicePort, ServiceSpec
from barque.api.types.discovery_v1 import Endpoint, EndpointConditions, EndpointPort, EndpointSlice
from barque.api.types.meta_v1 import ObjectMeta
from barque.network.proxy import state
from barque.network.proxy.state import Backend, service_ports, slice_keys


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
