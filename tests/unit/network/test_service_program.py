"""Which chains a change touches."""

from hypothesis import given, settings
from hypothesis import strategies as st

from barque.network.iptables.restore import plan_restores
from barque.network.proxy.program import Program
from barque.network.proxy.render import service_chain
from barque.network.proxy.state import Backend, ServicePort, udp_ways
from tests.support.packet_tracer import MemoryIptables

PODS = "10.244.0.0/16"


def a_port(name: str = "web", ip: str = "10.96.0.10", *endpoints: str, protocol: str = "tcp") -> ServicePort:
    return ServicePort(f"default/{name}", protocol, ip, 80, 0, tuple(Backend(e, 8080) for e in endpoints))


def a_program(*ports: ServicePort) -> Program:
    program = Program(PODS)
    for port in ports:
        program.set_service(port.name, (port,))
    program.take_changes()
    return program


def test_a_changed_endpoint_touches_its_own_service_alone() -> None:
    old, other = a_port("web", "10.96.0.10", "10.244.1.2", "10.244.1.3"), a_port("db", "10.96.0.11", "10.244.1.4")
    program = a_program(old, other)
    new = a_port("web", "10.96.0.10", "10.244.1.2", "10.244.1.9")
    program.set_service(new.name, (new,))
    changes = program.take_changes()
    assert len(changes.put) == 2
    assert service_chain(new) in changes.put
    assert len(changes.remove) == 1
    assert not changes.udp
    assert program.take_changes() == ({}, frozenset(), False, False, ())


def test_the_same_again_changes_nothing() -> None:
    port = a_port("web", "10.96.0.10", "10.244.1.2")
    program = a_program(port)
    program.set_service(port.name, (port,))
    assert program.take_changes().put == {}


def test_refusals_stand_before_the_way_goes_and_go_after_it_stands() -> None:
    port = a_port("web", "10.96.0.10", "10.244.1.2")
    program = a_program(port)
    program.set_service(port.name, (port._replace(backends=()),))
    assert program.take_changes().tables == ("filter", "nat")
    program.set_service(port.name, (port,))
    assert program.take_changes().tables == ("nat", "filter")


def test_what_goes_and_comes_back_unseen_stays() -> None:
    port = a_port("web", "10.96.0.10", "10.244.1.2")
    program = a_program(port)
    program.set_service(port.name, ())
    program.set_service(port.name, (port,))
    changes = program.take_changes()
    assert changes.remove == frozenset()
    assert service_chain(port) in changes.put


def test_udp_is_told() -> None:
    port = a_port("dns", "10.96.0.10", "10.244.1.2", protocol="udp")
    program = a_program(port)
    program.set_service(port.name, (port._replace(backends=(Backend("10.244.1.3", 8080),)),))
    assert program.take_changes().udp


def test_udp_ports_that_are_no_more_are_told_once() -> None:
    dns = a_port("dns", "10.96.0.10", "10.244.1.2", protocol="udp")._replace(node_port=30053)
    program = a_program(dns, a_port("web", "10.96.0.11", "10.244.1.2"))
    # Other endpoints close nothing; another node port closes the former.
    program.set_service(dns.name, (dns._replace(backends=()),))
    assert program.take_changes().closed == ()
    program.set_service(dns.name, (dns._replace(node_port=30054),))
    assert program.take_changes().closed == (dns._replace(backends=()),)
    program.set_service(dns.name, ())
    program.set_service("default/web", ())
    closed = dns._replace(node_port=30054, backends=())
    assert program.take_changes().closed == (closed,)
    assert program.take_changes().closed == ()
    assert udp_ways([closed], ["192.168.77.10"]) == {("10.96.0.10", 80): set(), ("192.168.77.10", 30054): set()}


ports = st.builds(
    lambda i, n, node, protocol: ServicePort(
        f"default/s{i}", protocol, f"10.{96 + i % 3}.{i % 7}.{i}", 80, (30000 + i) * node,
        tuple(Backend(f"10.244.1.{k}", 80) for k in range(n)),
    ),
    st.integers(1, 200), st.integers(0, 3), st.integers(0, 1), st.sampled_from(["tcp", "udp"]),
)  # fmt: skip


@settings(max_examples=40)
@given(st.lists(st.lists(st.tuples(ports, st.booleans()), max_size=60), max_size=5), st.integers(1, 400))
def test_step_by_step_the_kernel_comes_to_the_same_as_at_once(
    rounds: list[list[tuple[ServicePort, bool]]], max_lines: int
) -> None:
    kernel, program = MemoryIptables(), Program(PODS)
    for changes in rounds:
        for port, present in changes:
            program.set_service(port.name, (port,) if present else ())
        taken = program.take_changes()
        for text in plan_restores(taken.put, taken.remove, max_lines=max_lines, tables=taken.tables):
            kernel.load(text)
    fresh = MemoryIptables()
    keys = sorted(program.keys())
    slices = (program.of_services(keys[start : start + 3]) for start in range(0, len(keys), 3))
    for step in (program.base([]), *slices, program.rest([])):
        for text in plan_restores(step.put, step.remove, max_lines=max_lines, tables=step.tables):
            fresh.load(text)
    if rounds:
        assert kernel.tables == fresh.tables
    wanted = {(chain.table, chain.name): list(rules) for chain, rules in program.chains().items()}
    held = {(t, c): rules for t, chains in fresh.tables.items() for c, rules in chains.items() if "BARQUE" in c}
    assert held == wanted
