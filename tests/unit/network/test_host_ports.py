"""Ports of the host as rules, and packets sent through them."""

from barque.network.iptables.chains import POD_JUMPS
from barque.network.iptables.restore import plan_restores
from barque.network.pods.host_ports import Exposed, PortMapping, render_host_ports, udp_ways
from barque.network.pods.rules import render_pod_chains
from tests.support.packet_tracer import MemoryIptables, Outcome, Packet, Tracer

HOST, CLIENT = "192.168.77.10", "192.168.77.1"
POD_A, POD_B = "10.244.3.2", "10.244.3.3"
WEB = Exposed(POD_A, (PortMapping(8080, 80),))
DNS = Exposed(POD_B, (PortMapping(53, 5353, "UDP", "127.0.0.1"),))


async def tracer(*exposed: Exposed) -> Tracer:
    kernel = MemoryIptables()
    chains = render_pod_chains("10.244.3.0/24", "10.244.0.0/16", "10.96.0.0/12", exposed)
    kernel.load("*filter\n:BARQUE-SERVICES - [0:0]\nCOMMIT\n")
    for text in plan_restores(chains, (), max_lines=1000):
        kernel.load(text)
    await kernel.ensure_jumps(POD_JUMPS)
    return Tracer(kernel.tables)


def to(ip: str, *, masqueraded: bool) -> dict[Outcome, float]:
    return {Outcome("delivered", ip, masqueraded): 1.0}


def test_a_port_of_one_address_stands_before_those_of_all() -> None:
    ports = (PortMapping(80, 8080, host_ip="0.0.0.0"), PortMapping(9, 9, "SCTP", HOST))
    assert render_host_ports([Exposed(POD_A, ports)]) == (
        f"-d {HOST}/32 -p sctp -m sctp --dport 9 -j DNAT --to-destination {POD_A}:9",
        f"-p tcp -m tcp --dport 80 -j DNAT --to-destination {POD_A}:8080",
    )


async def test_callers_keep_their_address_but_the_pod_itself_and_the_loopback() -> None:
    rules = await tracer(WEB, DNS)
    assert rules.trace(Packet(CLIENT, HOST, 8080)) == to(f"{POD_A}:80", masqueraded=False)
    assert rules.trace(Packet(POD_B, HOST, 8080)) == to(f"{POD_A}:80", masqueraded=False)
    assert rules.trace(Packet(HOST, HOST, 8080, from_host=True)) == to(f"{POD_A}:80", masqueraded=False)
    assert rules.trace(Packet(POD_A, HOST, 8080)) == to(f"{POD_A}:80", masqueraded=True)
    loopback = Packet("127.0.0.1", "127.0.0.1", 8080, from_host=True)
    assert rules.trace(loopback) == to(f"{POD_A}:80", masqueraded=True)


async def test_a_port_of_one_address_is_that_addresss_alone() -> None:
    rules = await tracer(DNS)
    there = Packet("127.0.0.1", "127.0.0.1", 53, "udp", from_host=True)
    assert rules.trace(there) == to(f"{POD_B}:5353", masqueraded=True)
    assert rules.trace(Packet(CLIENT, HOST, 53, "udp")) == to(f"{HOST}:53", masqueraded=False)


async def test_no_pod_speaks_to_the_loopback() -> None:
    assert (await tracer(WEB)).trace(Packet(POD_A, "127.0.0.1", 22)) == {Outcome("DROP"): 1.0}


def test_udp_flows_go_with_their_pod() -> None:
    closed = [PortMapping(53, 53, "UDP"), PortMapping(80, 80)]
    assert udp_ways([DNS], closed, [HOST, "127.0.0.1"]) == {(HOST, 53): set(), ("127.0.0.1", 53): {POD_B}}
