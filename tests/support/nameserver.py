"""A resolver without sockets, fed by the test: questions in as bytes, answers out as messages. For tests of DNS."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
from dns.message import Message

from barque.api.types import core_v1, discovery_v1, meta_v1
from barque.client.clock import Clock
from barque.network.dns.forwarder import Forwarder
from barque.network.dns.records import Records
from barque.network.dns.reply import Query, read, render
from barque.network.dns.resolver import Resolver
from barque.network.dns.upstreams import Server, Upstreams
from barque.network.dns.zone import Zone
from tests.support.builders import a_service
from tests.support.clock import FakeClock

DNS_ADDRESS = "10.96.0.10"
SERVICES, PODS = "10.96.0.0/12", "10.244.0.0/16"
UPSTREAM, SPARE = Server("192.0.2.1"), Server("192.0.2.2")
Port = tuple[str, int]


def headless(name: str = "db", namespace: str = "default", **spec: Any) -> core_v1.Service:
    made = a_service(name, namespace).headless().build()
    for field, value in spec.items():
        setattr(made.spec, field, value)
    return made


def external(name: str, target: str, namespace: str = "default") -> core_v1.Service:
    made = a_service(name, namespace).type("ExternalName").build()
    made.spec.externalName = target
    return made


def endpoints(
    *addresses: str | tuple[str, str],
    of: str = "db",
    namespace: str = "default",
    ports: Sequence[Port] = (("pg", 5432),),
    ready: bool | None = True,
    slice: str = "1",
) -> discovery_v1.EndpointSlice:
    """Endpoints of a service: addresses, or hostname and address."""
    found = []
    for held in addresses:
        hostname, address = held if isinstance(held, tuple) else ("", held)
        conditions = discovery_v1.EndpointConditions(ready=ready)
        found.append(discovery_v1.Endpoint(addresses=[address], hostname=hostname, conditions=conditions))
    return discovery_v1.EndpointSlice(
        metadata=meta_v1.ObjectMeta(
            name=f"{of}-{slice}", namespace=namespace, labels={"kubernetes.io/service-name": of}
        ),
        addressType="IPv6" if ":" in found[0].addresses[0] else "IPv4",
        endpoints=found,
        ports=[discovery_v1.EndpointPort(name=name, port=number, protocol="TCP") for name, number in ports],
    )


class FakeUpstreams:
    """Servers outside: `answers` are zone-file lines by "name type"; `asked` is who was asked what."""

    def __init__(self) -> None:
        self.answers: dict[str, list[str]] = {}
        self.absent: dict[str, str] = {}
        self.rcodes: dict[Server, dns.rcode.Rcode] = {}
        self.silent: set[Server] = set()
        self.asked: list[tuple[Server, str]] = []
        self.ids: list[int] = []
        self.streams = 0
        self.truncates = False
        self.forged: Callable[[Message], bytes] | None = None

    async def exchange(self, server: Server, wire: bytes, stream: bool, accepts: Callable[[bytes], bool]) -> bytes:
        query = dns.message.from_wire(wire)
        question = query.question[0]
        text = f"{question.name} {dns.rdatatype.to_text(question.rdtype)}"
        self.asked.append((server, text))
        self.ids.append(query.id)
        self.streams += stream
        await asyncio.sleep(0)
        if server in self.silent:
            raise TimeoutError
        if self.forged is not None:
            assert not accepts(self.forged(query))
        made = dns.message.make_response(query)
        made.set_rcode(self.rcodes.get(server, dns.rcode.NOERROR))
        if self.truncates and not stream:
            made.flags |= dns.flags.TC
        else:
            made.answer = [dns.rrset.from_text(*line.split(None, 4)) for line in self.answers.get(text, [])]
        if not made.answer and text in self.absent:
            made.set_rcode(dns.rcode.NXDOMAIN)
            made.authority = [dns.rrset.from_text(*self.absent[text].split(None, 4))]
        answer = made.to_wire()
        assert accepts(answer)
        return answer


class NameServer:
    """Records, zone, forwarder and resolver, and what the world outside knows."""

    def __init__(self, *objects: Any, clock: Clock | None = None) -> None:
        self.clock = clock or FakeClock()
        self.records = Records()
        self.outside = FakeUpstreams()
        self.synced = True
        zone = Zone(self.records, "cluster.local", DNS_ADDRESS, (SERVICES, PODS), 5)
        self.upstreams = Upstreams()
        self.upstreams.default = (UPSTREAM, SPARE)
        numbers = iter(range(1, 60000))
        self.forwarder = Forwarder(self.upstreams, self.outside.exchange, self.clock, lambda: next(numbers))
        self.resolver = Resolver(zone, self.records, self.forwarder, lambda: self.synced)
        for obj in objects:
            self.put(obj)

    def put(self, new: Any, old: Any = None) -> None:
        handle = self.records.handle_service if isinstance(new or old, core_v1.Service) else self.records.handle_slice
        handle(old, new)

    async def answer(self, data: bytes, longest: int = 0) -> bytes | None:
        query = read(data)
        if not isinstance(query, Query):
            return query
        reply = self.resolver.resolve(query)
        if not isinstance(reply, tuple):
            reply = await reply
        return render(query, reply, longest or query.payload)

    async def ask(self, name: str, rdtype: str = "A", **options: Any) -> Message:
        answer = await self.answer(dns.message.make_query(name, rdtype, **options).to_wire())
        assert answer is not None
        return dns.message.from_wire(answer)

    async def told(self, name: str, rdtype: str = "A") -> list[str] | str:
        """The data of the records of an answer; "NXDOMAIN" or "NODATA" where there are none."""
        return said(await self.ask(name, rdtype))


def said(answer: Message) -> list[str] | str:
    """An answer in short: its records' data, or why there are none."""
    if answer.answer:
        return [rdata.to_text() for rrset in answer.answer for rdata in rrset]
    code = answer.rcode()
    return "NODATA" if code == dns.rcode.NOERROR else dns.rcode.to_text(code)
