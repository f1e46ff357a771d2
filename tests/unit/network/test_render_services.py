"""Service ports as exact rule text."""

from barque.network.iptables.chains import ChainId
from barque.network.proxy.render import render_base, render_dispatch, render_doors, render_service_port
from barque.network.proxy.state import Backend, ServicePort

PODS = "10.244.0.0/16"
WEB = ServicePort(
    "default/web:http", "tcp", "10.96.0.10", 80, 30080, (Backend("10.244.1.5", 8080), Backend("10.244.2.6", 8080))
)
SVC = "BARQUE-SVC-C2ZYVTWIJSLXNYMJ"


def names(chains: dict[ChainId, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {f"{chain.table} {chain.name}": rules for chain, rules in chains.items()}


def test_a_port_chooses_among_its_endpoints_with_equal_chance() -> None:
    chains = names(render_service_port(WEB, PODS))
    first, second = (name for name in chains if "-SEP-" in name)
    assert chains == {
        first: (
            "-s 10.244.1.5/32 -j BARQUE-MARK-MASQ",
            "-p tcp -m tcp -j DNAT --to-destination 10.244.1.5:8080",
        ),
        second: (
            "-s 10.244.2.6/32 -j BARQUE-MARK-MASQ",
            "-p tcp -m tcp -j DNAT --to-destination 10.244.2.6:8080",
        ),
        f"nat {SVC}": (
            "! -s 10.244.0.0/16 -d 10.96.0.10/32 -p tcp -m tcp --dport 80 -j BARQUE-MARK-MASQ",
            f"-m statistic --mode random --probability 0.50000000000 -j {first.split()[1]}",
            f"-j {second.split()[1]}",
        ),
    }


def test_chain_names_fit_the_kernel_and_outlast_a_change_of_endpoints() -> None:
    fewer = WEB._replace(backends=WEB.backends[:1])
    assert set(render_service_port(fewer, PODS)) < set(render_service_port(WEB, PODS))
    deepest = ServicePort("n/s", "udp", "255.255.255.240", 53, 0, WEB.backends)
    many = [deepest._replace(name=f"n/s{i}", cluster_ip=f"255.255.255.{i}") for i in range(256)]
    assert all(
        len(chain.name) <= 28
        for chain in (render_dispatch(door for p in many for door in render_doors(p)) | render_service_port(WEB, PODS))
    )


def test_a_port_without_endpoints_has_no_chain() -> None:
    assert render_service_port(WEB._replace(backends=()), PODS) == {}


def test_dispatch_leads_to_the_port_or_refuses() -> None:
    idle = ServicePort("default/idle", "udp", "10.96.0.11", 53, 30053, ())
    assert names(render_dispatch([*render_doors(WEB), *render_doors(idle)])) == {
        "nat BARQUE-SERVICES": (
            f'-d 10.96.0.10/32 -p tcp -m tcp --dport 80 -m comment --comment "default/web:http" -j {SVC}',
            "! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j BARQUE-NODEPORTS",
        ),
        "nat BARQUE-NODEPORTS": (
            "-p tcp -m tcp --dport 30080 -j BARQUE-MARK-MASQ",
            f'-p tcp -m tcp --dport 30080 -m comment --comment "default/web:http" -j {SVC}',
        ),
        "filter BARQUE-SERVICES": (
            "-d 10.96.0.11/32 -p udp -m udp --dport 53 "
            '-m comment --comment "default/idle has no endpoints" -j REJECT --reject-with icmp-port-unreachable',
        ),
        "filter BARQUE-NODEPORTS": (
            "-p udp -m udp --dport 30053 "
            '-m comment --comment "default/idle has no endpoints" -j REJECT --reject-with icmp-port-unreachable',
        ),
    }


def test_what_is_marked_is_masqueraded_once() -> None:
    assert names(render_base()) == {
        "nat BARQUE-MARK-MASQ": ("-j MARK --or-mark 0x1000",),
        "nat BARQUE-POSTROUTING": (
            "-m mark ! --mark 0x1000/0x1000 -j RETURN",
            "-j MARK --xor-mark 0x1000",
            "-j MASQUERADE --random-fully",
        ),
    }
