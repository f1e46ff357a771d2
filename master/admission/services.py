"""Cluster IPs, node ports and health check ports of services: which ones a service needs, and which it gets.

In: the service about to be written, its former state, what is held, the ranges, a source of randomness. Out: the
service completed in place, and the `Claims` of its op. A number the user asks for is checked and refused in
Kubernetes' words. Follows Kubernetes' service registry (allocation, carrying over on update, release when the type
changes).
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Callable, Collection
from random import Random

from barque.api.defaults.networking import default_address
from barque.api.errors import ApiError, FieldError, invalid, invalid_object, refused
from barque.api.types.core_v1 import Service, ServicePort, ServiceSpec
from barque.master.admission.claims import Claims, Held
from barque.master.apiserver.settings import ApiSettings

CLUSTER_IP = "clusterip/"
NODE_PORT = "nodeport/"
HEADLESS = "None"
_IP_TYPES = ("ClusterIP", "NodePort", "LoadBalancer")
_PORT_TYPES = ("NodePort", "LoadBalancer")
# Random probes before the range is walked: with the range half full, sixteen in a row fail once in 65,536 times.
_PROBES = 16
# Addresses that are one service's alone, by their place in the range: the API's, and the cluster DNS'.
_KEPT_FOR = {1: ("default", "kubernetes"), 10: ("kube-system", "kube-dns")}
_TAKEN_IP = "provided IP is already allocated"
_TAKEN_PORT = "provided port is already allocated"


def admit_service(service: Service, old: Service | None, held: Held, settings: ApiSettings, entropy: Random) -> Claims:
    """Complete `service` and return what its op reserves and releases. Raises 422 or, when a range is full, 403."""
    before = reservations(old) if old is not None else frozenset()
    allocation = _Allocation(service, held, before, settings, entropy)
    allocation.settle_address()
    allocation.settle_ports()
    allocation.settle_health_check()
    if allocation.errors:
        raise invalid_object("Service", "", service.metadata.name, allocation.errors)
    after = reservations(service)
    return Claims(tuple(sorted(after - before)), tuple(sorted(before - after)), frozenset(allocation.chosen))


def carry_over(service: Service, old: Service) -> None:
    """Keep what was allocated and is still needed; drop what the new type has no use for and the user did not touch."""
    spec, was = service.spec, old.spec
    if spec.type in _IP_TYPES:
        if was.type in _IP_TYPES:
            spec.clusterIP = spec.clusterIP or was.clusterIP
            spec.clusterIPs = spec.clusterIPs or list(was.clusterIPs)
        if spec.clusterIP != was.clusterIP and spec.clusterIPs == was.clusterIPs:
            # Of the two the client knows the older field alone.
            spec.clusterIPs = [spec.clusterIP]
        default_address(service)
    else:
        if spec.clusterIP in ("", was.clusterIP):
            spec.clusterIP, spec.clusterIPs = "", []
        if spec.ipFamilies == was.ipFamilies:
            spec.ipFamilies = []
        if spec.ipFamilyPolicy == was.ipFamilyPolicy:
            spec.ipFamilyPolicy = ""
    former = {(port.protocol, port.port): port.nodePort for port in was.ports if port.nodePort}
    if spec.type in _PORT_TYPES:
        asked = {port.nodePort for port in spec.ports if port.nodePort}
        for port in spec.ports:
            kept = former.get((port.protocol, port.port))
            if not port.nodePort and kept not in asked:
                port.nodePort = kept
    elif was.type in _PORT_TYPES:
        for port in spec.ports:
            if port.nodePort in former.values():
                port.nodePort = None
    _drop_traffic_rules(spec, was)


def _drop_traffic_rules(spec: ServiceSpec, was: ServiceSpec) -> None:
    """Without the rules for traffic from outside that the former type had and the new one cannot."""
    if spec.externalTrafficPolicy == was.externalTrafficPolicy and not _is_external(spec):
        spec.externalTrafficPolicy = ""
    if spec.healthCheckNodePort == was.healthCheckNodePort and not _needs_health_check(spec):
        spec.healthCheckNodePort = None
    elif _needs_health_check(spec):
        spec.healthCheckNodePort = spec.healthCheckNodePort or was.healthCheckNodePort
    if spec.type == "LoadBalancer":
        return
    if spec.allocateLoadBalancerNodePorts == was.allocateLoadBalancerNodePorts:
        spec.allocateLoadBalancerNodePorts = None
    if spec.loadBalancerClass == was.loadBalancerClass:
        spec.loadBalancerClass = None


def _is_external(spec: ServiceSpec) -> bool:
    return spec.type in _PORT_TYPES or bool(spec.type == "ClusterIP" and spec.externalIPs)


def _needs_health_check(spec: ServiceSpec) -> bool:
    return spec.type == "LoadBalancer" and spec.externalTrafficPolicy == "Local"


def reservations(service: Service) -> frozenset[str]:
    """The reservation keys a complete service holds."""
    keys = {_port_key(port, port.nodePort) for port in service.spec.ports if port.nodePort}
    if service.spec.clusterIP not in ("", HEADLESS):
        keys.add(CLUSTER_IP + service.spec.clusterIP)
    if service.spec.healthCheckNodePort:
        keys.add(_health_key(service.spec.healthCheckNodePort))
    return frozenset(keys)


def reservation_taken(service: Service, reservation: str) -> ApiError:
    """422: the number the user asked for is held by another service."""
    if reservation.startswith(CLUSTER_IP):
        error = _address_error(service.spec.clusterIP, _TAKEN_IP)
    else:
        error = next(
            (
                invalid(f"spec.ports[{index}].nodePort", port.nodePort, _TAKEN_PORT)
                for index, port in enumerate(service.spec.ports)
                if port.nodePort and _port_key(port, port.nodePort) == reservation
            ),
            _health_error(service.spec, _TAKEN_PORT),
        )
    return invalid_object("Service", "", service.metadata.name, [error])


class _Allocation:
    """One service's numbers being settled: faults gather in `errors`, what was picked for it in `chosen`."""

    def __init__(
        self, service: Service, held: Held, before: frozenset[str], settings: ApiSettings, entropy: Random
    ) -> None:
        self._service = service
        self._spec = service.spec
        self._held = held
        # What the service has already is not judged again: the ranges may have been narrowed since.
        self._before = before
        self._settings = settings
        self._entropy = entropy
        self.errors: list[FieldError] = []
        self.chosen: set[str] = set()

    def settle_address(self) -> None:
        spec = self._spec
        if spec.type not in _IP_TYPES:
            return
        if not spec.clusterIP:
            spec.clusterIP = self._choose_address()
        elif spec.clusterIP != HEADLESS:
            why = self._address_fault(spec.clusterIP)
            if why:
                self.errors.append(_address_error(spec.clusterIP, why))
        spec.clusterIPs = [spec.clusterIP]

    def settle_ports(self) -> None:
        spec = self._spec
        if spec.type not in _PORT_TYPES or spec.allocateLoadBalancerNodePorts is False:
            return
        asked: set[str] = set()
        for index, port in enumerate(spec.ports):
            if port.nodePort:
                why = self._port_fault(port, asked)
                if why:
                    self.errors.append(invalid(f"spec.ports[{index}].nodePort", port.nodePort, why))
                asked.add(_port_key(port, port.nodePort))
        taken = self._held.by.keys() | asked
        for port in spec.ports:
            if not port.nodePort:
                port.nodePort = self._shared_port(port, taken) or self._choose_port(port, taken)
                taken.add(_port_key(port, port.nodePort))

    def settle_health_check(self) -> None:
        """The port on which each node says whether it has endpoints: a TCP port like the node ports."""
        spec = self._spec
        if not _needs_health_check(spec):
            return
        ours = {_port_key(port, port.nodePort) for port in spec.ports if port.nodePort}
        if not spec.healthCheckNodePort:
            spec.healthCheckNodePort = self._choose_number(_health_key, self._held.by.keys() | ours)
            return
        why = self._number_fault(_health_key(spec.healthCheckNodePort), spec.healthCheckNodePort, ours)
        if why:
            self.errors.append(_health_error(spec, why))

    def _choose_address(self) -> str:
        network = self._settings.service_network
        taken = self._held.by.keys() | {CLUSTER_IP + str(network[offset]) for offset in _KEPT_FOR}
        # The first address names the network, the last one is its broadcast: neither is a host.
        last = network.num_addresses - 2
        lower = min(max(16, network.num_addresses // 16), 256)
        offset = _choose(1, last, lower, lambda n: CLUSTER_IP + str(network[n]) in taken, self._entropy)
        if offset is None:
            raise self._exhausted(f"failed to allocate a serviceIP: range is full: no address of {network} is free")
        self.chosen.add(CLUSTER_IP + str(network[offset]))
        return str(network[offset])

    def _shared_port(self, port: ServicePort, taken: Collection[str]) -> int | None:
        """The node port of a port with the same number and another protocol, where this one may have it too."""
        for other in self._spec.ports:
            if other.nodePort and other.port == port.port and other.protocol != port.protocol:
                key = _port_key(port, other.nodePort)
                if key not in taken:
                    self.chosen.add(key)
                    return other.nodePort
        return None

    def _choose_port(self, port: ServicePort, taken: Collection[str]) -> int:
        return self._choose_number(lambda number: _port_key(port, number), taken)

    def _choose_number(self, key: Callable[[int], str], taken: Collection[str]) -> int:
        first, last = self._settings.first_node_port, self._settings.last_node_port
        size = last - first + 1
        # In a small range there is no lower part to keep.
        lower = min(size // 32, 128) if size // 32 >= 16 else 0
        number = _choose(first, last, lower, lambda n: key(n) in taken, self._entropy)
        if number is None:
            raise self._exhausted(f"failed to allocate a nodePort: range is full: no port of {first}-{last} is free")
        self.chosen.add(key(number))
        return number

    def _address_fault(self, address: str) -> str:
        """Why the user cannot have this address; "" if they can."""
        if CLUSTER_IP + address in self._before:
            return ""
        network = self._settings.service_network
        try:
            inside = ipaddress.IPv4Address(address) in network
        except ValueError:
            return "must be a valid IP address"
        if not inside or address in (str(network[0]), str(network[-1])):
            return f"the provided IP ({address}) is not in the valid range. The range of valid IPs is {network}"
        kept_for = next((who for n, who in _KEPT_FOR.items() if str(network[n]) == address), None)
        is_anothers = kept_for not in (None, (self._held.owner.namespace, self._held.owner.name))
        return _TAKEN_IP if is_anothers or self._held.by_another(CLUSTER_IP + address) else ""

    def _port_fault(self, port: ServicePort, asked: set[str]) -> str:
        """Why the user cannot have this node port; "" if they can. `asked` are those of the ports before it."""
        return self._number_fault(_port_key(port, port.nodePort), port.nodePort or 0, asked)

    def _number_fault(self, key: str, number: int, asked: set[str]) -> str:
        first, last = self._settings.first_node_port, self._settings.last_node_port
        if key in asked:
            return _TAKEN_PORT
        if key in self._before:
            return ""
        if not first <= number <= last:
            return f"provided port is not in the valid range. The range of valid ports is {first}-{last}"
        return _TAKEN_PORT if self._held.by_another(key) else ""

    def _exhausted(self, why: str) -> ApiError:
        return refused("services", "", self._service.metadata.name, why)


def _address_error(address: str, why: str) -> FieldError:
    return invalid("spec.clusterIPs", [address], f"failed to allocate IP {address}: {why}")


def _health_error(spec: ServiceSpec, why: str) -> FieldError:
    number = spec.healthCheckNodePort
    why = f"failed to allocate requested HealthCheck NodePort {number}: {why}"
    return invalid("spec.healthCheckNodePort", number, why)


def _health_key(number: int) -> str:
    return f"{NODE_PORT}tcp/{number}"


def _port_key(port: ServicePort, number: int | None) -> str:
    return f"{NODE_PORT}{(port.protocol or 'TCP').lower()}/{number}"


def _choose(first: int, last: int, lower: int, is_taken: Callable[[int], bool], entropy: Random) -> int | None:
    """A free number of `first`..`last`, at random so that masters seldom collide; None where all are taken.

    The first `lower` ones are left to those who ask for a number themselves while others are free (KEP-3070, KEP-3668).
    """
    upper = first + lower if first + lower <= last else first
    for _ in range(_PROBES):
        guess = entropy.randint(upper, last)
        if not is_taken(guess):
            return guess
    return next((n for n in itertools.chain(range(upper, last + 1), range(first, upper)) if not is_taken(n)), None)
