"""Packets sent through the rendered rules."""

import pytest

from barque.network.iptables.chains import POD_JUMPS, PROXY_JUMPS
from barque.network.iptables.restore import plan_restores
from barque.network.pods.rules import render_pod_chains
from barque.network.proxy.program import Program
from barque.network.proxy.state import Backend, ServicePort
from tests.support.packet_tracer import MemoryIptables, Outcome, Packet, Tracer

HOST, CLIENT = "192.168.77.10", "192.168.77.1"
POD_A, POD_B, POD_FAR = "10.244.3.2", "10.244.3.3", "10.244.9.9"
WEB = ServicePort("default/web", "tcp", "10.96.0.10", 80, 30080, tuple(Backend(ip, 8080) for ip in (POD_B, POD_FAR)))
IDLE = ServicePort("default/idle", "tcp", "10.96.0.11", 80, 30081, ())


async def tracer(*ports: ServicePort) -> Tracer:
    kernel = MemoryIptables()
    program = Program("10.244.0.0/16")
    for port in ports:
        program.set_service(port.name, (port,))
    pods = render_pod_chains("10.244.3.0/24", "10.244.0.0/16", "10.96.0.0/12")
    changes = program.take_changes()
    for text in plan_restores({**changes.put, **pods}, (), max_lines=1000):
        kernel.load(text)
    await kernel.ensure_jumps(POD_JUMPS)
    await kernel.ensure_jumps(PROXY_JUMPS)
    return Tracer(kernel.tables)


def to(ip: str, *, masqueraded: bool) -> Outcome:
    return Outcome("delivered", f"{ip}:8080", masqueraded)


async def test_a_pod_keeps_its_address_towards_a_service() -> None:
    ways = (await tracer(WEB)).trace(Packet(POD_A, "10.96.0.10", 80))
    assert ways == {to(POD_B, masqueraded=False): 0.5, to(POD_FAR, masqueraded=False): 0.5}


async def test_a_pod_that_meets_itself_is_masqueraded() -> None:
    ways = (await tracer(WEB)).trace(Packet(POD_B, "10.96.0.10", 80))
    assert ways == {to(POD_B, masqueraded=True): 0.5, to(POD_FAR, masqueraded=False): 0.5}


@pytest.mark.parametrize(
    "packet",
    [
        Packet(HOST, "10.96.0.10", 80, from_host=True),
        Packet(CLIENT, "10.96.0.10", 80),
        Packet(CLIENT, HOST, 30080),
        Packet(POD_A, HOST, 30080),
        Packet(HOST, HOST, 30080, from_host=True),
        Packet("127.0.0.1", "127.0.0.1", 30080, from_host=True),
    ],
)
async def test_others_and_node_ports_are_masqueraded(packet: Packet) -> None:
    ways = (await tracer(WEB)).trace(packet)
    assert ways == {to(POD_B, masqueraded=True): 0.5, to(POD_FAR, masqueraded=True): 0.5}


async def test_three_endpoints_get_a_third_each() -> None:
    three = WEB._replace(backends=tuple(Backend(f"10.244.5.{i}", 80) for i in range(3)))
    assert list((await tracer(three)).trace(Packet(POD_A, "10.96.0.10", 80)).values()) == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize(
    "packet",
    [
        Packet(POD_A, "10.96.0.11", 80),
        Packet(HOST, "10.96.0.11", 80, from_host=True),
        Packet(CLIENT, HOST, 30081),
        Packet(POD_A, HOST, 30081),
    ],
)
async def test_without_endpoints_it_is_refused(packet: Packet) -> None:
    assert (await tracer(WEB, IDLE)).trace(packet) == {Outcome("REJECT"): 1.0}


async def test_the_other_protocol_and_other_ports_are_not_the_services() -> None:
    rules = await tracer(WEB)
    for packet in (Packet(CLIENT, HOST, 30080, "udp"), Packet(CLIENT, HOST, 22)):
        assert list(rules.trace(packet)) == [Outcome("delivered", f"{packet.destination}:{packet.port}")]


async def test_pods_speak_plainly_to_pods_and_in_the_hosts_name_to_the_world() -> None:
    rules = await tracer()
    assert rules.trace(Packet(POD_A, POD_FAR, 8080)) == {to(POD_FAR, masqueraded=False): 1.0}
    assert rules.trace(Packet(POD_FAR, POD_A, 8080)) == {to(POD_A, masqueraded=False): 1.0}
    assert rules.trace(Packet(POD_A, "198.51.100.7", 8080)) == {to("198.51.100.7", masqueraded=True): 1.0}
    # What is neither from nor to a pod is not ours to accept: Docker's DROP stands.
    assert rules.trace(Packet(CLIENT, "198.51.100.7", 8080)) == {Outcome("DROP"): 1.0}
    assert rules.trace(Packet(POD_A, POD_B, 8080, state="INVALID")) == {Outcome("DROP"): 1.0}


async def test_among_thousands_a_first_packet_walks_past_few_rules() -> None:
    addresses = [f"10.{96 + i % 16}.{i * 37 % 256}.{i * 11 % 256}" for i in range(2700)]

    def many(backends: tuple[Backend, ...]) -> list[ServicePort]:
        return [
            ServicePort(f"default/s{i}", "tcp", address, 80, 30000 + i, backends) for i, address in enumerate(addresses)
        ]

    rules = await tracer(*many(WEB.backends[:1]))
    for port in (*many(())[::300], WEB):
        for packet in (Packet(POD_A, port.cluster_ip, 80), Packet(CLIENT, HOST, port.node_port)):
            rules.walked = 0
            if port is not WEB:
                assert set(rules.trace(packet)) == {to(POD_B, masqueraded=packet.source == CLIENT)}
            assert rules.walked < 130
    refusing = await tracer(*many(()))
    assert refusing.trace(Packet(POD_A, many(())[2000].cluster_ip, 80)) == {Outcome("REJECT"): 1.0}
    assert refusing.trace(Packet(CLIENT, HOST, 32000)) == {Outcome("REJECT"): 1.0}
    assert refusing.walked < 200
