"""Which UDP flows are stale, and how the kernel tells them."""

import contextlib
import errno
import socket
import struct
from typing import Any

import pytest

from barque.network import conntrack
from barque.network.conntrack import CT_DELETE, ConntrackTable, Flow, encode_request, parse_flows, stale_flows
from barque.network.proxy.state import Backend, ServicePort, udp_ways

DNS = ServicePort("kube/dns", "udp", "10.96.0.10", 53, 30053, (Backend("10.244.1.2", 5353),))


def a_flow(destination: str = "10.96.0.10", port: int = 53, answering: str = "10.244.1.2") -> Flow:
    return Flow(destination, port, answering, b"")


def test_a_flow_answered_by_no_present_endpoint_is_stale() -> None:
    kept = [
        a_flow(),
        a_flow(port=54, answering="10.96.0.10"),
        a_flow("192.168.77.10", 30053),
        # Another host's port of the same number is not ours.
        a_flow("198.51.100.7", 30053, "198.51.100.7"),
    ]
    stale = [
        a_flow(answering="10.244.1.9"),
        # Begun before there were rules: answered by the service address itself, that is by nobody.
        a_flow(answering="10.96.0.10"),
        a_flow("192.168.77.10", 30053, "10.244.1.9"),
    ]
    assert stale_flows([*kept, *stale], udp_ways([DNS], ["192.168.77.10"])) == stale
    assert stale_flows([a_flow()], udp_ways([DNS._replace(backends=())], [])) == [a_flow()]
    assert udp_ways([DNS._replace(protocol="tcp")], ["192.168.77.10"]) == {}


def test_a_local_policy_tells_who_may_answer_inside() -> None:
    local = DNS._replace(internal_local=True, external_ips=("203.0.113.9",), node_port=0)
    assert udp_ways([local], []) == {("10.96.0.10", 53): set(), ("203.0.113.9", 53): {"10.244.1.2"}}


def attribute(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(payload), kind) + payload + b"\0" * (-len(payload) % 4)


def tuple_of(source: str, destination: str, ports: tuple[int, int], protocol: int = 17) -> bytes:
    ip = attribute(1, socket.inet_aton(source)) + attribute(2, socket.inet_aton(destination))
    proto = attribute(1, bytes([protocol])) + b"".join(
        attribute(kind, struct.pack("!H", port)) for kind, port in zip((2, 3), ports, strict=True)
    )
    return attribute(0x8001, ip) + attribute(0x8002, proto)


def an_entry(protocol: int = 17, zone: bytes = b"") -> bytes:
    to = tuple_of("10.244.1.5", "10.96.0.10", (40000, 53), protocol)
    answer = tuple_of("10.244.1.2", "10.244.1.5", (5353, 40000), protocol)
    return attribute(0x8001, to) + attribute(0x8002, answer) + (attribute(18, zone) if zone else b"")


def a_message(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 1, 0) + body


def test_a_dump_is_read() -> None:
    generic = b"\x02\0\0\0"
    data = a_message(0x100, generic + an_entry()) + a_message(0x100, generic + an_entry(protocol=6))
    flows, complete = parse_flows(data)
    assert [(f.destination, f.destination_port, f.answering) for f in flows] == [("10.96.0.10", 53, "10.244.1.2")]
    assert not complete
    assert parse_flows(a_message(3, b"\0\0\0\0")) == ([], True)
    with pytest.raises(PermissionError):
        parse_flows(a_message(2, struct.pack("=i", -1)))


def test_a_flow_is_deleted_by_the_kernels_own_words_for_it() -> None:
    (flow,), _ = parse_flows(a_message(0x100, b"\x02\0\0\0" + an_entry(zone=b"\0\x07")))
    to = tuple_of("10.244.1.5", "10.96.0.10", (40000, 53))
    assert flow.handle == attribute(0x8001, to) + attribute(18, b"\0\x07")
    request = encode_request(CT_DELETE, 4, 9, flow.handle)
    assert request[:16] == struct.pack("=IHHII", len(request), 0x102, 5, 9, 0)
    assert request[16:] == b"\x02\0\0\0" + flow.handle


def test_a_flow_that_cannot_be_deleted_keeps_no_other_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    flows = [Flow("10.96.0.10", 53, "10.244.1.2", name.encode()) for name in ("a", "b", "c")]
    deleted: list[bytes] = []

    class Table(ConntrackTable):
        def _dump(self) -> list[Flow]:
            return flows

        def _delete(self, flow: Flow) -> None:
            if flow.handle == b"a":
                raise OSError(errno.ENOBUFS, "no buffer space")
            deleted.append(flow.handle)

    class NoRoutes(contextlib.AbstractContextManager[Any]):
        def local_addresses(self) -> list[str]:
            return []

        def __exit__(self, *_: object) -> None:
            return None

    monkeypatch.setattr(conntrack, "RouteSocket", NoRoutes)
    with pytest.raises(OSError, match="no buffer space"):
        Table().delete_stale(lambda _: {("10.96.0.10", 53): set()})
    assert deleted == [b"b", b"c"]
