"""`Zone`: what a name of the cluster means, by Kubernetes' DNS specification 1.1. Pure.

In: a name, a record type and `Records`. Out: an `Outcome`: the records, or that there are none of this type (NODATA),
or that the name does not exist (NXDOMAIN). A name that only has others below it exists (RFC 8020): `svc`, a namespace
with services, `_tcp` of a service with named TCP ports.

Beyond the specification, as CoreDNS does: an SRV question for a service's or an endpoint's own name is answered with
all its ports, and `1-2-3-4.NAMESPACE.pod` is answered for any address and namespace ("pods insecure").
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterable
from typing import NamedTuple

import dns.name
import dns.rdata
import dns.reversename
from dns.name import Name
from dns.rdata import Rdata
from dns.rdataclass import IN
from dns.rdatatype import AAAA, CNAME, NS, PTR, SOA, SRV, TXT, A, RdataType
from dns.rdtypes.ANY.CNAME import CNAME as CnameData
from dns.rdtypes.ANY.NS import NS as NsData
from dns.rdtypes.ANY.PTR import PTR as PtrData
from dns.rdtypes.ANY.SOA import SOA as SoaData
from dns.rdtypes.ANY.TXT import TXT as TxtData
from dns.rdtypes.IN.A import A as AData
from dns.rdtypes.IN.AAAA import AAAA as AaaaData
from dns.rdtypes.IN.SRV import SRV as SrvData

from barque.api.types.core_v1 import Service
from barque.network.dns.records import (
    REVERSE,
    HeadlessEndpoint,
    Records,
    cluster_ips,
    is_headless,
    namespace_scope,
    service_scope,
)

VERSION = b"1.1.0"
# RFC 1035's serial number and timers, for whoever reads them: nobody transfers this zone.
_SERIAL = 1
_REFRESH_S, _RETRY_S, _EXPIRE_S = 7200, 1800, 86400
_PRIORITY, _WEIGHT = 0, 100
_ARPA = (dns.reversename.ipv4_reverse_domain, dns.reversename.ipv6_reverse_domain)
# Some 100 µs each as SRV records, so that the loop is not held for 20 ms.
LARGE = 100
# Octets of an IPv4 address.
_OCTETS = 4


class Additional(NamedTuple):
    """Records of another name that the asker will want next."""

    name: Name
    records: tuple[Rdata, ...]


class Outcome(NamedTuple):
    """What is known of a name. `apex` is the zone that says so; `alias` is where a CNAME leads."""

    apex: Name
    exists: bool = True
    records: tuple[Rdata, ...] = ()
    additional: tuple[Additional, ...] = ()
    alias: Name | None = None
    scopes: tuple[str, ...] = ()


class Zone:
    """The cluster's domain, and the reverse names of its addresses."""

    def __init__(self, records: Records, domain: str, server: str, ranges: Iterable[str], ttl_s: int) -> None:
        """`domain` is the cluster's, "cluster.local"; `server` this resolver's address; `ranges` the CIDRs whose
        reverse names nobody else knows; `ttl_s` is the time to live of every record.
        """
        self.ttl_s = ttl_s
        self.domain = dns.name.from_text(domain)
        self._records = records
        self._server = server
        self._ranges = [ipaddress.ip_network(cidr) for cidr in ranges]
        self._name_server = dns.name.from_text("ns.dns", self.domain)
        self._host_master = dns.name.from_text("hostmaster", self.domain)

    def owns(self, name: Name) -> bool:
        """Whether nobody but this zone knows the name."""
        return name.is_subdomain(self.domain) or self._reverse_apex(name) is not None

    def find(self, name: Name, rdtype: RdataType) -> Outcome | None:
        """What the zone says of a name; None where that is another's to say."""
        if name.is_subdomain(self.domain):
            return self._forward(self._labels(name), rdtype)
        if any(name.is_subdomain(arpa) for arpa in _ARPA):
            return self._reverse(name, rdtype)
        return None

    def is_large(self, name: Name) -> bool:
        """Whether finding the name may take long: below a headless service with many endpoints, or an alias in the zone
        that may lead to one.
        """
        if not name.is_subdomain(self.domain):
            return False
        match self._labels(name):
            case (*_, service, namespace, "svc"):
                held = self._records.service(namespace, service)
                if held is None:
                    return False
                if held.spec.type == "ExternalName":
                    return dns.name.from_text(held.spec.externalName).is_subdomain(self.domain)
                return is_headless(held) and self._records.endpoint_count(namespace, service) > LARGE
        return False

    def authority(self, apex: Name) -> SoaData:
        """The SOA record of one of the zones; its minimum is how long an absence may be remembered."""
        times = (_REFRESH_S, _RETRY_S, _EXPIRE_S, self.ttl_s)
        return SoaData(IN, SOA, self._name_server, self._host_master, _SERIAL, *times)

    def _labels(self, name: Name) -> tuple[str, ...]:
        """Those before the domain."""
        return tuple(label.lower().decode("latin-1") for label in name.labels[: len(name) - len(self.domain)])

    def _forward(self, labels: tuple[str, ...], rdtype: RdataType) -> Outcome:
        match labels:
            case ():
                return self._apex(self.domain, rdtype)
            case ("dns-version",):
                return self._typed([TxtData(IN, TXT, [VERSION])], rdtype)
            case ("svc",) | ("pod",) | ("dns",) | (_, "pod"):
                return Outcome(self.domain)
            case ("ns", "dns"):
                return self._typed(_address_data([self._server]), rdtype)
            case (dashed, _, "pod"):
                return self._pod(dashed, rdtype)
            case (namespace, "svc"):
                exists = self._records.has_namespace(namespace)
                return Outcome(self.domain, exists, scopes=(namespace_scope(namespace),))
            case (*rest, service, namespace, "svc"):
                found = self._service(tuple(rest), namespace, service, rdtype)
                return found._replace(scopes=(service_scope(namespace, service),))
        return Outcome(self.domain, exists=False)

    def _apex(self, apex: Name, rdtype: RdataType) -> Outcome:
        every = [self.authority(apex), NsData(IN, NS, self._name_server)]
        found = self._typed(every, rdtype, apex)
        if rdtype == NS:
            found = found._replace(additional=(Additional(self._name_server, _address_data([self._server])),))
        return found

    def _typed(self, records: Iterable[Rdata], rdtype: RdataType, apex: Name | None = None) -> Outcome:
        return Outcome(apex or self.domain, records=tuple(r for r in records if r.rdtype == rdtype))

    def _pod(self, dashed: str, rdtype: RdataType) -> Outcome:
        address = dashed.replace("-", "." if dashed.count("-") == 3 and "--" not in dashed else ":")
        try:
            return self._typed(_address_data([str(ipaddress.ip_address(address))]), rdtype)
        except ValueError:
            return Outcome(self.domain, exists=False)

    def _service(self, rest: tuple[str, ...], namespace: str, name: str, rdtype: RdataType) -> Outcome:
        service = self._records.service(namespace, name)
        absent = Outcome(self.domain, exists=False)
        if service is None:
            return absent
        at = dns.name.from_text(f"{name}.{namespace}.svc", self.domain)
        if service.spec.type == "ExternalName":
            return absent if rest else self._external(service, rdtype)
        if is_headless(service):
            return self._headless(rest, at, list(self._records.endpoints(namespace, name)), rdtype)
        addresses = cluster_ips(service)
        if not addresses:
            # Its address is still to come.
            return absent
        ports = [(port.name.lower(), (port.protocol or "TCP").lower(), port.port) for port in service.spec.ports]
        own = _address_data(addresses)
        match rest:
            case ():
                wanted = ports
            case (protocol,):
                return Outcome(self.domain, _has_protocol(protocol, ports))
            case (port, protocol):
                wanted = [p for p in ports if p[0] and (port, protocol) == (f"_{p[0]}", f"_{p[1]}")]
                if not wanted:
                    return absent
                own = ()
            case _:
                return absent
        if rdtype == SRV:
            targets = [SrvData(IN, SRV, _PRIORITY, _WEIGHT, number, at) for _, _, number in wanted]
            return Outcome(self.domain, records=_once(targets), additional=(Additional(at, _address_data(addresses)),))
        return self._typed(own, rdtype)

    def _external(self, service: Service, rdtype: RdataType) -> Outcome:
        target = dns.name.from_text(service.spec.externalName)
        alias = None if rdtype == CNAME else target
        return Outcome(self.domain, records=(CnameData(IN, CNAME, target),), alias=alias)

    def _headless(
        self, rest: tuple[str, ...], at: Name, endpoints: list[HeadlessEndpoint], rdtype: RdataType
    ) -> Outcome:
        """Without a ready endpoint the specification has no name at all."""
        ports = {(port.name, port.protocol, port.number) for e in endpoints for port in e.ports}
        match rest:
            case ():
                chosen, own = endpoints, True
            case (label,):
                chosen, own = [e for e in endpoints if e.hostname == label], True
                if not chosen:
                    return Outcome(self.domain, _has_protocol(label, ports))
            case (port, protocol):
                chosen = [e for e in endpoints if any((port, protocol) == _labels(p.name, p.protocol) for p in e.ports)]
                own = False
            case _:
                chosen, own = [], True
        if not chosen:
            return Outcome(self.domain, exists=False)
        if rdtype == SRV:
            return self._headless_ports(rest if not own else None, at, chosen)
        return self._typed(_address_data(e.address for e in chosen) if own else (), rdtype)

    def _headless_ports(
        self, asked: tuple[str, ...] | None, at: Name, endpoints: Iterable[HeadlessEndpoint]
    ) -> Outcome:
        """SRV records: of the port that was asked for, or of every port."""
        targets: list[Rdata] = []
        addresses: dict[Name, list[str]] = {}
        for endpoint in endpoints:
            target = dns.name.from_text(endpoint.hostname, at)
            addresses.setdefault(target, []).append(endpoint.address)
            targets += [
                SrvData(IN, SRV, _PRIORITY, _WEIGHT, port.number, target)
                for port in endpoint.ports
                if asked is None or asked == _labels(port.name, port.protocol)
            ]
        additional = tuple(Additional(name, _address_data(held)) for name, held in addresses.items())
        return Outcome(self.domain, records=_once(targets), additional=additional)

    def _reverse(self, name: Name, rdtype: RdataType) -> Outcome | None:
        """None for an address outside our ranges that no service has an endpoint of."""
        apex = self._reverse_apex(name)
        if apex is not None and name == apex:
            return self._apex(apex, rdtype)
        try:
            address = dns.reversename.to_address(name)
        except (dns.exception.DNSException, ValueError):
            if apex is None:
                return None
            return Outcome(apex, exists=_is_within_octets(name, apex))
        targets = self._names_of(address)
        if not targets and apex is None:
            return None
        found = tuple(PtrData(IN, PTR, target) for target in targets) if rdtype == PTR else ()
        return Outcome(apex or self.domain, bool(targets), found, scopes=(REVERSE,))

    def _names_of(self, address: str) -> list[Name]:
        key = self._records.service_at(address)
        if key is not None:
            return [dns.name.from_text(f"{key[1]}.{key[0]}.svc", self.domain)]
        return [
            dns.name.from_text(f"{endpoint.hostname}.{name}.{namespace}.svc", self.domain)
            for namespace, name in self._records.headless_at(address)
            for endpoint in self._records.endpoints(namespace, name)
            if endpoint.address == address
        ]

    def _reverse_apex(self, name: Name) -> Name | None:
        """The smallest zone of whole octets that holds the name and lies in one of the ranges; None outside them."""
        if not name.is_subdomain(_ARPA[0]):
            return None
        labels = name.relativize(_ARPA[0]).labels[::-1][:_OCTETS]
        octets = [label.decode() for label in itertools.takewhile(_is_octet, labels)]
        for network in self._ranges:
            whole = -(-network.prefixlen // 8)
            if network.version != 4 or len(octets) < whole:
                continue
            start = ".".join([*octets[:whole], *["0"] * (_OCTETS - whole)])
            if ipaddress.ip_address(start) in network:
                return dns.name.from_text(".".join(reversed(octets[:whole])), _ARPA[0])
        return None


def _is_within_octets(name: Name, apex: Name) -> bool:
    """Whether a name that is no whole address is the beginning of one, below which there may be names."""
    return len(name) - len(_ARPA[0]) < _OCTETS and all(map(_is_octet, name.relativize(apex).labels))


def _is_octet(label: bytes) -> bool:
    return label.isdigit() and len(label) <= 3 and int(label) < 256


def _address_data(addresses: Iterable[str]) -> tuple[Rdata, ...]:
    found = dict.fromkeys(addresses)
    return tuple(AaaaData(IN, AAAA, a) if ":" in a else AData(IN, A, a) for a in found)


def _labels(port: str, protocol: str) -> tuple[str, ...]:
    """The labels of a named port; none of a port without a name."""
    return (f"_{port}", f"_{protocol}") if port else ()


def _has_protocol(label: str, ports: Iterable[tuple[str, str, int]]) -> bool:
    """Whether `_tcp` has named ports below it."""
    return any(name and label == f"_{protocol}" for name, protocol, _ in ports)


def _once(records: Iterable[Rdata]) -> tuple[Rdata, ...]:
    return tuple(dict.fromkeys(records))
